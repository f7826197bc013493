// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"slices"
	"strings"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/admin"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// Status says what is true now. Revision, digest and refusals are the keeper's of the configuration.
func (b *Bridge) Status() admin.BridgeStatus {
	b.mu.Lock()
	cfg, active := b.cfg, b.term != nil
	b.mu.Unlock()

	s := admin.BridgeStatus{Active: active && b.keeper.isSure(), Started: b.started, Version: b.options.Version, Routes: []admin.RouteStatus{}}
	if cfg == nil {
		return s
	}

	s.Local, s.Remote = b.endStatus(b.local, cfg, active), b.endStatus(b.remote, cfg, active)

	for i := range cfg.Routes {
		s.Routes = append(s.Routes, b.routeStatus(&cfg.Routes[i]))
	}

	return s
}

func (b *Bridge) endStatus(e *end, cfg *contract.Bridge, active bool) admin.EndStatus {
	var (
		states []linkState
		said   admin.EndStatus
	)

	if e == b.local {
		states = append(states, b.keeper.state())
	}

	for _, name := range b.names(cfg) {
		for _, l := range name.links {
			if l.end == e {
				states = append(states, l.state())
			}
		}
	}

	var notices []string

	said.Connected = true

	for _, state := range states {
		for _, n := range state.notices {
			if !slices.Contains(notices, n) {
				notices = append(notices, n)
			}
		}

		if state.connected {
			continue
		}

		if state.fault != nil && (said.Connected || said.Reason == ReasonConnecting) {
			said.Reason, said.Error = state.fault.reason, state.fault.text
		}

		said.Connected = false
	}

	switch {
	case cfg.Suspended:
		said.Connected, said.Reason, said.Error = false, ReasonSuspended, "the bridge is suspended"
	case !active && e == b.remote && !b.keeper.state().connected:
		said.Connected, said.Reason, said.Error = false, ReasonWaitingForLocal, "this end is connected once the local end is"
	case !active && e == b.remote:
		said.Connected, said.Reason, said.Error = false, ReasonStandBy, "another process of this bridge is active"
	case !said.Connected && said.Reason == "":
		said.Reason, said.Error = ReasonConnecting, "a connection is being made"
	}

	said.Notice = strings.Join(notices, "; ")
	said.Endpoint, said.Since = e.is(said.Connected)

	return said
}

// names are the routes that run, in the order of the configuration.
func (b *Bridge) names(cfg *contract.Bridge) []*route {
	b.mu.Lock()
	defer b.mu.Unlock()

	var routes []*route

	for i := range cfg.Routes {
		if r := b.routes[cfg.Routes[i].Name]; r != nil {
			routes = append(routes, r)
		}
	}

	return routes
}

func (b *Bridge) routeStatus(c *contract.BridgeRoute) admin.RouteStatus {
	s := admin.RouteStatus{Name: c.Name}

	for _, d := range []contract.Direction{contract.In, contract.Out} {
		if !c.Goes(d) {
			continue
		}

		counts := b.countsOf(c.Name, d)
		s.Forwarded += counts.forwarded.Load()

		for reason, n := range counts.drops() {
			if s.Dropped == nil {
				s.Dropped = map[string]int64{}
			}

			s.Dropped[reason] += n
		}
	}

	b.mu.Lock()
	r := b.routes[c.Name]
	b.mu.Unlock()

	if r == nil {
		return s
	}

	now := time.Now()
	s.Connected = true

	for _, f := range r.flows {
		state := f.state(now)
		s.Connected = s.Connected && state.connected
		s.Queued += state.queued
		s.LagSeconds = max(s.LagSeconds, state.lag.Seconds())

		if state.lastErrorTime.After(s.LastErrorTime) {
			s.LastError, s.LastErrorTime = state.lastError, state.lastErrorTime
		}
	}

	return s
}
