// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	packets5 "github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// taken are the messages that a server acknowledged, once each.
type taken struct {
	mu   sync.Mutex
	list []string
}

func (l *taken) add(p *packets5.Publish) {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.list = append(l.list, p.Topic+" "+string(p.Payload[:min(len(p.Payload), 8)]))
}

func (l *taken) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()

	return append([]string{}, l.list...)
}

// A server that lets nobody publish to a topic, or that takes no message of a size, may end the connection and say nothing.
func TestAMessageThatEndsTheConnectionIsGivenUp(t *testing.T) {
	t.Parallel()

	for name, is := range map[string]func(p *packets5.Publish) bool{
		"topic": func(p *packets5.Publish) bool { return p.Topic == "a/bad" },
		"size":  func(p *packets5.Publish) bool { return len(p.Payload) > 1000 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			var got taken

			far := newOdd(t, packets5.Properties{})
			far.ends = func(_ int, p *packets5.Publish) bool {
				if is(p) {
					return true
				}

				got.add(p)

				return false
			}

			b, source := beside(t, far, route1("x", contract.Out, "a/#"))

			var want []string

			for n := range 40 {
				topic, payload := "a/good", fmt.Sprintf("%08d", n)

				switch {
				case n%10 != 5:
					want = append(want, topic+" "+payload)
				case name == "topic":
					topic = "a/bad"
				default:
					payload += string(make([]byte, 2000))
				}

				source.say(topic, payload, 1)
			}

			eventually(t, "all others have come", func() bool { return len(got.all()) >= len(want) })
			eventually(t, "the bad ones are given up", func() bool { return b.countsOf("x", contract.Out).drops()[DropClosed] == 4 })

			if have := got.all(); fmt.Sprint(have) != fmt.Sprint(want) {
				t.Errorf("the server took\n%v\nwant\n%v", have, want)
			}

			if s := b.Status().Routes[0]; s.LastError == "" || s.Forwarded != int64(len(want)) {
				t.Errorf("%+v", s)
			}

			t.Logf("%d connections", far.connections())

			// What is smaller has done nothing, and goes at full speed.
			for _, r := range b.current() {
				f := r.flows[0]
				f.mu.Lock()

				if name == "size" && f.suspicion(&entry{topic: "a/good", payload: []byte("small")}, time.Now()) != 0 {
					t.Error("a small message is suspected because a large one was given up")
				}

				f.mu.Unlock()
			}
		})
	}
}

// A server that is ill ends each connection at the first message. That says nothing of the message.
func TestAnIllDestinationCostsNoMessage(t *testing.T) {
	t.Parallel()

	for _, topics := range []int{1, 3} {
		t.Run(fmt.Sprint(topics, " topics"), func(t *testing.T) {
			t.Parallel()

			const messages, ill = 60, 3 * extremeStrikes

			var (
				got  taken
				well atomic.Bool
			)

			far := newOdd(t, packets5.Properties{})
			far.ends = func(_ int, p *packets5.Publish) bool {
				if !well.Load() {
					return true
				}

				got.add(p)

				return false
			}

			b, source := beside(t, far, route1("x", contract.Out, "a/#"))
			for n := range messages {
				source.say("a/"+strconv.Itoa(n%topics), fmt.Sprintf("%08d", n), 1)
			}

			eventually(t, "it was tried often", func() bool { return far.connections() > ill })
			well.Store(true)
			eventually(t, "all has come", func() bool { return len(got.all()) >= messages })

			last, disorder := map[string]string{}, 0

			for _, m := range got.all() {
				if topic := m[:3]; m < last[topic] {
					disorder++
				} else {
					last[topic] = m
				}
			}

			if dropped := b.countsOf("x", contract.Out).drops(); len(dropped) > 0 || len(got.all()) != messages {
				t.Errorf("given up: %v; %d came", dropped, len(got.all()))
			}

			// Of a single topic the message that was tried so often may come behind the next one.
			if most := 2 - min(topics, 2); disorder > most {
				t.Errorf("%d out of order, want %d at most: %v", disorder, most, got.all())
			}
		})
	}
}

// narrow is a server of 3.1.1 that ends a connection on which more than its number of publications wait for an answer.
type narrow struct {
	most, cut, done atomic.Int64
}

