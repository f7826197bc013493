// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/controllers/desired"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// broker says what becomes of a broker. Either may be nil.
func (f *foresight) broker(ctx context.Context, d *objectDiff, before, after *v1alpha1.MQTTBroker) error {
	switch {
	case after == nil:
		f.brokerRemoved(d, before)
		return nil
	case before == nil:
		f.brokerAdded(d, after)
		return nil
	}
	if after.Paused() {
		d.tell("Paused", false, "the broker is paused: all of this happens when the annotation %s is removed", v1alpha1.AnnotationPaused)
	}
	set := &appsv1.StatefulSet{}
	stands, err := f.find(ctx, client.ObjectKey{Namespace: d.Namespace, Name: v1alpha1.StatefulSetName(d.Name)}, set)
	if err != nil {
		return err
	}
	if !stands {
		set = nil
	}
	f.pods(d, before, after, set)
	if err := f.volumes(ctx, d, before, after); err != nil {
		return err
	}
	f.listeners(d, before, after)
	f.tokens(d, before, after)
	f.members(d, after)
	f.others(d, before, after)
	if len(d.Effects) == 0 {
		d.tell("Live", false, "the running broker takes it")
	}
	return nil
}

func (f *foresight) brokerRemoved(d *objectDiff, before *v1alpha1.MQTTBroker) {
	resolved := before.Resolved()
	names, connected := podsOf(before)
	e := d.tell("PodsEnded", len(names) > 0, "its pods, Services and Secrets go: %s", drained(before, connected))
	e.Pods, e.Clients = names, connected
	switch {
	case resolved.Persistence == nil:
		d.tell("DataLost", true, "sessions, queued and retained messages are lost")
	case resolved.Persistence.WhenDeleted == v1alpha1.DeleteVolume:
		d.tell("DataLost", true, "its volumes are deleted, and with them sessions, queued and retained messages (spec.persistence.retention.whenDeleted)")
	default:
		d.tell("VolumeKept", false, "its volumes stay, and a broker of the same name finds them again")
	}
	var users []string
	for _, user := range f.after.users {
		if user.BrokerKey() == d.Namespace+"/"+d.Name {
			users = append(users, user.Namespace+"/"+user.Name)
		}
	}
	if len(users) > 0 {
		slices.Sort(users)
		d.tell("UserRemoved", true, "its users are left without a broker: %s", some(users)).Users = users
	}
}

func (f *foresight) brokerAdded(d *objectDiff, after *v1alpha1.MQTTBroker) {
	resolved := after.Resolved()
	for _, l := range resolved.Listeners {
		f.listenerAdded(d, &l)
	}
	if resolved.Hibernated() {
		d.tell("Hibernates", false, "no pod runs, as spec.replicas says")
		return
	}
	e := d.tell("PodsAdded", false, "pod %s starts", v1alpha1.PodName(d.Name, 0))
	e.Pods = []string{v1alpha1.PodName(d.Name, 0)}
	if resolved.Persistence != nil {
		d.tell("VolumeAdded", false, "volume %s of %s is asked for", v1alpha1.VolumeClaimName(d.Name, 0), resolved.Persistence.Size.String())
	}
}

// podsOf are the pods of a broker in the order in which they are replaced, the last one first, and how many clients they had.
func podsOf(b *v1alpha1.MQTTBroker) (names []string, connected int32) {
	for i := range b.Status.Pods {
		names = append(names, b.Status.Pods[i].Name)
		if n := b.Status.Pods[i].Connections; n != nil {
			connected += *n
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(b, a)
	})
	return names, connected
}

// drained says how clients are sent away. The rate is that of now: a pod says goodbye in the way that it was told.
func drained(b *v1alpha1.MQTTBroker, connected int32) string {
	drain := b.Resolved().Drain
	if connected == 0 {
		return "no client was connected at the last look"
	}
	text := fmt.Sprintf("%s disconnected, %d per second", clientsAre(connected), drain.DisconnectRate)
	if needed := time.Duration(connected/max(1, drain.DisconnectRate)) * time.Second; needed > drain.Timeout {
		text += fmt.Sprintf("; who is left towards the end of %s goes at once (spec.updates.drain.timeout)", drain.Timeout)
	}
	return text
}

func clientsAre(n int32) string {
	if n == 1 {
		return "1 client is"
	}
	return fmt.Sprintf("%d clients are", n)
}

