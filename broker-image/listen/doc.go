// SPDX-License-Identifier: Apache-2.0

// Package listen keeps the broker's doors: it accepts connections, reads PROXY headers, does TLS and WebSocket, and hands
// each connection to a handler.
//
// In comes an address and settings that may change at any time; out come connections that are ready for MQTT and whose
// deadline for saying something sensible is already running. Package engine imports it; it knows nothing of MQTT beyond
// the name of the WebSocket subprotocol, and imports nothing of ours.
//
// # What it guarantees
//
//   - No error of accept ends a listener. It waits a little, says so once, goes on, and [Listener.Fault] has the words.
//   - A panic in a handler closes that connection only, and is counted.
//   - One deadline, [Options.Patience], begins when a connection is accepted. It bounds the PROXY header, the TLS
//     handshake and the HTTP request together, and stays until the handler lifts it.
//   - New settings count from the next connection on. Those that are open do not notice.
//   - Nobody is let in beyond MaxConnections; connections that are still shaking hands count.
//
// # Two ways of a connection
//
// A plain connection (TCP or unix, no PROXY header to read) costs one system call: on Linux it is accepted past Go's
// poller and handed over on the accepting goroutine. So the handler must not block there. [Conn.Raw] gives its file
// descriptor to who has event loops of their own; whoever uses it as a net.Conn makes it one with the first call.
// Every other connection gets a goroutine, on which the handler may stay for as long as it likes.
//
// # Client certificates
//
// A [Trust] says whose certificates are believed. Package x509 follows the chain; beyond it, the client's own certificate
// must not be an authority's and must name the extended key usage clientAuth, and no certificate below a root may stand on
// a revocation list (RFC 5280, section 5) of who issued it. An authority is a name and a key: two of one name do not revoke
// for each other, as while one replaces the other.
//
// A list whose next update is over still counts, and what it does not name is let in; [Trust.Stale] tells. RFC 5280,
// section 6.3.3, leaves that to who checks. Lists come with the configuration here and are never fetched, so nobody on
// the way can keep a newer one back, which is what refusing would protect from; and a file that nobody renewed would
// lock out everybody.
//
// Where certificates are asked for, TLS sessions are not resumed: a ticket would outlive a revocation. A connection that is
// open does not notice a change; who holds its [Peer] can ask [Trust.Believes].
//
// # Tickets
//
// Sessions of TLS 1.3 are resumed, after a restart too: the keys of tickets follow from the certificate's private key and the
// day, for 7 days. See resume in ticket.go.
//
// # PROXY protocol
//
// Versions 1 and 2. Only peers in a trusted network are asked for a header. In mode required such a peer must send one
// or is closed; in mode optional it may. All other peers are taken as they are: their address is the socket's, and a
// header that they send is not skipped, so that MQTT, TLS or HTTP refuses it as the garbage that it is there. So a client
// that reaches the broker past the proxy can get in but not lie about where it comes from; a NetworkPolicy keeps it out.
//
// A peer on the loopback interface needs no header if it is trusted only because a wide network such as 0.0.0.0/0 or
// ::/0 holds it: that is how the probes of the pod get in. Who trusts 127.0.0.0/8 or ::1 itself has a proxy in the pod
// and means it. A unix socket has no networks; where PROXY is configured, all its peers are trusted.
//
// LOCAL (version 2) and UNKNOWN (version 1) keep the socket's address, as do families that say nothing about TCP.
// Headers longer than 4 KiB are refused. Extensions (TLVs) are skipped. A header may come in pieces.
//
// # WebSocket
//
// The endpoint is one path (default /mqtt); every other is 404. A client must offer the subprotocol mqtt
// [MQTT-6.0.0-3], or mqttv3.1 as clients of MQTT 3.1 do, and is answered with it [MQTT-6.0.0-4]; one that offers neither
// is refused with 400 and words. Browsers say in Origin which page they act for: with AllowedOrigins only those values
// are let in, without it only the host that was asked itself. Clients that send no Origin are no browsers and always
// welcome. The request must fit in 8 KiB. Packets may span frames and messages, or share them [MQTT-6.0.0-2]; a text
// message ends the connection with code 1003 [MQTT-6.0.0-1], one beyond ReadLimit with 1009. There is no compression:
// it costs far more memory per connection than the connection. Pings are answered by whoever reads.
//
// # Bounds
//
// Over MaxConnections a connection is closed at once and counted. ConnectRate does not refuse: after an outage all
// clients come back together, and who is dropped comes back sooner than who waits. So the listener takes its time to
// accept, and the others wait in the kernel's backlog (net.core.somaxconn, 4096 on most systems); beyond that, their
// system tries the connect again by itself. Patience begins when they are accepted.
//
// # Unix sockets
//
// The file has mode 0660: who may connect is decided by its group and the folder. A socket that a broker left behind
// when it was killed is replaced; one that somebody serves, or a file that is no socket, is an error. Close removes it.
package listen
