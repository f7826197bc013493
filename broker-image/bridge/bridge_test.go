// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/auth"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

// long says that the long form of a test is wanted.
func long() bool { return os.Getenv("FAULTS") == "long" }

// versions are the versions of both ends that a test goes through.
var versions = []struct{ local, remote int }{{5, 5}, {5, 4}, {4, 5}, {4, 4}}

func TestMessagesGoBothWays(t *testing.T) {
	for _, v := range versions {
		t.Run(fmt.Sprintf("local %d, remote %d", v.local, v.remote), func(t *testing.T) {
			t.Parallel()

			near, far := openHouse(t, nil), openHouse(t, nil)
			cfg := config(near.url(), far.url(),
				contract.BridgeRoute{Name: "up", Direction: contract.Out, Filter: "#", LocalPrefix: "up/", RemotePrefix: "site1/", MaxQoS: 1, Retain: true},
				contract.BridgeRoute{Name: "cmd", Direction: contract.Both, Filter: "cmd/#", MaxQoS: 2})
			cfg.Local.Version, cfg.Remote.Version = v.local, v.remote
			b := startBridge(t, cfg)
			connected(t, b)

			here, there := newTap(t, near.url(), 5, "here", true), newTap(t, far.url(), 5, "there", true)
			here.subscribe("cmd/#", 2)
			there.subscribe("#", 2)

			here.publish(&entry{topic: "up/a/b", payload: []byte("hello"), outQoS: 2, retain: true, expires: true, expiry: 60, props: properties(t, &wire.Forwarded{
				HasFormat: true, Text: true, ContentType: "text/plain", ResponseTopic: "cmd/answer", CorrelationData: []byte{0, 1},
				User: [][2]string{{"k", "v"}, {"k", "w"}},
			})})

			m := there.waitFor(1)[0]
			if m.topic != "site1/a/b" || string(m.payload) != "hello" || m.qos != 1 {
				t.Errorf("%s %q QoS %d came", m.topic, m.payload, m.qos)
			}

			if m.retain != (v.local == 5) {
				t.Errorf("the retain flag is %t", m.retain)
			}

			if v.local == 5 && v.remote == 5 {
				p, err := wire.ParseForwarded(m.props)
				if err != nil || !p.Text || p.ContentType != "text/plain" || p.ResponseTopic != "cmd/answer" || string(p.CorrelationData) != "\x00\x01" || m.expiry > 60 || m.expiry < 50 {
					t.Errorf("properties changed: %v, %v", p, err)
				}

				if len(p.User) != 3 || p.User[1][1] != "w" || p.User[2] != [2]string{hopProperty, cfg.Name} {
					t.Errorf("user properties %v", p.User)
				}
			}

			here.say("cmd/x", "there", 2)
			there.say("cmd/y", "here", 2)

			if got := there.waitFor(3); len(got) != 3 {
				t.Errorf("%d messages came", len(got))
			}

			got := here.waitFor(2)
			if got[len(got)-1].qos != 2 {
				t.Errorf("QoS %d came", got[len(got)-1].qos)
			}

			here.settle()
			there.settle()
			// What is still under way would be an echo; it is dropped and counted, or does not come at all.
			eventually(t, "nothing waits", func() bool {
				for _, r := range b.Status().Routes {
					if r.Queued > 0 {
						return false
					}
				}

				return true
			})

			if n := there.count(); n != 3 {
				t.Errorf("%d messages are there, want 3", n)
			}
		})
	}
}

