// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"context"
	"fmt"
	"sync"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// route is a route that runs: a flow for each direction and the connections that they need.
type route struct {
	name string
	// kind is what cannot change while it runs.
	kind  string
	term  context.Context //nolint:containedctx // whose end ends the route
	flows []*flow
	links []*link

	bridge *Bridge
	cancel context.CancelFunc
	all    sync.WaitGroup
}

// kindOf is what a route has to be made anew for when it changes.
func kindOf(cfg *contract.Bridge, r *contract.BridgeRoute) string {
	return fmt.Sprintf("%s %s %d %s %t %d %s %t", cfg.Name, r.Direction, cfg.Local.Version, cfg.Local.ClientIDPrefix, cfg.Local.CleanStart,
		cfg.Remote.Version, cfg.Remote.ClientIDPrefix, cfg.Remote.CleanStart)
}

// start connects a route. At an end that speaks 5 one connection serves both directions, so that the server can leave
// out what the bridge published itself. At one that speaks 3.1.1 each direction has its own: there, a source that sends
// too much is slowed down by not reading from it, which must not hold up the acknowledgements of a destination.
func (b *Bridge) start(term context.Context, cfg *contract.Bridge, c *contract.BridgeRoute) *route {
	ctx, cancel := context.WithCancel(term)
	r := &route{name: c.Name, kind: kindOf(cfg, c), term: term, bridge: b, cancel: cancel}

	links := map[string]*link{}
	at := func(e *end, source bool) *link {
		id := e.settings.Load().ClientIDPrefix + c.Name
		if !source && (e.settings.Load().Version == 4 || c.Direction != contract.Both) {
			id += "_to"
		}

		key := e.name + " " + id
		if links[key] == nil {
			links[key] = newLink(b, e, id)
			r.links = append(r.links, links[key])
		}

		return links[key]
	}

	for _, d := range []contract.Direction{contract.Out, contract.In} {
		if !c.Goes(d) {
			continue
		}

		from, to := b.local, b.remote
		if d == contract.In {
			from, to = to, from
		}

		f := newFlow(c.Name, d, cfg.Name, b.countsOf(c.Name, d))
		f.set(newMapping(c, d, cfg.Routes), subscriptionOf(c, d), cfg.Inflight)

		if from.settings.Load().Version == 4 {
			f.fromEchoes = &from.echoes
		}

		if to.settings.Load().Version == 4 && comesBack(cfg, c, d) {
			f.toEchoes = &to.echoes
		}

		r.flows = append(r.flows, f)
		source, destination := at(from, true), at(to, false)
		source.from, destination.to = f, f

		for _, l := range []*link{source, destination} {
			if l.counts == nil {
				l.counts = f.counts
			}
		}
	}

	for _, l := range r.links {
		l.partners = r.links
	}

	for _, l := range r.links {
		r.all.Go(func() { l.run(ctx) })
	}

	return r
}

// comesBack tells whether what a route publishes at its destination is taken from there by a route of this bridge.
func comesBack(cfg *contract.Bridge, c *contract.BridgeRoute, d contract.Direction) bool {
	opposite := contract.In
	if d == contract.In {
		opposite = contract.Out
	}

	_, to := c.Prefixes(d)

	for i := range cfg.Routes {
		other := &cfg.Routes[i]
		from, _ := other.Prefixes(opposite)

		if other.Goes(opposite) && contract.Overlap(to+c.Filter, from+other.Filter) {
			return true
		}
	}

	return false
}

func subscriptionOf(c *contract.BridgeRoute, d contract.Direction) subscription {
	from, _ := c.Prefixes(d)
	s := subscription{filter: from + c.Filter, qos: c.MaxQoS, retain: c.Retain}

	if c.Share != "" {
		s.filter = "$share/" + c.Share + "/" + s.filter
	}

	return s
}

// change gives a route that runs what is new.
func (r *route) change(cfg *contract.Bridge, c *contract.BridgeRoute) {
	for _, f := range r.flows {
		f.mu.Lock()
		window := f.inflight
		f.mu.Unlock()

		f.set(newMapping(c, f.direction, cfg.Routes), subscriptionOf(c, f.direction), cfg.Inflight)

		for _, l := range r.links {
			if l.from != f {
				continue
			}

			signal(l.changed)

			if window != cfg.Inflight && l.end.settings.Load().Version == 5 { // Receive Maximum is a part of CONNECT
				signal(l.again)
			}
		}

		for _, l := range r.links {
			if l.to == f && l.from == nil && window != cfg.Inflight {
				signal(l.again)
			}
		}
	}
}

// end lets messages on their way arrive, unless the term is over, and closes the connections. Of a route that was
// removed nothing stays at its sources.
func (r *route) end(removed bool) {
	if r.term.Err() == nil {
		ctx, cancel := context.WithTimeout(r.term, r.bridge.options.Parting)
		for _, f := range r.flows {
			f.drain(ctx)
		}

		cancel()
	}

	r.cancel()
	r.all.Wait()

	if !removed {
		return
	}

	for _, l := range r.links {
		if l.from == nil {
			continue
		}

		ctx, cancel := context.WithTimeout(r.term, r.bridge.options.Parting)
		if p, _ := r.bridge.dial(ctx, l.end, &passage{
			end: l.end.settings.Load(), clientID: l.clientID, clean: true, window: 1, keepAlive: lockKeepAlive,
			owner: newListener(), patience: r.bridge.options.Parting,
		}); p != nil {
			p.part()
		}

		cancel()
	}
}
