// SPDX-License-Identifier: Apache-2.0

// Package verdict answers ordered questions about observed facts. It is pure: [Facts] and [Material] come in, a
// [Judgement] goes out, and the same input gives the same answer, whatever was answered before.
//
// A question about one part (a listener, a user) never spoils the others: the part that is wrong keeps what it had
// before, or is left out where it had nothing, and a [Finding] says what the reader should do next.
//
// The errors [Stalled] and [Waiting] are the whole vocabulary by which a step says "not now":
//
//	Stalled   the person who wrote the object must act; trying again does not help
//	Waiting   something else must happen first; look again after a while
//	any other error is unexpected: it is tried again with back-off
//
// Imports: api, contract, pki and the types of Kubernetes.
package verdict
