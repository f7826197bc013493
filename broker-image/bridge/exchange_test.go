// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"net"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

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

// TestASourceThatFloodsIsNotReadFrom while there is no room: before 5 nothing else slows it down.
func TestASourceThatFloodsIsNotReadFrom(t *testing.T) {
	t.Parallel()

	for _, floods := range []bool{true, false} {
		t.Run(strconv.FormatBool(floods), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const room, messages = 10, 25

				f, source := oneWay(room, 1), &end3{limit: limits{floods: floods}}
				f.sourceUp(source, false)

				taken := 0

				go func() {
					for n := range messages {
						f.received(source, &inbound{topic: "a", payload: []byte{byte(n)}, qos: 1, id: uint16(n + 1)})

						taken++
					}
				}()

				synctest.Wait()

				want := messages
				if floods {
					want = room
				}

				if taken != want || f.length() != want {
					t.Errorf("%d of %d are taken, %d wait", taken, messages, f.length())
				}

				f.sourceLost(source) // who waits for room must not wait for ever
				synctest.Wait()

				if taken != messages || f.length() != want {
					t.Errorf("when the connection is gone %d of %d are taken, %d wait", taken, messages, f.length())
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
