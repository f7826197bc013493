// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"hash/maphash"
	"slices"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
)

// list is the rules of one user or of many: ten thousand devices whose rules say %u stand in memory once.
type list struct {
	hash   uint64
	source []acl.Rule
	policy *acl.Policy
}

// lists are the rules in use, by their hash. Of two that meet in one hash the second is nobody's but its user's.
type lists map[uint64]*list

var listSeed = maphash.MakeSeed()

func hashOf(rules []acl.Rule) uint64 {
	var h maphash.Hash

	h.SetSeed(listSeed)

	for i := range rules {
		r := &rules[i]
		_, _ = h.WriteString(r.Filter)
		_ = h.WriteByte(0)
		_, _ = h.WriteString(string(r.Effect))

		for _, a := range r.Actions {
			_, _ = h.WriteString(string(a))
		}

		_ = h.WriteByte(0)
	}

	return h.Sum64()
}

// of is what these rules are compiled to, by somebody before where it can be.
func (l lists) of(rules []acl.Rule, before lists) (*list, error) {
	hash := hashOf(rules)

	for _, known := range []*list{l[hash], before[hash]} {
		if known != nil && slices.EqualFunc(known.source, rules, sameRule) {
			l.keep(known)

			return known, nil
		}
	}

	policy, err := acl.Compile(rules)
	if err != nil {
		return nil, err
	}

	made := &list{hash, rules, policy}
	l.keep(made)

	return made, nil
}

func (l lists) keep(known *list) {
	if l[known.hash] == nil {
		l[known.hash] = known
	}
}
