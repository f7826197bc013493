// SPDX-License-Identifier: Apache-2.0

package mqttbridge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/admin"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/condition"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

const (
	// countEvery is how often numbers, errors and times are written, which move all the time: a bridge that does its work
	// costs the API server no more than that.
	countEvery = 30 * time.Second
	// maxText and maxReasons are what the schema allows.
	maxText    = 1024
	maxReasons = 16
)

// conclude writes the status, where it differs, and an event for each condition that flipped.
func (r *Reconciler) conclude(ctx context.Context, p *pass, walked error) error {
	if apierrors.IsConflict(walked) || apierrors.HasStatusCause(walked, corev1.NamespaceTerminatingCause) {
		return nil // An old look at the world, or a world that ends: neither says anything about the bridge.
	}
	b := p.facts.Bridge
	b.Status = paced(p.before, computeStatus(p, walked), p.facts.Now)
	if equality.Semantic.DeepEqual(p.before, b.Status) {
		return r.Writer.Seen(b)
	}
	if err := r.Writer.Status(ctx, b); err != nil {
		return err
	}
	condition.Tell(r.Events, b, p.before.Conditions, b.Status.Conditions)
	return nil
}

// paced is the status to write: where nothing moved but numbers, errors and times, that of before until countEvery has
// gone by since these were written.
func paced(before, now v1alpha1.MQTTBridgeStatus, at time.Time) v1alpha1.MQTTBridgeStatus {
	since := countEvery
	if before.CountedAt != nil {
		since = at.Sub(before.CountedAt.Time)
	}
	same := equality.Semantic.DeepEqual
	switch {
	case same(before, now):
		return before
	case same(still(before), still(now)) && since < countEvery:
		return before
	}
	// Where that is long ago, the numbers have stood still until a pass or two ago.
	window := since
	if since > 2*countEvery {
		window = countEvery
	}
	for i := range now.Routes {
		now.Routes[i].ForwardedPerMinute = perMinute(routeOf(before.Routes, now.Routes[i].Name), &now.Routes[i], window)
	}
	if same(before, now) {
		return before
	}
	now.CountedAt = new(metav1.NewTime(at.Truncate(time.Second)))
	return now
}

// still is what of a status does not move by itself.
func still(s v1alpha1.MQTTBridgeStatus) v1alpha1.MQTTBridgeStatus {
	s = *s.DeepCopy()
	s.CountedAt = nil
	for i := range s.Routes {
		s.Routes[i] = v1alpha1.RouteStatus{Name: s.Routes[i].Name, Connected: s.Routes[i].Connected}
	}
	for i := range s.Conditions {
		s.Conditions[i].Message = "" // It may hold an error, and with several endpoints these take turns.
	}
	return s
}

func routeOf(routes []v1alpha1.RouteStatus, name string) *v1alpha1.RouteStatus {
	for i := range routes {
		if routes[i].Name == name {
			return &routes[i]
		}
	}
	return nil
}

// perMinute is how fast the count grew in the time. A pod that began anew counts from 0.
func perMinute(before, now *v1alpha1.RouteStatus, in time.Duration) *int64 {
	switch {
	case now.Forwarded == nil:
		return nil
	case before == nil || before.Forwarded == nil:
		return new(int64)
	case in < time.Second:
		return before.ForwardedPerMinute
	}
	grown := *now.Forwarded - *before.Forwarded
	if grown < 0 {
		grown = *now.Forwarded
	}
	return new(int64(math.Round(float64(grown) * time.Minute.Seconds() / in.Seconds())))
}

// computeStatus is pure: facts and the outcome of the walk give the status.
func computeStatus(p *pass, walked error) v1alpha1.MQTTBridgeStatus {
	status := p.before.DeepCopy()
	status.ObservedGeneration = p.facts.Bridge.Generation
	if p.isApplied && p.desired.Text != nil {
		status.Revision = &v1alpha1.RevisionStatus{Desired: &p.desired.Revision, Applied: p.applied()}
	}
	set := &condition.Set{List: status.Conditions, Generation: p.facts.Bridge.Generation, Now: p.facts.Now}
	if p.isObserved { // otherwise what is not known is left as it was
		status.Pods, status.Routes = p.podStatus(), p.routeStatus()
		status.Local, status.Remote = nil, nil
		if at := p.atWork(); at != nil {
			local, remote := p.endSaid(at)
			status.Local, status.Remote = endStatus(local), endStatus(remote)
		}
		setConnected(set, p, v1alpha1.ConditionLocalConnected, func(local, _ *admin.EndStatus) *admin.EndStatus { return local })
		setConnected(set, p, v1alpha1.ConditionRemoteConnected, func(_, remote *admin.EndStatus) *admin.EndStatus { return remote })
		set.Drop(v1alpha1.ConditionLooping)
		if p.circle != nil {
			set.True(v1alpha1.ConditionLooping, p.circle.Reason, p.circle.Message)
		}
	} else {
		set.Unknown(v1alpha1.ConditionLocalConnected, observeFailed())
		set.Unknown(v1alpha1.ConditionRemoteConnected, observeFailed())
	}
	status.Monitoring = p.beside.Made(p.before.Monitoring)
	p.beside.Set(set, walked)
	setApplied(set, p, walked)
	setReady(set, p, walked)
	status.Conditions = set.List
	return *status
}

