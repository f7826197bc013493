// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"strings"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// maxTopic is the longest topic that MQTT carries [MQTT-1.5.4].
const maxTopic = 65535

// mapping turns topics of the source into those of the destination.
type mapping struct {
	filter   string // of topics behind the prefix, without wildcards where it has none
	from, to string
	// back are the mappings by which answers come back: from is the destination's prefix here.
	back []mapping
}

func newMapping(r *contract.BridgeRoute, d contract.Direction, all []contract.BridgeRoute) *mapping {
	m := &mapping{filter: r.Filter}
	m.from, m.to = r.Prefixes(d)

	opposite := contract.In
	if d == contract.In {
		opposite = contract.Out
	}

	for i := range all {
		if all[i].Goes(opposite) {
			from, to := all[i].Prefixes(opposite)
			m.back = append(m.back, mapping{filter: all[i].Filter, from: from, to: to})
		}
	}

	return m
}

// source is the filter to subscribe to.
func (m *mapping) source() string { return m.from + m.filter }

// topic is what a topic of the source becomes; found is false where the route is not about it. A topic that is empty or
// too long is for the caller to refuse.
func (m *mapping) topic(topic string) (mapped string, found bool) {
	if !matches(m.source(), topic) {
		return "", false
	}

	if m.from == m.to {
		return topic, true
	}

	if rest, ok := strings.CutPrefix(topic, m.from); ok {
		return m.to + rest, true
	}
	// Of site/ and #, the topic site is a part [MQTT-4.7.1-2].
	return strings.TrimSuffix(m.to, "/"), true
}

// answer is what a response topic of the source becomes, so that what is published to it at the destination comes back.
// Where no route brings it back it goes the way of the message's own topic, and stays as it is if it does not begin so.
func (m *mapping) answer(topic string) string {
	for i := range m.back {
		b := &m.back[i]
		if rest, ok := strings.CutPrefix(topic, b.to); ok && matches(b.to+b.filter, topic) {
			return b.from + rest
		}
	}

	if rest, ok := strings.CutPrefix(topic, m.from); ok {
		return m.to + rest
	}

	return topic
}

// matches tells whether a filter picks a topic [MQTT-4.7]. It allocates nothing.
func matches(filter, topic string) bool {
	if topic != "" && topic[0] == '$' && (filter[0] == '#' || filter[0] == '+') { // [MQTT-4.7.2-1]
		return false
	}

	for {
		if filter == "#" {
			return true
		}

		level, filterRest, filterMore := strings.Cut(filter, "/")
		have, topicRest, topicMore := strings.Cut(topic, "/")

		if level != "+" && level != have {
			return false
		}

		switch {
		case !filterMore && !topicMore:
			return true
		case !topicMore:
			return filterRest == "#"
		case !filterMore:
			return false
		}

		filter, topic = filterRest, topicRest
	}
}
