// SPDX-License-Identifier: Apache-2.0

// Package health answers whether the broker lives and whether it serves.
//
//	GET /livez    200 while the process can answer
//	GET /readyz   200 if a client got through every listener just now, else 503; the body says which did not and why
//
// Ready is not what the broker believes of itself but what a client finds: the probe dials each listener, sends a PROXY
// header where one is read, does TLS and WebSocket, connects with a credential that exists only in this process, pings
// and says goodbye. Callers within a second share one answer, so that nobody can make the broker busy by asking.
//
// Two things are said and do not make the broker unready, because unready means that nobody new should be sent to it, and
// what stands before it may do so: a listener that is full, since the others are not; and a disk that is full or fails. Then
// QoS 0 goes on, and it is the subscribers who come back for their queues that make room. Metrics and the admin endpoint say
// it too.
//
// In come the listeners to try, out goes an http.Handler. It imports the contract's paths and nothing else of ours.
package health