func observeFailed() verdict.Finding {
	return verdict.Finding{
		Reason:  v1alpha1.ReasonObserveFailed,
		Message: "A request to the API server failed; the operator's log has the details, and it tries again.",
	}
}

// applied is the oldest revision that a pod runs, nil where none has answered.
func (p *pass) applied() *int64 {
	var oldest *int64
	for i := range p.pods {
		if answer := p.pods[i].answer; answer != nil && (oldest == nil || answer.Revision < *oldest) {
			oldest = &answer.Revision
		}
	}
	return oldest
}

// maxPods is what the schema allows.
const maxPods = 16

func (p *pass) podStatus() []v1alpha1.BridgePodStatus {
	var list []v1alpha1.BridgePodStatus
	for i := range p.pods[:min(len(p.pods), maxPods)] {
		pod := &p.pods[i]
		entry := v1alpha1.BridgePodStatus{Name: pod.pod.Name, Ready: new(pod.isReady())}
		if pod.answer != nil {
			entry.Active, entry.ConfigRevision = &pod.answer.Active, &pod.answer.Revision
		}
		list = append(list, entry)
	}
	return list
}

// atWork is what the pod said that carries messages, or where none does the first that said anything; nil where none did.
func (p *pass) atWork() *admin.BridgeStatus {
	var first *admin.BridgeStatus
	for i := range p.pods {
		answer := p.pods[i].answer
		if answer != nil && answer.Active {
			return answer
		}
		if first == nil {
			first = answer
		}
	}
	return first
}

// endSaid are the ends as a pod sees them, with what only the operator can know: how many messages their brokers keep.
func (p *pass) endSaid(answer *admin.BridgeStatus) (local, remote *admin.EndStatus) {
	said := []admin.EndStatus{answer.Local, answer.Remote}
	asked := p.facts.Spec.MaxQueuedMessages
	for i, user := range []*verdict.BridgeUser{&p.facts.Local, &p.facts.Remote} {
		if user.Queue == 0 || asked <= user.Queue {
			continue
		}
		notice := fmt.Sprintf("keeps at most %d messages of a route, %d were asked for: what waits beyond that is lost; raise spec.limits.maxQueuedMessages of broker %s",
			user.Queue, asked, user.User.Spec.BrokerRef.Name)
		said[i].Notice = strings.Join(slices.DeleteFunc([]string{said[i].Notice, notice}, func(s string) bool { return s == "" }), "; ")
	}
	return &said[0], &said[1]
}

func endStatus(end *admin.EndStatus) *v1alpha1.BridgeEndStatus {
	if end.Endpoint == "" && end.Notice == "" {
		return nil
	}
	return &v1alpha1.BridgeEndStatus{Endpoint: cut(end.Endpoint), Notice: cut(end.Notice)}
}

// cut is a text that the schema lets through.
func cut(text string) string {
	text = strings.ToValidUTF8(text, "�")
	for utf8.RuneCountInString(text) > maxText {
		_, last := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-last]
	}
	return text
}

// routeStatus is each route of the spec, in its order, as the pods speak of it together.
func (p *pass) routeStatus() []v1alpha1.RouteStatus {
	active, list := p.atWork(), make([]v1alpha1.RouteStatus, 0, len(p.facts.Spec.Routes))
	for _, route := range p.facts.Spec.Routes {
		entry := v1alpha1.RouteStatus{Name: route.Name}
		dropped := map[string]int64{}
		for i := range p.pods {
			answer := p.pods[i].answer
			if answer == nil {
				continue
			}
			if said := findRoute(answer, route.Name); said != nil {
				add(&entry, said, answer == active)
				for reason, n := range said.Dropped {
					dropped[reason] += n
				}
			}
		}
		entry.DropReasons = dropReasons(dropped)
		if entry.Forwarded == nil { // Nobody answers; what was counted before is what is known.
			if before := routeOf(p.before.Routes, route.Name); before != nil {
				entry = *before.DeepCopy()
				entry.Connected = nil
			}
		}
		list = append(list, entry)
	}
	return list
}

