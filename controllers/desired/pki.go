// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/pki"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// Keys of the Secrets with a broker's own key material.
const (
	CACertKey     = "ca.crt"
	CAKeyKey      = "ca.key"
	ClientCertKey = "client.crt"
	ClientKeyKey  = "client.key"
)

// AdminServerName is the name by which the operator knows the admin endpoint of a broker. It is no DNS name: the
// operator dials pods by address and checks this name.
func AdminServerName(namespace, broker string) string { return "admin." + broker + "." + namespace }

// PKI are the Secrets with a broker's own key material. Only <broker>-admin-tls is ever mounted in a pod.
func PKI(f *verdict.Facts, m *verdict.Material) []client.Object {
	name := f.Broker.Name
	return []client.Object{
		secret(meta(f, v1alpha1.CASecretName(name)), v1alpha1.SecretTypeCA, map[string][]byte{
			CACertKey: m.CA.Certificate, CAKeyKey: m.CA.Key,
		}),
		secret(meta(f, v1alpha1.TLSSecretName(name)), corev1.SecretTypeTLS, map[string][]byte{
			corev1.TLSCertKey: m.Server.Certificate, corev1.TLSPrivateKeyKey: m.Server.Key, CACertKey: m.CA.Certificate,
		}),
		secret(meta(f, v1alpha1.AdminCASecretName(name)), v1alpha1.SecretTypeCA, map[string][]byte{
			CACertKey: m.AdminCA.Certificate, CAKeyKey: m.AdminCA.Key,
			ClientCertKey: m.AdminClient.Certificate, ClientKeyKey: m.AdminClient.Key,
		}),
		secret(meta(f, v1alpha1.AdminTLSSecretName(name)), corev1.SecretTypeTLS, map[string][]byte{
			corev1.TLSCertKey: m.AdminServer.Certificate, corev1.TLSPrivateKeyKey: m.AdminServer.Key, CACertKey: m.AdminCA.Certificate,
		}),
	}
}

// ServerRequest is the certificate that the operator signs for the listeners of a broker: each listener's Service by
// its short names, each pod, and localhost for those who come through a port-forward. No cluster domain is assumed.
func ServerRequest(f *verdict.Facts) pki.Request {
	b := f.Broker
	names := []string{}
	for _, l := range f.Spec.Listeners {
		if l.Encrypted() && l.TLS.SelfManaged() {
			service := v1alpha1.ListenerServiceName(b.Name, l.Name)
			names = append(names, service, service+"."+b.Namespace, service+"."+b.Namespace+".svc")
		}
	}
	slices.Sort(names)
	headless := v1alpha1.HeadlessServiceName(b.Name) + "." + b.Namespace
	return pki.Request{
		CommonName: v1alpha1.StatefulSetName(b.Name),
		DNSNames:   append(names, "*."+headless, "*."+headless+".svc", "localhost"),
		Server:     true,
	}
}

// AdminServerRequest is the certificate of the admin endpoint.
func AdminServerRequest(b *v1alpha1.MQTTBroker) pki.Request {
	name := AdminServerName(b.Namespace, b.Name)
	return pki.Request{CommonName: "broker", DNSNames: []string{name}, Server: true}
}

// AdminClientRequest is the certificate by which the admin endpoint knows the operator.
func AdminClientRequest() pki.Request { return pki.Request{CommonName: "operator", Client: true} }
