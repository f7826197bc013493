// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// odd is a server of MQTT 5 that does as a test wants it, and no more.
type odd struct {
	t        testing.TB
	endpoint string
	connack  packets.Properties
	// suback is the code for a subscription.
	suback func(filter string) byte
	// answer is the code for the n-th publication; silent gives none.
	answer func(n int, p *packets.Publish) (code byte, silent bool)
	// ends says that the connection ends with the n-th publication, without an answer; nil never does.
	ends func(n int, p *packets.Publish) bool

	mu        sync.Mutex
	published []*packets.Publish
	connects  int
	most      int // publications that waited for an answer at once
	waiting   []uint16
	conn      net.Conn
}

func newOdd(t testing.TB, connack packets.Properties) *odd {
	t.Helper()

	o := &odd{
		t: t, connack: connack,
		suback: func(string) byte { return 1 },
		answer: func(int, *packets.Publish) (byte, bool) { return 0, false },
	}

	o.endpoint = serving(t, o.serve)

	return o
}

func (o *odd) url() string { return o.endpoint }

func (o *odd) serve(c net.Conn) {
	for {
		packet, err := packets.ReadPacket(c)
		if err != nil {
			return
		}

		switch p := packet.Content.(type) {
		case *packets.Connect:
			o.mu.Lock()
			o.connects++
			o.conn = c
			o.mu.Unlock()

			_, _ = (&packets.Connack{Properties: &o.connack}).WriteTo(c)
		case *packets.Subscribe:
			_, _ = (&packets.Suback{PacketID: p.PacketID, Properties: &packets.Properties{}, Reasons: []byte{o.suback(p.Subscriptions[0].Topic)}}).WriteTo(c)
		case *packets.Publish:
			o.mu.Lock()
			n := len(o.published)
			o.published = append(o.published, p)
			o.waiting = append(o.waiting, p.PacketID)
			o.most = max(o.most, len(o.waiting))
			o.mu.Unlock()

			if o.ends != nil && o.ends(n, p) {
				return
			}

			code, silent := o.answer(n, p)
			if silent || p.QoS == 0 {
				continue
			}

			o.mu.Lock()
			o.waiting = o.waiting[:len(o.waiting)-1]
			o.mu.Unlock()

			_, _ = (&packets.Puback{PacketID: p.PacketID, ReasonCode: code, Properties: &packets.Properties{}}).WriteTo(c)
		case *packets.Pingreq:
			_, _ = packets.NewControlPacket(packets.PINGRESP).WriteTo(c)
		case *packets.Disconnect:
			return
		}
	}
}

func (o *odd) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()

	return len(o.published)
}

func (o *odd) connections() int {
	o.mu.Lock()
	defer o.mu.Unlock()

	return o.connects
}

// beside runs a bridge from one of our brokers to an odd one.
func beside(t *testing.T, o *odd, r contract.BridgeRoute) (*Bridge, *tap) {
	t.Helper()

	near := openHouse(t, func(c *contract.Config) { c.Limits.MaxPacketSize = 4 << 20 })
	b := startBridge(t, config(near.url(), o.url(), r))
	connected(t, b)

	return b, newTap(t, near.url(), 5, "source", true)
}

func TestAMessageThatIsRefusedIsParkedAndTheRouteGoesOn(t *testing.T) {
	size := uint32(1000)

	for name, c := range map[string]struct {
		reason  string
		connack packets.Properties
		code    byte
		topic   string
		prefix  string
		payload string
		words   string
	}{
		"too large":            {reason: DropTooLarge, connack: packets.Properties{MaximumPacketSize: &size}, payload: strings.Repeat("x", 2000), words: "larger"},
		"not authorized":       {reason: DropNotAuthorized, code: 0x87, words: "grant"},
		"no such topic":        {reason: DropTopicInvalid, code: 0x90, words: "topic"},
		"no such payload":      {reason: DropPayloadInvalid, code: 0x99, words: "payload"},
		"whatever it may be":   {reason: DropRefused, code: 0x83, words: "0x83"},
		"topic becomes long":   {reason: DropTopicTooLong, topic: strings.Repeat("t", 60_000), prefix: strings.Repeat("p", 6000) + "/", words: "65"},
		"a message that loops": {reason: DropLoop, words: "carried before"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			o := newOdd(t, c.connack)
			o.answer = func(n int, _ *packets.Publish) (byte, bool) {
				if n == 1 {
					return c.code, false
				}

				return 0, false
			}

			b, source := beside(t, o, contract.BridgeRoute{Name: "x", Direction: contract.Out, Filter: "#", LocalPrefix: "a/", RemotePrefix: c.prefix, MaxQoS: 1})
			topic := c.topic
			if topic == "" {
				topic = "b"
			}

			source.say("a/first", "1", 1)

			bad := &entry{topic: "a/" + topic, payload: []byte(c.payload), outQoS: 1}
			if c.reason == DropLoop {
				bad.props = hopOf(b.configuration().Name)
			}

			source.publish(bad)
			source.say("a/last", "2", 1)
			eventually(t, "the route goes on", func() bool {
				o.mu.Lock()
				defer o.mu.Unlock()

				return len(o.published) > 1 && strings.HasSuffix(o.published[len(o.published)-1].Topic, "last")
			})
			eventually(t, "it is counted", func() bool { return b.Status().Routes[0].Dropped[c.reason] == 1 })

			s := b.Status().Routes[0]
			if !strings.Contains(s.LastError, c.words) || !s.Connected || len(s.Dropped) != 1 {
				t.Errorf("the status says %+v", s)
			}

			eventually(t, "nothing waits", func() bool { return b.Status().Routes[0].Queued == 0 })
		})
	}
}

