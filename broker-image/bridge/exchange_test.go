// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

// end3 is an end of a flow that does as the test says.
type end3 struct {
	peer

	limit     limits
	published []*entry
}

func (e *end3) limits() *limits  { return &e.limit }
func (*end3) acknowledge(*entry) {}
func (*end3) flush()             {}
func (e *end3) all() (all []string) {
	for _, one := range e.published {
		all = append(all, string(one.payload))
	}

	return all
}

func (e *end3) publish(one *entry, _ time.Time) error {
	kept := *one
	e.published = append(e.published, &kept)

	return nil
}

// oneWay is a flow of a single route.
func oneWay(inflight int, qos byte) *flow {
	r := contract.BridgeRoute{Name: "x", Direction: contract.In, Filter: "#", MaxQoS: qos}
	f := newFlow("x", contract.In, "test/x", &counts{})
	f.set(newMapping(&r, contract.In, nil), subscriptionOf(&r, contract.In), inflight)

	return f
}

// pour has a goroutine read so many messages from a source, and counts those that the flow has taken.
func pour(f *flow, source *end3, messages int) *atomic.Int64 {
	taken := &atomic.Int64{}

	go func() {
		for n := range messages {
			f.received(source, &inbound{topic: "a", payload: []byte{byte(n)}, qos: 1, id: uint16(n + 1)})

			taken.Add(1)
		}
	}()

	return taken
}

// TestASourceThatFloodsIsNotReadFrom while there is no room: before 5 nothing else slows it down.
func TestASourceThatFloodsIsNotReadFrom(t *testing.T) {
	t.Parallel()

	for _, floods := range []bool{true, false} {
		t.Run(strconv.FormatBool(floods), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const room, messages = 10, 25

				f, source := oneWay(room, 1), &end3{limit: limits{floods: floods}}
				f.sourceUp(source, false)

				taken := pour(f, source, messages)

				synctest.Wait()

				want := messages
				if floods {
					want = room
				}

				if taken.Load() != int64(want) || f.length() != want {
					t.Errorf("%d of %d are taken, %d wait", taken.Load(), messages, f.length())
				}

				f.sourceLost(source) // who waits for room must not wait for ever
				synctest.Wait()

				if taken.Load() != messages || f.length() != want {
					t.Errorf("when the connection is gone %d of %d are taken, %d wait", taken.Load(), messages, f.length())
				}
			})
		})
	}
}

// TestAnIdentifierIsFreeAfterPUBREL, and not before: a source may have none but one.
func TestAnIdentifierIsFreeAfterPUBREL(t *testing.T) {
	t.Parallel()

	for _, version := range []wire.Version{wire.V311, wire.V5} {
		t.Run(version.String(), func(t *testing.T) {
			t.Parallel()

			near, far := net.Pipe()

			t.Cleanup(func() { _, _ = near.Close(), far.Close() })

			var x *exchange

			if version == wire.V311 {
				p := &peer3{}
				x, p.self = &p.exchange, p
			} else {
				p := &peer5{}
				x, p.self = &p.exchange, p
			}

			f, dest := oneWay(10, 2), &end3{limit: limits{window: 10, maxQoS: 2}}
			x.stream, x.version, x.limit.window = newStream(near, 5, time.Minute), version, 3
			x.owner = ownerFunc(func(m *inbound) { f.received(x.self, m) })
			x.begin()
			f.sourceUp(x.self, false)
			f.destUp(dest)

			comes := func(payload string, dup bool) {
				t.Helper()

				packet, _ := wire.AppendPublish(nil, version, &wire.PublishHeader{QoS: 2, PacketID: 7, Dup: dup}, "a", nil, []byte(payload))
				if err := x.handle(packet); err != nil {
					t.Fatal(err)
				}

				f.mu.Lock()
				waits := f.length() > 0
				f.mu.Unlock()

				if waits {
					f.completed(dest, f.at(f.head), 0)
				}
			}

			for _, payload := range []string{"1", "2", "3"} {
				comes(payload, false)
				comes(payload, true) // the PUBREC was lost [MQTT-4.3.3-10]

				if err := x.handle(appendAck(nil, 0x62, 7)); err != nil {
					t.Fatal(err)
				}
			}

			if got := dest.all(); !slices.Equal(got, []string{"1", "2", "3"}) {
				t.Errorf("what arrived: %v", got)
			}
		})
	}
}

// answers is an owner that is interested in what is completed alone.
type answers struct {
	ownerFunc

	completions int
}

func (a *answers) completed(_ peer, e *entry, _ byte) {
	if e != nil {
		a.completions++
	}
}