// cutBridge runs a load over a bridge while trouble is made, and checks what became of it.
func cutBridge(t *testing.T, cfg *contract.Bridge, near, far *house, total, topics, cuts int, qos byte, trouble func(n int)) {
	t.Helper()

	cfg.Routes = []contract.BridgeRoute{{Name: "load", Direction: contract.Out, Filter: "load/#", MaxQoS: qos}}
	cfg.Inflight = 50

	sink := newTap(t, far.url(), 5, "sink", true)
	sink.silent = true
	books := newLedger()
	sink.seen = books.take
	sink.subscribe("load/#", qos)

	b := startBridge(t, cfg)
	connected(t, b)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%d have come; status %+v", books.distinct(), b.Status())
		}
	})

	source := newTap(t, near.url(), 5, "source", true)

	for n := range total {
		source.publish(&entry{topic: fmt.Sprintf("load/%d", n%topics), payload: numbered(n), outQoS: qos})

		if cuts > 0 && n%(total/cuts) == total/cuts/2 {
			trouble(n)
		}
	}

	source.settle()
	eventually(t, "all has arrived", func() bool { return books.distinct() == total })
	eventually(t, "nothing waits", func() bool { return b.Status().Routes[0].Queued == 0 })

	if books.disorder > 0 {
		t.Errorf("%d messages came behind later ones of their topic", books.disorder)
	}

	if most := cuts * cfg.Inflight; books.repeated() > most {
		t.Errorf("%d came twice, at most %d may", books.repeated(), most)
	}

	t.Logf("%d sent, %d lost, %d repeated", total, total-books.distinct(), books.repeated())
}

func TestNothingIsLostWhenConnectionsBreak(t *testing.T) {
	for _, v := range versions {
		for _, qos := range []byte{1, 2} {
			t.Run(fmt.Sprintf("local %d, remote %d, QoS %d", v.local, v.remote, qos), func(t *testing.T) {
				t.Parallel()

				near, far := openHouse(t, nil), openHouse(t, nil)
				nearly, farther := newRelay(t, near.address), newRelay(t, far.address)
				cfg := config(nearly.url(), farther.url())
				cfg.Local.Version, cfg.Remote.Version = v.local, v.remote
				cutBridge(t, cfg, near, far, 4000, 7, 8, qos, func(n int) {
					if n/500%2 == 0 {
						nearly.cut()
					} else {
						farther.cut()
					}
				})
			})
		}
	}
}

func TestMessagesWaitInOrderWhileTheRemoteIsAway(t *testing.T) {
	total := 5000
	if long() {
		total = 100_000
	}

	for _, version := range []int{5, 4} {
		t.Run(fmt.Sprint("remote ", version), func(t *testing.T) {
			t.Parallel()

			near, far := openHouse(t, nil), openHouse(t, nil)
			farther := newRelay(t, far.address)
			cfg := config(near.url(), farther.url(), route1("load", contract.Out, "load/#"))
			cfg.Remote.Version = version
			b := startBridge(t, cfg)
			connected(t, b)

			farther.refusing.Store(true)
			farther.cut()

			source := newTap(t, near.url(), 5, "source", true)
			for n := range total {
				source.publish(&entry{topic: "load/x", payload: numbered(n), outQoS: 1})
			}

			source.settle()

			if queued := b.Status().Routes[0].Queued; queued > int64(cfg.Inflight) {
				t.Errorf("the bridge holds %d messages, its window is %d", queued, cfg.Inflight)
			}

			eventually(t, "the remote end says what is wrong", func() bool { return b.Status().Remote.Reason == ReasonClosed })

			sink := newTap(t, far.url(), 5, "sink", true)
			sink.silent = true
			books := newLedger()
			sink.seen = books.take
			sink.subscribe("load/#", 1)
			farther.refusing.Store(false)
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("%d have come; status %+v", books.distinct(), b.Status())
				}
			})
			eventually(t, "all has arrived", func() bool { return books.distinct() == total })

			if books.disorder > 0 || books.repeated() > 0 {
				t.Errorf("%d out of order, %d repeated", books.disorder, books.repeated())
			}
		})
	}
}

