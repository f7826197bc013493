// SPDX-License-Identifier: Apache-2.0

// Package desired says, as values, what the cluster should hold: one file per child. It is pure: facts, key material
// and a judgement come in, objects go out, in the order in which they are to be written. Equal input gives equal
// objects, byte for byte; neither the clock nor the version of the operator has a say.
//
// What enters the pod template restarts the broker, so little does: the image, the volumes, and spec.pod. Listeners,
// certificates, users, rules, limits and logging travel in the configuration and never touch it.
//
// Imports: api, contract, acl, verdict, pki and the types of Kubernetes.
package desired
