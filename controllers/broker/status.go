// SPDX-License-Identifier: Apache-2.0

package mqttbroker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/condition"
	"github.com/mqtt-operator/mqtt-operator/controllers/desired"
	"github.com/mqtt-operator/mqtt-operator/controllers/pki"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// conclude writes the status, where it differs, and an event for each condition that flipped.
func (r *Reconciler) conclude(ctx context.Context, p *pass, walked error) error {
	if apierrors.IsConflict(walked) || apierrors.HasStatusCause(walked, corev1.NamespaceTerminatingCause) {
		return nil // An old look at the world, or a world that ends: neither says anything about the broker.
	}
	b := p.facts.Broker
	b.Status = computeStatus(p, walked)
	if equality.Semantic.DeepEqual(p.before, b.Status) {
		return r.Writer.Seen(b)
	}
	if err := r.Writer.Status(ctx, b); err != nil {
		return err
	}
	condition.Tell(r.Events, b, p.before.Conditions, b.Status.Conditions)
	if last := b.Status.LastRestart; last != nil && !equality.Semantic.DeepEqual(last, p.before.LastRestart) {
		r.Events.Eventf(b, nil, corev1.EventTypeNormal, string(last.Reason), "Restart", "The broker's pods are replaced: %s", last.Reason)
	}
	return nil
}

// computeStatus is pure: facts and the outcome of the walk give the status.
func computeStatus(p *pass, walked error) v1alpha1.MQTTBrokerStatus {
	f, status := p.facts, p.before.DeepCopy()
	status.ObservedGeneration = f.Broker.Generation
	status.Selector = labels.SelectorFromSet(v1alpha1.BrokerSelector(f.Broker.Name)).String()
	if p.judged != nil { // otherwise observing failed, and what is not known is left as it was
		status.Replicas = new(replicas(f))
		status.Pods = podStatus(f)
		status.Users = &v1alpha1.UsersStatus{Accepted: new(int32(len(p.judged.Accepted))), Rejected: new(int32(p.judged.Rejected))} //nolint:gosec // Bounded by memory.
		status.Listeners = listenerStatus(p)
		status.CA = caStatus(&p.material.CA, f.CA, p.applied, p.before.CA, f.Now)
		status.ClientCA = caStatus(p.material.ClientCA, f.ClientCA, p.applied, p.before.ClientCA, f.Now)
	}
	if p.applied {
		status.Certificates = slices.Clone(p.unpruned)
		for _, certificate := range desired.Certificates(f) {
			status.Certificates = append(status.Certificates, certificate.GetName())
		}
		slices.Sort(status.Certificates)
	}
	status.Monitoring = p.beside.Made(p.before.Monitoring)
	if p.desired != nil && !f.Broker.Paused() {
		status.Revision = &v1alpha1.RevisionStatus{Desired: &p.desired.Revision, Applied: applied(f)}
	}
	if p.held {
		status.PendingRestart = p.pending
	}
	status.LastRestart = lastRestart(p)
	set := &condition.Set{List: status.Conditions, Generation: f.Broker.Generation, Now: f.Now}
	if p.judged != nil {
		setTLSReady(set, p)
		setExpiring(set, p)
		setAuthenticationReady(set, p)
		setStorageReady(set, f)
		setAvailable(set, f)
		setProgressing(set, p)
		setConfigApplied(set, p, walked)
	} else {
		for _, kind := range []v1alpha1.ConditionType{
			v1alpha1.ConditionTLSReady, v1alpha1.ConditionCertificateExpiring, v1alpha1.ConditionAuthenticationReady, v1alpha1.ConditionStorageReady,
			v1alpha1.ConditionAvailable, v1alpha1.ConditionProgressing, v1alpha1.ConditionConfigApplied,
		} {
			set.Unknown(kind, observeFailed())
		}
	}
	p.beside.Set(set, walked)
	setPaused(set, f)
	setInsecure(set, f)
	setReady(set, f, walked)
	status.Conditions = set.List
	return *status
}