func TestBrokersAreRestarted(t *testing.T) {
	t.Parallel()

	near, far := openHouse(t, nil), openHouse(t, nil)
	cfg := config(near.url(), far.url())
	cfg.Routes = []contract.BridgeRoute{route1("load", contract.Out, "load/#")}

	b := startBridge(t, cfg)
	connected(t, b)

	source := newTap(t, near.url(), 5, "source", true)
	sink := newTap(t, far.url(), 5, "sink", false)
	sink.subscribe("load/#", 1)
	source.say("load/x", "1", 1)
	sink.waitFor(1)
	far.stop()
	source.say("load/x", "2", 1)
	source.settle()
	near.stop()
	near.start()
	far.start()

	again := newTap(t, far.url(), 5, "sink", false)
	eventually(t, "the second message comes", func() bool {
		again.mu.Lock()
		defer again.mu.Unlock()

		return slices.ContainsFunc(again.messages, func(m *inbound) bool { return string(m.payload) == "2" })
	})
}

func TestALiveChangeLosesNothing(t *testing.T) {
	t.Parallel()

	near, far := openHouse(t, nil), openHouse(t, nil)
	cfg := config(near.url(), far.url(), route1("load", contract.Out, "load/#"), route1("gone", contract.Out, "gone/#"))
	b := startBridge(t, cfg)
	connected(t, b)

	sink := newTap(t, far.url(), 5, "sink", true)
	sink.silent = true
	books := newLedger()
	sink.seen = books.take
	sink.subscribe("#", 1)

	source := newTap(t, near.url(), 5, "source", true)
	change := func(what func(c *contract.Bridge)) {
		next := *cfg
		next.Routes = append([]contract.BridgeRoute{}, cfg.Routes...)
		next.Revision++
		what(&next)

		cfg = &next
		if err := b.Apply(cfg); err != nil {
			t.Fatal(err)
		}
	}

	const total = 3000

	for n := range total {
		source.publish(&entry{topic: "load/x", payload: numbered(n), outQoS: 1})

		switch n {
		case 500:
			change(func(c *contract.Bridge) { c.Routes[0].Filter = "load/+" })
		case 1000:
			change(func(c *contract.Bridge) { c.Inflight = 20 })
		case 1500:
			change(func(c *contract.Bridge) {
				c.Routes = append(c.Routes[:1], route1("new", contract.In, "new/#"))
			})
		case 2000:
			change(func(c *contract.Bridge) { c.Remote.Endpoints = []string{far.url(), "mqtt://127.0.0.1:1"} })
		case 2500:
			change(func(c *contract.Bridge) { c.Routes[0].RemotePrefix = "there/" })
		}
	}

	source.settle()
	eventually(t, "all has arrived", func() bool { return books.distinct() == total })

	if books.repeated() > 0 {
		t.Errorf("%d came twice: a change that is wanted waits for what is under way", books.repeated())
	}

	change(func(c *contract.Bridge) { c.Suspended = true })
	eventually(t, "the bridge is suspended", func() bool {
		s := b.Status()

		return s.Remote.Reason == ReasonSuspended && !s.Active
	})
	source.publish(&entry{topic: "load/x", payload: numbered(total), outQoS: 1})
	source.settle()

	if n := books.distinct(); n != total {
		t.Errorf("%d have arrived though the bridge is suspended", n)
	}

	change(func(c *contract.Bridge) { c.Suspended = false })
	eventually(t, "what waited has arrived", func() bool { return books.distinct() == total+1 })
	connected(t, b)
}

