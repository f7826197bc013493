// SPDX-License-Identifier: Apache-2.0

package beside

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/apply"
	"github.com/mqtt-operator/mqtt-operator/controllers/condition"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// monitoringRecheck is when the cluster is asked again for what it did not have or take.
const monitoringRecheck = 20 * time.Second

// monitoring is what became of the objects by which others watch the pods.
type monitoring struct {
	isDone, isWanted bool
	finding          *verdict.Finding
	// made are the kinds of the objects that stand.
	made []string
}

// Monitoring makes the cluster hold what is wanted, and takes back what was made before and is wanted no more. possible are
// the objects that there may be with nothing in them, made the kinds of those that an earlier pass made. Nothing that goes
// wrong here is worth an error: it is said, and tried again after a while.
func (o *Outcome) Monitoring(ctx context.Context, w *apply.Writer, mapper meta.RESTMapper, owner client.Object, wanted []client.Object, possible map[string]client.Object, made []string) {
	m := monitoring{isDone: true, isWanted: len(wanted) > 0}
	var (
		missing []string
		failed  []verdict.Finding
		kinds   = map[string]bool{}
	)
	for _, object := range wanted {
		kind := kindOf(object)
		kinds[kind] = true
		err := write(ctx, w, mapper, owner, object)
		if err == nil || slices.Contains(made, kind) && !isMissing(err) {
			m.made = append(m.made, kind)
		}
		switch {
		case isMissing(err):
			missing = append(missing, kind)
		case err != nil:
			failed = append(failed, problem(kind, object.GetName(), err))
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(possible)) {
		if kinds[kind] || !slices.Contains(made, kind) {
			continue
		}
		if err := w.TakeBack(ctx, owner, possible[kind]); err != nil {
			m.made = append(m.made, kind)
			failed = append(failed, problem(kind, possible[kind].GetName(), err))
		}
	}
	slices.Sort(m.made)
	switch {
	case len(failed) > 0:
		m.finding = &failed[0]
	case len(missing) > 0:
		m.finding = &verdict.Finding{
			Reason: v1alpha1.ReasonMonitoringKindMissing,
			Message: "The cluster has no kind " + strings.Join(missing, " and no ") + " of monitoring.coreos.com/v1: install the Prometheus operator, " +
				"and what spec.monitoring wants is made within 20 s; or remove it there.",
		}
	}
	o.monitoring = m
}

// Made are the kinds of monitoring objects that stand, for the status; before those of the status as it was.
func (o *Outcome) Made(before []string) []string {
	if !o.monitoring.isDone {
		return before
	}
	return o.monitoring.made
}

func write(ctx context.Context, w *apply.Writer, mapper meta.RESTMapper, owner, object client.Object) error {
	if _, isUntyped := object.(runtime.Unstructured); isUntyped {
		kind := object.GetObjectKind().GroupVersionKind()
		if _, err := mapper.RESTMapping(kind.GroupKind(), kind.Version); err != nil {
			return err
		}
	}
	_, err := w.All(ctx, owner, []client.Object{object})
	return err
}

func kindOf(object client.Object) string {
	if kind := object.GetObjectKind().GroupVersionKind().Kind; kind != "" {
		return kind
	}
	return "ConfigMap"
}

// isMissing reports whether the cluster does not have the kind: it never had, or its definition is gone since we looked.
func isMissing(err error) bool { return meta.IsNoMatchError(err) || apierrors.IsNotFound(err) }

// problem says in words that do not vary why an object could not be written.
func problem(kind, name string, err error) verdict.Finding {
	var (
		stalled *verdict.Stalled
		waiting *verdict.Waiting
	)
	switch judged := apply.Verdict(err); {
	case errors.As(judged, &stalled):
		return stalled.Finding
	case errors.As(judged, &waiting):
		return waiting.Finding
	}
	return verdict.Finding{
		Reason: v1alpha1.ReasonMonitoringRequestFailed,
		Message: "The API server did not take the " + kind + " " + name + " (" + cmp.Or(string(apierrors.ReasonForError(err)), "no answer") +
			"): it is tried again.",
	}
}

func (m *monitoring) set(set *condition.Set, walked error) {
	kind := v1alpha1.ConditionMonitoringReady
	switch {
	case !m.isDone:
		set.Unknown(kind, before(walked))
	case m.finding != nil:
		set.False(kind, *m.finding)
	case !m.isWanted:
		set.True(kind, v1alpha1.ReasonNoMonitoring, "spec.monitoring wants nothing.")
	default:
		set.True(kind, v1alpha1.ReasonMonitoringReady, "Every object of spec.monitoring stands.")
	}
}
