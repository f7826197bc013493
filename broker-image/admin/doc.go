// SPDX-License-Identifier: Apache-2.0

// Package admin is the endpoint by which the operator talks to a running broker, and the rules for which configuration
// may take the place of another.
//
//	GET /v1/status       what runs: revision, digest of each part, connections, sessions, listeners
//	PUT /v1/config       files of a newer configuration; those that did not change may be left out
//	GET /v1/trace        what happens to ?client=, to ?topic= (a filter), or both; one JSON object per line, for ?for= at most
//	POST /v1/clients     who is connected, a page of [MaxClients] at most; the body says which
//	POST /v1/disconnect  ends the connection of a client, whose session is kept
//
// Both ends prove themselves by certificates of one CA that exists for this broker alone, over TLS 1.3. The endpoint
// knows no other way in.
//
// A trace names clients, users, topics and sizes, and holds no payload and no secret. It ends when the caller hangs up, at
// the latest after [MaxTrace]. Who reads too slowly loses events, and is told how many.
//
// A [Keeper] holds the configuration that runs. The files of the mounted directory and the endpoint offer to the same
// keeper, so whichever comes first wins and the other finds that there is nothing left to do.
//
// Imported by the operator (client) and by the broker's binary (server).
package admin