// TestRightsAreEnough runs a bridge whose user has nothing but what contract.BridgeRules grants.
func TestRightsAreEnough(t *testing.T) {
	t.Parallel()

	far := openHouse(t, nil)
	cfg := config("mqtt://127.0.0.1:1", far.url(),
		contract.BridgeRoute{Name: "up", Direction: contract.Out, Filter: "#", LocalPrefix: "up/", MaxQoS: 1},
		contract.BridgeRoute{Name: "down", Direction: contract.In, Filter: "+/x", LocalPrefix: "down/", RemotePrefix: "d/", MaxQoS: 2, Retain: true})
	cfg.Local.Username, cfg.Local.Password = "bridge", "secret"

	near := openHouse(t, func(c *contract.Config) {
		verifier, err := auth.NewSHA256([]byte("secret"), []byte("somesalt"))
		if err != nil {
			t.Fatal(err)
		}

		c.Users = []contract.User{{
			Username: "bridge", Verifiers: []string{verifier}, ACL: contract.BridgeRules(cfg), ClientIDs: &contract.ClientIDs{Prefix: cfg.Local.ClientIDPrefix},
		}}
	})
	cfg.Local.Endpoints = []string{near.url()}
	b := startBridge(t, cfg)
	connected(t, b)

	if notice := b.Status().Local.Notice; notice != "" {
		t.Errorf("the local end notices %q", notice)
	}

	here, there := newTap(t, near.url(), 5, "here", true), newTap(t, far.url(), 5, "there", true)
	here.subscribe("down/#", 2)
	there.subscribe("a", 1)
	here.say("up/a", "1", 1)
	there.waitFor(1)
	there.publish(&entry{topic: "d/a/x", payload: []byte("1"), outQoS: 2, retain: true})
	here.waitFor(1)

	for _, r := range b.Status().Routes {
		if len(r.Dropped) > 0 {
			t.Errorf("route %s dropped %v: %s", r.Name, r.Dropped, r.LastError)
		}
	}
}

func TestThreeBrokersInARingDoNotStorm(t *testing.T) {
	t.Parallel()

	houses := []*house{openHouse(t, nil), openHouse(t, nil), openHouse(t, nil)}

	var bridges []*Bridge

	for i := range houses {
		b := startBridge(t, config(houses[i].url(), houses[(i+1)%3].url(), route1("ring", contract.Both, "ring/#")))
		connected(t, b)

		bridges = append(bridges, b)
	}

	var taps []*tap

	for i, h := range houses {
		c := newTap(t, h.url(), 5, fmt.Sprint("tap", i), true)
		c.subscribe("ring/#", 1)
		taps = append(taps, c)
	}

	const total = 20

	for n := range total {
		taps[n%3].say("ring/x", strconv.Itoa(n), 1)
	}

	for i := range taps {
		taps[i].settle()
	}

	// Every message that goes round is dropped by a bridge that has carried it before; then there is nothing left.
	eventually(t, "every message was seen everywhere and came to its end", func() bool {
		var drops int64

		for _, b := range bridges {
			s := b.Status().Routes[0]
			drops += s.Dropped[DropLoop]

			if s.Queued > 0 {
				return false
			}
		}

		return drops >= 2*total // one for each way round
	})

	for i := range taps {
		if n := taps[i].count(); n < total || n > 3*total {
			t.Errorf("%d messages at broker %d for %d sent", n, i, total)
		}
	}
}

// holders are the bridges that are active.
func holders(bridges ...*Bridge) (active []*Bridge) {
	for _, b := range bridges {
		if b.Status().Active {
			active = append(active, b)
		}
	}

	return active
}