// pods says whether pods are replaced, made or ended: by what the operator itself would decide.
func (f *foresight) pods(d *objectDiff, before, after *v1alpha1.MQTTBroker, set *appsv1.StatefulSet) {
	was, is := f.facts(before, set), f.facts(after, set)
	names, connected := podsOf(before)
	switch {
	case is.Spec.Hibernated() && !was.Spec.Hibernated():
		e := d.tell("PodsEnded", true, "the broker hibernates, now, whatever the maintenance windows: %s ended; %s", podsAre(names), drained(before, connected))
		e.Pods, e.Clients = names, connected
		f.lost(d, is)
		if p := is.Spec.Persistence; p != nil && p.WhenScaled == v1alpha1.DeleteVolume {
			d.tell("DataLost", true, "its volumes are deleted, and with them sessions, queued and retained messages (spec.persistence.retention.whenScaled)")
		}
		return
	case was.Spec.Hibernated() && !is.Spec.Hibernated():
		e := d.tell("PodsAdded", false, "the broker wakes up, now: pod %s starts", v1alpha1.PodName(d.Name, 0))
		e.Pods = []string{v1alpha1.PodName(d.Name, 0)}
		return
	case is.Spec.Hibernated():
		return
	}
	now, then := desired.StatefulSet(was), desired.StatefulSet(is)
	wished := then.Annotations[verdict.TemplateAnnotation]
	waiting := before.Status.PendingRestart
	stood := ""
	if set != nil {
		stood = set.Annotations[verdict.TemplateAnnotation]
	}
	switch {
	case wished == now.Annotations[verdict.TemplateAnnotation]:
		f.stillWaits(d, is, waiting)
		return
	case set != nil && set.Annotations[verdict.FailedAnnotation] == wished:
		d.tell("RolloutStuck", false, "pods did not become ready in this form before, so they keep the one that they have; restart-at asks for another try")
		return
	case wished == stood:
		d.tell("NotReplaced", false, "pods have this form: the change that waits to replace them is taken back")
		return
	}
	reason := desired.WhyReplaced(&then.Spec.Template, &now.Spec.Template)
	when, opening, waits := "now", verdict.Opening{}, false
	if set != nil {
		opening, waits = verdict.WaitsFor(is)
	}
	switch {
	case waits && opening.Window == "":
		d.tell("Waits", false, "no maintenance window ever opens, so pods are replaced only with the annotation %s: \"true\" (%s)", v1alpha1.AnnotationUrgent, reason).Reason = string(reason)
		return
	case waits:
		when = fmt.Sprintf("in the maintenance window %s, which opens at %s", opening.Window, timeOf(metav1.NewTime(opening.From)))
	}
	if len(names) == 0 {
		names = []string{v1alpha1.PodName(d.Name, 0)}
	}
	order := ""
	if len(names) > 1 {
		order = ", one after the other in this order"
	}
	e := d.tell("PodsReplaced", true, "%s replaced%s, %s (%s): %s", podsAre(names), order, when, reason, drained(before, connected))
	e.Pods, e.Clients, e.Reason = names, connected, string(reason)
	if waits {
		e.Window, e.Opens = opening.Window, new(metav1.NewTime(opening.From.UTC()))
	}
	f.lost(d, is)
}

// facts are what the operator would know that decides about pods.
func (f *foresight) facts(b *v1alpha1.MQTTBroker, set *appsv1.StatefulSet) *verdict.Facts {
	return &verdict.Facts{Broker: b, Spec: b.Resolved(), Now: f.now(), StatefulSet: set}
}

// lost says what goes with a pod that has no volume.
func (f *foresight) lost(d *objectDiff, is *verdict.Facts) {
	if is.Spec.Persistence == nil {
		d.tell("DataLost", true, "sessions, queued and retained messages go with the pod: the broker has no volume")
	}
}

// stillWaits says what becomes of a replacement that waited before, although the form of the pods is the same.
func (f *foresight) stillWaits(d *objectDiff, is *verdict.Facts, waiting *v1alpha1.PendingRestart) {
	if waiting == nil {
		for i := range d.Fields {
			if d.Fields[i].Change == string(v1alpha1.ChangeRestart) {
				d.tell("NotReplaced", false, "no pod is replaced: what is written down now is what the pods have")
				return
			}
		}
		return
	}
	opening, waits := verdict.WaitsFor(is)
	if waits && opening.Window != "" {
		d.tell("Waits", false, "a change that replaces pods (%s) waits already, for the maintenance window %s, which opens at %s", waiting.Reason, opening.Window, timeOf(metav1.NewTime(opening.From)))
		return
	}
	if waits {
		return
	}
	names, connected := podsOf(is.Broker)
	e := d.tell("PodsReplaced", true, "a change that replaces pods (%s) waited, and waits no more: %s replaced, now: %s",
		waiting.Reason, podsAre(names), drained(is.Broker, connected))
	e.Pods, e.Clients, e.Reason = names, connected, string(waiting.Reason)
	f.lost(d, is)
}

