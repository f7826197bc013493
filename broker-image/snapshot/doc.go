// SPDX-License-Identifier: Apache-2.0

// Package snapshot is the form in which the state of a broker travels: to a file, and from one into another broker.
//
// In go records, which package store makes and reads and which this package does not look into; out comes a stream, and the
// other way round. Any package may import it, and it imports nothing but the standard library.
//
//	line      "mqtt-broker snapshot 1"
//	frame h   a Header, as JSON
//	frame r   a record: the length of its key, the key, its value; as many as there are
//	frame e   a Footer, as JSON
//	32 bytes  SHA-256 of all that stands before
//
// A frame is a byte that says what it is, a length, and that many bytes; lengths are varints. There is nothing behind the
// sum. So a stream that was cut off, altered or added to is told from a whole one, and nothing of it counts before its end
// has been read: a reader that meets anything else gives an error that wraps [ErrDamaged].
//
// The line changes with the frames. Header.Store changes with what is in the records.
package snapshot