func TestAStandByTakesOver(t *testing.T) {
	t.Parallel()

	near, far := openHouse(t, nil), openHouse(t, nil)

	// Each process has ways of its own to both brokers, so that one of them can be cut off.
	type process struct {
		bridge        *Bridge
		local, remote *relay
	}

	first := config(near.url(), far.url(), route1("load", contract.Out, "load/#"))

	var processes []process

	for range 2 {
		p := process{local: newRelay(t, near.address), remote: newRelay(t, far.address)}
		cfg := *first
		cfg.Local.Endpoints, cfg.Remote.Endpoints = []string{p.local.url()}, []string{p.remote.url()}
		p.bridge = startBridge(t, &cfg)
		processes = append(processes, p)

		eventually(t, "one is active", func() bool { return len(holders(processes[0].bridge)) == 1 })
	}

	active, other := processes[0], processes[1]
	connected(t, active.bridge)

	if s := other.bridge.Status(); s.Remote.Reason != ReasonStandBy {
		eventually(t, "the other one is a stand-by", func() bool { return other.bridge.Status().Remote.Reason == ReasonStandBy })
	}

	sink := newTap(t, far.url(), 5, "sink", true)
	sink.silent = true
	books := newLedger()
	sink.seen = books.take
	sink.subscribe("load/#", 1)

	source := newTap(t, near.url(), 5, "source", true)
	say := func(n int) {
		source.publish(&entry{topic: "load/x", payload: numbered(n), outQoS: 1})
		source.settle()
	}

	say(1)
	eventually(t, "the active one brings it", func() bool { return books.distinct() == 1 })

	// The active one is cut off from the local broker, and the broker does not notice at once.
	began := time.Now()

	active.local.freeze()
	active.remote.freeze()
	say(2)
	eventually(t, "the other one brings it", func() bool { return books.distinct() == 2 })

	took := time.Since(began)
	if took > 5*time.Second {
		t.Errorf("the stand-by took over after %v, want less than 5 s", took)
	}

	t.Logf("the stand-by took over after %v", took)
	eventually(t, "the one that was cut off has given up", func() bool { return !active.bridge.Status().Active })

	// It comes back and does not fight.
	reconnects := other.bridge.countsOf("load", contract.Out).reconnects.Load()

	active.local.unfreeze()
	active.remote.unfreeze()
	active.local.cut()
	active.remote.cut()
	eventually(t, "it is a stand-by", func() bool { return active.bridge.Status().Remote.Reason == ReasonStandBy })

	for n := 3; n < 50; n++ {
		say(n)
	}

	eventually(t, "all has arrived", func() bool { return books.distinct() == 49 })

	if again := other.bridge.countsOf("load", contract.Out).reconnects.Load(); again != reconnects || !other.bridge.Status().Active {
		t.Errorf("the active one was disturbed: %d connections lost", again-reconnects)
	}

	// An orderly end hands over at once.
	began = time.Now()

	other.bridge.Close()
	say(50)
	eventually(t, "the first one is active again", func() bool { return books.distinct() == 50 })
	t.Logf("an orderly end hands over in %v", time.Since(began))
}

// TestAHolderInDoubtDisturbsNobody: a broker that brings the words of the lock too late, or not at all, is no reason to end
// connections that work. Only new ones have to wait, since another process may be at work.
func TestAHolderInDoubtDisturbsNobody(t *testing.T) {
	t.Parallel()

	near, far := openHouse(t, nil), openHouse(t, nil)
	way := newRelay(t, far.address)
	b := startBridge(t, config(near.url(), way.url(), route1("load", contract.Out, "load/#")))
	connected(t, b)

	sink := newTap(t, far.url(), 5, "sink", true)
	books := newLedger()
	sink.seen = books.take
	sink.subscribe("load/#", 1)

	source := newTap(t, near.url(), 5, "source", true)
	said := 0
	say := func() {
		said++
		source.publish(&entry{topic: "load/x", payload: numbered(said), outQoS: 1})
		source.settle()
	}
	lost := func() int64 { return b.countsOf("load", contract.Out).reconnects.Load() }
	mute := func(isMuted bool) {
		near.config.Revision++

		rules := []acl.Rule{allow("#"), allow("$mqtt-bridge/#")}
		if isMuted {
			rules[1].Actions = []acl.Action{acl.Subscribe}
		}

		near.config.Listeners[0].Anonymous = &contract.Anonymous{ACL: rules}

		config := near.config
		if err := near.engine.Apply(&config); err != nil {
			t.Fatal(err)
		}
	}

	mute(true)
	eventually(t, "it doubts", func() bool { return !b.Status().Active })
	say()
	eventually(t, "what it has goes on", func() bool { return books.distinct() == said })

	if s := b.Status(); lost() != 0 || !s.Remote.Connected || !s.Routes[0].Connected {
		t.Errorf("%d connections lost, and %+v", lost(), s)
	}

	way.cut()
	eventually(t, "the connection to the remote waits for the lock", func() bool {
		return b.Status().Remote.Reason == ReasonWaitingForLocal
	})
	say()

	if n := books.distinct(); n != said-1 {
		t.Errorf("%d messages arrived, want %d while the connection waits", n, said-1)
	}

	mute(false)
	eventually(t, "all has arrived", func() bool { return books.distinct() == said })

	if twice := books.repeated(); twice != 0 || lost() != 1 || !b.Status().Active {
		t.Errorf("%d came twice, %d connections lost, active %t", twice, lost(), b.Status().Active)
	}
}