// lastRestart is what the StatefulSet says that stands now, unless the status knows of a later one: a StatefulSet that was made
// anew knows of none.
func lastRestart(p *pass) *v1alpha1.RestartStatus {
	set := p.facts.StatefulSet
	if p.renewed {
		set = p.desired.StatefulSet
	}
	reason, at := verdict.Restarted(set)
	if before := p.before.LastRestart; reason == "" || before != nil && at.Before(before.Time.Time) {
		return before
	}
	return &v1alpha1.RestartStatus{Reason: reason, Time: metav1.NewTime(at)}
}

// replicas is how many pods there are: what the StatefulSet says, unless it is being made anew and has nothing to say yet.
func replicas(f *verdict.Facts) int32 {
	if f.StatefulSet != nil && f.StatefulSet.Status.ObservedGeneration > 0 {
		return f.StatefulSet.Status.Replicas
	}
	return int32(len(f.Pods)) //nolint:gosec // Bounded by the schema.
}

func observeFailed() verdict.Finding {
	return verdict.Finding{
		Reason:  v1alpha1.ReasonObserveFailed,
		Message: "A request to the API server failed; the operator's log has the details, and it tries again.",
	}
}

func podStatus(f *verdict.Facts) []v1alpha1.BrokerPodStatus {
	var list []v1alpha1.BrokerPodStatus
	for i := range f.Pods {
		pod := &f.Pods[i]
		entry := v1alpha1.BrokerPodStatus{Name: pod.Pod.Name, Ready: new(pod.IsReady()), Draining: new(pod.Pod.DeletionTimestamp != nil || pod.IsDrained())}
		if pod.Answer != nil {
			entry.ConfigRevision = &pod.Answer.Revision
			entry.Connections, entry.Sessions = &pod.Answer.Connections, &pod.Answer.Sessions
		}
		list = append(list, entry)
	}
	slices.SortFunc(list, func(a, b v1alpha1.BrokerPodStatus) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// applied is the oldest revision that a ready pod runs, nil where none has answered.
func applied(f *verdict.Facts) *int64 {
	var oldest *int64
	for i := range f.Pods {
		if pod := &f.Pods[i]; pod.IsReady() && pod.Answer != nil && (oldest == nil || pod.Answer.Revision < *oldest) {
			oldest = &pod.Answer.Revision
		}
	}
	return oldest
}

func listenerStatus(p *pass) []v1alpha1.ListenerStatus {
	list := make([]v1alpha1.ListenerStatus, 0, len(p.judged.Listeners))
	for i := range p.judged.Listeners {
		l := &p.judged.Listeners[i]
		entry := v1alpha1.ListenerStatus{Name: l.Spec.Name, Addresses: addresses(p.facts, l.Spec)}
		if l.Spec.Encrypted() {
			if l.Leaf != nil {
				entry.CertNotAfter = new(metav1.NewTime(l.Leaf.NotAfter))
			}
			set := &condition.Set{Generation: p.facts.Broker.Generation, Now: p.facts.Now}
			for k := range p.before.Listeners {
				if p.before.Listeners[k].Name == l.Spec.Name {
					set.List = slices.Clone(p.before.Listeners[k].Conditions)
				}
			}
			if problem := l.Problem(); problem != nil {
				set.False(v1alpha1.ConditionTLSReady, *problem)
			} else {
				set.True(v1alpha1.ConditionTLSReady, v1alpha1.ReasonTLSReady, "The certificate is served.")
			}
			entry.Conditions = set.List
		}
		list = append(list, entry)
	}
	return list
}

// addresses are the name inside the cluster, and what a load balancer gave.
func addresses(f *verdict.Facts, l v1alpha1.ResolvedListener) []string {
	name, port := v1alpha1.ListenerServiceName(f.Broker.Name, l.Name), strconv.Itoa(int(l.Port))
	list := []string{net.JoinHostPort(name+"."+f.Broker.Namespace+".svc", port)}
	for i := range f.Services {
		if f.Services[i].Name != name {
			continue
		}
		for _, ingress := range f.Services[i].Status.LoadBalancer.Ingress {
			if host := cmp.Or(ingress.Hostname, ingress.IP); host != "" && len(list) < maxAddresses {
				list = append(list, net.JoinHostPort(host, port))
			}
		}
	}
	return list
}

const maxAddresses = 16

// caStatus is what stands in the cluster: what was decided and could not be written has not happened. before is kept
// where nothing stands there yet.
func caStatus(decided *pki.CA, stood *corev1.Secret, applied bool, before *v1alpha1.CAStatus, now time.Time) *v1alpha1.CAStatus {
	var ca pki.CA
	switch {
	case applied && decided != nil:
		ca = *decided
	case stood != nil:
		ca = readCA(stood, before)
	default:
		return before
	}
	leaf, err := pki.Check(ca.Signing, now)
	if err != nil {
		return before
	}
	return &v1alpha1.CAStatus{Generation: &ca.Generation, Phase: ca.Phase, NotAfter: new(metav1.NewTime(leaf.NotAfter))}
}

func setTLSReady(set *condition.Set, p *pass) {
	for i := range p.judged.Listeners {
		l := &p.judged.Listeners[i]
		if problem := l.Problem(); problem != nil {
			set.False(v1alpha1.ConditionTLSReady, verdict.Finding{Reason: problem.Reason, Message: "Listener " + l.Spec.Name + ": " + problem.Message})
			return
		}
	}
	if !p.facts.Spec.TLSEnabled() {
		set.True(v1alpha1.ConditionTLSReady, v1alpha1.ReasonNoTLSListener, "No listener has TLS.")
		return
	}
	set.True(v1alpha1.ConditionTLSReady, v1alpha1.ReasonTLSReady, "Every listener with TLS has its certificate.")
}

// expiryNotice is how long before its end a certificate is complained about. What the operator renews itself is renewed
// long before.
const expiryNotice = 14 * 24 * time.Hour

func setExpiring(set *condition.Set, p *pass) {
	var texts []string
	for i := range p.judged.Listeners {
		l := &p.judged.Listeners[i]
		if l.Leaf != nil && isNear(l.Leaf.NotAfter, p.facts.Now) {
			texts = append(texts, fmt.Sprintf("the certificate of listener %s ends at %s", l.Spec.Name, l.Leaf.NotAfter.UTC().Format(time.RFC3339)))
		}
		if isNear(l.ListsEnd, p.facts.Now) {
			texts = append(texts, fmt.Sprintf("a revocation list of listener %s is out of date at %s", l.Spec.Name, l.ListsEnd.UTC().Format(time.RFC3339)))
		}
	}
	if len(texts) > 0 {
		set.True(v1alpha1.ConditionCertificateExpiring, v1alpha1.ReasonCertificateExpiring, "Renew in time: "+strings.Join(texts, "; ")+".")
		return
	}
	set.False(v1alpha1.ConditionCertificateExpiring, verdict.Finding{Reason: v1alpha1.ReasonCertificatesValid, Message: "No certificate that is served ends within 14 days."})
}

func isNear(end, now time.Time) bool { return !end.IsZero() && !now.Add(expiryNotice).Before(end) }

func setAuthenticationReady(set *condition.Set, p *pass) {
	tokens := &p.judged.Tokens
	switch {
	case len(tokens.Faults) > 0:
		set.False(v1alpha1.ConditionAuthenticationReady, tokens.Faults[0])
	case tokens.Stale != nil:
		set.Unknown(v1alpha1.ConditionAuthenticationReady, *tokens.Stale)
	case len(tokens.JWT) == 0 && tokens.ServiceAccounts == nil:
		set.True(v1alpha1.ConditionAuthenticationReady, v1alpha1.ReasonNoTokens, "No tokens are taken: spec.authentication names nobody.")
	default:
		set.True(v1alpha1.ConditionAuthenticationReady, v1alpha1.ReasonAuthenticationReady, "The broker has the keys of every issuer, or fetches them.")
	}
}

func setStorageReady(set *condition.Set, f *verdict.Facts) {
	answered := false
	for i := range f.Pods {
		answer := f.Pods[i].Answer
		if answer == nil {
			continue
		}
		answered = true
		if answer.Storage != "" {
			set.False(v1alpha1.ConditionStorageReady, verdict.Finding{
				Reason: v1alpha1.ReasonStorageDegraded,
				Message: "Pod " + f.Pods[i].Pod.Name + " cannot write to its disk and refuses what it would have to keep; " +
					"its log and the metric mqtt_broker_storage_fault tell more, and a full disk heals when there is room again.",
			})
			return
		}
	}
	switch {
	case f.Spec.Hibernated():
		set.Unknown(v1alpha1.ConditionStorageReady, hibernated())
		return
	case !answered:
		set.Unknown(v1alpha1.ConditionStorageReady, verdict.Finding{Reason: v1alpha1.ReasonConfigPending, Message: "No pod has answered yet."})
		return
	}
	set.True(v1alpha1.ConditionStorageReady, v1alpha1.ReasonStorageReady, "Every pod that answers can write what it must keep.")
}

func setAvailable(set *condition.Set, f *verdict.Facts) {
	ready := readyPods(f)
	switch drained := drainedPods(f); {
	case ready > 0 && ready == len(drained):
		set.False(v1alpha1.ConditionAvailable, verdict.Finding{
			Reason: v1alpha1.ReasonDrained,
			Message: fmt.Sprintf("Somebody has asked for a drain, so nobody is let in (%s). kubectl mqtt drain %s -n %s --end lets clients in again.",
				strings.Join(drained, ", "), f.Broker.Name, f.Broker.Namespace),
		})
	case ready > 0:
		set.True(v1alpha1.ConditionAvailable, v1alpha1.ReasonPodsReady, fmt.Sprintf("%d of %d pods are ready.", ready, f.Spec.Replicas))
	case f.Spec.Hibernated():
		set.False(v1alpha1.ConditionAvailable, hibernated())
	default:
		set.False(v1alpha1.ConditionAvailable, verdict.Finding{Reason: v1alpha1.ReasonPodsNotReady, Message: "No pod is ready. " + whyNotReady(f)})
	}
}

func hibernated() verdict.Finding {
	return verdict.Finding{Reason: v1alpha1.ReasonHibernated, Message: "spec.replicas is 0, so no pod is meant to run."}
}

func readyPods(f *verdict.Facts) int {
	ready := 0
	for i := range f.Pods {
		if f.Pods[i].IsReady() {
			ready++
		}
	}
	return ready
}

// drainedPods are the names of ready pods that let nobody in.
func drainedPods(f *verdict.Facts) (names []string) {
	for i := range f.Pods {
		if pod := &f.Pods[i]; pod.IsReady() && pod.IsDrained() {
			names = append(names, pod.Pod.Name)
		}
	}
	return names
}

// whyNotReady says what the first pod that is not ready is waiting for.
func whyNotReady(f *verdict.Facts) string {
	if len(f.Pods) == 0 {
		return fmt.Sprintf("Its pod has not been created yet; if it stays so, kubectl -n %s describe statefulset %s tells why.",
			f.Broker.Namespace, v1alpha1.StatefulSetName(f.Broker.Name))
	}
	for i := range f.Pods {
		if !f.Pods[i].IsReady() {
			return verdict.PodTrouble(&f.Pods[i].Pod)
		}
	}
	return ""
}

func setProgressing(set *condition.Set, p *pass) {
	growth := verdict.Growth(p.facts)
	_, fault := verdict.RestartAt(p.facts)
	window := verdict.WindowFault(p.facts.Spec.Windows)
	switch {
	case p.refused != nil:
		set.False(v1alpha1.ConditionProgressing, *p.refused)
	case p.stuck != nil:
		set.False(v1alpha1.ConditionProgressing, *p.stuck)
	case window != nil:
		set.False(v1alpha1.ConditionProgressing, *window)
	case p.pending != nil:
		set.True(v1alpha1.ConditionProgressing, v1alpha1.ReasonWaitingForWindow, waits(p.pending))
	case growth != nil:
		set.True(v1alpha1.ConditionProgressing, growth.Reason, growth.Message)
	case !isRolledOut(p.facts):
		set.True(v1alpha1.ConditionProgressing, v1alpha1.ReasonRolloutInProgress, "Pods are being made or replaced.")
	case fault != nil:
		set.False(v1alpha1.ConditionProgressing, *fault)
	default:
		set.True(v1alpha1.ConditionProgressing, v1alpha1.ReasonRolloutComplete, "Every pod is in the form that the spec says.")
	}
}

func isRolledOut(f *verdict.Facts) bool {
	set := f.StatefulSet
	if set == nil || !verdict.IsObserved(set) {
		return false
	}
	return set.Status.Replicas == f.Spec.Replicas && set.Status.UpdatedReplicas == f.Spec.Replicas &&
		set.Status.ReadyReplicas == f.Spec.Replicas && set.Spec.Replicas != nil && *set.Spec.Replicas == f.Spec.Replicas
}

// setConfigApplied is true only when every pod that should run has answered the revision.
func setConfigApplied(set *condition.Set, p *pass, walked error) {
	var (
		stalled *verdict.Stalled
		waiting *verdict.Waiting
	)
	pending := verdict.Finding{Reason: v1alpha1.ReasonConfigPending, Message: "No pod has answered yet."}
	switch {
	case errors.As(walked, &stalled) && stalled.Reason != v1alpha1.ReasonPaused:
		set.False(v1alpha1.ConditionConfigApplied, stalled.Finding)
	case errors.As(walked, &waiting):
		set.False(v1alpha1.ConditionConfigApplied, waiting.Finding)
	case p.desired == nil:
		set.Unknown(v1alpha1.ConditionConfigApplied, observeFailed())
	case p.facts.Spec.Hibernated():
		set.Unknown(v1alpha1.ConditionConfigApplied, hibernated())
	case int32(len(p.facts.Pods)) < p.facts.Spec.Replicas || readyPods(p.facts) == 0: //nolint:gosec // Bounded by the schema.
		set.Unknown(v1alpha1.ConditionConfigApplied, pending)
	default:
		for i := range p.facts.Pods {
			if !p.facts.Pods[i].Runs(p.desired.Revision, p.desired.Bundle.Digest()) {
				pending.Message = "Pod " + p.facts.Pods[i].Pod.Name + " has not answered yet."
				set.False(v1alpha1.ConditionConfigApplied, pending)
				return
			}
		}
		set.True(v1alpha1.ConditionConfigApplied, v1alpha1.ReasonConfigApplied, "Every pod runs the newest configuration.")
	}
}

func setPaused(set *condition.Set, f *verdict.Facts) {
	if f.Broker.Paused() {
		set.True(v1alpha1.ConditionPaused, v1alpha1.ReasonPaused, "Nothing is changed until the annotation "+v1alpha1.AnnotationPaused+" is removed.")
		return
	}
	set.False(v1alpha1.ConditionPaused, verdict.Finding{Reason: v1alpha1.ReasonNotPaused, Message: "The operator looks after the broker."})
}

func setInsecure(set *condition.Set, f *verdict.Facts) {
	anonymous, plain := f.Spec.AnonymousListeners(), f.Spec.PlaintextListeners()
	switch {
	case len(anonymous) > 0:
		set.True(v1alpha1.ConditionInsecure, v1alpha1.ReasonAnonymousAccess, "Clients without a name are let in by: "+strings.Join(anonymous, ", ")+".")
	case len(plain) > 0:
		set.True(v1alpha1.ConditionInsecure, v1alpha1.ReasonPlaintextListener, "Passwords and messages pass in plain text through: "+strings.Join(plain, ", ")+".")
	default:
		set.False(v1alpha1.ConditionInsecure, verdict.Finding{Reason: v1alpha1.ReasonSecure, Message: "Every listener has TLS, and every client a name."})
	}
}

// setReady sums up. What a person must mend comes first, then what only takes time.
func setReady(set *condition.Set, f *verdict.Facts, walked error) {
	var (
		stalled *verdict.Stalled
		waiting *verdict.Waiting
	)
	set.Drop(v1alpha1.ConditionStalled)
	stall := func(finding verdict.Finding) {
		set.False(v1alpha1.ConditionReady, finding)
		set.True(v1alpha1.ConditionStalled, finding.Reason, finding.Message)
	}
	switch {
	case errors.As(walked, &stalled) && stalled.Reason != v1alpha1.ReasonPaused:
		stall(stalled.Finding)
		return
	case errors.As(walked, &waiting) && waiting.Reason == v1alpha1.ReasonObjectConflict:
		stall(waiting.Finding)
		return
	case walked != nil && stalled == nil && waiting == nil:
		set.Unknown(v1alpha1.ConditionReady, observeFailed())
		return
	}
	if c := set.FirstFalse(v1alpha1.ConditionTLSReady, v1alpha1.ConditionAuthenticationReady); c != nil {
		switch finding := condition.Of(c); finding.Reason {
		case v1alpha1.ReasonCertificatePending, v1alpha1.ReasonCertificateRequestFailed, v1alpha1.ReasonServiceAccountKeysUnavailable:
			set.False(v1alpha1.ConditionReady, finding) // Tried again without anybody's help.
		default:
			stall(finding)
		}
		return
	}
	if c := set.FirstFalse(v1alpha1.ConditionNetworkPolicyReady, v1alpha1.ConditionDisruptionBudgetReady); c != nil {
		stall(condition.Of(c))
		return
	}
	progress := condition.Of(set.Get(v1alpha1.ConditionProgressing))
	switch progress.Reason {
	case v1alpha1.ReasonVolumeExpansionRefused, v1alpha1.ReasonMaintenanceWindowInvalid, v1alpha1.ReasonRolloutStuck:
		stall(progress)
		return
	default:
	}
	if f.Spec.Hibernated() && isRolledOut(f) {
		set.True(v1alpha1.ConditionReady, v1alpha1.ReasonHibernated, hibernated().Message)
		return
	}
	if c := set.FirstFalse(v1alpha1.ConditionAvailable, v1alpha1.ConditionConfigApplied, v1alpha1.ConditionStorageReady); c != nil {
		set.False(v1alpha1.ConditionReady, condition.Of(c))
		return
	}
	if !isRolledOut(f) || progress.Reason == v1alpha1.ReasonVolumeExpanding || progress.Reason == v1alpha1.ReasonWaitingForWindow {
		set.False(v1alpha1.ConditionReady, progress)
		return
	}
	if c := set.Get(v1alpha1.ConditionConfigApplied); c.Status != metav1.ConditionTrue {
		set.Unknown(v1alpha1.ConditionReady, condition.Of(c))
		return
	}
	set.True(v1alpha1.ConditionReady, v1alpha1.ReasonReady, "Clients are served as the spec says.")
}

// restartReason says why writing this StatefulSet replaces pods, or nothing.
func restartReason(f *verdict.Facts, set *appsv1.StatefulSet) v1alpha1.ConditionReason {
	if f.StatefulSet == nil || f.Spec.Hibernated() || !desired.Replaces(set, f.StatefulSet) {
		return ""
	}
	return desired.WhyReplaced(&set.Spec.Template, &f.StatefulSet.Spec.Template)
}
