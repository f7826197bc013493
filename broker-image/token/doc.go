// SPDX-License-Identifier: Apache-2.0

// Package token reads JSON Web Tokens (RFC 7519) and says whom they are for.
//
// In comes what a client sent, and public keys; out goes a name with an expiry and maybe rules, or one of the errors of
// this package, none of which holds a part of the token. Only package engine imports it. It writes nothing but the key
// sets that it has fetched, and logs only what became of a fetch.
//
//	parse.go    a token taken apart, before anything in it is believed
//	verify.go   what must be true of it; one rule after the other
//	keys.go     key sets (RFC 7517): the public keys in them that check signatures
//	source.go   key sets from an address: fetched, refreshed, kept over outages and restarts
//
// The signatures and the form of keys are the work of github.com/go-jose/go-jose/v4: it needs nothing beside the
// standard library, reads keys too, demands the list of algorithms from its caller, and is released every few weeks;
// other libraries of ours bring it along anyway. github.com/golang-jwt/jwt/v5 reads no keys. Every decision about what a
// token must say is made here, in the open.
package token
