// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/controllers/desired"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// scenery is what a cluster holds of our kinds, by namespace/name, as far as the files concern it.
type scenery struct {
	brokers  map[string]*v1alpha1.MQTTBroker
	users    map[string]*v1alpha1.MQTTUser
	policies map[string]*v1alpha1.MQTTAccessPolicy
	bridges  map[string]*v1alpha1.MQTTBridge
	// labels of namespaces.
	labels map[string]map[string]string

	winners map[string]map[string]*v1alpha1.MQTTUser // by broker
	binding *verdict.Policies
}

func newScenery() *scenery {
	return &scenery{
		brokers: map[string]*v1alpha1.MQTTBroker{}, users: map[string]*v1alpha1.MQTTUser{}, policies: map[string]*v1alpha1.MQTTAccessPolicy{},
		bridges: map[string]*v1alpha1.MQTTBridge{}, labels: map[string]map[string]string{},
	}
}

// foresight compares two sceneries.
type foresight struct {
	*site

	before, after *scenery
	info          *diffInfo
}

// foresee says of each object that changes what follows from it.
func (s *site) foresee(ctx context.Context, info *diffInfo) error {
	f := &foresight{site: s, before: newScenery(), after: newScenery(), info: info}
	if err := f.look(ctx); err != nil {
		return err
	}
	for _, d := range info.Objects {
		if d.Action == diffRefused || d.Action == diffUnchanged {
			continue
		}
		key := d.Namespace + "/" + d.Name
		switch d.Kind {
		case "MQTTBroker":
			if err := f.broker(ctx, d, f.before.brokers[key], f.after.brokers[key]); err != nil {
				return err
			}
		case "MQTTUser":
			f.user(d, f.before.users[key], f.after.users[key])
		case "MQTTAccessPolicy":
			f.policy(d, f.before.policies[key], f.after.policies[key])
		case "MQTTBridge":
			if err := f.bridge(ctx, d, f.before.bridges[key], f.after.bridges[key]); err != nil {
				return err
			}
		}
	}
	return nil
}

// look reads all that the changes may concern, and puts the changes into the scenery of afterwards.
func (f *foresight) look(ctx context.Context) error {
	namespaces := map[string]bool{}
	for _, d := range f.info.Objects {
		if namespaces[d.Namespace] {
			continue
		}
		namespaces[d.Namespace] = true
		if err := f.lookInto(ctx, d.Namespace); err != nil {
			return err
		}
	}
	for _, d := range f.info.Objects {
		key := d.Namespace + "/" + d.Name
		if d.Action == diffRefused {
			continue // it stays what it is
		}
		var err error
		switch d.Kind {
		case "MQTTBroker":
			err = place(d, key, f.after.brokers)
		case "MQTTUser":
			err = place(d, key, f.after.users)
		case "MQTTAccessPolicy":
			err = place(d, key, f.after.policies)
		case "MQTTBridge":
			err = place(d, key, f.after.bridges)
		}
		if err != nil {
			return &exit{exitUnknown, fmt.Errorf("%s: %w; is this plugin (%s) older than the operator?", d.key(), err, version)}
		}
	}
	if err := f.lookAbroad(ctx, namespaces); err != nil {
		return err
	}
	f.before.settle()
	f.after.settle()
	return nil
}

// place puts what an object would be into a map.
func place[T any](d *objectDiff, key string, into map[string]*T) error {
	if d.after == nil {
		delete(into, key)
		return nil
	}
	object := new(T)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(d.after.Object, object); err != nil {
		return err
	}
	into[key] = object
	return nil
}

// lookInto reads our kinds in one namespace.
func (f *foresight) lookInto(ctx context.Context, namespace string) error {
	brokers, users, policies, bridges := &v1alpha1.MQTTBrokerList{}, &v1alpha1.MQTTUserList{}, &v1alpha1.MQTTAccessPolicyList{}, &v1alpha1.MQTTBridgeList{}
	for _, list := range []client.ObjectList{brokers, users, policies, bridges} {
		err := f.List(ctx, list, client.InNamespace(namespace))
		if apierrors.IsForbidden(err) {
			f.info.notef("you may not list all kinds in namespace %s: what changes for objects that are not in the files is not known", namespace)
			continue
		}
		if err != nil {
			return &exit{exitUnknown, explained(err)}
		}
	}
	for i := range brokers.Items {
		key := namespace + "/" + brokers.Items[i].Name
		f.before.brokers[key], f.after.brokers[key] = &brokers.Items[i], &brokers.Items[i]
	}
	for i := range users.Items {
		f.bothUsers(&users.Items[i])
	}
	for i := range policies.Items {
		key := namespace + "/" + policies.Items[i].Name
		f.before.policies[key], f.after.policies[key] = &policies.Items[i], &policies.Items[i]
	}
	for i := range bridges.Items {
		key := namespace + "/" + bridges.Items[i].Name
		f.before.bridges[key], f.after.bridges[key] = &bridges.Items[i], &bridges.Items[i]
	}
	return nil
}