func findRoute(status *admin.BridgeStatus, name string) *admin.RouteStatus {
	for i := range status.Routes {
		if status.Routes[i].Name == name {
			return &status.Routes[i]
		}
	}
	return nil
}

// add puts what a pod says about a route to what the others say. Counts add up, since a pod that stands by now has
// carried messages before; how it is doing now, the one at work says.
func add(entry *v1alpha1.RouteStatus, said *admin.RouteStatus, isAtWork bool) {
	for into, n := range map[**int64]int64{&entry.Forwarded: said.Forwarded, &entry.Dropped: total(said.Dropped)} {
		if *into == nil {
			*into = new(int64)
		}
		**into += n
	}
	if isAtWork {
		entry.Connected, entry.Queued = &said.Connected, &said.Queued
		entry.LagSeconds = new(int64(math.Ceil(min(max(said.LagSeconds, 0), math.MaxInt32))))
	}
	if at := metav1.NewTime(said.LastErrorTime.Truncate(time.Second)); said.LastError != "" && (entry.LastErrorTime == nil || entry.LastErrorTime.Before(&at)) {
		entry.LastError, entry.LastErrorTime = cut(said.LastError), &at
	}
}

func total(counts map[string]int64) (sum int64) {
	for _, n := range counts {
		sum += n
	}
	return sum
}

func dropReasons(counts map[string]int64) []v1alpha1.DropReason {
	var list []v1alpha1.DropReason
	for _, reason := range slices.Sorted(maps.Keys(counts)) {
		if counts[reason] > 0 && len(list) < maxReasons {
			list = append(list, v1alpha1.DropReason{Reason: cut(reason), Count: new(counts[reason])})
		}
	}
	return list
}

// setConnected says what the pod at work says about an end.
func setConnected(set *condition.Set, p *pass, kind v1alpha1.ConditionType, which func(local, remote *admin.EndStatus) *admin.EndStatus) {
	answer := p.atWork()
	switch {
	case p.facts.Spec.Suspended:
		set.False(kind, verdict.Finding{Reason: v1alpha1.ReasonSuspended, Message: "The bridge holds no connection, as spec.suspend says."})
	case p.facts.Spec.Replicas == 0:
		set.Unknown(kind, hibernated())
	case answer == nil:
		set.Unknown(kind, p.noAnswer())
	default:
		setEnd(set, kind, which(p.endSaid(answer)))
	}
}

func setEnd(set *condition.Set, kind v1alpha1.ConditionType, end *admin.EndStatus) {
	where := end.Endpoint
	if end.Connected {
		text := "Connected to " + cmp.Or(where, "the broker") + "."
		if end.Notice != "" {
			text += " Not all is as it was asked for: " + end.Notice
		}
		set.True(kind, v1alpha1.ReasonConnected, text)
		return
	}
	text := cmp.Or(end.Error, "no connection yet")
	set.False(kind, verdict.Finding{Reason: reasonOf(end.Reason), Message: sentence(text)})
}

// sentence begins with a capital, unless that is an address, and ends with a full stop, as every message does.
func sentence(text string) string {
	if word, _, _ := strings.Cut(text, " "); !strings.Contains(word, "://") {
		first, size := utf8.DecodeRuneInString(text)
		text = strings.ToUpper(string(first)) + text[size:]
	}
	if !strings.HasSuffix(text, ".") {
		text += "."
	}
	return text
}

func hibernated() verdict.Finding {
	return verdict.Finding{Reason: v1alpha1.ReasonHibernated, Message: "spec.replicas is 0, so no pod is meant to run."}
}

// noAnswer says why nobody answers for the bridge.
func (p *pass) noAnswer() verdict.Finding {
	finding := verdict.Finding{Reason: v1alpha1.ReasonBridgePodsNotReady}
	bridge := p.facts.Bridge
	switch {
	case len(p.pods) == 0 && p.facts.Deployment == nil:
		finding.Message = "The bridge has no pod yet: it gets one when both ends are known."
	case len(p.pods) == 0:
		finding.Message = fmt.Sprintf("The bridge has no pod; if it stays so, kubectl -n %s describe deployment %s tells why.", bridge.Namespace, v1alpha1.BridgeDeploymentName(bridge.Name))
	case !p.pods[0].isReady():
		finding.Message = "No pod answers. " + verdict.PodTrouble(&p.pods[0].pod)
	default:
		finding.Message = fmt.Sprintf("Pod %s is ready and does not answer the operator on port %d; is there a NetworkPolicy between the two?", p.pods[0].pod.Name, contract.AdminPort)
	}
	return finding
}

