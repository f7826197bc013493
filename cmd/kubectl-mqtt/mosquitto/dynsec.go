// SPDX-License-Identifier: Apache-2.0

package mosquitto

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// defaultPriority is that of roles, groups and rules that name none.
const defaultPriority = -1

// dynsec is the configuration of the dynamic security plugin, as far as it is read.
type dynsec struct {
	DefaultACLAccess struct {
		PublishClientSend    bool `json:"publishClientSend"`
		PublishClientReceive bool `json:"publishClientReceive"`
		Subscribe            bool `json:"subscribe"`
		Unsubscribe          bool `json:"unsubscribe"`
	} `json:"defaultACLAccess"`
	Clients        []dynsecClient `json:"clients"`
	Groups         []dynsecGroup  `json:"groups"`
	Roles          []dynsecRole   `json:"roles"`
	AnonymousGroup string         `json:"anonymousGroup"`
}

type dynsecClient struct {
	Username   string          `json:"username"`
	ClientID   string          `json:"clientid"`
	Password   string          `json:"password"`
	Salt       string          `json:"salt"`
	Iterations int             `json:"iterations"`
	Disabled   bool            `json:"disabled"`
	Roles      []dynsecRoleRef `json:"roles"`
	Groups     []struct {
		Name     string `json:"groupname"`
		Priority *int   `json:"priority"`
	} `json:"groups"`
}

type dynsecGroup struct {
	Name    string          `json:"groupname"`
	Roles   []dynsecRoleRef `json:"roles"`
	Clients []struct {
		Username string `json:"username"`
		Priority *int   `json:"priority"`
	} `json:"clients"`
}

type dynsecRoleRef struct {
	Name     string `json:"rolename"`
	Priority *int   `json:"priority"`
}

type dynsecRole struct {
	Name              string      `json:"rolename"`
	AllowWildcardSubs *bool       `json:"allowwildcardsubs"`
	ACLs              []dynsecACL `json:"acls"`
}

type dynsecACL struct {
	Type     string `json:"acltype"`
	Topic    string `json:"topic"`
	Priority *int   `json:"priority"`
	Allow    bool   `json:"allow"`
}

// role is a role whose rules are in the order in which they are asked.
type role struct {
	name                        string
	line                        int
	publish, subscribe, receive []acl.Rule
}

// ImportDynsec reads the configuration of the dynamic security plugin. It fails where the file cannot be read at all.
func ImportDynsec(f File, o Options) (*Result, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	places, err := scan(f)
	if err != nil {
		return nil, err
	}
	config := dynsec{}
	if err := json.Unmarshal(f.Text, &config); err != nil {
		return nil, located(f, err)
	}
	d := &director{
		maker:  &maker{Result: &Result{}, options: o},
		file:   f.Name,
		places: places, config: &config,
		roles: map[string]*role{}, dollars: []string{"$SYS"},
	}
	d.Notes = append(d.Notes,
		"In the dynamic security plugin a rule that refuses a subscription refuses only filters that lie inside it; here it refuses every filter that shares a topic with it, and the messages as well.",
		"A rule for # or for + as the first level does not speak of topics that begin with $.")
	d.run()
	slices.SortStableFunc(d.Reports, func(a, b Report) int { return a.Line - b.Line })
	return d.Result, nil
}

// director walks the configuration.
type director struct {
	*maker

	file   string
	places map[string]int
	config *dynsec
	roles  map[string]*role
	// dollars are the first levels that begin with $, as far as the file names any.
	dollars []string
	// banned are filters with wildcards that some role refuses by letters; no other role's permission of exactly that
	// filter is carried over.
	banned map[string]bool
}

func (d *director) at(path string, args ...any) int { return d.places[fmt.Sprintf(path, args...)] }

func (d *director) run() {
	d.readRoles()
	accounts, members := d.clients()
	d.names = objectNames(d.options.Prefix, usernames(accounts))
	if access := d.config.DefaultACLAccess; !access.Unsubscribe {
		d.reportf(d.file, d.at("defaultaclaccess"), "unsubscribe is false: a client may always unsubscribe here.")
	}
	policies := d.policies(accounts, members)
	for i := range accounts {
		a := &accounts[i]
		client := members[a.username]
		change := func(u *v1alpha1.MQTTUser) {
			if client.config.Disabled {
				u.Spec.Suspend = new(true)
			}
			if id := client.config.ClientID; id != "" {
				u.Spec.ClientIDs = &v1alpha1.UserClientIDs{Exact: []string{id}}
			}
		}
		refs := d.refs(client.roles, policies)
		if d.flat(client.roles) || len(refs) > maxPolicies {
			d.user(a, d.written(client.roles), nil, nil, change)
			continue
		}
		d.user(a, nil, nil, refs, change)
	}
	if name := d.config.AnonymousGroup; name != "" {
		d.hint(fmt.Sprintf("The group %s is for clients without a name.", shown(name)), d.written(d.rolesOfGroup(name)))
	}
}

