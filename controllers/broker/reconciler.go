// SPDX-License-Identifier: Apache-2.0

package mqttbroker

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/apply"
	"github.com/mqtt-operator/mqtt-operator/controllers/beside"
	"github.com/mqtt-operator/mqtt-operator/controllers/desired"
	"github.com/mqtt-operator/mqtt-operator/controllers/pki"
	"github.com/mqtt-operator/mqtt-operator/controllers/scope"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
	"github.com/mqtt-operator/mqtt-operator/controllers/walk"
)

const (
	// recheck is when a broker is looked at again although nothing happened: its pods are asked what they run, and
	// certificates renewed in time.
	recheck = time.Minute
	// answerRecheck is when a pod that has not answered yet is asked again.
	answerRecheck = time.Second
	// certManagerRecheck is when the cluster is asked again whether it has a cert-manager.
	certManagerRecheck = 10 * time.Second
)

// Reconciler makes brokers what their specs say.
type Reconciler struct {
	// Client reads from the cache and writes.
	Client client.Client
	// Live reads past the cache.
	Live client.Reader
	// Writer is the only way to the cluster.
	Writer *apply.Writer
	// Events tells the story of a broker.
	Events events.EventRecorder
	Clock  clock.PassiveClock
	// Image is the broker image of this release.
	Image string
	// Cluster tells who signs the tokens of ServiceAccounts.
	Cluster *ClusterKeys
	// AdminAddress is where the admin endpoint of a pod listens, host:port.
	AdminAddress func(*corev1.Pod) string
	// Scope is what the operator looks after.
	Scope *scope.Scope
	// Operator is where the operator's own pods are.
	Operator verdict.Operator
}

// pass is one walk over one broker.
type pass struct {
	facts    *verdict.Facts
	material *verdict.Material
	judged   *verdict.Judgement
	desired  *desired.Broker
	// applied says that the objects stand in the cluster as desired.
	applied bool
	// beside is what became of the objects that no pod waits for.
	beside beside.Outcome
	// unpruned are Certificates that are wanted no more and could not be deleted.
	unpruned []string
	// before is the status as it was found.
	before v1alpha1.MQTTBrokerStatus
	// held says that pending is known: a change that replaces pods and waits, nil where none does.
	held    bool
	pending *v1alpha1.PendingRestart
	// stuck says which form of the pods failed, so that they have the one of before; nil where none did.
	stuck *verdict.Finding
	// refused says why the volumes may not grow, nil where nobody said so.
	refused *verdict.Finding
	// renewed says that the apply of this pass has written the StatefulSet.
	renewed bool
}

// Reconcile walks one broker through the steps drawn in doc.go.
func (r *Reconciler) Reconcile(ctx context.Context, b *v1alpha1.MQTTBroker) (ctrl.Result, error) {
	if b.DeletionTimestamp != nil {
		return ctrl.Result{}, nil // The garbage collector takes the children; there is nothing else to undo.
	}
	p := &pass{
		facts:  &verdict.Facts{Broker: b, Spec: b.Resolved(), Now: r.Clock.Now(), DefaultImage: r.Image, Operator: r.Operator},
		before: *b.Status.DeepCopy(),
	}
	err := walk.Steps[*pass]{
		{Name: "observe", Do: r.observe},
		{Name: "issue", Do: issue},
		{Name: "judge", Do: judge},
		{Name: "build", Do: build},
		{Name: "hold", Do: hold},
		{Name: "apply", Do: r.apply},
		{Name: "grow", Do: r.grow},
		{Name: "deliver", Do: r.deliver},
	}.Run(ctx, p)
	if failed := r.conclude(ctx, p, err); failed != nil {
		return walk.Result(failed, 0)
	}
	return walk.Result(err, p.again())
}

// again is when to look at the broker again if nothing happens: sooner where a CA is in a stage that time alone ends.
func (p *pass) again() time.Duration {
	again := recheck
	if p.facts.NoCertManager {
		again = certManagerRecheck
	}
	again = p.beside.Again(again)
	if p.applied && p.facts.IsStatefulSetEnding() {
		again = answerRecheck // it is made again as soon as it is gone
	}
	if p.pending != nil && p.pending.Opens != nil {
		again = min(again, max(p.pending.Opens.Sub(p.facts.Now), answerRecheck))
	}
	if until, isUnderWay := p.facts.RolloutUntil(); isUnderWay {
		again = min(again, max(until.Sub(p.facts.Now), answerRecheck))
	}
	if p.material == nil {
		return again
	}
	cas := []*pki.CA{&p.material.CA, p.material.ClientCA}
	for _, ca := range cas {
		if ca != nil && ca.Phase != v1alpha1.CAStable && !ca.Since.IsZero() {
			left := ca.Since.Add(p.facts.Spec.ClientGrace).Sub(p.facts.Now)
			again = min(again, max(left, answerRecheck))
		}
	}
	return again
}