func (f *foresight) bothUsers(user *v1alpha1.MQTTUser) {
	key := user.Namespace + "/" + user.Name
	f.before.users[key], f.after.users[key] = user, user
}

// lookAbroad reads the brokers of other namespaces that users name, and the users in other namespaces of brokers that change.
func (f *foresight) lookAbroad(ctx context.Context, looked map[string]bool) error {
	everywhere := false
	for _, d := range f.info.Objects {
		for _, broker := range []*v1alpha1.MQTTBroker{f.before.brokers[d.Namespace+"/"+d.Name], f.after.brokers[d.Namespace+"/"+d.Name]} {
			everywhere = everywhere || d.Kind == "MQTTBroker" && d.Action != diffUnchanged && broker != nil && broker.Spec.AllowedNamespaces != nil
		}
	}
	if everywhere {
		list := &v1alpha1.MQTTUserList{}
		err := f.List(ctx, list)
		if err != nil && !apierrors.IsForbidden(err) {
			return &exit{exitUnknown, explained(err)}
		}
		if err != nil {
			f.info.notef("you may not list the users of all namespaces: what changes for those of others is not known")
		}
		for i := range list.Items {
			if !looked[list.Items[i].Namespace] {
				f.bothUsers(&list.Items[i])
			}
		}
	}
	for _, users := range []map[string]*v1alpha1.MQTTUser{f.before.users, f.after.users} {
		for _, user := range users {
			if looked[user.BrokerNamespace()] || f.before.brokers[user.BrokerKey()] != nil {
				continue
			}
			broker := &v1alpha1.MQTTBroker{}
			err := f.Get(ctx, client.ObjectKey{Namespace: user.BrokerNamespace(), Name: user.Spec.BrokerRef.Name}, broker)
			if apierrors.IsForbidden(err) || apierrors.IsNotFound(err) {
				continue
			}
			if err != nil {
				return &exit{exitUnknown, explained(err)}
			}
			f.before.brokers[user.BrokerKey()], f.after.brokers[user.BrokerKey()] = broker, broker
		}
	}
	return f.lookAtLabels(ctx)
}

// lookAtLabels reads the labels of the namespaces of users where a broker tells them apart by these.
func (f *foresight) lookAtLabels(ctx context.Context) error {
	for _, at := range []*scenery{f.before, f.after} {
		for _, user := range at.users {
			broker := at.brokers[user.BrokerKey()]
			if broker == nil || !broker.SelectsNamespaces() || at.labels[user.Namespace] != nil {
				continue
			}
			namespace := &corev1.Namespace{}
			err := f.Get(ctx, client.ObjectKey{Name: user.Namespace}, namespace)
			if apierrors.IsForbidden(err) {
				f.info.notef("you may not see namespace %s: whether its users belong to broker %s is not known", user.Namespace, user.BrokerKey())
				continue
			}
			if client.IgnoreNotFound(err) != nil {
				return &exit{exitUnknown, err}
			}
			labels := namespace.Labels
			if labels == nil {
				labels = map[string]string{}
			}
			f.before.labels[user.Namespace], f.after.labels[user.Namespace] = labels, labels
		}
	}
	return nil
}

// settle works out who has which name and which policies there are.
func (at *scenery) settle() {
	byBroker := map[string][]*v1alpha1.MQTTUser{}
	for _, user := range at.users {
		if broker := at.brokers[user.BrokerKey()]; broker != nil && user.DeletionTimestamp == nil && broker.Allows(user.Namespace, at.labels[user.Namespace]) {
			byBroker[user.BrokerKey()] = append(byBroker[user.BrokerKey()], user)
		}
	}
	at.winners = map[string]map[string]*v1alpha1.MQTTUser{}
	for broker, users := range byBroker {
		at.winners[broker] = verdict.Winners(users)
	}
	policies := make([]*v1alpha1.MQTTAccessPolicy, 0, len(at.policies))
	for _, policy := range at.policies {
		policies = append(policies, policy)
	}
	at.binding = verdict.NewPolicies(policies)
}

