// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

// crowdRate is at which rate they are sent away, per second.
const crowdRate = 2000

// crowdSize is how many devices are in the crowd; E2E_CROWD says another number.
const crowdSize = 200

// device is a client with a session that is kept. It publishes with QoS 1 to a topic of its own, which it listens to, one
// message after the other, and comes back where it is sent away.
type device struct {
	*way

	id     string
	source net.Addr // nil for the system's choice
	pause  time.Duration
	ticket tls.ClientSessionCache

	mu       sync.Mutex
	received map[string]bool
	acked    []string
	// ends are the ends of its connections, with what was said; away is how long each took until it was let in again.
	ends []end
	away []time.Duration
	lost error // why it gave up
}

// way is how all devices come to the broker. As devices do, they ask once for the address of a name, and once for what they
// trust: five thousand of them share the machine with the broker, and what they do is not what is measured.
type way struct {
	binding

	address string
	tls     *tls.Config
	// tries are how often a connection was asked for; resumed how often the broker knew a TLS session.
	tries, resumed atomic.Int64

	mu sync.Mutex
	// failed counts tries by what became of them.
	failed map[string]int
}

// dialTime is how long a device waits for a connection: what Python's paho does by itself. It matters. For about a second after
// a pod has ended, packets go to its address still, and nobody answers there; the kernel sends the first packet of such a
// connection to that address again and again.
const dialTime = 5 * time.Second

// numbers are what differs between two errors of the same kind.
var numbers = regexp.MustCompile(`\d[0-9.:]*`)

func (w *way) fails(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed == nil {
		w.failed = map[string]int{}
	}
	w.failed[numbers.ReplaceAllString(err.Error(), "N")]++
}

func (s *story) newWay(user string) *way {
	s.Helper()
	b, err := s.binding(user)
	if err != nil {
		s.Fatal(err)
	}
	addresses, err := net.DefaultResolver.LookupHost(s.ctx, b.host)
	if err != nil {
		s.Fatal(err)
	}
	trust, err := b.trust()
	if err != nil {
		s.Fatal(err)
	}
	return &way{binding: b, address: net.JoinHostPort(addresses[0], b.port), tls: trust}
}

// crowdSources is from how many addresses a large crowd comes.
const crowdSources = 20

// sources are addresses of the node for a large crowd. Devices have each their own. From one address they would use the same
// ports of it again within seconds, and a port whose last packet went to a pod that has ended is one that nobody answers for two
// minutes: what the kernel remembers of that connection holds for the next one, too. Where the node is not ours to change, all
// come from one.
func (s *story) sources(address string) []net.Addr {
	s.Helper()
	host, _, err := net.SplitHostPort(address)
	if os.Getenv("CONTAINERD_ADDRESS") == "" || err != nil {
		return []net.Addr{nil}
	}
	form, all := "10.90.1.%d", []net.Addr{}
	if net.ParseIP(host).To4() == nil {
		form = "fd00:90:1::%d"
	}
	for n := 1; n <= crowdSources; n++ {
		source := fmt.Sprintf(form, n)
		if text, err := exec.CommandContext(s.ctx, "ip", "address", "add", source, "dev", "lo").CombinedOutput(); err != nil {
			s.Fatalf("ip: %v: %s", err, text)
		}
		s.Cleanup(func() { _ = exec.Command("ip", "address", "del", source, "dev", "lo").Run() })
		all = append(all, &net.TCPAddr{IP: net.ParseIP(source)})
	}
	return all
}

// dial comes with the ticket of the last time, as the TLS libraries of small devices do: checking a certificate is most of what
// a connection costs them.
func (d *device) dial(ctx context.Context) (net.Conn, error) {
	d.tries.Add(1)
	conn, err := (&net.Dialer{Timeout: dialTime, LocalAddr: d.source}).DialContext(ctx, "tcp", d.address)
	if err != nil || d.tls == nil {
		return conn, err
	}
	config := d.tls.Clone()
	config.ClientSessionCache = d.ticket
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	if secured.ConnectionState().DidResume {
		d.resumed.Add(1)
	}
	return secured, nil
}

type end struct {
	at     time.Time
	reason byte
}