func (s *narrow) serve(c net.Conn) {
	var (
		mu    sync.Mutex
		owed  []uint16
		timer *time.Timer
	)

	pay := func() {
		mu.Lock()
		defer mu.Unlock()

		for _, id := range owed {
			p, _ := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
			p.MessageID = id
			_ = p.Write(c)
			s.done.Add(1)
		}

		owed, timer = owed[:0], nil
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
			mu.Lock()
			owed = append(owed, p.MessageID)
			isFull := int64(len(owed)) > s.most.Load()

			if timer == nil {
				timer = time.AfterFunc(time.Millisecond, pay) // an answer takes its time, so that more than one waits
			}
			mu.Unlock()

			if isFull {
				s.cut.Add(1)

				return
			}
		case *packets.PingreqPacket:
			_ = packets.NewControlPacket(packets.Pingresp).Write(c)
		}
	}
}

func TestANarrowServerIsGivenWhatItTakes(t *testing.T) {
	t.Parallel()

	const messages = 500

	far := &narrow{}
	far.most.Store(5)

	near := openHouse(t, nil)
	cfg := config(near.url(), serving(t, far.serve), route1("x", contract.Out, "a/#"))
	cfg.Remote.Version = 4
	b := startBridge(t, cfg)
	connected(t, b)

	source := newTap(t, near.url(), 5, "source", true)
	for n := range messages {
		source.say("a/x", strconv.Itoa(n), 1)
	}

	eventually(t, "all are acknowledged", func() bool { return b.Status().Routes[0].Forwarded == messages })

	if dropped := b.countsOf("x", contract.Out).drops(); len(dropped) > 0 {
		t.Errorf("given up: %v", dropped)
	}

	if n := far.cut.Load(); n == 0 || n > 6 {
		t.Errorf("the server ended %d connections, want some and then no more", n)
	}

	if s := b.Status().Remote; s.Notice == "" {
		t.Errorf("nobody is told: %+v", s)
	}

	t.Logf("%d connections were ended; %q", far.cut.Load(), b.Status().Remote.Notice)
}

// TestTheWindowOfAWaryFlow is the rule by itself, with a clock of its own.
func TestTheWindowOfAWaryFlow(t *testing.T) {
	t.Parallel()

	const widest = 1000

	now := time.Unix(0, 0)

	var w wary

	grow := func(to int) {
		for range 2 * widest {
			if w.bound(widest) >= to {
				return
			}

			w.answered(widest, now)
		}
	}
	want := func(what string, bound, ceiling int) {
		t.Helper()

		if w.bound(widest) != bound || w.ceiling != ceiling {
			t.Errorf("%s: window %d, ceiling %d, want %d, %d", what, w.bound(widest), w.ceiling, bound, ceiling)
		}
	}

	want("at first", widest, 0)
	w.ended(widest, now)
	want("one end", 1, 0)
	grow(widest)
	want("nothing ended", widest, 0)

	for range 10 { // a network that breaks while all is under way
		w.ended(widest, now)
		grow(widest)
	}

	want("ten ends that have nothing to do with it", widest, 0)

	w.ended(widest, now)
	grow(6)
	w.ended(6, now)
	want("the first at six", 1, 0)
	grow(6)
	w.ended(6, now)
	want("the second at six", 1, 3)
	grow(widest)
	want("what it takes", 3, 3)

	now = now.Add(firstPeriod + time.Second)

	grow(4)
	want("more is tried", 4, 6)
	grow(6)
	w.ended(6, now)
	want("in vain", 1, 3)

	now = now.Add(firstPeriod + time.Second)

	grow(widest)
	want("it is not tried as soon again", 3, 3)

	for range 20 { // the bound is gone
		now = now.Add(lastPeriod)

		grow(widest)
	}

	want("without a bound", widest, 0)
}

// A network that breaks at the first message of a topic that was refused before is no refusal of that message.
func TestAMessageIsNotGivenUpForItsTopicAlone(t *testing.T) {
	t.Parallel()

	var (
		got  taken
		once atomic.Bool
	)

	far := newOdd(t, packets5.Properties{})
	far.ends = func(_ int, p *packets5.Publish) bool {
		switch string(p.Payload) {
		case "refused":
			return true
		case "unlucky":
			if !once.Swap(true) {
				return true
			}
		}

		got.add(p)

		return false
	}

	b, source := beside(t, far, route1("x", contract.Out, "a/#"))
	source.say("a/topic", "refused", 1)
	source.say("a/other", "first", 1)
	eventually(t, "the one is given up", func() bool { return b.countsOf("x", contract.Out).drops()[DropClosed] == 1 })

	source.say("a/other", "second", 1)
	eventually(t, "the destination is well", func() bool { return len(got.all()) == 2 })
	source.say("a/topic", "unlucky", 1)
	eventually(t, "the other one arrives, or is given up", func() bool {
		return len(got.all()) == 3 || b.countsOf("x", contract.Out).drops()[DropClosed] > 1
	})

	if n := b.countsOf("x", contract.Out).drops()[DropClosed]; n != 1 {
		t.Errorf("%d were given up", n)
	}
}