// podsAre begins a sentence about pods.
func podsAre(names []string) string {
	if len(names) == 1 {
		return "pod " + names[0] + " is"
	}
	return "pods " + strings.Join(names, ", ") + " are"
}

// volumes says whether volumes grow, and whether their class lets them.
func (f *foresight) volumes(ctx context.Context, d *objectDiff, before, after *v1alpha1.MQTTBroker) error {
	was, is := before.Resolved().Persistence, after.Resolved().Persistence
	if was == nil || is == nil {
		return nil
	}
	if is.Size.Cmp(was.Size) > 0 {
		name := v1alpha1.VolumeClaimName(d.Name, 0)
		class, err := f.unableToGrow(ctx, client.ObjectKey{Namespace: d.Namespace, Name: name})
		switch {
		case err != nil:
			return err
		case class != "":
			d.tell("VolumeStays", false, "volume %s cannot grow: storage class %s lets none (allowVolumeExpansion), and the size cannot be lowered again", name, class)
		default:
			d.tell("VolumeGrows", false, "volume %s grows from %s to %s, and its pod goes on", name, was.Size.String(), is.Size.String())
		}
	}
	for _, of := range []struct {
		was, is     v1alpha1.VolumeRetention
		field, when string
	}{{was.WhenDeleted, is.WhenDeleted, "whenDeleted", "is deleted"}, {was.WhenScaled, is.WhenScaled, "whenScaled", "hibernates"}} {
		if of.was != of.is {
			d.tell("RetentionChanged", false, "when the broker %s, its volumes %s (spec.persistence.retention.%s)", of.when, map[v1alpha1.VolumeRetention]string{
				v1alpha1.DeleteVolume: "are deleted", v1alpha1.RetainVolume: "stay",
			}[of.is], of.field)
		}
	}
	return nil
}

// unableToGrow is the class of a claim that does not let volumes grow, empty where it does or nobody knows.
func (f *foresight) unableToGrow(ctx context.Context, key client.ObjectKey) (string, error) {
	claim := &corev1.PersistentVolumeClaim{}
	stands, err := f.find(ctx, key, claim)
	if err != nil || !stands || claim.Spec.StorageClassName == nil || *claim.Spec.StorageClassName == "" {
		return "", err
	}
	class := &unstructured.Unstructured{}
	class.SetGroupVersionKind(schema.GroupVersionKind{Group: "storage.k8s.io", Version: "v1", Kind: "StorageClass"})
	if stands, err = f.find(ctx, client.ObjectKey{Name: *claim.Spec.StorageClassName}, class); err != nil || !stands {
		return "", err
	}
	if grows, _, _ := unstructured.NestedBool(class.Object, "allowVolumeExpansion"); grows {
		return "", nil
	}
	return class.GetName(), nil
}

// listeners says which doors open, close and move, and who goes with them.
func (f *foresight) listeners(d *objectDiff, before, after *v1alpha1.MQTTBroker) {
	was, is := before.Resolved(), after.Resolved()
	for _, l := range is.Listeners {
		if _, found := was.Listener(l.Name); !found {
			f.listenerAdded(d, &l)
		}
	}
	for _, old := range was.Listeners {
		l, found := is.Listener(old.Name)
		switch {
		case !found:
			d.tell("ListenerRemoved", true, "listener %s closes, port %d: its connections end, and Service %s goes", old.Name, old.Port, v1alpha1.ListenerServiceName(d.Name, old.Name))
		case l.Port != old.Port || l.Protocol != old.Protocol:
			d.tell("ListenerMoved", true, "listener %s is %s on port %d, not %s on %d: its connections end, and clients have to be told", l.Name, l.Protocol, l.Port, old.Protocol, old.Port)
		default:
			f.door(d, &old, &l)
		}
		if found {
			f.ways(d, &old, &l)
		}
	}
}

