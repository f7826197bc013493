// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

// keeps is the share of their throughput that others keep: what is promised, where the machine is there for that alone.
// In "make test", where it is not, a stall is what must be noticed.
func keeps() float64 {
	if long {
		return 0.9
	}

	return 0.6
}

const (
	// attempts: the machine has other things to do, so a bad ratio counts only if it comes back every time.
	attempts = 5
	// spare is how much memory the broker may take on for any of what is done to it here.
	spare = 128 << 20

	retainedBound = 20_000
	queueBound    = 2000
)

// TestOverload does to one broker what it must bear, one thing after another, and looks at what is left of it.
func TestOverload(t *testing.T) {
	b := start(t, setup{data: t.TempDir(), metrics: true, listeners: 3, config: plain(t, func(c *contract.Config) {
		c.Limits.MaxRetainedMessages, c.Limits.MaxQueuedMessages = retainedBound, queueBound
		c.Listeners = append(c.Listeners,
			contract.Listener{Name: "ws", Protocol: contract.WS, Address: "127.0.0.1:0", Anonymous: everything()},
			contract.Listener{
				Name: "tls", Protocol: contract.TLS, Address: "127.0.0.1:0", Anonymous: everything(),
				TLS: &contract.ListenerTLS{Pair: "pair", MinVersion: "1.2"},
			})
		c.Pairs = map[string]contract.KeyPair{"pair": keyPair(t)}
	})})

	// Once through everything that needs a buffer, so that what is compared with is a broker at work.
	warm := pairs(t, b.at["tcp"], 4, 0)
	warm.rate(500 * time.Millisecond)
	warm.stop()
	quiet(t, b, 0)

	before, err := b.read()
	if err != nil {
		t.Fatal(err)
	}

	memory := b.resident(t)

	t.Run("subscribers that never read", func(t *testing.T) { neverReads(t, b) })
	t.Run("reconnect storm", func(t *testing.T) { bear(t, b, storm) })
	t.Run("sockets that never say who they are", func(t *testing.T) { bear(t, b, halfOpen) })
	t.Run("flood of retained messages", func(t *testing.T) { bear(t, b, floodRetained) })
	t.Run("flood of subscriptions", func(t *testing.T) { bear(t, b, floodSubscriptions) })
	t.Run("huge claimed lengths", func(t *testing.T) { bear(t, b, hugeLengths) })

	quiet(t, b, 0)

	for name, slack := range map[string]float64{"go_goroutines": 8, "process_open_fds": 8} {
		eventually(t, "nothing leaks", func() (bool, string) {
			now := b.value(t, name)

			return now <= before[name]+slack, fmt.Sprintf("%s was %v and is %v", name, before[name], now)
		})
	}

	if now := b.resident(t); now > memory+spare {
		t.Errorf("memory was %d MiB and is %d MiB", memory>>20, now>>20)
	} else {
		t.Logf("memory was %d MiB and is %d MiB", memory>>20, now>>20)
	}

	if n := b.value(t, "panics_total"); n != 0 {
		t.Errorf("%v connections ended in a panic", n)
	}
}

// quiet waits until all who came have gone.
func quiet(t *testing.T, b *broker, connections float64) {
	t.Helper()

	eventually(t, "everybody leaves", func() (bool, string) {
		n := b.value(t, "connections")

		return n <= connections, fmt.Sprintf("%v connections", n)
	})
}

// others are pairs of clients whose messages should go on whatever happens beside them.
type others struct {
	came atomic.Int64
	end  chan struct{}
	all  sync.WaitGroup
}

// pairs lets publishers send to one subscriber each, with QoS 1 and up to 20 messages on their way: as fast as it goes, or
// as many per second as is said.
func pairs(t *testing.T, at string, n, perSecond int) *others {
	t.Helper()

	o := &others{end: make(chan struct{})}

	for i := range n {
		topic := fmt.Sprintf("others/%d", i)

		sub, pub := join(t, at, who{id: fmt.Sprintf("o-sub%d", i), clean: true}), join(t, at, who{id: fmt.Sprintf("o-pub%d", i), clean: true})
		if err := sub.subscribe(topic, 1); err != nil {
			t.Fatal(err)
		}

		o.all.Go(func() { o.take(sub) })
		o.all.Go(func() { o.give(pub, topic, perSecond) })
		o.all.Go(func() {
			<-o.end
			sub.close()
			pub.close()
		})
	}

	return o
}

