// SPDX-License-Identifier: Apache-2.0

// Package auth turns passwords into verifiers and checks passwords against them.
//
// A verifier is a line of text that may lie in a configuration: it proves a password without telling it. These we make:
//
//	$argon2id$v=19$m=19456,t=2,p=1$salt$hash             for what people choose: slow and hungry on purpose
//	$sha256$salt$hash                                    for 256 random bits, which nobody guesses however fast the check is
//	$scram-sha-256$i=4096$salt$storedKey$serverKey       for SCRAM-SHA-256, beside one of the others
//
// and these other programs have made, for people who move here and keep their passwords:
//
//	$2a$… $2b$… $2y$…                                    bcrypt
//	$7$iterations$salt$hash, $6$salt$hash                mosquitto_passwd
//	$pbkdf2-sha256$…, $pbkdf2-sha512$…                   passlib, and PHC strings
//
//	parse.go      what a verifier looks like, and how much it may cost
//	verifier.go   one password against one verifier
//	cache.go      a password against a user's verifiers, remembered
//	ledger.go     what is remembered over a restart, where somebody asks for it
//	scram.go      the server's side of SCRAM-SHA-256
//	guard.go      who failed where, and how long they have to wait
//	queue.go      whose password is checked next
//
// In comes a verifier or a password, out goes a yes or no. The operator makes verifiers, the broker checks them; both
// import this package, and it imports nothing of ours. No password and no hash is ever logged, nor part of an error.
//
// # What it costs
//
// At most GOMAXPROCS costly computations run at a time, each of argon2 with at most MaxMemory, and a Cache remembers what
// was right, so that ten thousand clients that come back at once cost no argon2 at all. A wrong password costs the same
// whether the user exists or not and whatever kind of verifier it has. A Guard slows down who guesses, per name and source
// and never per name alone, and a Queue sees to it that those who guess come last.
package auth