// member is a client with its roles in the order in which they are asked.
type member struct {
	config *dynsecClient
	roles  []*role
}

// clients are those that can log in.
func (d *director) clients() ([]account, map[string]*member) {
	var accounts []account
	members := map[string]*member{}
	for i := range d.config.Clients {
		c, line := &d.config.Clients[i], d.at("clients[%d]", i)
		hash := fmt.Sprintf("$7$%d$%s$%s", c.Iterations, c.Salt, c.Password)
		switch problem := contract.UsernameProblem(c.Username); {
		case problem != "":
			d.reportf(d.file, line, "the username %q %s. The user is left out: give it another name, and its clients, too.", c.Username, problem)
			continue
		case members[c.Username] != nil:
			d.reportf(d.file, line, "the client %q stands in the file twice. This one is left out: remove the one that is wrong.", c.Username)
			continue
		case c.Password == "":
			d.reportf(d.file, line, "client %q has no password of the kind that version 2.0 of the plugin writes. It is left out: set its password there, or give it a way to log in here by hand.", c.Username)
			continue
		case hashProblem(hash) != nil:
			d.reportf(d.file, line, "client %q: %v.", c.Username, hashProblem(hash))
			continue
		}
		accounts = append(accounts, account{username: c.Username, hash: hash, file: d.file, line: line})
		members[c.Username] = &member{config: c, roles: d.rolesOf(c, i)}
	}
	return accounts, members
}

// ranked is something with a place in an order: the highest priority first, then by name.
type ranked struct {
	name     string
	priority int
}

func rank(a, b ranked) int {
	return cmp.Or(cmp.Compare(b.priority, a.priority), strings.Compare(a.name, b.name))
}

func priority(p *int) int {
	if p == nil {
		return defaultPriority
	}
	return *p
}

// rolesOf are the client's own roles, then those of its groups; each once.
func (d *director) rolesOf(c *dynsecClient, index int) []*role {
	roles := d.resolve(c.Roles, fmt.Sprintf("clients[%d]", index))
	groups := map[string]ranked{}
	for i := range c.Groups {
		groups[c.Groups[i].Name] = ranked{c.Groups[i].Name, priority(c.Groups[i].Priority)}
	}
	for i := range d.config.Groups {
		for _, client := range d.config.Groups[i].Clients {
			if name := d.config.Groups[i].Name; client.Username == c.Username {
				groups[name] = ranked{name, priority(client.Priority)}
			}
		}
	}
	order := make([]ranked, 0, len(groups))
	for _, group := range groups {
		order = append(order, group)
	}
	slices.SortFunc(order, rank)
	for _, group := range order {
		roles = append(roles, d.rolesOfGroup(group.name)...)
	}
	var each []*role
	for _, r := range roles {
		if !slices.Contains(each, r) {
			each = append(each, r)
		}
	}
	return each
}

func (d *director) rolesOfGroup(name string) []*role {
	for i := range d.config.Groups {
		if d.config.Groups[i].Name == name {
			return d.resolve(d.config.Groups[i].Roles, fmt.Sprintf("groups[%d]", i))
		}
	}
	return nil
}

// resolve finds roles by name, in their order. One that is not there is passed over, as Mosquitto does.
func (d *director) resolve(refs []dynsecRoleRef, where string) []*role {
	order := make([]ranked, 0, len(refs))
	for i := range refs {
		if d.roles[refs[i].Name] == nil {
			line := d.at("%s.roles[%d]", where, i)
			if !slices.ContainsFunc(d.Reports, func(r Report) bool { return r.Line == line }) {
				d.reportf(d.file, line, "there is no role %s. It is passed over.", shown(refs[i].Name))
			}
			continue
		}
		order = append(order, ranked{refs[i].Name, priority(refs[i].Priority)})
	}
	slices.SortFunc(order, rank)
	roles := make([]*role, 0, len(order))
	for _, o := range order {
		roles = append(roles, d.roles[o.name])
	}
	return roles
}