func (o *others) stop() {
	close(o.end)
	o.all.Wait()
}

func (o *others) take(c *client) {
	var out []byte

	for {
		p, err := c.read(time.Hour)
		if err != nil {
			return
		}

		var m wire.Publish
		if wire.Type(p[0]) == wire.TypePublish && wire.ParsePublish(p, c.v(), &m) == nil {
			o.came.Add(1)
			out = wire.AppendAck(out, c.v(), wire.TypePuback, m.PacketID, wire.Success, "")
		}

		if c.in.Buffered() == 0 {
			if c.send(out) != nil {
				return
			}

			out = out[:0]
		}
	}
}

func (o *others) give(c *client, topic string, perSecond int) {
	const window = 20

	var (
		id     uint16
		out    []byte
		flight int
		sent   int
		begin  = time.Now()
	)

	for {
		batch := window - flight

		if perSecond > 0 {
			due := int(time.Since(begin).Seconds()*float64(perSecond)) - sent
			if batch = min(window, due); batch <= 0 {
				pause := time.NewTimer(2 * time.Millisecond)

				select {
				case <-pause.C:
					continue
				case <-o.end:
					return
				}
			}
		}

		for range batch {
			id = id%60000 + 1
			out, _ = wire.AppendPublish(out, c.v(), &wire.PublishHeader{QoS: 1, PacketID: id}, topic, nil, make([]byte, 64))
		}

		flight += batch
		sent += batch

		if c.send(out) != nil {
			return
		}

		out = out[:0]

		for first := true; first || c.in.Buffered() > 0 || perSecond > 0 && flight > 0; first = false {
			if _, err := c.read(time.Hour); err != nil {
				return
			}

			flight--
		}
	}
}

// rate counts for a while: messages per second.
func (o *others) rate(d time.Duration) float64 {
	from, begin := o.came.Load(), time.Now()
	end := time.NewTimer(d)
	<-end.C

	return float64(o.came.Load()-from) / time.Since(begin).Seconds()
}

func median(all []float64) float64 {
	slices.Sort(all)

	return all[len(all)/2]
}

// evil does something to the broker. It begins with a call, and ends with the call of what it gives back.
type evil func(t *testing.T, b *broker) (end func())

// bear measures others with a steady load that leaves the machine time, beside something that needs time too, and looks
// at the memory.
func bear(t *testing.T, b *broker, do evil) {
	t.Helper()

	o := pairs(t, b.at["tcp"], 4, 1000)
	defer o.stop()

	o.rate(200 * time.Millisecond)

	memory := b.resident(t)
	best := 0.0

	for range attempts {
		without := o.rate(500 * time.Millisecond)

		from, begin := o.came.Load(), time.Now()
		end := do(t, b)

		// What is quickly done lies there for a while. What goes on is measured only while it does: others would make up
		// for it afterwards.
		if rest := 500*time.Millisecond - time.Since(begin); rest > 0 {
			o.rate(rest)
		}

		with := float64(o.came.Load()-from) / time.Since(begin).Seconds()
		grown := b.resident(t) - memory

		end()
		quiet(t, b, 8)

		if grown > spare {
			t.Fatalf("the broker took %d MiB more", grown>>20)
		}

		t.Logf("others: %.0f/s without, %.0f/s with it; %d MiB more memory", without, with, grown>>20)

		if best = max(best, with/without); best >= keeps() {
			return
		}
	}

	t.Errorf("others keep only %.0f %% of their throughput", best*100)
}