// standing is what a broker makes of a user.
type standing struct {
	// out says why the broker does not know the user, empty where it does.
	out string
	// rules are all that are asked, own ones first. kept says why they stay those of before.
	rules []acl.Rule
	kept  string
}

// standing of a user, which may be nil.
func (at *scenery) standing(user *v1alpha1.MQTTUser) standing {
	if user == nil {
		return standing{out: "it does not exist"}
	}
	broker := at.brokers[user.BrokerKey()]
	if broker == nil {
		return standing{out: "there is no MQTTBroker " + user.BrokerKey() + ", or you may not see it"}
	}
	if !broker.Allows(user.Namespace, at.labels[user.Namespace]) {
		return standing{out: fmt.Sprintf("MQTTBroker %s takes no users of namespace %s (spec.allowedNamespaces)", user.BrokerKey(), user.Namespace)}
	}
	if holder := at.winners[user.BrokerKey()][user.Username()]; holder != nil && holder != user {
		return standing{out: fmt.Sprintf("MQTTUser %s/%s is older and has the username %s", holder.Namespace, holder.Name, shown(user.Username()))}
	}
	names, problem := at.binding.Of(user)
	if problem != nil {
		return standing{kept: problem.Message}
	}
	st := standing{rules: verdict.Rules(user.Resolved().Rules)}
	for _, name := range names {
		if policy := at.policies[name]; policy != nil {
			st.rules = append(st.rules, verdict.PolicyRules(policy)...)
		}
	}
	return st
}

// tell adds an effect.
func (d *objectDiff) tell(what string, disturbs bool, format string, args ...any) *effect {
	d.Effects = append(d.Effects, effect{What: what, Disturbs: disturbs, Text: fmt.Sprintf(format, args...)})
	return &d.Effects[len(d.Effects)-1]
}

// user says what becomes of somebody. Either may be nil.
func (f *foresight) user(d *objectDiff, before, after *v1alpha1.MQTTUser) {
	was, is := f.before.standing(before), f.after.standing(after)
	whose := func(u *v1alpha1.MQTTUser) string { return "broker " + u.BrokerKey() }
	self := []string{d.Namespace + "/" + d.Name}
	switch {
	case after == nil && was.out == "":
		d.tell("UserRemoved", true, "user %s vanishes from %s: who is connected under this name is disconnected", shown(before.Username()), whose(before)).Users = self
		return
	case after == nil:
		return
	case is.out != "" && was.out == "":
		d.tell("UserRemoved", true, "user %s vanishes from %s, for %s: who is connected under this name is disconnected", shown(after.Username()), whose(after), is.out).Users = self
		return
	case is.out != "":
		d.tell("UserRejected", false, "%s does not let it in: %s", whose(after), is.out).Users = self
		return
	case was.out != "":
		d.tell("UserAdded", false, "user %s may connect to %s%s", shown(after.Username()), whose(after), once(is.kept == "" && len(is.rules) == 0, ", and do nothing there: it has no rules")).Users = self
		if is.kept != "" {
			d.tell("UserRejected", false, "%s", is.kept)
		}
		return
	}
	f.rules(d, after, was, is)
	f.login(d, before, after)
}

func once(is bool, text string) string {
	if is {
		return text
	}
	return ""
}