// TestWhenAMessageOfQoS2HasArrived: with a session that ends with the connection, what a server has not delivered before
// PUBREL is gone with it.
func TestWhenAMessageOfQoS2HasArrived(t *testing.T) {
	t.Parallel()

	for _, clean := range []bool{true, false} {
		t.Run(strconv.FormatBool(clean), func(t *testing.T) {
			t.Parallel()

			near, far := net.Pipe()

			t.Cleanup(func() { _, _ = near.Close(), far.Close() })

			owner := &answers{}
			x := &exchange{stream: newStream(near, 5, time.Minute), version: wire.V311, clean: clean, owner: owner, limit: limits{window: 1}}
			x.begin()

			message := &entry{topic: "a", outQoS: 2}
			if err := x.publish(message, time.Now()); err != nil {
				t.Fatal(err)
			}

			comes := func(kind byte, completions int, room error) {
				t.Helper()

				if err := x.handle(appendAck(nil, kind, 1)); err != nil {
					t.Fatal(err)
				}

				if owner.completions != completions {
					t.Errorf("after %#x there are %d completions, want %d", kind, owner.completions, completions)
				}

				if err := x.publish(&entry{topic: "b", outQoS: 2}, time.Now()); !errors.Is(err, room) {
					t.Errorf("after %#x: %v, want %v", kind, err, room)
				}
			}

			atPUBREC := 1
			if clean {
				atPUBREC = 0
			}

			comes(0x50, atPUBREC, errNoRoom)
			comes(0x50, atPUBREC, errNoRoom) // once more is not twice
			comes(0x70, 1, nil)
		})
	}
}

// TestWhoWaitsForRoomIsWoken also where what waited is done at once, so that no answer wakes him.
func TestWhoWaitsForRoomIsWoken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const room, messages = 2, 6

		f, source := oneWay(room, 1), &end3{limit: limits{floods: true}}
		f.sourceUp(source, false)

		taken := pour(f, source, messages)

		synctest.Wait()
		f.destUp(&end3{limit: limits{window: 10}}) // which takes QoS 0 at most
		synctest.Wait()

		if taken.Load() != messages || f.length() > 0 {
			t.Errorf("%d of %d are taken, %d wait", taken.Load(), messages, f.length())
		}
	})
}

// TestTimeSpentWaitingForRoomIsNotTheDestinations, which would be taken for one that does not answer.
func TestTimeSpentWaitingForRoomIsNotTheDestinations(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, source, dest := oneWay(1, 1), &end3{limit: limits{floods: true}}, &end3{limit: limits{window: 10, maxQoS: 1}}
		f.sourceUp(source, false)

		pour(f, source, 2)
		time.Sleep(time.Hour)
		f.destUp(dest)
		f.completed(dest, f.at(f.head), 0)
		synctest.Wait()

		if len(dest.published) != 2 {
			t.Fatalf("%d messages were sent, want 2", len(dest.published))
		}

		if f.tick(time.Now(), 30*time.Second) != nil {
			t.Error("the destination is said to owe an answer to what was sent just now")
		}
	})
}

// never is a token of an answer that does not come.
type never struct{ mqtt.Token }

func (never) Done() <-chan struct{} { return nil }

// TestAnAnswerBehindAMessageThatWaits is waited for: the server is not at fault.
func TestAnAnswerBehindAMessageThatWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &peer3{exchange: exchange{stream: &stream{closed: make(chan struct{})}}, patience: time.Second}
		p.inHand.Store(true)

		var ended error

		go func() { ended = p.wait(t.Context(), never{}) }()

		time.Sleep(time.Minute)
		synctest.Wait()

		if ended != nil {
			t.Fatalf("it ended with %v", ended)
		}

		p.inHand.Store(false)
		time.Sleep(2 * time.Second)
		synctest.Wait()

		if !errors.Is(ended, context.DeadlineExceeded) {
			t.Errorf("it ended with %v", ended)
		}
	})
}

// TestAConnectionThatIsNotReadFromIsKeptAlive, by what is sent: no answer can be read.
func TestAConnectionThatIsNotReadFromIsKeptAlive(t *testing.T) {
	t.Parallel()

	var pings atomic.Int64

	remote := serving(t, func(c net.Conn) {
		for {
			packet, err := packets.ReadPacket(c)
			if err != nil {
				return
			}

			switch p := packet.(type) {
			case *packets.ConnectPacket:
				_ = packets.NewControlPacket(packets.Connack).Write(c)
			case *packets.SubscribePacket:
				ack, _ := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
				ack.MessageID, ack.ReturnCodes = p.MessageID, []byte{1}
				_ = ack.Write(c)

				for n := range 5 {
					m, _ := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
					m.TopicName, m.Qos, m.MessageID = "a", 1, uint16(n+1)
					_ = m.Write(c)
				}
			case *packets.PingreqPacket:
				_ = packets.NewControlPacket(packets.Pingresp).Write(c)
				pings.Add(1)
			}
		}
	})

	p, err := (&passage{
		end: &contract.BridgeEnd{Version: 4}, clientID: "source", window: 2, keepAlive: time.Second, patience: patience,
		owner: &stuck{until: t.Context().Done()},
	}).open(t.Context(), remote)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { p.abort(faultf(ReasonClosed, "the test is over")) })

	if _, _, err := p.subscribe(t.Context(), subscription{filter: "a", qos: 1}); err != nil {
		t.Fatal(err)
	}

	eventually(t, "three PINGREQ came", func() bool { return pings.Load() >= 3 })

	if at3, _ := p.(*peer3); !at3.inHand.Load() {
		t.Error("it does not know that it lets the source wait")
	}
}

// stuck is an owner that has no room.
type stuck struct {
	ownerFunc

	until <-chan struct{}
}

func (s *stuck) received(peer, *inbound) { <-s.until }
