// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// CertificateKind is how cert-manager is asked. The objects are untyped: its module is no dependency of ours.
func CertificateKind() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: "cert-manager.io", Version: "v1", Kind: "Certificate"}
}

// Certificates are what cert-manager is asked for: one for each listener with issuerRef, in the order of the spec.
func Certificates(f *verdict.Facts) []*unstructured.Unstructured {
	var list []*unstructured.Unstructured
	for _, l := range f.Spec.Listeners {
		if l.Encrypted() && l.TLS.Issuer != nil {
			list = append(list, certificate(f, l))
		}
	}
	return list
}

func certificate(f *verdict.Facts, l v1alpha1.ResolvedListener) *unstructured.Unstructured {
	// The Secret is opened as one that a person labels: it holds what the listener shows, and bindings repeat its ca.crt.
	labels := map[string]any{v1alpha1.LabelAllow: v1alpha1.AllowReference}
	c := EmptyCertificate(f.Broker.Namespace, l.TLS.SecretName)
	c.SetLabels(v1alpha1.BrokerLabels(f.Broker.Name))
	c.Object["spec"] = map[string]any{
		"secretName":     l.TLS.SecretName,
		"secretTemplate": map[string]any{"labels": labels},
		"dnsNames":       anyList(append(serviceNames(f.Broker, l), podNames(f.Broker)...)),
		"usages":         []any{"digital signature", "server auth"},
		"privateKey":     map[string]any{"algorithm": "ECDSA", "size": int64(256), "rotationPolicy": "Always"},
		"issuerRef":      map[string]any{"name": l.TLS.Issuer.Name, "kind": l.TLS.Issuer.Kind, "group": l.TLS.Issuer.Group},
	}
	return c
}

// EmptyCertificate is a Certificate of which only the name is known.
func EmptyCertificate(namespace, name string) *unstructured.Unstructured {
	c := &unstructured.Unstructured{Object: map[string]any{}}
	c.SetGroupVersionKind(CertificateKind())
	c.SetNamespace(namespace)
	c.SetName(name)
	return c
}

func anyList(values []string) []any {
	result := make([]any, len(values))
	for i, value := range values {
		result[i] = value
	}
	return result
}
