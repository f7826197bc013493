// SPDX-License-Identifier: Apache-2.0

// Package pki makes and judges certificates as values: no cluster, no clock of its own, no global state. A CA and the
// pairs it issues go in and out as PEM, the form in which Secrets hold them.
//
// Keys are ECDSA P-256: small certificates for small devices, and known to every TLS stack that does TLS 1.2.
package pki
