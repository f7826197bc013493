// SPDX-License-Identifier: Apache-2.0

package mqttbroker

import (
	"cmp"
	"context"
	"errors"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/apply"
	"github.com/mqtt-operator/mqtt-operator/controllers/desired"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// applyCertificates asks cert-manager for what the listeners want, and takes back what they do not want any more. What
// goes wrong there concerns the one listener: the broker's configuration goes its way.
func (r *Reconciler) applyCertificates(ctx context.Context, p *pass) {
	wanted := desired.Certificates(p.facts)
	names := make([]string, 0, len(wanted))
	for _, certificate := range wanted {
		names = append(names, certificate.GetName())
		if p.facts.NoCertManager {
			continue
		}
		if _, err := r.Writer.All(ctx, p.facts.Broker, []client.Object{certificate}); err != nil {
			p.blame(certificate.GetName(), err)
		}
	}
	for _, name := range p.before.Certificates {
		if !slices.Contains(names, name) && r.Writer.TakeBack(ctx, p.facts.Broker, desired.EmptyCertificate(p.facts.Broker.Namespace, name)) != nil {
			p.unpruned = append(p.unpruned, name)
		}
	}
}

// blame tells the listener whose certificate it is. A server's words vary from time to time, so only its reason is
// repeated.
func (p *pass) blame(name string, err error) {
	finding := &verdict.Finding{
		Reason: v1alpha1.ReasonCertificateRequestFailed,
		Message: "The API server did not take the Certificate " + name + " (" + cmp.Or(string(apierrors.ReasonForError(err)), "no answer") +
			"): the operator's log and the webhook of cert-manager tell more; it is tried again.",
	}
	var (
		conflict *apply.ConflictError
		refused  *apply.RefusedError
	)
	switch {
	case errors.As(err, &conflict):
		finding.Message = conflict.Error()
	case errors.As(err, &refused):
		finding.Message = refused.Error()
	}
	for i := range p.judged.Listeners {
		l := &p.judged.Listeners[i]
		if l.Spec.Encrypted() && l.Spec.TLS.Issuer != nil && l.Spec.TLS.SecretName == name && (l.Fault == nil || l.Fault.Reason == v1alpha1.ReasonCertificatePending) {
			l.Fault = finding
		}
	}
}
