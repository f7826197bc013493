// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"cmp"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
)

// Policies are access policies, ready to be asked whom they bind. It never changes.
type Policies struct {
	named map[string]*policy
	// selecting are those with a selector, by namespace, each list by name.
	selecting map[string][]*policy
}

type policy struct {
	key      string          // namespace/name
	selector labels.Selector // nil: no user by label, or nobody knows which
	rules    []acl.Rule
	// problem says what no broker would take.
	problem *Finding
}

// PolicyKey is the name of a policy in a broker's configuration.
func PolicyKey(p *v1alpha1.MQTTAccessPolicy) string { return p.Namespace + "/" + p.Name }

// NewPolicies reads policies; those that are being deleted are none.
func NewPolicies(list []*v1alpha1.MQTTAccessPolicy) *Policies {
	result := &Policies{named: make(map[string]*policy, len(list)), selecting: map[string][]*policy{}}
	for _, object := range list {
		if object.DeletionTimestamp != nil {
			continue
		}
		spec := object.Resolved()
		p := &policy{key: PolicyKey(object), rules: Rules(spec.Rules), problem: PolicyProblem(object)}
		result.named[p.key] = p
		if spec.UserSelector != nil {
			p.selector, _ = metav1.LabelSelectorAsSelector(spec.UserSelector) // PolicyProblem has the error
			result.selecting[object.Namespace] = append(result.selecting[object.Namespace], p)
		}
	}
	for _, of := range result.selecting {
		slices.SortFunc(of, func(a, b *policy) int { return cmp.Compare(a.key, b.key) })
	}
	return result
}

// PolicyProblem is the first thing about a policy that no broker would take. The schema refuses bad rules at the door,
// but not bad selectors, which are a type of Kubernetes.
func PolicyProblem(p *v1alpha1.MQTTAccessPolicy) *Finding {
	if _, err := metav1.LabelSelectorAsSelector(p.Spec.UserSelector); err != nil {
		return find(v1alpha1.ReasonSpecInvalid, "spec.userSelector: %v. Until it is mended, no user of the namespace gets other rules than it had.", err)
	}
	rules := Rules(p.Resolved().Rules)
	for i := range rules {
		if err := rules[i].Validate(); err != nil {
			return find(v1alpha1.ReasonConfigInvalid, "spec.rules[%d].%v", i, err)
		}
	}
	return nil
}

// Of names the policies of a user in the order in which they are asked: those of policyRefs, then those whose selector
// matches, by name; each once. The finding says why that is not known, or must not be put into force.
func (p *Policies) Of(user *v1alpha1.MQTTUser) ([]string, *Finding) {
	var names []string
	for i := range user.Spec.PolicyRefs {
		name := user.Spec.PolicyRefs[i].Name
		found := p.named[user.Namespace+"/"+name]
		if found == nil {
			return nil, find(v1alpha1.ReasonPolicyNotFound, "There is no MQTTAccessPolicy %s in namespace %s: create it, or take it out of spec.policyRefs. "+
				"Until then the user keeps the rules that it had, and stays out if it had none.", name, user.Namespace)
		}
		if found.problem != nil {
			return nil, unusable(found)
		}
		if !slices.Contains(names, found.key) {
			names = append(names, found.key)
		}
	}
	for _, candidate := range p.selecting[user.Namespace] {
		switch {
		case candidate.selector == nil: // whom it binds is not known, and it may deny
			return nil, unusable(candidate)
		case !candidate.selector.Matches(labels.Set(user.Labels)):
		case candidate.problem != nil:
			return nil, unusable(candidate)
		case !slices.Contains(names, candidate.key):
			names = append(names, candidate.key)
		}
	}
	return names, nil
}

func unusable(p *policy) *Finding {
	return find(v1alpha1.ReasonPolicyUnusable, "MQTTAccessPolicy %s cannot be put into force; its status says why. Until it is mended the user keeps the rules "+
		"that it had, and stays out if it had none.", p.key)
}

// Binds reports whether a policy binds a user, by name or by label.
func Binds(object *v1alpha1.MQTTAccessPolicy, user *v1alpha1.MQTTUser) bool {
	return binder(object)(user)
}

// BoundUsers are those of users that a policy binds.
func BoundUsers(object *v1alpha1.MQTTAccessPolicy, users []*v1alpha1.MQTTUser) []*v1alpha1.MQTTUser {
	binds, bound := binder(object), []*v1alpha1.MQTTUser{}
	for _, user := range users {
		if user.DeletionTimestamp == nil && binds(user) {
			bound = append(bound, user)
		}
	}
	return bound
}

func binder(object *v1alpha1.MQTTAccessPolicy) func(*v1alpha1.MQTTUser) bool {
	selector, err := metav1.LabelSelectorAsSelector(object.Spec.UserSelector) // of nil: nobody
	return func(user *v1alpha1.MQTTUser) bool {
		if user.Namespace != object.Namespace {
			return false
		}
		named := slices.ContainsFunc(user.Spec.PolicyRefs, func(ref v1alpha1.PolicyReference) bool { return ref.Name == object.Name })
		return named || err == nil && selector.Matches(labels.Set(user.Labels))
	}
}

// PolicyRules are the rules of a policy in the words of package acl.
func PolicyRules(p *v1alpha1.MQTTAccessPolicy) []acl.Rule { return Rules(p.Resolved().Rules) }

// usableRules are the rules by the name of a configuration; false where there is no such policy, or none to be used.
func (p *Policies) usableRules(key string) ([]acl.Rule, bool) {
	found := p.named[key]
	if found == nil || found.problem != nil {
		return nil, false
	}
	return found.rules, true
}