func TestAQuotaIsWaitedFor(t *testing.T) {
	t.Parallel()

	o := newOdd(t, packets.Properties{})
	o.answer = func(n int, _ *packets.Publish) (byte, bool) {
		if n == 0 {
			return 0x97, false
		}

		return 0, false
	}

	b, source := beside(t, o, contract.BridgeRoute{Name: "x", Direction: contract.Out, Filter: "#", LocalPrefix: "a/", MaxQoS: 1})
	source.say("a/1", "1", 1)
	eventually(t, "it was sent again", func() bool { return o.count() == 2 })
	eventually(t, "it is forwarded", func() bool { return b.Status().Routes[0].Forwarded == 1 })

	if s := b.Status().Routes[0]; len(s.Dropped) > 0 || !strings.Contains(s.LastError, "quota") {
		t.Errorf("the status says %+v", s)
	}
}

func TestWhatTheRemoteDoesNotGiveIsSaid(t *testing.T) {
	t.Parallel()

	none, one, expiry, window := byte(0), byte(1), uint32(60), uint16(3)
	o := newOdd(t, packets.Properties{RetainAvailable: &none, MaximumQOS: &one, SessionExpiryInterval: &expiry, ReceiveMaximum: &window})
	o.answer = func(int, *packets.Publish) (byte, bool) { return 0, true }
	b, source := beside(t, o, contract.BridgeRoute{Name: "x", Direction: contract.Both, Filter: "#", LocalPrefix: "a/", RemotePrefix: "r/", MaxQoS: 2, Retain: true})

	for _, words := range []string{"retains no messages", "QoS 1 at most", "for 60 s only"} {
		if notice := b.Status().Remote.Notice; !strings.Contains(notice, words) {
			t.Errorf("the notice %q does not say %q", notice, words)
		}
	}

	for n := range 10 {
		source.publish(&entry{topic: "a/x", payload: numbered(n), outQoS: 2, retain: true})
	}

	source.settle()
	eventually(t, "the window is full", func() bool { return o.count() == 3 })
	eventually(t, "the others wait", func() bool { return b.Status().Routes[0].Queued == 10 })
	o.mu.Lock()
	defer o.mu.Unlock()

	if p := o.published[0]; p.Retain || p.QoS != 1 {
		t.Errorf("a message of QoS %d came, retain %t", p.QoS, p.Retain)
	}

	if o.most > 3 {
		t.Errorf("%d messages were in flight, 3 may be [MQTT-3.3.4-9]", o.most)
	}
}

func TestARemoteWithoutWildcards(t *testing.T) {
	t.Parallel()

	none := byte(0)
	o := newOdd(t, packets.Properties{WildcardSubAvailable: &none})
	near := openHouse(t, nil)
	b := startBridge(t, config(near.url(), o.url(), route1("w", contract.In, "a/#"), route1("plain", contract.In, "b")))
	eventually(t, "the plain route is connected", func() bool { return b.Status().Routes[1].Connected })
	eventually(t, "the other one says why not", func() bool {
		r := b.Status().Routes[0]

		return !r.Connected && strings.Contains(r.LastError, "wildcards")
	})
}

func TestASubscriptionThatIsRefusedIsTriedAgain(t *testing.T) {
	t.Parallel()

	o := newOdd(t, packets.Properties{})
	refuse := 3
	o.suback = func(string) byte {
		o.mu.Lock()
		defer o.mu.Unlock()

		refuse--
		if refuse >= 0 {
			return 0x87
		}

		return 1
	}
	near := openHouse(t, nil)
	b := startBridge(t, config(near.url(), o.url(), route1("x", contract.In, "a/#")))
	connected(t, b)

	if r := b.Status().Routes[0]; !strings.Contains(r.LastError, "refuses the subscription") {
		t.Errorf("the status says %+v", r)
	}

	if n := o.connections(); n != 1 {
		t.Errorf("%d connections were made", n)
	}
}

