// SPDX-License-Identifier: Apache-2.0

// Package condition sets conditions and tells which of them flipped, for every kind in the same way.
package condition

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// Set is the conditions of one object during one pass.
type Set struct {
	List       []metav1.Condition
	Generation int64
	Now        time.Time
}

// True sets a condition.
func (s *Set) True(kind v1alpha1.ConditionType, reason v1alpha1.ConditionReason, message string) {
	s.put(kind, metav1.ConditionTrue, verdict.Finding{Reason: reason, Message: message})
}

// False sets a condition.
func (s *Set) False(kind v1alpha1.ConditionType, finding verdict.Finding) {
	s.put(kind, metav1.ConditionFalse, finding)
}

// Unknown sets a condition.
func (s *Set) Unknown(kind v1alpha1.ConditionType, finding verdict.Finding) {
	s.put(kind, metav1.ConditionUnknown, finding)
}

// Drop removes a condition that is only there while it is true.
func (s *Set) Drop(kind v1alpha1.ConditionType) { meta.RemoveStatusCondition(&s.List, string(kind)) }

// Get is a condition that has been set, or nil.
func (s *Set) Get(kind v1alpha1.ConditionType) *metav1.Condition {
	return meta.FindStatusCondition(s.List, string(kind))
}

// FirstFalse is the first of kinds that is False, or nil.
func (s *Set) FirstFalse(kinds ...v1alpha1.ConditionType) *metav1.Condition {
	for _, kind := range kinds {
		if c := s.Get(kind); c != nil && c.Status == metav1.ConditionFalse {
			return c
		}
	}
	return nil
}

// maxMessage is what the API allows for the message of a condition, in bytes.
const maxMessage = 32768

func (s *Set) put(kind v1alpha1.ConditionType, status metav1.ConditionStatus, finding verdict.Finding) {
	meta.SetStatusCondition(&s.List, metav1.Condition{
		Type: string(kind), Status: status, Reason: string(finding.Reason),
		Message:            finding.Message[:min(len(finding.Message), maxMessage)],
		ObservedGeneration: s.Generation, LastTransitionTime: metav1.NewTime(s.Now.Truncate(time.Second)),
	})
}

// Of reads a condition back as a finding.
func Of(c *metav1.Condition) verdict.Finding {
	return verdict.Finding{Reason: v1alpha1.ConditionReason(c.Reason), Message: c.Message}
}

// Tell records one event for each condition whose status is another than before, under the condition's own reason. Where
// readiness changes, its event stands for the others that say the same: all good news where an object becomes ready, and
// what it is not ready for. Ten thousand users would have three each.
//
// Who only waits, for one of the reasons in onItsWay, is no news, neither when that begins nor when it ends: each of these
// users comes that way, and each event costs the operator two kilobytes for some minutes.
func Tell(recorder events.EventRecorder, object runtime.Object, before, after []metav1.Condition, onItsWay ...v1alpha1.ConditionReason) {
	ready := meta.FindStatusCondition(after, string(v1alpha1.ConditionReady))
	if ready != nil && !isChange(before, ready, onItsWay) {
		ready = nil
	}
	for i := range after {
		now := &after[i]
		if now.Type == string(v1alpha1.ConditionStalled) || !isChange(before, now, onItsWay) || (ready != nil && ready != now && says(ready, now)) {
			continue
		}
		kind := corev1.EventTypeNormal
		if !isGood(now) {
			kind = corev1.EventTypeWarning
		}
		recorder.Eventf(object, nil, kind, now.Reason, "Reconcile", "%s is %s: %s", now.Type, now.Status, now.Message)
	}
}

// says reports whether what a condition tells is told by Ready already.
func says(ready, now *metav1.Condition) bool {
	if ready.Status == metav1.ConditionTrue {
		return isGood(now)
	}
	return !isGood(now) && ready.Reason == now.Reason && ready.Message == now.Message
}

// isChange says whether a condition has another status than before, and is or was not only on its way.
func isChange(before []metav1.Condition, now *metav1.Condition, onItsWay []v1alpha1.ConditionReason) bool {
	was := meta.FindStatusCondition(before, now.Type)
	switch {
	case now.Status == metav1.ConditionUnknown:
		return false
	case was == nil:
		return isNews(now)
	case was.Status == metav1.ConditionFalse && slices.Contains(onItsWay, v1alpha1.ConditionReason(was.Reason)),
		now.Status == metav1.ConditionFalse && slices.Contains(onItsWay, v1alpha1.ConditionReason(now.Reason)):
		return false
	default:
		return was.Status != now.Status
	}
}

// isAbnormal names the conditions whose good news is False.
func isAbnormal(c *metav1.Condition) bool {
	switch v1alpha1.ConditionType(c.Type) {
	case v1alpha1.ConditionInsecure, v1alpha1.ConditionPaused, v1alpha1.ConditionCertificateExpiring, v1alpha1.ConditionLooping:
		return true
	default:
		return false
	}
}

func isGood(c *metav1.Condition) bool { return (c.Status == metav1.ConditionTrue) != isAbnormal(c) }

// isNews says whether a condition that appears for the first time is worth an event: that something is not there yet is
// none, nor that a first step is done; readiness is, and so is what is not as it should be by somebody's choice.
func isNews(c *metav1.Condition) bool {
	return c.Status == metav1.ConditionTrue && (c.Type == string(v1alpha1.ConditionReady) || isAbnormal(c))
}