// TestMain runs the bridge itself where a test wants a process to kill.
func TestMain(m *testing.M) {
	if path := os.Getenv("BRIDGE_PROCESS"); path != "" {
		process(path)
	}

	os.Exit(m.Run())
}

func process(path string) {
	text, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}

	cfg, err := contract.ParseBridge(text)
	if err != nil {
		panic(err)
	}

	if err := New(Options{MinBackoff: 20 * time.Millisecond, MaxBackoff: 200 * time.Millisecond}).Apply(cfg); err != nil {
		panic(err)
	}

	select {}
}

func startProcess(t *testing.T, cfg *contract.Bridge) *exec.Cmd {
	t.Helper()

	text, err := contract.RenderBridge(cfg)
	if err != nil {
		t.Fatal(err)
	}

	path := filepath.Join(t.TempDir(), contract.BridgeFile)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}

	cmd := exec.Command(os.Args[0])

	cmd.Env = append(os.Environ(), "BRIDGE_PROCESS="+path)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { end1(cmd) })

	return cmd
}

func end1(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// rssOf is the most memory that a process has had, in MiB.
func rssOf(cmd *exec.Cmd) float64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	for line := range strings.SplitSeq(string(text), "\n") {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmHWM:" {
			n, _ := strconv.ParseFloat(f[1], 64)

			return n / 1024
		}
	}

	return 0
}

func TestAKilledBridgeLosesNothing(t *testing.T) {
	for _, qos := range []byte{1, 2} {
		t.Run(fmt.Sprint("QoS ", qos), func(t *testing.T) {
			t.Parallel()

			near, far := openHouse(t, nil), openHouse(t, nil)
			farther := newRelay(t, far.address)
			cfg := config(near.url(), farther.url(), contract.BridgeRoute{Name: "load", Direction: contract.Both, Filter: "load/#", MaxQoS: qos})
			cfg.Inflight = 50

			kills := 3
			if long() {
				kills = 50
			}

			source := newTap(t, near.url(), 5, "source", true)
			// The session has to be there before the first message.
			one := startProcess(t, cfg)
			sink := newTap(t, far.url(), 5, "sink", true)
			sink.silent = true
			books := newLedger()
			sink.seen = books.take
			sink.subscribe("load/#", qos)
			eventually(t, "the bridge is subscribed", func() bool { return near.engine.Status().Sessions >= 3 })

			total := 0
			say := func(n int) {
				for range n {
					source.publish(&entry{topic: "load/x", payload: numbered(total), outQoS: qos})

					total++
				}
			}

			eventually(t, "the bridge works", func() bool {
				say(1)

				return books.distinct() > 0
			})

			first := total - books.distinct() // what came before the subscription

			for range kills {
				at := books.distinct()

				say(300)
				eventually(t, "some have come", func() bool { return books.distinct() > at+50 })

				// What the bridge has sent and the remote has not got dies with the bridge.
				held := farther.held.Load()

				farther.freeze()
				say(100)
				eventually(t, "something is under way", func() bool { return farther.held.Load() > held })
				end1(one)
				farther.cut()
				farther.unfreeze()

				one = startProcess(t, cfg)

				say(300)
			}

			source.settle()
			eventually(t, "all has arrived", func() bool { return books.distinct() >= total-first })

			if most := kills * cfg.Inflight; books.repeated() > most || books.disorder > 0 {
				t.Errorf("%d came twice, at most %d may; %d out of order", books.repeated(), most, books.disorder)
			}

			t.Logf("%d kills, %d sent, %d repeated", kills, total, books.repeated())
		})
	}
}