func TestARemoteThatNeverAcknowledges(t *testing.T) {
	t.Parallel()

	o := newOdd(t, packets.Properties{})
	silent := true
	o.answer = func(int, *packets.Publish) (byte, bool) {
		o.mu.Lock()
		defer o.mu.Unlock()

		return 0, silent
	}
	near := openHouse(t, nil)
	options := quick(t)
	options.Patience = 200 * time.Millisecond
	b := New(options)
	t.Cleanup(b.Close)

	if err := b.Apply(config(near.url(), o.url(), route1("x", contract.Out, "a/#"))); err != nil {
		t.Fatal(err)
	}

	connected(t, b)

	source := newTap(t, near.url(), 5, "source", true)
	source.say("a/x", "1", 1)
	eventually(t, "the connection is given up", func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()

		return o.connects > 1
	})
	o.mu.Lock()
	silent = false
	o.mu.Unlock()
	eventually(t, "the message is forwarded", func() bool { return b.Status().Routes[0].Forwarded == 1 })
}

func TestAFencedConnectionDoesNotFight(t *testing.T) {
	t.Parallel()

	o := newOdd(t, packets.Properties{})
	near := openHouse(t, nil)
	options := quick(t)
	options.MaxBackoff = time.Hour
	b := New(options)
	t.Cleanup(b.Close)

	if err := b.Apply(config(near.url(), o.url(), route1("x", contract.Out, "a/#"))); err != nil {
		t.Fatal(err)
	}

	connected(t, b)
	o.mu.Lock()
	_, _ = (&packets.Disconnect{ReasonCode: 0x8e, Properties: &packets.Properties{}}).WriteTo(o.conn)
	o.mu.Unlock()
	eventually(t, "the status says so", func() bool { return b.Status().Remote.Reason == ReasonTakenOver })

	if n := o.connections(); n != 1 {
		t.Errorf("it connected %d times", n)
	}
}

func TestTopics(t *testing.T) {
	routes := []contract.BridgeRoute{
		{Name: "up", Direction: contract.Out, Filter: "#", LocalPrefix: "site/", RemotePrefix: "cloud/site1/"},
		{Name: "down", Direction: contract.In, Filter: "cmd/+", LocalPrefix: "", RemotePrefix: "cloud/"},
	}

	for name, c := range map[string]struct {
		route  int
		topic  string
		want   string
		absent bool
	}{
		"a prefix is replaced":                  {0, "site/a/b", "cloud/site1/a/b", false},
		"the level above a # is a part":         {0, "site", "cloud/site1", false},
		"another topic is none of its business": {0, "sites/a", "", true},
		"a prefix is taken away":                {1, "cloud/cmd/x", "cmd/x", false},
		"+ is one level":                        {1, "cloud/cmd/x/y", "", true},
		"an empty level is a level":             {1, "cloud/cmd/", "cmd/", false},
	} {
		r := &routes[c.route]
		m := newMapping(r, r.Direction, routes)

		if got, found := m.topic(c.topic); got != c.want || found == c.absent {
			t.Errorf("%s: %q becomes %q, %t; want %q", name, c.topic, got, found, c.want)
		}
	}

	up := newMapping(&routes[0], contract.Out, routes)
	for answer, want := range map[string]string{
		"cmd/1":     "cloud/cmd/1", // comes back by the route down
		"site/x":    "cloud/site1/x",
		"elsewhere": "elsewhere",
	} {
		if got := up.answer(answer); got != want {
			t.Errorf("answer %q becomes %q, want %q", answer, got, want)
		}
	}
}

func TestExpiry(t *testing.T) {
	now := time.Now()
	e := &entry{outQoS: 1, retain: true, expires: true, expiry: 10, arrived: now}

	for seconds, want := range map[int]uint32{0: 10, 3: 7, 9: 1, 10: 0, 11: 0} {
		left, alive := e.left(now.Add(time.Duration(seconds) * time.Second))
		if left != want || alive != (want > 0) {
			t.Errorf("after %d s %d are left, %t; want %d", seconds, left, alive, want)
		}
	}

	if h := e.header(7); h.QoS != 1 || !h.Retain || !h.HasExpiry || h.Expiry != 7 {
		t.Errorf("%+v stands before the message", h)
	}
}

func TestEchoes(t *testing.T) {
	var e echoes

	now := time.Now()
	d := digest("t", []byte("p"))

	if e.isEcho(d, now) {
		t.Error("nothing was published, and still it is an echo")
	}

	e.remember(d, now)
	e.remember(d, now.Add(9*time.Second))

	for n, want := range []bool{true, true, false} {
		if got := e.isEcho(d, now.Add(9*time.Second)); got != want {
			t.Errorf("time %d: %t, want %t: each publication comes back once", n, got, want)
		}
	}

	e = echoes{}
	e.remember(d, now)

	if e.isEcho(d, now.Add(echoAge+time.Second)) {
		t.Error("what comes much later is no echo")
	}

	for n := range 2 * maxEchos {
		e.remember(digest(strconv.Itoa(n), nil), now)
	}

	if len(e.order) > 2*maxEchos || len(e.known) > maxEchos {
		t.Errorf("%d are remembered, %d are enough", len(e.known), maxEchos)
	}
}