// setApplied is true only when every pod has answered the revision.
func setApplied(set *condition.Set, p *pass, walked error) {
	var (
		stalled *verdict.Stalled
		waiting *verdict.Waiting
	)
	kind := v1alpha1.ConditionApplied
	switch {
	case errors.As(walked, &stalled):
		set.False(kind, stalled.Finding)
	case errors.As(walked, &waiting):
		set.False(kind, waiting.Finding)
	case walked != nil:
		set.Unknown(kind, observeFailed())
	case p.fault() != nil:
		set.False(kind, *p.fault())
	case p.facts.Spec.Replicas == 0:
		set.Unknown(kind, hibernated())
	case len(p.pods) == 0:
		set.Unknown(kind, p.noAnswer())
	default:
		for i := range p.pods {
			if !p.pods[i].runs(p.desired.Text) {
				set.False(kind, verdict.Finding{Reason: v1alpha1.ReasonConfigPending, Message: p.pods[i].silence()})
				return
			}
		}
		set.True(kind, v1alpha1.ReasonConfigApplied, "Every pod runs the newest configuration.")
	}
}

// silence says what a pod that has not answered is waiting for.
func (pod *podFacts) silence() string {
	text := "Pod " + pod.pod.Name + " has not answered yet."
	if !pod.isReady() {
		text += " " + verdict.PodTrouble(&pod.pod)
	}
	return text
}

// fault is what keeps one of the ends from being what the spec asks for.
func (p *pass) fault() *verdict.Finding {
	if p.judged == nil {
		return nil
	}
	if p.judged.LocalFault != nil {
		return p.judged.LocalFault
	}
	return p.judged.RemoteFault
}

// setReady sums up. What a person must mend comes first, then what only takes time.
func setReady(set *condition.Set, p *pass, walked error) {
	var (
		stalled *verdict.Stalled
		waiting *verdict.Waiting
	)
	set.Drop(v1alpha1.ConditionStalled)
	stall := func(finding verdict.Finding) {
		set.False(v1alpha1.ConditionReady, finding)
		if finding.Reason != v1alpha1.ReasonBridgeUserNotReady { // that one only takes time
			set.True(v1alpha1.ConditionStalled, finding.Reason, finding.Message)
		}
	}
	isWaiting := errors.As(walked, &waiting)
	switch {
	case errors.As(walked, &stalled):
		stall(stalled.Finding)
	case isWaiting && waiting.Reason == v1alpha1.ReasonObjectConflict:
		stall(waiting.Finding)
	case walked != nil && !isWaiting:
		set.Unknown(v1alpha1.ConditionReady, observeFailed())
	case p.fault() != nil:
		stall(*p.fault())
	case set.FirstFalse(v1alpha1.ConditionNetworkPolicyReady) != nil:
		stall(condition.Of(set.Get(v1alpha1.ConditionNetworkPolicyReady)))
	case p.facts.Spec.Replicas == 0 && !isWaiting:
		set.True(v1alpha1.ConditionReady, v1alpha1.ReasonHibernated, hibernated().Message)
	default:
		setFlowing(set, p)
	}
}

// setFlowing says whether messages flow on every route.
func setFlowing(set *condition.Set, p *pass) {
	kind := v1alpha1.ConditionReady
	if c := set.Get(v1alpha1.ConditionApplied); c.Status != metav1.ConditionTrue {
		set.False(kind, condition.Of(c))
		return
	}
	if p.facts.Spec.Suspended {
		set.True(kind, v1alpha1.ReasonSuspended, "The bridge is stopped, as spec.suspend says.")
		return
	}
	for _, end := range []v1alpha1.ConditionType{v1alpha1.ConditionLocalConnected, v1alpha1.ConditionRemoteConnected} {
		if c := set.Get(end); c.Status != metav1.ConditionTrue {
			set.False(kind, condition.Of(c))
			return
		}
	}
	for _, route := range p.routeStatus() {
		if route.Connected == nil || !*route.Connected {
			text := "Route " + route.Name + " is not connected."
			if route.LastError != "" {
				text += " " + sentence(route.LastError)
			}
			set.False(kind, verdict.Finding{Reason: v1alpha1.ReasonRouteDegraded, Message: text})
			return
		}
	}
	set.True(kind, v1alpha1.ReasonReady, "Messages flow on every route.")
}