// login says who is disconnected because of what a user's own spec says about connecting.
func (f *foresight) login(d *objectDiff, before, after *v1alpha1.MQTTUser) {
	was, is := before.Resolved(), after.Resolved()
	self, name := []string{d.Namespace + "/" + d.Name}, shown(is.Username)
	switch {
	case is.Suspended && !was.Suspended:
		d.tell("UserSuspended", true, "user %s is locked out: its connections end; its sessions stay", name).Users = self
		return
	case is.Suspended:
		return
	case was.Suspended:
		d.tell("UserResumed", false, "user %s may connect again", name).Users = self
	}
	if was.Authentication != is.Authentication {
		d.tell("CredentialChanged", true, "user %s logs in by %s, not by %s any more: who is connected by the latter is disconnected", name, is.Authentication, was.Authentication).Users = self
	} else if old, now := was.Password, is.Password; old.Generate != now.Generate || old.Secret != now.Secret || old.Key != now.Key || old.HashSecret != now.HashSecret || old.HashKey != now.HashKey {
		d.tell("CredentialChanged", true, "the password of user %s comes from elsewhere: who is connected by another one than stands there is disconnected", name).Users = self
	}
	if was.Certificate.Issue != is.Certificate.Issue && is.Authentication == v1alpha1.AuthenticationCertificate {
		d.tell("CredentialChanged", is.Certificate.Issue, "user %s shows %s", name, map[bool]string{
			true: "the certificate that the operator issues: who is connected by another one is disconnected", false: "any certificate of its name that the listener trusts",
		}[is.Certificate.Issue]).Users = self
	}
	if was.Issuer != is.Issuer && is.Issuer != "" {
		d.tell("CredentialChanged", true, "user %s logs in by tokens of %s alone: who is connected by another one is disconnected", name, shown(is.Issuer)).Users = self
	}
	if was.ServiceAccount != is.ServiceAccount && is.ServiceAccount != "" && was.ServiceAccount != "" {
		d.tell("CredentialChanged", true, "user %s is the ServiceAccount %s: who is connected as %s is disconnected", name, is.ServiceAccount, was.ServiceAccount).Users = self
	}
	if wish := after.Annotations[v1alpha1.AnnotationRotate]; wish != "" && wish != before.Annotations[v1alpha1.AnnotationRotate] {
		d.tell("CredentialRotated", false, "another password is drawn, or certificate issued; the old one works for %s more", is.Password.Overlap).Users = self
	}
	if !areIDsWithin(was.ClientIDs, is.ClientIDs) {
		d.tell("ClientIDsNarrowed", true, "user %s may use fewer client ids: connections with others end", name).Users = self
	}
	if most := is.Quota.Connections; most > 0 && (was.Quota.Connections == 0 || was.Quota.Connections > most) {
		d.tell("QuotaLowered", true, "user %s may have %s at a time: those beyond it end", name, plural(int(most), "connection")).Users = self
	}
}

// areIDsWithin reports whether every client id that was allowed still is.
func areIDsWithin(before, after v1alpha1.ResolvedClientIDs) bool {
	switch {
	case after.Prefix == "" && len(after.Exact) == 0:
		return true
	case len(before.Exact) > 0:
		return !slices.ContainsFunc(before.Exact, func(id string) bool {
			return !slices.Contains(after.Exact, id) && (after.Prefix == "" || !strings.HasPrefix(id, after.Prefix))
		})
	default:
		return before.Prefix != "" && after.Prefix != "" && strings.HasPrefix(before.Prefix, after.Prefix)
	}
}

// rules says what somebody may do no more, or beside.
func (f *foresight) rules(d *objectDiff, user *v1alpha1.MQTTUser, was, is standing) {
	self := []string{user.Namespace + "/" + user.Name}
	if is.kept != "" {
		if was.kept == "" {
			d.tell("RulesKept", false, "user %s keeps the rules that it has: %s", shown(user.Username()), is.kept).Users = self
		}
		return
	}
	if was.kept != "" {
		d.tell("RulesChanged", false, "user %s gets the rules that its spec says; which it had until now, only the broker knows", shown(user.Username())).Users = self
		return
	}
	f.differences(d, shown(user.Username()), self, acl.Subject{Username: user.Username()}, was.rules, is.rules)
}

func (f *foresight) differences(d *objectDiff, whose string, users []string, who acl.Subject, before, after []acl.Rule) {
	less, more := lessAndMore(who, before, after)
	if len(less) > 0 {
		d.tell("RulesNarrowed", true, "%s may do less, at once and on open connections: no more %s", whose, strings.Join(less, ", ")).Users = users
	}
	if len(more) > 0 {
		d.tell("RulesWidened", false, "%s may do more: %s", whose, strings.Join(more, ", ")).Users = users
	}
}

// mostUsers is how many are named for one policy.
const mostUsers = 10