func (d *device) topic() string { return "crowd/" + d.id }

func (d *device) connect(resume bool) (*mqttClient, error) {
	return connectWith(d.binding, session{clientID: d.id, expiry: 3600, resume: resume, hear: d.hear, dial: d.dial})
}

func (d *device) hear(m *paho.Publish) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.received[string(m.Payload)] = true
}

// live publishes until ctx ends; c is its first connection.
func (d *device) live(ctx context.Context, c *mqttClient) {
	defer func() { c.leave() }()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-c.closed:
		case <-time.After(d.pause/2 + rand.N(d.pause)):
			if text := strconv.Itoa(n); c.publish(d.topic(), text) == nil {
				d.mu.Lock()
				d.acked = append(d.acked, text)
				d.mu.Unlock()
				continue
			}
			<-c.closed // an exchange that fails ends the connection
		}
		again, err := d.comeBack(ctx, c)
		if err != nil {
			d.mu.Lock()
			d.lost = err
			d.mu.Unlock()
			return
		}
		c = again
	}
}

// comeBack tries until it is let in, as devices do: soon, and then with longer pauses.
func (d *device) comeBack(ctx context.Context, before *mqttClient) (*mqttClient, error) {
	before.mu.Lock()
	ended := end{before.at, before.reason}
	before.mu.Unlock()
	d.mu.Lock()
	d.ends = append(d.ends, ended)
	d.mu.Unlock()
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		c, err := d.connect(true)
		if err == nil {
			d.mu.Lock()
			d.away = append(d.away, time.Since(ended.at))
			d.mu.Unlock()
			if !c.present {
				c.leave()
				return nil, errors.New("its session is lost")
			}
			return c, nil
		}
		d.fails(err)
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("it is not let in: %w", err)
		case <-time.After(pause/2 + rand.N(pause)):
		}
	}
}

// missing is how many messages the broker has acknowledged and not delivered.
func (d *device) missing() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, text := range d.acked {
		if !d.received[text] {
			n++
		}
	}
	return n
}

// each runs do for every device, some at the same time.
func (s *story) each(devices []*device, do func(*device) error) {
	s.Helper()
	work, all, failed := make(chan *device), sync.WaitGroup{}, make(chan error, len(devices))
	for range 32 {
		all.Go(func() {
			for d := range work {
				if err := do(d); err != nil {
					failed <- fmt.Errorf("%s: %w", d.id, err)
				}
			}
		})
	}
	for _, d := range devices {
		work <- d
	}
	close(work)
	all.Wait()
	if len(failed) > 0 {
		s.Fatalf("%d of %d devices fail, such as %v", len(failed), len(devices), <-failed)
	}
}