func TestKilledActiveProcessIsReplacedAtOnce(t *testing.T) {
	t.Parallel()

	near, far := openHouse(t, nil), openHouse(t, nil)
	cfg := config(near.url(), far.url(), route1("load", contract.Out, "load/#"))
	one := startProcess(t, cfg)

	source, sink := newTap(t, near.url(), 5, "source", true), newTap(t, far.url(), 5, "sink", true)
	sink.subscribe("load/#", 1)
	eventually(t, "the process works", func() bool {
		source.say("load/x", "early", 1)

		return sink.count() > 0
	})

	b := startBridge(t, cfg)
	eventually(t, "the second is a stand-by", func() bool { return b.Status().Remote.Reason == ReasonStandBy })

	began := time.Now()

	end1(one)
	connected(t, b)

	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestAStoppedProcessDoesNotFight: one that was stopped and goes on, as with its virtual machine, finds its connections
// taken over. It must not take them back before it has asked who is at work.
func TestAStoppedProcessDoesNotFight(t *testing.T) {
	t.Parallel()

	near, far := openHouse(t, nil), openHouse(t, nil)
	cfg := config(near.url(), far.url(), route1("load", contract.Out, "load/#"))
	one := startProcess(t, cfg)

	source, sink := newTap(t, near.url(), 5, "source", true), newTap(t, far.url(), 5, "sink", true)
	books := newLedger()
	sink.seen = books.take
	sink.subscribe("load/#", 1)

	said := 0
	say := func() {
		source.publish(&entry{topic: "load/x", payload: numbered(said), outQoS: 1})

		said++
	}

	eventually(t, "the process works", func() bool {
		say()

		return books.distinct() > 0
	})

	b := startBridge(t, cfg)
	eventually(t, "the second is a stand-by", func() bool { return b.Status().Remote.Reason == ReasonStandBy })

	connections := near.engine.Status().Connections

	if err := one.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}

	connected(t, b)

	if err := one.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}

	eventually(t, "the first is there again", func() bool { return near.engine.Status().Connections == connections })

	at := books.distinct()

	for range 100 {
		say()
	}

	eventually(t, "all has arrived", func() bool { return books.distinct() >= at+100 })

	if lost := b.countsOf("load", contract.Out).reconnects.Load(); lost != 0 || !b.Status().Active {
		t.Errorf("the second lost %d connections to it, active %t", lost, b.Status().Active)
	}
}

func TestMemoryStaysFlat(t *testing.T) {
	t.Parallel()

	if !long() {
		t.Skip("FAULTS=long is not set")
	}

	near, far := openHouse(t, nil), openHouse(t, nil)
	farther := newRelay(t, far.address)
	cfg := config(near.url(), farther.url(), route1("load", contract.Out, "load/#"))
	cmd := startProcess(t, cfg)
	eventually(t, "the bridge is there", func() bool { return near.engine.Status().Connections >= 2 && far.engine.Status().Connections >= 1 })
	farther.refusing.Store(true)
	farther.cut()

	before := rssOf(cmd)
	source := newTap(t, near.url(), 5, "source", true)

	for n := range 100_000 {
		source.publish(&entry{topic: "load/x", payload: numbered(n), outQoS: 1})
	}

	source.settle()

	if after := rssOf(cmd); after > before+5 {
		t.Errorf("from %.1f MiB to %.1f MiB while messages wait", before, after)
	}
}

func TestNoSecretIsShown(t *testing.T) {
	t.Parallel()

	cfg := config("mqtt://127.0.0.1:1", "mqtt://127.0.0.1:1")
	cfg.Local.Password = "hush-hush"

	if s := fmt.Sprintf("%v %+v %#v", cfg, *cfg, cfg.Local); strings.Contains(s, "hush-hush") {
		t.Errorf("the password stands in %q", s)
	}

	runtime.KeepAlive(cfg)
}

var _ = acl.Allow
