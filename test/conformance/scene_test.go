// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// scenario is one case. Its key in a map is the sentence that it shows.
type scenario struct {
	five  string // statements of MQTT 5.0 that it shows, without "MQTT-"
	three string // statements of MQTT 3.1.1
	also  []byte // versions that it runs with although it shows no statement there
	run   func(s *scene)
}

// versions gives the versions that a case runs with.
func (c scenario) versions() []byte {
	out := append([]byte{}, c.also...)

	if c.three != "" {
		out = append(out, v311)
	}

	if c.five != "" {
		out = append(out, v5)
	}

	slices.Sort(out)

	return slices.Compact(out)
}

// scene is one run of a case against a target.
type scene struct {
	v       byte
	target  *target
	prefix  string
	clients []*client
	shoulds []string
	mays    []string
}

// The ways in which a scene ends early.
type (
	failure string
	skipped string
)

func (s *scene) failf(format string, args ...any) { panic(failure(fmt.Sprintf(format, args...))) }
func (s *scene) skipf(format string, args ...any) { panic(skipped(fmt.Sprintf(format, args...))) }

// should notes what the specification advises and the broker does not do; the scene goes on.
func (s *scene) shouldf(format string, args ...any) {
	s.shoulds = append(s.shoulds, fmt.Sprintf(format, args...))
}

// mayf notes where the broker is silent although the specification lets it speak; the scene goes on.
func (s *scene) mayf(format string, args ...any) {
	s.mays = append(s.mays, fmt.Sprintf(format, args...))
}

// outcome of one run of a case.
type outcome struct {
	failed  string
	should  string
	may     string
	skipped string
}

var scenes atomic.Uint32

// play runs a case once.
func play(c scenario, v byte, t *target) (o outcome) {
	s := &scene{v: v, target: t, prefix: fmt.Sprintf("t%d%s", scenes.Add(1), t.nonce)}

	defer func() {
		for _, c := range s.clients {
			c.drop()
		}

		// Names of one run tell a reader nothing.
		plain := strings.NewReplacer(s.prefix+"/", "", s.prefix, "")
		o.may = plain.Replace(strings.Join(s.mays, "; "))
		o.should = plain.Replace(strings.Join(s.shoulds, "; "))

		switch end := recover().(type) {
		case nil:
		case failure:
			o.failed = plain.Replace(string(end))
		case skipped:
			o.skipped = string(end)
		default:
			panic(end)
		}
	}()

	c.run(s)

	return o
}

// topic gives a topic that no other case uses.
func (s *scene) topic(name string) string { return s.prefix + "/" + name }

// id gives a client identifier that no other case uses: letters and digits only.
func (s *scene) id(name string) string { return s.prefix + name }

// option changes a CONNECT.
type option func(*connect)

func with(id byte, value any) option {
	return func(k *connect) { k.props = k.props.with(id, value) }
}

func keepAlive(seconds int) option { return func(k *connect) { k.keepAlive = seconds } }

func leaving(w will) option { return func(k *connect) { k.will = &w } }

func at(door string) option { return func(k *connect) { k.door = door } }

// join connects a client with a clean session that ends with the connection.
func (s *scene) join(name string, options ...option) *client {
	c, _ := s.enter(connect{id: s.id(name), clean: true}, options...)
	c.name = name

	return c
}

// resume connects a client with a session that stays; it gives the CONNACK too.
func (s *scene) resume(name string, options ...option) (*client, *packet) {
	k := connect{id: s.id(name)}
	if s.v == v5 {
		k.props = props{{sessionExpiry, uint32(600)}}
	}

	c, p := s.enter(k, options...)
	c.name = name

	return c, p
}

// stay is resume of a session that must be new.
func (s *scene) stay(name string, options ...option) *client {
	c, p := s.resume(name, options...)
	if p.sessionPresent {
		c.failf("a new session is called present")
	}

	return c
}

// back is resume of a session that must be there.
func (s *scene) back(name string, options ...option) *client {
	c, p := s.resume(name, options...)
	if !p.sessionPresent && s.v != v31 {
		c.failf("the session is gone")
	}

	return c
}

func (s *scene) enter(k connect, options ...option) (*client, *packet) {
	for _, change := range options {
		change(&k)
	}

	door := k.door
	if door == "" {
		door = "open"
	}

	c := s.dial(door)
	p := c.connect(k)

	return c, p
}

// fence shows that a subscriber has been sent everything that a publisher's earlier messages gave rise to: a last message
// arrives, and nothing before it. It has QoS 1, since messages of QoS 0 may overtake those that are stored first.
func (s *scene) fence(from, to *client) {
	marker := s.topic("fence")

	to.subscribe(filter{marker, 1})
	from.publish(message{topic: marker, payload: "fence", qos: 1})

	p := to.expect(typePublish)
	if p.topic != marker {
		to.failf("the broker sent %v, but should send nothing", p)
	}

	to.finish(p)
	to.unsubscribe(marker)
}

// eventually waits for a fact that the broker brings about by its own clock.
func (s *scene) eventually(what string, fact func() bool) {
	for end := time.Now().Add(2 * patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if fact() {
			return
		}
	}

	s.failf("waited in vain: %s", what)
}