// neverReads compares windows with and without subscribers that take nothing in.
func neverReads(t *testing.T, b *broker) {
	t.Helper()

	for name, tc := range map[string]struct {
		reason string
		qos    byte
		dial   func(t *testing.T, b *broker) net.Conn
	}{
		"QoS 0, tcp":       {"what it does not take is dropped", 0, dialTCP},
		"QoS 1, tcp":       {"what it does not take waits up to the bound", 1, dialTCP},
		"QoS 0, tls":       {"a goroutine that writes must not hold up others", 0, dialTLS},
		"QoS 1, tls":       {"a goroutine that writes must not hold up others", 1, dialTLS},
		"QoS 0, websocket": {"a goroutine that writes must not hold up others", 0, dialWebSocket},
		"QoS 1, websocket": {"a goroutine that writes must not hold up others", 1, dialWebSocket},
	} {
		t.Run(name, func(t *testing.T) {
			o := pairs(t, b.at["tcp"], 4, 0)
			defer o.stop()

			memory := b.resident(t)
			best := 0.0

			var dropped float64

			for range attempts {
				var with, without []float64

				for i := range 3 {
					without = append(without, o.rate(200*time.Millisecond))
					drops := b.value(t, "messages_dropped_total")
					stuck := stickFast(t, b, tc.dial(t, b), tc.qos, i)

					with = append(with, o.rate(200*time.Millisecond))
					dropped += b.value(t, "messages_dropped_total") - drops

					if grown := b.resident(t) - memory; grown > spare {
						t.Fatalf("%s: the broker took %d MiB more", tc.reason, grown>>20)
					}

					stuck()
				}

				ratio := median(with) / median(without)
				t.Logf("others: %.0f/s without, %.0f/s with it; %.0f messages dropped", median(without), median(with), dropped)

				if best = max(best, ratio); best >= keeps() {
					break
				}
			}

			if best < keeps() {
				t.Errorf("%s: others keep only %.0f %% of their throughput", tc.reason, best*100)
			}

			if dropped == 0 {
				t.Errorf("%s: nothing was counted as dropped", tc.reason)
			}

			if long && tc.qos == 0 {
				partedWith(t, b, tc.dial(t, b))
			}
		})
	}
}

// partedWith waits until the broker has lost its patience with a client that takes nothing in.
func partedWith(t *testing.T, b *broker, conn net.Conn) {
	t.Helper()

	const parted = `disconnections_total{reason="not_reading"}`

	before := b.value(t, parted)
	end := stickFast(t, b, conn, 0, 99)
	defer end()

	within(t, 3*patience, "a client that does not read is parted with", func() (bool, string) {
		n := b.value(t, parted)

		return n > before, fmt.Sprintf("%v were", n)
	})
}

// stickFast subscribes, is sent so much that nothing more goes into its socket and its queue, and reads nothing.
func stickFast(t *testing.T, b *broker, conn net.Conn, qos byte, n int) (end func()) {
	t.Helper()

	c, err := greet(conn, who{id: fmt.Sprintf("stuck%d", n), clean: true})
	if err != nil {
		t.Fatal(err)
	}

	if err := c.subscribe("others/#", qos); err != nil {
		t.Fatal(err)
	}

	if err := c.subscribe("stuck/#", qos); err != nil {
		t.Fatal(err)
	}

	filler := join(t, b.at["tcp"], who{id: "filler", clean: true})
	drops := b.value(t, "messages_dropped_total")

	// The socket takes some megabytes, whatever its bounds; then it is full, and the count of drops says so.
	within(t, patience, "what a client does not take is counted", func() (bool, string) {
		for range 10 {
			if _, err := filler.publish("stuck/x", strings.Repeat("x", 100<<10), wire.PublishHeader{QoS: qos, PacketID: 1}); err != nil {
				t.Fatal(err)
			}
		}

		return b.value(t, "messages_dropped_total") > drops, "no drop"
	})
	filler.close()

	return c.close
}

func dialTCP(t *testing.T, b *broker) net.Conn {
	t.Helper()

	return narrow(t, b.at["tcp"])
}

// narrow connects with a small window, so that it is soon full.
func narrow(t *testing.T, at string) net.Conn {
	t.Helper()

	conn, err := net.DialTimeout("tcp", at, patience)
	if err != nil {
		t.Fatal(err)
	}

	if tcp, ok := conn.(*net.TCPConn); ok {
		if err := tcp.SetReadBuffer(4 << 10); err != nil {
			t.Fatal(err)
		}
	}

	t.Cleanup(func() { conn.Close() })

	return conn
}

func dialTLS(t *testing.T, b *broker) net.Conn {
	t.Helper()

	return tls.Client(narrow(t, b.at["tls"]), &tls.Config{InsecureSkipVerify: true})
}