// policies writes one policy for each role that a client needs and that can be one, and gives their names by role; the
// empty name is that of the default access.
func (d *director) policies(accounts []account, members map[string]*member) map[string][]string {
	used := map[string]bool{}
	anyUser := false
	for i := range accounts {
		if roles := members[accounts[i].username].roles; !d.flat(roles) {
			anyUser = true
			for _, r := range roles {
				used[r.name] = true
			}
		}
	}
	texts := make([]string, 0, len(used))
	for name := range used {
		texts = append(texts, name)
	}
	names, policies := objectNames(d.options.Prefix+"role-", texts), map[string][]string{}
	for i := range d.config.Roles {
		if r := d.roles[d.config.Roles[i].Name]; r != nil && used[r.name] && policies[r.name] == nil {
			policies[r.name] = d.policy(names[r.name], slices.Concat(r.publish, r.subscribe), []string{fmt.Sprintf("The role %s, from %s:%d.", shown(r.name), shown(d.file), r.line)}, nil)
		}
	}
	if rules := d.defaults(); anyUser && len(rules) > 0 {
		policies[""] = d.policy(d.options.Prefix+"dynsec-default", rules, []string{"What defaultACLAccess allows."}, nil)
	}
	return policies
}

func (d *director) refs(roles []*role, policies map[string][]string) []string {
	var refs []string
	for _, r := range roles {
		refs = append(refs, policies[r.name]...)
	}
	return append(refs, policies[""]...)
}

// defaults are the rules behind all others.
func (d *director) defaults() []acl.Rule {
	var rules []acl.Rule
	if d.config.DefaultACLAccess.PublishClientSend {
		rules = append(rules, acl.Rule{Effect: acl.Allow, Actions: []acl.Action{acl.Publish}, Filter: "#"})
	}
	if d.config.DefaultACLAccess.Subscribe && d.config.DefaultACLAccess.PublishClientReceive {
		rules = append(rules, d.everything()...)
	}
	return rules
}

// everything is what can be read where nothing is refused.
func (d *director) everything() []acl.Rule {
	subscribe := []acl.Action{acl.Subscribe}
	rules := []acl.Rule{{Effect: acl.Allow, Actions: subscribe, Filter: "#"}}
	for _, first := range d.dollars {
		if !strings.HasPrefix(first, "$CONTROL") { // never by default
			rules = append(rules, acl.Rule{Effect: acl.Allow, Actions: subscribe, Filter: first + "/#"})
		}
	}
	return rules
}

// flat says whether a client has to be given one list, because it may not receive all that it may subscribe to.
func (d *director) flat(roles []*role) bool {
	return !d.config.DefaultACLAccess.PublishClientReceive ||
		slices.ContainsFunc(roles, func(r *role) bool {
			return slices.ContainsFunc(r.receive, func(rule acl.Rule) bool { return rule.Effect == acl.Deny })
		})
}

// written are the rules of a client in one list.
func (d *director) written(roles []*role) []acl.Rule {
	var publish, subscribe, receive []acl.Rule
	for _, r := range roles {
		publish, subscribe, receive = append(publish, r.publish...), append(subscribe, r.subscribe...), append(receive, r.receive...)
	}
	access := d.config.DefaultACLAccess
	if access.PublishClientSend {
		publish = append(publish, acl.Rule{Effect: acl.Allow, Actions: []acl.Action{acl.Publish}, Filter: "#"})
	}
	if access.Subscribe {
		subscribe = append(subscribe, d.everything()...)
	}
	if access.PublishClientReceive {
		receive = append(receive, d.everything()...)
		for _, first := range d.dollars {
			receive = append(receive, acl.Rule{Effect: acl.Allow, Actions: []acl.Action{acl.Subscribe}, Filter: first + "/#"})
		}
	}
	if !d.flat(roles) {
		return append(publish, subscribe...)
	}
	// The first that matches in each list decides; of all pairs that match, the pair of these two comes first.
	seen := map[string]bool{}
	for _, s := range subscribe {
		for _, r := range receive {
			filter, some := intersect(s.Filter, r.Filter)
			if !some || seen[filter] {
				continue
			}
			seen[filter] = true
			rule := acl.Rule{Effect: acl.Deny, Actions: []acl.Action{acl.Subscribe}, Filter: filter}
			if s.Effect == acl.Allow && r.Effect == acl.Allow {
				rule.Effect = acl.Allow
			}
			publish = append(publish, rule)
		}
	}
	return publish
}
