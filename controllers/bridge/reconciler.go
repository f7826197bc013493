// SPDX-License-Identifier: Apache-2.0

package mqttbridge

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/admin"
	"github.com/mqtt-operator/mqtt-operator/controllers/apply"
	"github.com/mqtt-operator/mqtt-operator/controllers/beside"
	"github.com/mqtt-operator/mqtt-operator/controllers/desired"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
	"github.com/mqtt-operator/mqtt-operator/controllers/walk"
)

const (
	// recheck is when a bridge on which all is well is asked again how it is doing, and restlessRecheck any other.
	recheck         = 10 * time.Second
	restlessRecheck = 3 * time.Second
	// answerRecheck is when a pod that has not answered yet is asked again.
	answerRecheck = time.Second
	// userRecheck is when a user that is not in force is looked at again; its status wakes the bridge earlier.
	userRecheck = 30 * time.Second
)

// Reconciler makes bridges what their specs say.
type Reconciler struct {
	// Client reads from the cache and writes.
	Client client.Client
	// Live reads past the cache.
	Live client.Reader
	// Writer is the only way to the cluster.
	Writer *apply.Writer
	// Events tells the story of a bridge.
	Events events.EventRecorder
	Clock  clock.PassiveClock
	// Image is the broker image of this release, which holds the bridge, too.
	Image string
	// AdminAddress is where the admin endpoint of a pod listens, host:port.
	AdminAddress func(*corev1.Pod) string
	// Operator is where the operator's own pods are.
	Operator verdict.Operator

	circles circles
}

// pass is one walk over one bridge.
type pass struct {
	facts *verdict.BridgeFacts
	// pods of the bridge, by name, with what they said.
	pods     []podFacts
	judged   *verdict.BridgeJudgement
	material *desired.BridgeMaterial
	desired  *desired.Bridge
	// circle says that messages go round through this bridge and others; nil where none do.
	circle *verdict.Finding
	// isObserved says that the world could be read, isApplied that the objects stand in the cluster as desired.
	isObserved, isApplied bool
	// beside is what became of the objects that no pod waits for.
	beside beside.Outcome
	// before is the status as it was found.
	before v1alpha1.MQTTBridgeStatus
}

// podFacts are one pod and what it said when asked.
type podFacts struct {
	pod corev1.Pod
	// answer is nil when the pod could not be asked; problem then says why.
	answer  *admin.BridgeStatus
	problem error
}

// Reconcile walks one bridge through the steps drawn in doc.go.
func (r *Reconciler) Reconcile(ctx context.Context, b *v1alpha1.MQTTBridge) (ctrl.Result, error) {
	if b.DeletionTimestamp != nil {
		return ctrl.Result{}, nil // The garbage collector takes the children; there is nothing else to undo.
	}
	p := &pass{
		facts:  &verdict.BridgeFacts{Bridge: b, Spec: b.Resolved(), Now: r.Clock.Now(), DefaultImage: r.Image, Operator: r.Operator},
		before: *b.Status.DeepCopy(),
	}
	err := walk.Steps[*pass]{
		{Name: "observe", Do: r.observe},
		{Name: "judge", Do: judge},
		{Name: "issue", Do: issue},
		{Name: "build", Do: build},
		{Name: "apply", Do: r.apply},
		{Name: "deliver", Do: r.deliver},
	}.Run(ctx, p)
	if failed := r.conclude(ctx, p, err); failed != nil {
		return walk.Result(failed, 0)
	}
	return walk.Result(err, p.again())
}

// again is when to look at the bridge again if nothing happens.
func (p *pass) again() time.Duration {
	for _, c := range p.facts.Bridge.Status.Conditions {
		if c.Type == string(v1alpha1.ConditionReady) && c.Status == metav1.ConditionTrue {
			return p.beside.Again(recheck)
		}
	}
	return p.beside.Again(restlessRecheck)
}