func dialWebSocket(t *testing.T, b *broker) net.Conn {
	t.Helper()

	conn := narrow(t, b.at["ws"])

	_, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n",
		contract.DefaultWebSocketPath, b.at["ws"])
	if err != nil {
		t.Fatal(err)
	}

	in := bufio.NewReaderSize(conn, 1<<10)

	answer, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()

	if answer.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(answer.Status)
	}

	return &webSocket{Conn: conn, in: in}
}

// webSocket is as much of WebSocket as it takes to send CONNECT and SUBSCRIBE.
type webSocket struct {
	net.Conn

	in   *bufio.Reader
	left int
}

func (w *webSocket) Write(p []byte) (int, error) {
	frame := []byte{0x82, 0x80 | byte(len(p)), 0, 0, 0, 0} // short, and masked with nothing
	if len(p) > 125 {
		return 0, errors.New("too long for this WebSocket")
	}

	if _, err := w.Conn.Write(append(frame, p...)); err != nil {
		return 0, err
	}

	return len(p), nil
}

func (w *webSocket) Read(p []byte) (int, error) {
	for w.left == 0 {
		var head [2]byte
		if _, err := io.ReadFull(w.in, head[:]); err != nil {
			return 0, err
		}

		w.left = int(head[1])

		// The length stands behind in two or eight bytes [RFC 6455, 5.2]; no frame here is longer than an int holds.
		if more := map[int]int{126: 2, 127: 8}[w.left]; more > 0 {
			var length [8]byte
			if _, err := io.ReadFull(w.in, length[8-more:]); err != nil {
				return 0, err
			}

			w.left = int(binary.BigEndian.Uint64(length[:]))
		}
	}

	n, err := w.in.Read(p[:min(len(p), w.left)])
	w.left -= n

	return n, err
}

// many does something n times, some at once. The first error ends the test.
func many(t *testing.T, n int, do func(i int) error) {
	t.Helper()

	var (
		all  sync.WaitGroup
		next atomic.Int64
		bad  atomic.Pointer[error]
	)

	for range 32 {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && bad.Load() == nil; i = int(next.Add(1)) - 1 {
				if err := do(i); err != nil {
					bad.CompareAndSwap(nil, &err)
				}
			}
		})
	}

	all.Wait()

	if err := bad.Load(); err != nil {
		t.Fatal(*err)
	}
}

// storm: 2,000 clients connect and subscribe, lose their connections all at once, and come again.
func storm(t *testing.T, b *broker) (end func()) {
	t.Helper()

	const clients = 2000

	var all [clients]*client

	begin := time.Now()

	for range 2 {
		for _, c := range all[:] {
			if c != nil {
				c.close()
			}
		}

		many(t, clients, func(i int) error {
			c, err := dial(b.at["tcp"], who{id: "storm" + strconv.Itoa(i), clean: true})
			if err != nil {
				return err
			}

			all[i] = c

			return c.subscribe("storm/"+strconv.Itoa(i), 1)
		})
	}

	t.Logf("%d clients came twice in %s", clients, time.Since(begin).Round(time.Millisecond))

	return func() {
		for _, c := range all[:] {
			c.close()
		}
	}
}

// halfOpen: 1,000 sockets stop within their CONNECT, within the handshake of TLS, or before the first byte.
func halfOpen(t *testing.T, b *broker) (end func()) {
	t.Helper()

	const sockets = 1000

	var all [sockets]net.Conn

	many(t, sockets, func(i int) error {
		at, first := b.at["tcp"], []byte{0x10, 0x7f, 0}

		switch i % 4 {
		case 1:
			at, first = b.at["tls"], []byte{0x16, 3, 1, 2, 0, 1, 0}
		case 2:
			at, first = b.at["ws"], []byte("GET / HTTP/1.1\r\nHost: ")
		case 3:
			first = nil
		}

		conn, err := net.DialTimeout("tcp", at, patience)
		if err != nil {
			return err
		}

		all[i] = conn
		_, err = conn.Write(first)

		return err
	})

	return func() {
		for _, c := range all[:] {
			c.Close()
		}
	}
}

