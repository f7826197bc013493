// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	apimeta "k8s.io/apimachinery/pkg/api/meta"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// canIOptions are the flags of can-i.
type canIOptions struct {
	connection

	as, listener, clientID, commonName, output string

	anonymous, retain bool
	qos               uint8
}

// answer is what can-i prints with -o json. Fields are added, never changed.
type answer struct {
	Allowed bool `json:"allowed"`
	// User is the username; empty where the question is about anonymous clients of Listener.
	User     string `json:"user,omitempty"`
	Listener string `json:"listener,omitempty"`
	// Action is publish or subscribe.
	Action string `json:"action"`
	Topic  string `json:"topic"`
	QoS    uint8  `json:"qos"`
	Retain bool   `json:"retain,omitempty"`
	// MaxQoS is the highest QoS that the rule grants; for a subscription, of what was asked for.
	MaxQoS *uint8 `json:"maxQoS,omitempty"`
	// Reason is the answer in words.
	Reason string `json:"reason"`
	// DecidedBy is absent where no rule decided.
	DecidedBy *ruleInfo `json:"decidedBy,omitempty"`
	// DependsOn names what was not given and would change the answer: clientID, commonName.
	DependsOn []string   `json:"dependsOn,omitempty"`
	Config    configInfo `json:"config"`
}

func canI(s streams, open opener) *cobra.Command {
	o := canIOptions{}
	c := &cobra.Command{
		Use:   "can-i publish|subscribe TOPIC --as USER",
		Short: "Say whether a user may publish or subscribe, and which rule decides",
		Long: "Say whether a user of a broker may publish to a topic or subscribe to a filter, and which rule decides. The answer\n" +
			"comes from the configuration that the broker has, by the code that the broker runs. Who may not read its Secrets\n" +
			"gets an answer from the objects, and is told so.\n\n" +
			"Exit codes: 0 yes, 1 no, 2 a wrong command line, 4 no answer.",
		Example: "  kubectl mqtt can-i publish factory/press-7/temperature --as press-7 -n factory\n" +
			"  kubectl mqtt can-i subscribe 'factory/#' --as alice --qos 1 -n factory\n" +
			"  kubectl mqtt can-i subscribe public/news --anonymous --listener mqtt -n factory -o json",
		Args:      cobra.ExactArgs(2),
		ValidArgs: []string{string(acl.Publish), string(acl.Subscribe)},
		RunE: func(c *cobra.Command, args []string) error {
			q, err := newQuestion(args[0], args[1], o.qos, o.retain)
			if err != nil {
				return err
			}
			switch {
			case o.anonymous == (o.as != ""):
				return usage("say --as USER, or --anonymous --listener NAME")
			case o.anonymous && o.listener == "":
				return usage("--anonymous needs --listener: each listener has rules of its own")
			case !o.anonymous && o.listener != "":
				return usage("--listener goes with --anonymous: the rules of a user are the same on every listener")
			}
			l, err := observe(c.Context(), open, o.connection)
			if err != nil {
				return err
			}
			b := &book{l}
			a, err := b.answer(&o, *q)
			if err != nil {
				return err
			}
			return a.print(s, l, o.output)
		},
	}
	o.flags(c)
	c.Flags().StringVar(&o.as, "as", "", "the user: a username, else the name of an MQTTUser")
	c.Flags().BoolVar(&o.anonymous, "anonymous", false, "ask about clients without a username")
	c.Flags().StringVar(&o.listener, "listener", "", "the listener that anonymous clients use")
	c.Flags().StringVar(&o.clientID, "client-id", "", "the client id, which stands for %c in rules")
	c.Flags().StringVar(&o.commonName, "common-name", "", "the common name of the client certificate, which stands for %cn in rules")
	questionFlags(c, &o.qos, &o.retain)
	outputFlag(c, &o.output)
	return c
}

func questionFlags(c *cobra.Command, qos *uint8, retain *bool) {
	c.Flags().Uint8Var(qos, "qos", 0, "quality of service: 0, 1 or 2")
	c.Flags().BoolVar(retain, "retain", false, "publish a retained message")
}

// newQuestion checks what stands in the command line. Shared subscriptions are questions like others.
func newQuestion(action, topic string, qos uint8, retain bool) (*question, error) {
	q := &question{action: acl.Action(action), topic: topic, qos: qos, retain: retain}
	check := acl.ValidateTopic
	switch q.action {
	case acl.Publish:
	case acl.Subscribe:
		check = acl.ValidateFilter
		if retain {
			return nil, usage("--retain is about publishing")
		}
	default:
		return nil, usage("%s is neither publish nor subscribe", shown(action))
	}
	if qos > 2 {
		return nil, usage("--qos %d is not 0, 1 or 2", qos)
	}
	if err := check(topic); err != nil {
		return nil, usage("%s: %v", shown(topic), err)
	}
	return q, nil
}

