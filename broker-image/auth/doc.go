// SPDX-License-Identifier: Apache-2.0

// Package auth turns passwords into verifiers and checks passwords against them.
//
// A verifier is a line of text that may lie in a configuration: it proves a password without telling it. There are two
// kinds:
//
//	$argon2id$v=19$m=19456,t=2,p=1$salt$hash   for what people choose: slow and hungry on purpose
//	$sha256$salt$hash                          for 256 random bits, which nobody guesses however fast the check is
//
// In comes a verifier or a password, out goes a yes or no. The operator makes verifiers, the broker checks them; both
// import this package, and it imports nothing of ours. No password and no hash is ever logged, nor part of an error.
//
// The cost is bounded: at most GOMAXPROCS argon2 computations run at a time, each with at most MaxMemory, and a Cache
// remembers what was right, so that ten thousand clients that come back at once cost no argon2 at all. A wrong password
// costs one argon2 whether the user exists or not and whatever kind of verifier it has.
package auth