// policy says whose rules another policy changes.
func (f *foresight) policy(d *objectDiff, before, after *v1alpha1.MQTTAccessPolicy) {
	bound := 0
	for _, key := range keysOfMap(f.before.users, f.after.users) {
		user := f.after.users[key]
		if user == nil || f.before.users[key] == nil || !(before != nil && verdict.Binds(before, user) || after != nil && verdict.Binds(after, user)) {
			continue // who comes or goes has an entry of its own
		}
		was, is := f.before.standing(f.before.users[key]), f.after.standing(user)
		if was.out != "" || is.out != "" {
			continue
		}
		if bound++; bound <= mostUsers {
			f.rules(d, user, was, is)
		}
	}
	switch {
	case bound == 0:
		d.tell("NobodyBound", false, "no user that a broker knows is bound by it")
	case bound > mostUsers:
		d.tell("RulesChanged", true, "it binds %d users more, of which the same may hold", bound-mostUsers)
	}
}

func keysOfMap[T any](maps ...map[string]*T) []string {
	var keys []string
	for _, m := range maps {
		for key := range m {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// bridge says what becomes of the pods and routes of a bridge.
func (f *foresight) bridge(ctx context.Context, d *objectDiff, before, after *v1alpha1.MQTTBridge) error {
	switch {
	case after == nil:
		d.tell("BridgeRemoved", true, "its pods end, and no message passes any more; what waits for it at the brokers is kept until their sessions expire")
		return nil
	case before == nil:
		resolved := after.Resolved()
		d.tell("BridgeAdded", false, "%s of it, with %s", plural(int(resolved.Replicas), "pod"), plural(len(resolved.Routes), "route"))
		return nil
	}
	was, is := before.Resolved(), after.Resolved()
	deployment := &appsv1.Deployment{}
	stands, err := f.find(ctx, client.ObjectKey{Namespace: d.Namespace, Name: v1alpha1.BridgeDeploymentName(d.Name)}, deployment)
	if err != nil {
		return err
	}
	if !stands {
		deployment = nil
	}
	replaced := isBridgeReplaced(before, after, deployment)
	switch {
	case was.IsRunning() && !is.IsRunning():
		d.tell("BridgeStopped", true, "no message passes until it goes on; what waits for it stays at the brokers for %s", is.SessionExpiry)
	case !was.IsRunning() && is.IsRunning():
		d.tell("BridgeStarted", false, "messages pass, those that waited first")
	case replaced && is.Replicas > 0:
		d.tell("PodsReplaced", false, "its pods are replaced, now: the next one stands by before the old one goes, and messages wait at the brokers meanwhile; some may arrive twice")
	}
	routes := map[string]v1alpha1.ResolvedRoute{}
	for _, route := range was.Routes {
		routes[route.Name] = route
	}
	for _, route := range is.Routes {
		old, found := routes[route.Name]
		delete(routes, route.Name)
		switch {
		case !found:
			d.tell("RouteAdded", false, "route %s takes messages %s, %s", route.Name, route.Direction, shown(route.Filter))
		case old != route:
			d.tell("RouteChanged", false, "route %s is made anew; the others go on", route.Name)
		}
	}
	for _, route := range was.Routes {
		if _, ends := routes[route.Name]; ends {
			d.tell("RouteRemoved", true, "route %s ends: %s passes no more", route.Name, shown(route.Filter))
		}
	}
	if len(d.Effects) == 0 {
		d.tell("Live", false, "its pods take it without being replaced")
	}
	return nil
}

// find reads an object, and says whether there is one. One that may not be seen is noted.
func (f *foresight) find(ctx context.Context, key client.ObjectKey, into client.Object) (bool, error) {
	err := f.Get(ctx, key, into)
	switch {
	case apierrors.IsForbidden(err):
		f.info.notef("you may not see %T %s: pods are compared by what the specs say alone", into, key)
		return false, nil
	case apierrors.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, &exit{exitUnknown, explained(err)}
	}
	return true, nil
}

func timeOf(at metav1.Time) string { return at.UTC().Format("2006-01-02T15:04:05Z") }

// isBridgeReplaced reports whether the pods of a bridge get another form, by what the operator itself would write.
func isBridgeReplaced(before, after *v1alpha1.MQTTBridge, deployment *appsv1.Deployment) bool {
	template := func(b *v1alpha1.MQTTBridge) corev1.PodTemplateSpec {
		return desired.BridgeDeployment(&verdict.BridgeFacts{Bridge: b, Spec: b.Resolved(), Deployment: deployment}).Spec.Template
	}
	return !equality.Semantic.DeepEqual(template(before), template(after))
}
