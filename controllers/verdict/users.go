// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// judgeUsers says who is known to the broker, with which rules.
func (j *Judgement) judgeUsers(f *Facts) {
	allowed := make([]*UserFacts, 0, len(f.Users))
	for i := range f.Users {
		if user := f.Users[i].User; f.Broker.Allows(user.Namespace, f.NamespaceLabels[user.Namespace]) {
			allowed = append(allowed, &f.Users[i])
		} else {
			j.Rejected++
		}
	}
	winners, policies, prior := winnersOf(allowed), NewPolicies(f.Policies), &Prior{Bundle: f.Bundle()}
	j.Accepted, j.Policies = make([]contract.User, 0, len(allowed)), map[string][]acl.Rule{}
	for _, of := range allowed {
		if winners[of.User.Username()] != of.User {
			j.Rejected++
			continue
		}
		entry, rejected := judgeUser(of, policies, prior, f.Now)
		switch {
		case rejected:
			j.Rejected++
		case opens(entry):
			if j.bind(entry.Policies, policies, prior) {
				j.Accepted = append(j.Accepted, *entry)
			} else {
				j.Rejected++
			}
		}
	}
	slices.SortFunc(j.Accepted, func(a, b contract.User) int { return strings.Compare(a.Username, b.Username) })
}

// judgeUser is the entry of one user that has its name to itself, or true where no broker may have one.
func judgeUser(of *UserFacts, policies *Policies, prior *Prior, now time.Time) (*contract.User, bool) {
	user := of.User
	names, problem := policies.Of(user)
	entry := Entry(user, CredentialsIn(of.Verifier), names, now)
	// An object that never had a verifier does not inherit from an earlier one of its name.
	wasKnown := user.Status.Binding != nil
	if of.Verifier == nil && wasKnown {
		// Deleted by hand. Who was let in goes on being let in until it is there again.
		if before := prior.User(entry.Username); before != nil {
			entry.Verifiers, entry.Certificate, entry.JWT, entry.ServiceAccount = before.Verifiers, before.Certificate, before.JWT, before.ServiceAccount
		}
	}
	if problem != nil {
		// The rules stay whole as they were: own rules of now with policies of then could grant what neither did.
		before := prior.User(entry.Username)
		if before == nil || !wasKnown {
			return nil, true
		}
		entry.ACL, entry.Policies = before.ACL, before.Policies
	}
	return entry, EntryProblem(entry) != nil
}

// bind takes the policies of an entry into the judgement, each as it is now, or where that cannot be, as the broker has
// it. It reports false where neither is known.
func (j *Judgement) bind(names []string, policies *Policies, prior *Prior) bool {
	for _, name := range names {
		if _, found := j.Policies[name]; found {
			continue
		}
		rules, found := policies.usableRules(name)
		if !found {
			if rules, found = prior.Policy(name); !found {
				return false
			}
		}
		j.Policies[name] = rules
	}
	return true
}

func winnersOf(list []*UserFacts) map[string]*v1alpha1.MQTTUser {
	users := make([]*v1alpha1.MQTTUser, len(list))
	for i := range list {
		users[i] = list[i].User
	}
	return Winners(users)
}

// Winners names, for each username, the object that it belongs to: the oldest, whatever its namespace, and among equals
// the first by namespace and name.
func Winners(users []*v1alpha1.MQTTUser) map[string]*v1alpha1.MQTTUser {
	winners := make(map[string]*v1alpha1.MQTTUser, len(users))
	for _, user := range users {
		holder := winners[user.Username()]
		if holder == nil || isOlder(user, holder) {
			winners[user.Username()] = user
		}
	}
	return winners
}

func isOlder(a, b *v1alpha1.MQTTUser) bool {
	if !a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return a.CreationTimestamp.Before(&b.CreationTimestamp)
	}
	return a.Namespace+"/"+a.Name < b.Namespace+"/"+b.Name
}

// Entry is user as the broker's configuration knows it at now: how it is recognised comes from credentials, all else
// from its spec. policies are those of [Policies.Of].
func Entry(user *v1alpha1.MQTTUser, credentials Credentials, policies []string, now time.Time) *contract.User {
	spec := user.Resolved()
	entry := &contract.User{
		Username: spec.Username, Verifiers: []string{}, ACL: Rules(spec.Rules), Policies: policies,
		Suspended: spec.Suspended, Quota: quota(spec.Quota),
	}
	if ids := spec.ClientIDs; len(ids.Exact) > 0 || ids.Prefix != "" {
		entry.ClientIDs = &contract.ClientIDs{Exact: ids.Exact, Prefix: ids.Prefix}
	}
	credentials.admit(entry, now)
	return entry
}

func quota(q v1alpha1.ResolvedQuota) *contract.Quota {
	if q == (v1alpha1.ResolvedQuota{}) {
		return nil
	}
	result := &contract.Quota{
		Connections: int(q.Connections), PublishRate: int(q.PublishRate), BytesRate: q.BytesRate, QueuedMessages: int(q.QueuedMessages),
	}
	if q.SessionExpiry != nil {
		result.SessionExpiry = new(uint32(min(*q.SessionExpiry/time.Second, math.MaxUint32))) //nolint:gosec // Both bounds are held.
	}
	return result
}

// EntryProblem is the first thing about an entry that no broker would take. The schema refuses these at the door; this
// is the backstop for objects that were stored before a rule of the schema existed.
func EntryProblem(entry *contract.User) *Finding {
	if problem := contract.UsernameProblem(entry.Username); problem != "" {
		return find(v1alpha1.ReasonConfigInvalid, "the username %s", problem)
	}
	for i := range entry.ACL {
		if err := entry.ACL[i].Validate(); err != nil {
			return find(v1alpha1.ReasonConfigInvalid, "spec.acl[%d].%v", i, err)
		}
	}
	return nil
}

// Prior answers questions about the configuration that stands in the Secrets. Of ten thousand users only those shards
// are parsed that somebody asks for.
type Prior struct {
	Bundle contract.Bundle

	shards   int
	users    map[string]map[string]*contract.User // by file and username
	policies map[string][]acl.Rule                // nil: not parsed yet
}

// User is the entry of a username, nil where there is none, or none that can be read.
func (p *Prior) User(username string) *contract.User {
	if p.users == nil {
		p.users = map[string]map[string]*contract.User{}
		for p.shards < contract.MaxShards && p.Bundle[contract.UsersFile(p.shards)] != nil {
			p.shards++
		}
	}
	if p.shards == 0 {
		return nil
	}
	file := contract.UsersFile(contract.Shard(username, p.shards))
	if p.users[file] == nil {
		p.users[file] = map[string]*contract.User{}
		users, err := contract.ParseUsers(file, p.Bundle[file])
		for i := range users {
			if err == nil {
				p.users[file][users[i].Username] = &users[i]
			}
		}
	}
	return p.users[file][username]
}

// Policy are the rules of a policy; false where there is none, or none that can be read.
func (p *Prior) Policy(name string) ([]acl.Rule, bool) {
	if p.policies == nil {
		p.policies = map[string][]acl.Rule{}
		if parsed, err := contract.ParsePolicies(p.Bundle[contract.PoliciesFile]); err == nil && parsed != nil {
			p.policies = parsed
		}
	}
	rules, found := p.policies[name]
	return rules, found
}
