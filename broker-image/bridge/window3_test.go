// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"net"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// strict is a server of 3.1.1 that closes a connection at the 21st publication of QoS 2 that is not released, as Mosquitto
// does, and that answers none before 16 wait or the last one has come.
type strict struct {
	last int
	// cut counts connections that it closed, done publications that are complete.
	cut, done atomic.Int64
}

func (s *strict) serve(c net.Conn) {
	open, unanswered, seen := map[uint16]bool{}, []uint16{}, 0
	answer := func(kind byte, id uint16) {
		switch p := packets.NewControlPacket(kind).(type) {
		case *packets.PubrecPacket:
			p.MessageID = id
			_ = p.Write(c)
		case *packets.PubcompPacket:
			p.MessageID = id
			_ = p.Write(c)
		}
	}

	for {
		packet, err := packets.ReadPacket(c)
		if err != nil {
			return
		}

		switch p := packet.(type) {
		case *packets.ConnectPacket:
			_ = packets.NewControlPacket(packets.Connack).Write(c)
		case *packets.PublishPacket:
			open[p.MessageID] = true
			unanswered = append(unanswered, p.MessageID)
			seen++

			if len(open) > 20 {
				s.cut.Add(1)

				return
			}

			if len(open) < 16 && seen < s.last {
				continue
			}

			for _, id := range unanswered {
				answer(packets.Pubrec, id)
			}

			unanswered = unanswered[:0]
		case *packets.PubrelPacket:
			delete(open, p.MessageID)
			answer(packets.Pubcomp, p.MessageID)
			s.done.Add(1)
		case *packets.PingreqPacket:
			_ = packets.NewControlPacket(packets.Pingresp).Write(c)
		}
	}
}

func TestAServerOf3IsNotGivenMoreThanItTakes(t *testing.T) {
	t.Parallel()

	const messages = 100

	far := &strict{last: messages}

	near := openHouse(t, nil)
	cfg := config(near.url(), serving(t, far.serve), contract.BridgeRoute{Name: "x", Direction: contract.Out, Filter: "a/#", MaxQoS: 2})
	cfg.Remote.Version = 4
	b := startBridge(t, cfg)
	connected(t, b)

	source := newTap(t, near.url(), 5, "source", true)
	for n := range messages {
		source.say("a/x", strconv.Itoa(n), 2)
	}

	eventually(t, "all are complete, or the connection was cut", func() bool { return far.done.Load() == messages || far.cut.Load() > 0 })

	if n := far.cut.Load(); n > 0 {
		t.Errorf("the server had to close the connection: more than 20 were not released")
	}
}