func (f *foresight) listenerAdded(d *objectDiff, l *v1alpha1.ResolvedListener) {
	d.tell("ListenerAdded", false, "listener %s opens: %s on port %d, Service %s of type %s%s", l.Name, l.Protocol, l.Port,
		v1alpha1.ListenerServiceName(d.Name, l.Name), l.Service.Type, once(!l.Encrypted(), "; passwords and messages pass in plain text"))
}

// door is about who is let in by a listener that stays, and who may stay.
func (f *foresight) door(d *objectDiff, was, is *v1alpha1.ResolvedListener) {
	for _, method := range []v1alpha1.ListenerAuthentication{"password", "certificate", "jwt", "serviceAccount"} {
		if takes(was, method) && !takes(is, method) {
			d.tell("LoginRemoved", true, "listener %s does not take %s any more: who came in by it is disconnected", is.Name, map[v1alpha1.ListenerAuthentication]string{
				"password": "passwords", "certificate": "certificates", "jwt": "tokens of spec.authentication.jwt", "serviceAccount": "tokens of ServiceAccounts",
			}[method])
		}
	}
	switch {
	case was.Anonymous.Enabled && !is.Anonymous.Enabled:
		d.tell("AnonymousRemoved", true, "listener %s lets nobody in without a name any more: such clients are disconnected", is.Name)
	case !was.Anonymous.Enabled && is.Anonymous.Enabled:
		d.tell("AnonymousAdded", false, "listener %s lets clients in without a name", is.Name)
	case is.Anonymous.Enabled:
		f.differences(d, "clients without a name on listener "+is.Name, nil, acl.Subject{}, verdict.Rules(was.Anonymous.Rules), verdict.Rules(is.Anonymous.Rules))
	}
	if was.TLS == nil || is.TLS == nil {
		return
	}
	switch old, now := was.TLS.ClientAuth, is.TLS.ClientAuth; {
	case now == v1alpha1.ClientAuthRequired && old != now:
		d.tell("CertificateDemanded", true, "listener %s demands a client certificate: who has shown none is disconnected", is.Name)
	case now == v1alpha1.ClientAuthNone && old != now:
		d.tell("CertificateIgnored", true, "listener %s asks for no client certificate any more: who proved himself by one is disconnected", is.Name)
	case was.TLS.UsernameFrom != is.TLS.UsernameFrom:
		d.tell("CertificateReadAnew", true, "listener %s reads the username from the %s of certificates: who has another name there is disconnected", is.Name, is.TLS.UsernameFrom)
	case was.TLS.ClientCA != is.TLS.ClientCA || was.TLS.CRL != is.TLS.CRL:
		d.tell("TrustChanged", true, "listener %s trusts other client certificates: who shows one that it does not trust is disconnected", is.Name)
	}
	if was.TLS.SecretName != is.TLS.SecretName || !reflect.DeepEqual(was.TLS.Issuer, is.TLS.Issuer) {
		d.tell("CertificateChanged", false, "listener %s shows another certificate to those who connect from then on: who does not trust who signed it cannot come back", is.Name)
	}
	if is.TLS.MinVersion > was.TLS.MinVersion {
		d.tell("TLSRaised", false, "listener %s takes %s at least from those who connect from then on", is.Name, is.TLS.MinVersion)
	}
}

func takes(l *v1alpha1.ResolvedListener, method v1alpha1.ListenerAuthentication) bool {
	return len(l.Methods) == 0 || slices.Contains(l.Methods, method)
}

// ways is about how clients come to a listener.
func (f *foresight) ways(d *objectDiff, was, is *v1alpha1.ResolvedListener) {
	same := equality.Semantic.DeepEqual
	service := v1alpha1.ListenerServiceName(d.Name, is.Name)
	switch old, now := was.Service, is.Service; {
	case old.Type != now.Type:
		d.tell("ServiceChanged", old.Type != corev1.ServiceTypeClusterIP, "Service %s is of type %s, not %s any more%s", service, now.Type, old.Type,
			once(old.Type != corev1.ServiceTypeClusterIP, ": who came by that way is cut off"))
	case old.LoadBalancerClass != now.LoadBalancerClass:
		d.tell("ServiceChanged", true, "the class of Service %s cannot change while it stands: the API server refuses it, and Ready says ApplyRefused", service)
	case old.NodePort != now.NodePort && now.NodePort != 0:
		d.tell("ServiceChanged", true, "Service %s is on port %d of the nodes: who came by another one is cut off", service, now.NodePort)
	case !same(old, now):
		d.tell("ServiceChanged", false, "Service %s changes; what a load balancer makes of it is its own matter", service)
	}
	closed := len(was.From) == 0 && len(is.From) > 0
	for i := range was.From {
		closed = closed || len(is.From) > 0 && !slices.ContainsFunc(is.From, func(peer networkingv1.NetworkPolicyPeer) bool { return same(peer, was.From[i]) })
	}
	if closed {
		d.tell("NetworkNarrowed", true, "fewer peers reach listener %s (NetworkPolicy %s): some networks cut open connections, too", is.Name, v1alpha1.NetworkPolicyName(d.Name))
	}
}

