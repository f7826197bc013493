// SPDX-License-Identifier: Apache-2.0

package mqttbridge

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/admin"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/apply"
	"github.com/mqtt-operator/mqtt-operator/controllers/desired"
	"github.com/mqtt-operator/mqtt-operator/controllers/pki"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// adminGrace is how long the kubelet gets to bring a stage of the admin CA into the pods; it takes a minute or two.
const adminGrace = 10 * time.Minute

// judge is pure.
func judge(_ context.Context, p *pass) error {
	var err error
	p.judged, err = verdict.JudgeBridge(p.facts)
	return err
}

// issue keeps the key material that is current and draws what is missing, so that a restarted operator changes nothing.
func issue(_ context.Context, p *pass) error {
	f, m, stood := p.facts, &desired.BridgeMaterial{}, &corev1.Secret{}
	if f.Admin != nil {
		stood = f.Admin
	}
	m.Client = pki.Pair{Certificate: stood.Data[desired.ClientCertKey], Key: stood.Data[desired.ClientKeyKey]}
	m.Server = pki.Pair{Certificate: stood.Data[corev1.TLSCertKey], Key: stood.Data[corev1.TLSPrivateKeyKey]}
	name := f.Bridge.Namespace + "/" + v1alpha1.BridgeDeploymentName(f.Bridge.Name) + " admin"
	var err error
	if m.CA, err = pki.ReadCA(stood.Data).Step(name, pki.Seen{Answered: p.everyPodAnswers(), Reissued: true, Grace: adminGrace}, f.Now); err != nil {
		return err
	}
	p.material = m
	return errors.Join(
		keepLeaf(&m.Client, &m.CA.Signing, desired.AdminClientRequest(), f.Now),
		keepLeaf(&m.Server, &m.CA.Signing, desired.BridgeServerRequest(f.Bridge), f.Now),
	)
}

func keepLeaf(pair, ca *pki.Pair, r pki.Request, now time.Time) (err error) {
	if !pki.IsCurrent(*pair, *ca, r, now) {
		*pair, err = pki.Issue(*ca, r, now)
	}
	return err
}

// everyPodAnswers reports whether each pod was reached by the admin endpoint, so that both ends trust each other.
func (p *pass) everyPodAnswers() bool {
	for i := range p.pods {
		if p.pods[i].answer == nil {
			return false
		}
	}
	return true
}

// build is pure: the judgement gives objects.
func build(_ context.Context, p *pass) error {
	var err error
	if p.desired, err = desired.BuildBridge(p.facts, p.material, p.judged); errors.Is(err, contract.ErrTooLarge) {
		return &verdict.Stalled{Finding: verdict.Finding{Reason: v1alpha1.ReasonConfigTooLarge, Message: err.Error() + ": divide the routes among several bridges."}}
	}
	return err
}

// apply writes what differs. The NetworkPolicy comes first, so that no pod is ever without. A remote user that is wanted no more, or is of another broker now, goes first: whom a user
// belongs to can never change.
func (r *Reconciler) apply(ctx context.Context, p *pass) error {
	f := p.facts
	if err := p.beside.NetworkPolicy(ctx, r.Writer, f.Bridge, v1alpha1.BridgeNetworkPolicyName(f.Bridge.Name), desired.BridgeNetworkPolicy(f)); err != nil {
		return err
	}
	if user := f.Remote.User; user != nil && (f.Spec.RemoteBroker == nil || !isSameBroker(user.Spec.BrokerRef, *f.Spec.RemoteBroker)) {
		if err := r.Writer.Prune(ctx, f.Bridge, []client.Object{user}, nil); err != nil {
			return err
		}
	}
	if _, err := r.Writer.All(ctx, f.Bridge, p.desired.Objects); err != nil {
		return apply.Verdict(err)
	}
	p.isApplied = true
	p.beside.Monitoring(ctx, r.Writer, r.Client.RESTMapper(), f.Bridge, desired.BridgeMonitoring(f), desired.BridgeMonitoringOf(f.Bridge), p.before.Monitoring)
	return nil
}

func isSameBroker(a, b v1alpha1.BrokerReference) bool {
	namespace := func(r v1alpha1.BrokerReference) string {
		if r.Namespace == nil {
			return ""
		}
		return *r.Namespace
	}
	return a.Name == b.Name && namespace(a) == namespace(b)
}

// deliver hands the configuration to each pod that runs another one. A pod that cannot be reached gets it from the
// kubelet; it only takes longer.
func (r *Reconciler) deliver(ctx context.Context, p *pass) error {
	if p.judged.Hold != nil {
		return &verdict.Waiting{Finding: *p.judged.Hold, For: userRecheck}
	}
	text := p.desired.Text
	if text == nil {
		return nil // The faults of the ends say why.
	}
	r.eachPod(ctx, p, func(ctx context.Context, pod *podFacts, c *admin.BridgeClient) {
		if pod.runs(text) {
			return
		}
		status, err := c.Apply(ctx, text)
		pod.note(status, err)
	})
	for i := range p.pods {
		// A bridge that does not reach its remote end is not ready, and answers all the same.
		if pod := &p.pods[i]; (pod.isReady() || pod.answer != nil) && !pod.runs(text) {
			finding := verdict.Finding{Reason: v1alpha1.ReasonConfigPending, Message: pod.silence()}
			if refusal, isRefusal := errors.AsType[*admin.RefusedError](pod.problem); isRefusal {
				finding = verdict.Finding{Reason: v1alpha1.ReasonConfigRefused, Message: "Pod " + pod.pod.Name + " goes on with what it had: " + refusal.Error()}
			}
			return &verdict.Waiting{Finding: finding, For: answerRecheck}
		}
	}
	return nil
}
