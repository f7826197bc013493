// SPDX-License-Identifier: Apache-2.0

package mqttbroker

import (
	"context"
	"errors"
	"slices"
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

// issue keeps the key material that is current and draws what is missing, so that a restarted operator changes
// nothing.
func issue(_ context.Context, p *pass) error {
	f, now := p.facts, p.facts.Now
	m := &verdict.Material{
		Server:      fromSecret(f.TLS, corev1.TLSCertKey, corev1.TLSPrivateKeyKey),
		AdminClient: fromSecret(f.AdminCA, desired.ClientCertKey, desired.ClientKeyKey),
		AdminServer: fromSecret(f.AdminTLS, corev1.TLSCertKey, corev1.TLSPrivateKeyKey),
	}
	p.material = m
	if err := issueCAs(f, m); err != nil {
		return err
	}
	return errors.Join(
		keepLeaf(&m.Server, &m.CA.Signing, desired.ServerRequest(f), now),
		keepLeaf(&m.AdminClient, &m.AdminCA.Signing, desired.AdminClientRequest(), now),
		keepLeaf(&m.AdminServer, &m.AdminCA.Signing, desired.AdminServerRequest(f.Broker), now),
	)
}

func fromSecret(secret *corev1.Secret, certificate, key string) pki.Pair {
	if secret == nil {
		return pki.Pair{}
	}
	return pki.Pair{Certificate: secret.Data[certificate], Key: secret.Data[key]}
}

func keepLeaf(pair, ca *pki.Pair, r pki.Request, now time.Time) (err error) {
	if !pki.IsCurrent(*pair, *ca, r, now) {
		*pair, err = pki.Issue(*ca, r, now)
	}
	return err
}

// judge is pure: facts and material give a judgement.
func judge(_ context.Context, p *pass) error {
	p.judged = verdict.Judge(p.facts, p.material)
	return nil
}

// build is pure: the judgement gives objects. A paused broker stops here, with everything known and nothing written.
func build(_ context.Context, p *pass) error {
	var err error
	p.desired, err = desired.Build(p.facts, p.material, p.judged)
	switch {
	case errors.Is(err, contract.ErrTooLarge):
		return stalled(v1alpha1.ReasonConfigTooLarge, err.Error()+": use fewer rules, or give some users a broker of their own.")
	case err != nil:
		return stalled(v1alpha1.ReasonConfigInvalid, err.Error())
	case p.facts.Broker.Paused():
		return stalled(v1alpha1.ReasonPaused, "The annotation "+v1alpha1.AnnotationPaused+" is set: nothing is changed until it is removed.")
	}
	return nil
}

// apply writes what differs and deletes what is wanted no more. The NetworkPolicy comes first, so that no pod is ever
// without.
func (r *Reconciler) apply(ctx context.Context, p *pass) error {
	b := p.facts.Broker
	if err := p.beside.NetworkPolicy(ctx, r.Writer, b, v1alpha1.NetworkPolicyName(b.Name), desired.NetworkPolicy(p.facts)); err != nil {
		return err
	}
	if err := p.beside.DisruptionBudget(ctx, r.Writer, b, v1alpha1.DisruptionBudgetName(b.Name), desired.DisruptionBudget(p.facts)); err != nil {
		return err
	}
	written, err := r.Writer.All(ctx, p.facts.Broker, p.desired.Objects)
	if set := p.desired.StatefulSet; set != nil && slices.Contains(written, client.Object(set)) {
		p.renewed = true
	}
	if err != nil {
		return apply.Verdict(err)
	}
	p.applied = true
	r.applyCertificates(ctx, p)
	p.beside.Monitoring(ctx, r.Writer, r.Client.RESTMapper(), b, desired.Monitoring(p.facts), desired.MonitoringOf(b), p.before.Monitoring)
	candidates := []client.Object{}
	for i := range p.facts.Services {
		candidates = append(candidates, &p.facts.Services[i])
	}
	return r.Writer.Prune(ctx, p.facts.Broker, candidates, p.desired.Objects)
}

func stalled(reason v1alpha1.ConditionReason, message string) error {
	return &verdict.Stalled{Finding: verdict.Finding{Reason: reason, Message: message}}
}

// deliver hands the configuration to each pod that runs another one. A pod that cannot be reached gets it from the
// kubelet; it only takes longer.
func (r *Reconciler) deliver(ctx context.Context, p *pass) error {
	digest := p.desired.Bundle.Digest()
	r.eachPod(ctx, p.facts, func(ctx context.Context, pod *verdict.PodFacts, c *admin.Client) {
		if pod.Runs(p.desired.Revision, digest) {
			return
		}
		status, err := c.Apply(ctx, p.desired.Bundle)
		note(pod, status, err)
	})
	for i := range p.facts.Pods {
		if pod := &p.facts.Pods[i]; pod.IsReady() && !pod.Runs(p.desired.Revision, digest) {
			finding := verdict.Finding{Reason: v1alpha1.ReasonConfigPending, Message: "Pod " + pod.Pod.Name + " has not answered yet."}
			if refusal, isRefusal := errors.AsType[*admin.RefusedError](pod.Problem); isRefusal {
				finding = verdict.Finding{Reason: v1alpha1.ReasonConfigRefused, Message: "Pod " + pod.Pod.Name + " goes on with what it had: " + refusal.Error()}
			}
			return &verdict.Waiting{Finding: finding, For: answerRecheck}
		}
	}
	return nil
}
