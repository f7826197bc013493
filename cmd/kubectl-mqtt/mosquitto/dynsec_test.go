// SPDX-License-Identifier: Apache-2.0

package mosquitto

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
)

func TestIntersect(t *testing.T) {
	words := []string{"a", "b", "+", "#", ""}
	world := topics(3, []string{"a", "b", "alice", "$SYS", ""})
	var filters []string
	for _, x := range append(words, "$SYS") {
		filters = append(filters, x)
		for _, y := range words {
			filters = append(filters, x+"/"+y)
			for _, z := range words {
				filters = append(filters, x+"/"+y+"/"+z)
			}
		}
	}
	filters = slices.DeleteFunc(filters, func(f string) bool { return acl.ValidateFilter(f) != nil })
	for _, a := range filters {
		for _, b := range filters {
			both, some := intersect(a, b)
			for _, topic := range world {
				want := matches(a, topic) && matches(b, topic)
				if got := some && matches(both, topic); got != want {
					t.Fatalf("%q and %q share %q: %q (%t) says %t", a, b, topic, both, some, got)
				}
			}
		}
	}
}

// covers is how the plugin holds a requested filter against a rule for patterns.
func covers(rule, filter string) bool {
	if rule == "#" {
		return true
	}
	r, f := strings.Split(rule, "/"), strings.Split(filter, "/")
	for i, level := range r {
		switch {
		case level == "#":
			return true
		case i >= len(f), f[i] == "#":
			return false
		case level != "+" && level != f[i]:
			return false
		}
	}
	return len(r) == len(f)
}

// plugin answers like the dynamic security plugin for a client whose roles are in order.
type plugin struct {
	config *dynsec
	roles  []dynsecRole
}

// first finds the rule that decides: in the order of the roles, of a role by priority.
func (p *plugin) first(kinds []string, matches func(kind, topic string) bool, fallback bool) bool {
	for _, r := range p.roles {
		for _, kind := range kinds {
			list := slices.DeleteFunc(slices.Clone(r.ACLs), func(a dynsecACL) bool { return !strings.EqualFold(a.Type, kind) })
			slices.SortStableFunc(list, func(a, b dynsecACL) int { return priority(b.Priority) - priority(a.Priority) })
			for _, a := range list {
				if matches(kind, a.Topic) {
					return a.Allow
				}
			}
		}
	}
	return fallback
}

func (p *plugin) publish(topic string) bool {
	return p.first([]string{typeSend}, func(_, rule string) bool { return matches(rule, topic) }, p.config.DefaultACLAccess.PublishClientSend)
}

func (p *plugin) receive(topic string) bool {
	return p.first([]string{typeReceive}, func(_, rule string) bool { return matches(rule, topic) }, p.config.DefaultACLAccess.PublishClientReceive)
}

func (p *plugin) subscribe(filter string) bool {
	return p.first([]string{typeSubscribeLiteral, typeSubscribePattern}, func(kind, rule string) bool {
		return kind == typeSubscribeLiteral && rule == filter || kind == typeSubscribePattern && covers(rule, filter)
	}, p.config.DefaultACLAccess.Subscribe)
}