// TestACrowdIsRestarted while every client publishes: what was acknowledged arrives, and each finds its session. With
// E2E_CROWD=5000 it tells how soon they are back.
func TestACrowdIsRestarted(t *testing.T) {
	size, pause := crowdSize, 200*time.Millisecond
	if text := os.Getenv("E2E_CROWD"); text != "" {
		var err error
		if size, err = strconv.Atoi(text); err != nil || size < 2 {
			t.Fatalf("E2E_CROWD=%q is no number of clients", text)
		}
		pause = time.Duration(size) * time.Millisecond // a thousand messages a second from all of them
	} else {
		t.Parallel()
	}
	s := begin(t)
	broker := s.broker(withVolume, func(b *v1alpha1.MQTTBroker) {
		b.Spec.Updates = &v1alpha1.BrokerUpdates{Drain: &v1alpha1.BrokerDrain{DisconnectRate: new(int32(crowdRate))}}
	})
	s.user("device", allow("crowd/#"))
	over, sources := s.newWay("device"), []net.Addr{nil}
	if size > crowdSize {
		sources = s.sources(over.address)
	}
	ctx, stop := context.WithCancel(s.ctx)
	defer stop()
	devices := make([]*device, size)
	for i := range devices {
		devices[i] = &device{
			way: over, id: fmt.Sprintf("device-%04d", i), source: sources[i%len(sources)], pause: pause,
			ticket: tls.NewLRUClientSessionCache(1), received: map[string]bool{},
		}
	}
	var living sync.WaitGroup
	s.connectAs("device", session{}).leave() // the way is open
	s.each(devices, func(d *device) error {
		c, err := d.connect(false)
		if err != nil {
			return err
		}
		if err := c.subscribe(d.topic(), 1); err != nil {
			return err
		}
		living.Go(func() { d.live(ctx, c) })
		return nil
	})
	s.sayf("%d clients publish; a restart is asked for", size)
	s.update(broker, func() { broker.Annotations = map[string]string{v1alpha1.AnnotationRestartAt: "2026-11-28T18:00:00Z"} })

	s.eventually(patience, "every client was sent away and is back", func() error {
		for _, d := range devices {
			d.mu.Lock()
			back, lost := len(d.away), d.lost
			d.mu.Unlock()
			if lost != nil {
				t.Fatalf("%s: %v", d.id, lost)
			}
			if back == 0 {
				return fmt.Errorf("%s is not", d.id)
			}
		}
		return nil
	})
	if over.resumed.Load() < int64(size) {
		t.Errorf("%d of %d TLS sessions were resumed by the new pod", over.resumed.Load(), size)
	}
	s.awaitReady(broker)
	stop()
	living.Wait()

	s.tellCrowd(devices, crowdRate)

	// Who left with messages on the way to it gets them now.
	s.each(devices, func(d *device) error {
		deadline := time.After(patience)
		c, err := d.connect(true)
		for err != nil {
			select {
			case <-deadline:
				return err
			case <-time.After(100 * time.Millisecond): // the node's network has a bad moment
			}
			c, err = d.connect(true)
		}
		defer c.leave()
		for d.missing() > 0 {
			select {
			case <-deadline:
				return fmt.Errorf("%d messages that were acknowledged are lost", d.missing())
			case <-time.After(20 * time.Millisecond):
			}
		}
		return nil
	})
	acks := 0
	for _, d := range devices {
		acks += len(d.acked)
	}
	s.sayf("of %d messages that were acknowledged none is lost", acks)
}

// tellCrowd says how the restart was for the crowd.
func (s *story) tellCrowd(devices []*device, rate int) {
	s.Helper()
	var (
		sent, back []time.Time
		away       []time.Duration
	)
	for _, d := range devices {
		d.mu.Lock()
		if first := d.ends[0]; first.reason != serverShuttingDown {
			s.Errorf("%s was told %#x, want %#x", d.id, first.reason, serverShuttingDown)
		}
		sent, away = append(sent, d.ends[0].at), append(away, d.away[0])
		back = append(back, d.ends[0].at.Add(d.away[0]))
		d.mu.Unlock()
	}
	slices.SortFunc(sent, time.Time.Compare)
	slices.SortFunc(back, time.Time.Compare)
	slices.Sort(away)
	took := sent[len(sent)-1].Sub(sent[0])
	measured := float64(len(sent)-1) / took.Seconds()
	s.sayf("%d clients were sent away within %.2fs: %.0f per second, asked for %d", len(sent), took.Seconds(), measured, rate)
	s.sayf("each was back after p50 %.1fs, p99 %.1fs, at most %.1fs", away[len(away)/2].Seconds(), away[len(away)*99/100].Seconds(), away[len(away)-1].Seconds())
	s.sayf("the first was let in again %.1fs after the last had been sent away, and all within %.1fs of it, after %d tries",
		back[0].Sub(sent[len(sent)-1]).Seconds(), back[len(back)-1].Sub(back[0]).Seconds(), devices[0].tries.Load()-int64(len(devices)))
	perSecond := make([]int, int(back[len(back)-1].Sub(back[0]).Seconds())+1)
	for _, at := range back {
		perSecond[int(at.Sub(back[0]).Seconds())]++
	}
	s.sayf("let in again in each second of that: %v", perSecond)
	devices[0].way.mu.Lock()
	for what, count := range devices[0].way.failed {
		s.sayf("%6d tries: %s", count, what)
	}
	devices[0].way.mu.Unlock()
	// A drain makes up for a moment of lost time, which is much of a short one.
	if took > 2*time.Second && measured > 1.1*float64(rate) {
		s.Errorf("they were sent away faster than the %d per second that were asked for", rate)
	}
}
