// SPDX-License-Identifier: Apache-2.0

// Package engine is the broker: it knows who is connected, which sessions there are, and where a message goes.
//
// In come a configuration ([Engine.Apply], as often as it changes) and connections, which package listen hands over. Out
// go packets to clients, transactions to package store, counts to package metrics, and what [Engine.Status],
// [Engine.Targets] and [Engine.Trace] tell. Only cmd/mqtt-broker and tests import it.
//
//	engine.go     a broker's life: New, Apply, connections that come and go, Shutdown
//	drain.go      how clients are sent away at the end
//	compile.go    a configuration made ready for use; what a new one means for who is connected
//	worker_*.go   event loops: many connections on one goroutine
//	stream.go     one goroutine per connection, where there is TLS, WebSocket, or no epoll
//	conn.go       packets of one connection, and acknowledgements in their order
//	connect.go    CONNECT, who it is, and what it may; password.go for passwords, exchange.go for AUTH, certificate.go
//	              for client certificates
//	tokens.go     tokens in either: whose they are, when they end, what a new key set means
//	quota.go      client identifiers, and what all connections of a user use together; same.go compares users
//	output.go     bytes that wait to be written on one connection
//	registry.go   who owns a session: takeovers happen here, one after another
//	session.go    subscriptions and messages of one client, connected or not
//	outbox.go     messages of QoS 1 and 2 under way to it; packet ids
//	publish.go    PUBLISH and acknowledgements; route decides where a message goes
//	retained.go, will.go, subscribe.go, message.go
//	round.go      what one goroutine gathers before it writes
//	restore.go    what the last process has left; backup.go for what travels between brokers
//	wheel.go      the one clock
//	observe.go, status.go, log.go, trace.go    what people see
//
// # Rounds
//
// A round is what one goroutine works with while it handles what has come in: which connections have got something to
// send, one transaction for the disk, counters and scratch memory. When all that has come is handled, the round is
// finished: each connection is written to once, and the transaction is handed to the store. So what many messages cause
// is done once, and at rest nothing waits for anything. A round belongs to one goroutine at a time. Workers, the wheel
// and the store's goroutine have one each; others borrow one.
//
// # Workers and streams
//
// On Linux a plain connection belongs to one of a few workers, each with an epoll set and one read buffer for all its
// connections; an idle connection costs neither goroutine nor buffer. Every other connection has a goroutine that reads
// and calls the same code. A worker never waits: not for the disk, for a password check or for a peer. What has to wait
// pauses its connection (it is not read) and comes back by its worker's mail.
//
// What stands above conn.mu in conn belongs to the owner, the goroutine that reads the connection. Anybody may append to
// a connection's output, write it out at the end of a round, or ask for its end; only the owner ends it.
//
// # Store, then send
//
// A message for a session that outlives its connection goes to the disk first, and to the client when it is there;
// likewise the acknowledgement to the publisher, the mark of a PUBREC before PUBREL, that of a PUBREL before PUBCOMP.
// Otherwise a crash could bring back a packet id that the other side has given to another message. The store calls
// committed on its own goroutine, in the order of the commits. Acknowledgements leave in the order of the publishes, so
// one that waits for the disk holds up those behind it. When the store says no, MQTT 5 clients are told 0x97 and others
// are disconnected without an acknowledgement; messages of QoS 0 notice nothing.
//
// Sessions without expiry are never stored: they end with their connection.
//
// # States
//
//	connection   stranger → authenticating → established → closing → dead
//	             only CONNECT passes a stranger; closing takes no more output and, with lastWords, is cut once all is
//	             written; dead is when the owner is done with it
//	session      connected ⇄ away → ended
//	             away is with expiry only; ended is for good, and whoever still holds it must not use it
//	message      in memory or on its way to the disk (unsafe) → waits → sent, in flight → released (QoS 2, PUBREC has
//	             come) → done
//
// # Locks
//
// In this order; who holds one may take those to its right and none to its left:
//
//	Engine.applying > registry shard > session.mu > conn.mu > those within one structure (wheel, topics, a trace)
//
// Engine.mu (who is connected) is taken below a shard and takes nothing but the wheel's. Nothing is held while a socket
// is written to, a disk is waited for or a function of somebody else is called. Counters, the configuration, a session's
// connection and the traces are atomic: a publish that nobody traces pays one load for that.
package engine