// TestDynsecGrantsNothingMore compares, for random configurations, which messages a client may publish and get to see.
func TestDynsecGrantsNothingMore(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 5))
	world := topics(2, []string{"a", "b", "alice", "$SYS", ""})
	words := []string{"a", "b", "+", "", "a"}
	var filters []string
	for _, x := range []string{"a", "b", "alice", "$SYS", "", "+", "#"} {
		filters = append(filters, x)
		for _, y := range []string{"a", "b", "alice", "", "c1", "dev-alice", "+", "#"} {
			filters = append(filters, x+"/"+y, x+"/"+y+"/#")
		}
	}
	filters = slices.DeleteFunc(filters, func(f string) bool { return acl.ValidateFilter(f) != nil })
	kinds := []string{"publishClientSend", "publishClientReceive", "subscribeLiteral", "subscribePattern", "subscribePattern"}
	granted, flat := 0, 0
	for range 500 {
		config := &dynsec{}
		config.DefaultACLAccess.PublishClientSend, config.DefaultACLAccess.Subscribe = random.IntN(4) == 0, random.IntN(4) == 0
		config.DefaultACLAccess.PublishClientReceive, config.DefaultACLAccess.Unsubscribe = random.IntN(4) > 0, true
		client := dynsecClient{Username: "alice", Password: strings.Split(goodHash, "$")[4], Salt: strings.Split(goodHash, "$")[3], Iterations: 101}
		for i := range 1 + random.IntN(3) {
			r := dynsecRole{Name: fmt.Sprint("r", i)}
			for range random.IntN(5) {
				r.ACLs = append(r.ACLs, dynsecACL{Type: kinds[random.IntN(5)], Topic: drawFilter(random, words), Allow: random.IntN(3) > 0, Priority: new(random.IntN(3))})
			}
			config.Roles = append(config.Roles, r)
			ref := dynsecRoleRef{Name: r.Name, Priority: new(10 - i)}
			if i == 2 {
				config.Groups = []dynsecGroup{{Name: "g", Roles: []dynsecRoleRef{ref}}}
				config.Groups[0].Clients = append(config.Groups[0].Clients, struct {
					Username string `json:"username"`
					Priority *int   `json:"priority"`
				}{Username: "alice"})
			} else {
				client.Roles = append(client.Roles, ref)
			}
		}
		config.Clients = []dynsecClient{client}
		text, err := json.MarshalIndent(config, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		r, err := scenario(map[string][]byte{"dynamic-security.json": text})
		if err != nil {
			t.Fatal(err)
		}
		out, err := r.YAML("x")
		if err != nil {
			t.Fatal(err)
		}
		all := decoded(t, out)
		rules := all.rulesOf(t, all.users[0])
		if len(all.users[0].Spec.PolicyRefs) == 0 {
			flat++
		}
		p := &plugin{config: config, roles: config.Roles}
		who := acl.Subject{Username: "alice", ClientID: "c1"}
		for _, topic := range world {
			dollar := strings.HasPrefix(topic, "$")
			if got, want := rules.Publish(who, topic, 0, false).Allowed, p.publish(topic); got && !want || want && !got && !dollar && r.Complete() {
				t.Fatalf("publish %q: ours says %t, Mosquitto %t\n%s\n%s", topic, got, want, text, out)
			}
			if !rules.Deliver(who, topic).Allowed {
				continue
			}
			granted++
			if !p.receive(topic) || !slices.ContainsFunc(append(filters, topic), func(f string) bool { return matches(f, topic) && p.subscribe(f) }) {
				t.Fatalf("%q can be read here and not there\n%s\n%s", topic, text, out)
			}
		}
	}
	if granted < 1000 || flat < 50 {
		t.Errorf("%d messages could be read, %d users had one list: the test shows too little", granted, flat)
	}
}

// FuzzImportDynsec shows that no input makes text that is not YAML of our kinds.
func FuzzImportDynsec(f *testing.F) {
	f.Add(`{"clients":[{"username":"a","roles":[{"rolename":"r"}],"password":"eA==","salt":"eA==","iterations":1}],"roles":[{"rolename":"r","acls":[{"acltype":"subscribePattern","topic":"#","allow":true}]}]}`)
	f.Add(`{"anonymousGroup":"g\u2028","groups":[{"groupname":"g\u2028","roles":[{"rolename":"r"}]}],"roles":[{"rolename":"r","acls":[{"acltype":"publishClientReceive","topic":"\u0085","allow":false}]}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		r, err := scenario(map[string][]byte{"dynamic-security.json": []byte(text)})
		if err != nil {
			return
		}
		out, err := r.YAML("x")
		if err != nil {
			t.Fatal(err)
		}
		decoded(t, out)
	})
}

func TestAFilterThatOneRoleRefusesByLettersIsGrantedByNoOther(t *testing.T) {
	config := fmt.Sprintf(`{"clients": [{"username": "alice", "password": %q, "salt": %q, "iterations": 1, "roles": [{"rolename": "a"}, {"rolename": "b"}]}],
		"roles": [
			{"rolename": "a", "acls": [{"acltype": "subscribeLiteral", "topic": "x/#", "allow": false}]},
			{"rolename": "b", "acls": [{"acltype": "subscribeLiteral", "topic": "x/#", "allow": true}]}],
		"defaultACLAccess": {"publishClientReceive": true, "unsubscribe": true}}`, strings.Split(goodHash, "$")[4], strings.Split(goodHash, "$")[3])
	r, err := scenario(map[string][]byte{"dynamic-security.json": []byte(config)})
	if err != nil {
		t.Fatal(err)
	}
	out, err := r.YAML("x")
	if err != nil {
		t.Fatal(err)
	}
	all := decoded(t, out)
	if all.rulesOf(t, all.users[0]).Deliver(acl.Subject{Username: "alice"}, "x/y").Allowed || len(r.Reports) != 2 {
		t.Errorf("role a refuses x/#, role b allows nothing else: Mosquitto lets nothing of it be read\n%s", out)
	}
}