// tokens says whose tokens open nothing any more.
func (f *foresight) tokens(d *objectDiff, before, after *v1alpha1.MQTTBroker) {
	was, is := before.Resolved().Tokens, after.Resolved().Tokens
	for _, old := range was.Issuers {
		at := slices.IndexFunc(is.Issuers, func(i v1alpha1.ResolvedJWTIssuer) bool { return i.Issuer == old.Issuer })
		switch {
		case at < 0:
			d.tell("LoginRemoved", true, "tokens of %s open nothing any more: who is connected by one is disconnected", shown(old.Issuer))
		case areFewer(old.Audiences, is.Issuers[at].Audiences), old.UsernameClaim != is.Issuers[at].UsernameClaim, old.ACLClaim != is.Issuers[at].ACLClaim:
			d.tell("LoginNarrowed", true, "tokens of %s are read in another way: who is connected by one that does not fit is disconnected", shown(old.Issuer))
		}
	}
	switch {
	case len(was.ServiceAccounts) > 0 && len(is.ServiceAccounts) == 0:
		d.tell("LoginRemoved", true, "tokens of ServiceAccounts open nothing any more: who is connected by one is disconnected")
	case areFewer(was.ServiceAccounts, is.ServiceAccounts):
		d.tell("LoginNarrowed", true, "tokens of ServiceAccounts are taken for fewer audiences: who is connected by one that does not fit is disconnected")
	}
}

// areFewer reports whether one of the first is not among the others.
func areFewer(before, after []string) bool {
	return slices.ContainsFunc(before, func(name string) bool { return !slices.Contains(after, name) })
}

// members says which users vanish with what the broker itself says about whom it takes.
func (f *foresight) members(d *objectDiff, after *v1alpha1.MQTTBroker) {
	var gone, come []string
	for _, key := range keysOfMap(f.before.users, f.after.users) {
		before, user := f.before.users[key], f.after.users[key]
		if before == nil || user == nil || user.BrokerKey() != after.Namespace+"/"+after.Name {
			continue
		}
		switch was, is := f.before.standing(before), f.after.standing(user); {
		case was.out == "" && is.out != "":
			gone = append(gone, key)
		case was.out != "" && is.out == "":
			come = append(come, key)
		}
	}
	if len(gone) > 0 {
		d.tell("UserRemoved", true, "users vanish from the broker, and who is connected under their names is disconnected: %s", some(gone)).Users = gone
	}
	if len(come) > 0 {
		d.tell("UserAdded", false, "users may connect who could not: %s", some(come)).Users = come
	}
}

func some(names []string) string {
	if len(names) > mostUsers {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:mostUsers], ", "), len(names)-mostUsers)
	}
	return strings.Join(names, ", ")
}

// others are changes that touch clients in no other way than from their next step on.
func (f *foresight) others(d *objectDiff, before, after *v1alpha1.MQTTBroker) {
	was, is := before.Resolved(), after.Resolved()
	if is.Limits.MaxPacketSize < was.Limits.MaxPacketSize {
		d.tell("LimitLowered", true, "who sends a packet of more than %d bytes is disconnected", is.Limits.MaxPacketSize)
	}
	if is.Limits.MaxTopicLevels < was.Limits.MaxTopicLevels {
		d.tell("LimitLowered", true, "topics of more than %d levels are refused", is.Limits.MaxTopicLevels)
	}
	if wish := after.Annotations[v1alpha1.AnnotationRotateCA]; wish != "" && wish != before.Annotations[v1alpha1.AnnotationRotateCA] {
		d.tell("CARotated", false, "the broker's CAs are replaced in stages of %s at least: clients have to fetch the new ca.crt in the first", is.ClientGrace)
	}
	if before.Paused() && !after.Paused() {
		d.tell("Resumed", false, "the pause ends: what else was changed meanwhile is done, too")
	}
}
