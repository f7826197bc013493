// SPDX-License-Identifier: Apache-2.0

package mosquitto

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
)

const (
	// LabelImport on an imported user names the policy that holds the pattern lines.
	LabelImport = "mqtt-operator.io/import"

	maxRules    = 256 // of one user or policy
	maxPolicies = 16  // in policyRefs
)

// Import reads a password file and, unless it is nil, an ACL file. It fails where a file cannot be read at all.
func Import(passwd File, rules *File, o Options) (*Result, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	r := &Result{}
	accounts, err := r.accounts(passwd)
	if err != nil {
		return nil, err
	}
	m := &maker{Result: r, options: o, names: objectNames(o.Prefix, usernames(accounts))}
	if rules == nil {
		m.open(accounts)
		return r, nil
	}
	file, err := parseACL(*rules)
	if err != nil {
		return nil, err
	}
	m.closed(accounts, file, rules.Name)
	slices.SortStableFunc(r.Reports, func(a, b Report) int {
		if a.File == b.File {
			return a.Line - b.Line
		}
		return 0 // the password file comes first, as it was read first
	})
	return r, nil
}

func usernames(accounts []account) []string {
	names := make([]string, len(accounts))
	for i := range accounts {
		names[i] = accounts[i].username
	}
	return names
}

// maker writes objects.
type maker struct {
	*Result

	options Options
	names   map[string]string // by username
}

// open is Mosquitto without an ACL file: who is let in may do everything.
func (m *maker) open(accounts []account) {
	m.Notes = append(m.Notes, "Without an ACL file Mosquitto lets every user publish and read everything, and so do these rules. Narrow them before others rely on it.")
	both := []acl.Action{acl.Publish, acl.Subscribe}
	rules := []acl.Rule{{Effect: acl.Allow, Actions: both, Filter: "#"}, {Effect: acl.Allow, Actions: []acl.Action{acl.Subscribe}, Filter: "$SYS/#"}}
	for i := range accounts {
		m.user(&accounts[i], rules, nil, nil)
	}
}

// closed is Mosquitto with an ACL file.
func (m *maker) closed(accounts []account, file *aclFile, name string) {
	m.Notes = append(m.Notes,
		"Mosquitto lets every SUBSCRIBE through and looks at each message; here a SUBSCRIBE is refused unless its whole filter is granted. A client that subscribes to # and lets the broker sort it out has to subscribe to what it may read.")
	shared, perUser := m.patterns(file.patterns)
	sharedDeny, _ := split(shared)
	for i := range accounts {
		a := &accounts[i]
		var own []acl.Rule
		if s := file.section(a.username); s != nil {
			own = m.sayAll(s.entries)
		}
		deny, allow := split(own)
		rules := slices.Concat(deny, allow)
		var expanded []acl.Rule
		for j := range perUser {
			if rule := m.expand(&perUser[j], a.username); rule != nil {
				expanded = append(expanded, *rule)
			}
		}
		deny, allow = split(expanded)
		rules = append(rules, deny...)
		if len(allow) > 0 {
			rules = append(append(rules, sharedDeny...), allow...)
		}
		m.user(a, rules, shared, nil)
	}
	m.policy(m.patternName(), shared, []string{fmt.Sprintf("The pattern lines of %s, for every user with the label.", shown(name))},
		&metav1.LabelSelector{MatchLabels: map[string]string{LabelImport: m.patternName()}})
	known := usernames(accounts)
	for _, s := range file.sections {
		if !slices.Contains(known, s.username) {
			m.reportf(name, s.line, "user %s has no line in the password file that could be imported. Its rules are left out.", shown(s.username))
		}
	}
	m.anonymous(m.sayAll(file.anonymous), shared, name)
}

func (m *maker) patternName() string { return m.options.Prefix + "mosquitto-patterns" }

// sayAll are the rules of topic lines.
func (m *maker) sayAll(entries []entry) []acl.Rule {
	var rules []acl.Rule
	for i := range entries {
		if rule, _ := m.say(&entries[i], false); rule != nil {
			rules = append(rules, *rule)
		}
	}
	return rules
}

// patterns are the rules that all users share, those that deny first, and the lines that each needs for itself.
func (m *maker) patterns(entries []entry) (shared []acl.Rule, perUser []entry) {
	for i := range entries {
		rule, each := m.say(&entries[i], true)
		switch {
		case each:
			perUser = append(perUser, entries[i])
		case rule != nil:
			shared = append(shared, *rule)
		}
	}
	deny, allow := split(shared)
	return slices.Concat(deny, allow), perUser
}

// split is the rules by what they do.
func split(rules []acl.Rule) (deny, allow []acl.Rule) {
	for _, rule := range rules {
		if rule.Effect == acl.Deny {
			deny = append(deny, rule)
		} else {
			allow = append(allow, rule)
		}
	}
	return deny, allow
}

// anonymous shows what clients without a name might do: whether they are let in is a question of the listener.
func (m *maker) anonymous(own, shared []acl.Rule, name string) {
	if len(own) == 0 {
		return
	}
	deny, allow := split(own)
	rules := slices.Concat(deny, allow)
	for _, rule := range shared {
		if !slices.Contains(strings.Split(rule.Filter, "/"), acl.TokenUsername) {
			rules = append(rules, rule)
		}
	}
	m.hint(fmt.Sprintf("The lines of %s before the first user are for clients without a name.", shown(name)), rules)
}

