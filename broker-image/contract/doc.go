// SPDX-License-Identifier: Apache-2.0

// Package contract is what the operator and the broker agree on: the broker's configuration as Go types, the named
// JSON files that carry it (a [Bundle]), and the ports and paths that both ends must know.
//
// In comes either a [Config] (the operator renders it with [Render]) or a [Bundle] (the broker reads it from a
// directory or from its admin endpoint and parses it with [Parse]). Parse is strict: an unknown field, a duplicate
// key, a wrong type or a value out of range is refused with the file, the line and the field.
//
// The revision grows by one whenever a byte of the bundle changes ([Next]); equal input renders equal bytes, so a pass
// over an unchanged world changes nothing.
//
// Everybody may import this package; it imports the standard library and package acl only.
package contract