// floodRetained: more retained messages than there may be, as fast as they go in, and again and again for more than a
// second.
func floodRetained(t *testing.T, b *broker) (end func()) {
	t.Helper()

	c := join(t, b.at["tcp"], who{id: "flood", clean: true})

	var out []byte

	count := 0

	for begin := time.Now(); time.Since(begin) < 1200*time.Millisecond; {
		for i := range retainedBound + 5000 {
			out, _ = wire.AppendPublish(out, wire.V5, &wire.PublishHeader{Retain: true}, "flood/"+strconv.Itoa(i), nil, make([]byte, 256))
			count++

			if len(out) > 64<<10 || i == retainedBound+4999 {
				if err := c.send(out); err != nil {
					t.Fatal(err)
				}

				out = out[:0]
			}
		}

		// An answer says that all before it was looked at.
		if code, err := c.publish("flood", "", wire.PublishHeader{QoS: 1, PacketID: 1}); err != nil || code >= 0x80 {
			t.Fatalf("%#x, %v", code, err)
		}
	}

	t.Logf("%d retained messages", count)

	if n := b.value(t, "retained_messages"); n < retainedBound || n > retainedBound+200 { // those of $SYS are the broker's own
		t.Errorf("%v messages are retained, %d may be", n, retainedBound)
	}

	return func() {
		for i := range retainedBound + 5000 {
			out, _ = wire.AppendPublish(out, wire.V5, &wire.PublishHeader{Retain: true}, "flood/"+strconv.Itoa(i), nil, nil)
		}

		if err := c.send(out); err != nil {
			t.Fatal(err)
		}

		if _, err := c.publish("flood", "", wire.PublishHeader{QoS: 1, PacketID: 1}); err != nil {
			t.Fatal(err)
		}

		c.close()
	}
}

// floodSubscriptions: clients that subscribe as often as they may, and then once more.
func floodSubscriptions(t *testing.T, b *broker) (end func()) {
	t.Helper()

	const clients = 20

	bound := contract.DefaultLimits().MaxSubscriptions

	var all [clients]*client

	many(t, clients, func(i int) error {
		c, err := dial(b.at["tcp"], who{id: "subscriber" + strconv.Itoa(i), clean: true})
		if err != nil {
			return err
		}

		all[i] = c

		for first := 0; first <= bound; first += 100 {
			body := []byte{0, 1, 0}

			for n := first; n < first+100; n++ {
				body = append(text(body, fmt.Sprintf("flood/%d/+/%d/#", i, n)), 1)
			}

			if err := c.send(packet(wire.TypeSubscribe<<4|2, body)); err != nil {
				return err
			}

			p, err := c.await(wire.TypeSuback)
			if err != nil {
				return err
			}

			want := byte(1)
			if first >= bound {
				want = wire.QuotaExceeded
			}

			if got := p[len(p)-1]; got != want {
				return fmt.Errorf("subscription %d: SUBACK says %#x, not %#x", first+100, got, want)
			}
		}

		return nil
	})

	return func() {
		for _, c := range all {
			c.close()
		}
	}
}

// hugeLengths: clients and strangers that say that much will come, and send little of it.
func hugeLengths(t *testing.T, b *broker) (end func()) {
	t.Helper()

	const sockets = 600

	var all [sockets]net.Conn

	many(t, sockets, func(i int) error {
		if i%3 == 0 { // a stranger claims 256 MiB
			conn, err := net.DialTimeout("tcp", b.at["tcp"], patience)
			if err != nil {
				return err
			}

			all[i] = conn
			_, err = conn.Write([]byte{0x10, 0xff, 0xff, 0xff, 0x7f, 0, 4})

			return err
		}

		c, err := dial(b.at["tcp"], who{id: "huge" + strconv.Itoa(i), clean: true})
		if err != nil {
			return err
		}

		all[i] = c.conn

		if i%3 == 1 { // as much as is allowed, and a few bytes of it
			return c.send([]byte{0x30, 0xf0, 0xff, 0x3f, 0, 1, 'a'})
		}

		if err := c.send([]byte{0x30, 0xff, 0xff, 0xff, 0x7f, 0, 1, 'a'}); err != nil {
			return err
		}

		p, err := c.read(patience)
		if err != nil || wire.Type(p[0]) != wire.TypeDisconnect || p[2] != wire.PacketTooLarge {
			return fmt.Errorf("a packet of 256 MiB is answered with % x, %w", p, err)
		}

		return nil
	})

	return func() {
		for _, c := range all[:] {
			c.Close()
		}
	}
}