// hint shows rules as they would stand in a listener of the broker.
func (m *maker) hint(text string, rules []acl.Rule) {
	anonymous := v1alpha1.ListenerAnonymous{Enabled: new(true), ACL: apiRules(unique(rules))}
	m.Hints = append(m.Hints, text+" If there shall be such clients, put this into a listener of MQTTBroker "+m.options.Broker+" (spec.listeners[]):\n"+
		yamlText(struct {
			Anonymous v1alpha1.ListenerAnonymous `json:"anonymous"`
		}{anonymous}))
}

// user writes a Secret with the hash and the user. shared are rules that a policy holds for it, for the notes alone; refs
// are policies to name.
func (m *maker) user(a *account, rules, shared []acl.Rule, refs []string, change ...func(*v1alpha1.MQTTUser)) {
	name := m.names[a.username]
	rules = unique(rules)
	user := &v1alpha1.MQTTUser{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "MQTTUser"},
		ObjectMeta: m.meta(name),
		Spec: v1alpha1.MQTTUserSpec{
			BrokerRef: v1alpha1.BrokerReference{Name: m.options.Broker},
			Authentication: v1alpha1.UserAuthentication{Password: &v1alpha1.UserPassword{
				HashSecretRef: &v1alpha1.SecretKeyReference{Name: hashSecretName(name)},
			}},
		},
	}
	if name != a.username {
		user.Spec.Username = &a.username
	}
	if len(shared) > 0 {
		user.Labels = map[string]string{LabelImport: m.patternName()}
	}
	rest := rules[min(maxRules, len(rules)):]
	if need := (len(rest) + maxRules - 1) / maxRules; need+len(refs) > maxPolicies {
		m.reportf(a.file, a.line, "user %s would have %d rules in %d policies; one user can have %d and %d. The user is left out.", shown(a.username), len(rules), need+len(refs), maxRules*(maxPolicies+1), maxPolicies)
		return
	}
	user.Spec.ACL = apiRules(rules[:len(rules)-len(rest)])
	refs = slices.Concat(m.policy(name+"-rules", rest, []string{fmt.Sprintf("More rules of the user %s: one object holds %d.", shown(a.username), maxRules)}, nil), refs)
	for _, ref := range refs {
		user.Spec.PolicyRefs = append(user.Spec.PolicyRefs, v1alpha1.PolicyReference{Name: ref})
	}
	for _, f := range change {
		f(user)
	}
	secret := &corev1.Secret{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: m.meta(hashSecretName(name)),
		StringData: map[string]string{v1alpha1.DefaultPasswordHashKey: a.hash},
	}
	secret.Labels = map[string]string{v1alpha1.LabelAllow: v1alpha1.AllowReference}
	comments := append([]string{"From " + shown(a.file) + ":" + strconv.Itoa(a.line) + "."}, narrow(a.username, rules, shared)...)
	m.Objects = append(m.Objects, Object{Object: secret}, Object{Object: user, Comments: comments})
}

func hashSecretName(user string) string { return user + "-hash" }

func (m *maker) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: m.options.Namespace}
}

// policy splits rules into policies that each hold no more than they may, and gives their names. The order of the names is that of the rules.
func (m *maker) policy(name string, rules []acl.Rule, comments []string, selector *metav1.LabelSelector) []string {
	rules = unique(rules)
	var names []string
	for chunk := range slices.Chunk(rules, maxRules) {
		part := name
		if len(rules) > maxRules {
			part = fmt.Sprintf("%s-%04d", name, len(names)+1)
		}
		names = append(names, part)
		m.Objects = append(m.Objects, Object{Comments: comments, Object: &v1alpha1.MQTTAccessPolicy{
			TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "MQTTAccessPolicy"},
			ObjectMeta: m.meta(part),
			Spec:       v1alpha1.MQTTAccessPolicySpec{Rules: apiRules(chunk), UserSelector: selector},
		}})
	}
	return names
}

// unique leaves out what an equal rule before it says already.
func unique(rules []acl.Rule) []acl.Rule {
	var kept []acl.Rule
	seen := map[string]bool{}
	for _, rule := range rules {
		if key := fmt.Sprint(rule.Effect, rule.Actions, rule.Filter); !seen[key] {
			seen[key] = true
			kept = append(kept, rule)
		}
	}
	return kept
}

// apiRules are rules in the words of the API.
func apiRules(rules []acl.Rule) []v1alpha1.ACLRule {
	var result []v1alpha1.ACLRule
	for _, rule := range rules {
		wish := v1alpha1.ACLRule{Effect: v1alpha1.ACLEffect(rule.Effect), Filter: v1alpha1.TopicFilter(rule.Filter)}
		for _, action := range rule.Actions {
			wish.Actions = append(wish.Actions, v1alpha1.ACLAction(action))
		}
		result = append(result, wish)
	}
	return result
}

// narrow says which granted filters cannot be subscribed to as a whole, because a part of them is denied.
func narrow(username string, rules, shared []acl.Rule) []string {
	all := slices.Concat(rules, shared)
	policy, err := acl.Compile(all)
	if err != nil {
		return []string{shown(err.Error())} // the tests show that it does not happen
	}
	who := acl.Subject{Username: username, ClientID: "x"}
	tokens := strings.NewReplacer(acl.TokenUsername, username, acl.TokenClientID, who.ClientID)
	var comments []string
	for _, rule := range all {
		filter := rule.Filter
		if rule.Effect == acl.Deny || !slices.Contains(rule.Actions, acl.Subscribe) {
			continue
		}
		decision := policy.Subscribe(who, tokens.Replace(filter), 0)
		if decision.Allowed || decision.Rule < 0 {
			continue
		}
		comments = append(comments, fmt.Sprintf("Mind: a subscription to %s as a whole is refused, because %s is denied; subscribe to its parts.", shown(filter), shown(all[decision.Rule].Filter)))
	}
	return comments
}