// answer finds out who is meant, and asks.
func (b *book) answer(o *canIOptions, q question) (*answer, error) {
	a := &answer{Action: string(q.action), Topic: q.topic, QoS: q.qos, Retain: q.retain, Config: b.info}
	if o.anonymous {
		return a, b.answerAnonymous(a, o, q)
	}
	a.User = o.as
	i := slices.IndexFunc(b.config.Users, func(u contract.User) bool { return u.Username == o.as })
	if i < 0 {
		if object := b.byName[o.as]; object != nil {
			a.User = object.Username()
			i = slices.IndexFunc(b.config.Users, func(u contract.User) bool { return u.Username == a.User && b.objects[a.User] == object })
		}
	}
	if i < 0 {
		a.Reason = b.unknown(o.as)
		return a, nil
	}
	u := &b.config.Users[i]
	id := b.user(u)
	who := acl.Subject{Username: u.Username, ClientID: o.clientID, CommonName: o.commonName}
	a.decide(b, id, who, q, u.ClientIDs)
	switch {
	case u.Suspended:
		a.Allowed, a.Reason = false, fmt.Sprintf("user %s is suspended and cannot connect; else it would be %s", shown(u.Username), a.sentence())
	case o.clientID != "" && !u.ClientIDs.Allow(o.clientID):
		a.Allowed, a.Reason = false, fmt.Sprintf("user %s may not connect with the client id %s (spec.clientIDs); else it would be %s", shown(u.Username), shown(o.clientID), a.sentence())
	}
	return a, nil
}

func (b *book) answerAnonymous(a *answer, o *canIOptions, q question) error {
	a.Listener = o.listener
	i := slices.IndexFunc(b.config.Listeners, func(l contract.Listener) bool { return l.Name == o.listener })
	if i < 0 {
		names := make([]string, len(b.config.Listeners))
		for n := range b.config.Listeners {
			names[n] = b.config.Listeners[n].Name
		}
		return usage("broker %s has no open listener %s; there are: %s", b.info.Broker, shown(o.listener), strings.Join(names, ", "))
	}
	if b.config.Listeners[i].Anonymous == nil {
		a.Reason = fmt.Sprintf("listener %s lets nobody in without a name (spec.listeners[].anonymous)", o.listener)
		return nil
	}
	id := b.anonymous(i)
	a.decide(b, id, acl.Subject{ClientID: o.clientID, CommonName: o.commonName}, q, nil)
	return nil
}

// unknown says what is known of somebody whom the broker does not know.
func (b *book) unknown(name string) string {
	text := fmt.Sprintf("broker %s knows no user %s", b.info.Broker, shown(name))
	for _, object := range []*v1alpha1.MQTTUser{b.objects[name], b.byName[name]} {
		if object == nil {
			continue
		}
		text = fmt.Sprintf("broker %s does not know user %s of MQTTUser %s", b.info.Broker, shown(object.Username()), object.Name)
		if ready := apimeta.FindStatusCondition(object.Status.Conditions, string(v1alpha1.ConditionReady)); ready != nil && ready.Message != "" {
			text += ": " + ready.Message
		}
		return text
	}
	if slices.ContainsFunc(b.config.Authentication.JWT, func(i contract.TokenIssuer) bool { return i.ACLClaim != "" }) {
		text += "; a token may carry rules of its own (aclClaim), which nobody knows before it is shown"
	}
	return text
}

// decide asks and puts the decision into words.
func (a *answer) decide(b *book, id *identity, who acl.Subject, q question, ids *contract.ClientIDs) {
	if a.Reason = b.reserved(q); a.Reason != "" {
		return
	}
	d := id.ask(who, q)
	a.Allowed, a.DecidedBy = d.Allowed, id.rule(d.Rule)
	a.DependsOn = id.depends(who, q, ids)
	if d.Allowed {
		a.MaxQoS = &d.MaxQoS
	}
	switch {
	case a.DecidedBy == nil:
		whose := shown(a.User)
		if a.Listener != "" {
			whose = "listener " + a.Listener
		}
		a.Reason = "no rule of " + whose + " allows it" + id.closest(who, q)
	case d.Allowed && q.action == acl.Subscribe && d.MaxQoS < q.qos:
		a.Reason = fmt.Sprintf("%s; at QoS %d, not %d", a.DecidedBy, d.MaxQoS, q.qos)
	default:
		a.Reason = a.DecidedBy.String()
	}
}

// closest is the rule that misses by little: by QoS or retain, or by covering only a part of a filter.
func (id *identity) closest(who acl.Subject, q question) string {
	if q.action == acl.Publish {
		easier := q
		easier.qos, easier.retain = 0, false
		if d := id.ask(who, easier); d.Allowed {
			return "; closest: " + id.rule(d.Rule).String()
		}
		return ""
	}
	closest := ""
	id.each(func(index int, rule acl.Rule) {
		if closest != "" || rule.Effect != acl.Allow || !slices.Contains(rule.Actions, acl.Subscribe) {
			return
		}
		overlap, err := acl.Compile([]acl.Rule{{Effect: acl.Deny, Actions: []acl.Action{acl.Subscribe}, Filter: rule.Filter}})
		if err == nil && overlap.Subscribe(who, q.topic, q.qos).Rule == 0 {
			closest = "; closest, for a part of it: " + id.rule(index).String()
		}
	})
	return closest
}

func (a *answer) sentence() string {
	if a.Allowed {
		return "yes: " + a.Reason
	}
	return "no: " + a.Reason
}

func (a *answer) print(s streams, l *live, output string) error {
	if output != "" {
		if err := printAs(s.out, output, a); err != nil {
			return &exit{exitUnknown, err}
		}
	} else {
		sayf(s.out, "%s", a.sentence())
	}
	for _, name := range a.DependsOn {
		flag := map[string]string{onClientID: "--client-id", onCommonName: "--common-name"}[name]
		sayf(s.err, "note: with some %s the answer is another; say which with %s", map[string]string{onClientID: "client id", onCommonName: "common name"}[name], flag)
	}
	sayf(s.err, "note: %s", l.note())
	if !a.Allowed {
		return &exit{code: exitNo}
	}
	return nil
}
