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
	CACertKey     = pki.CACertKey
	CAKeyKey      = pki.CAKeyKey
	ClientCertKey = "client.crt"
	ClientKeyKey  = "client.key"
)

// AdminServerName is the name by which the operator knows the admin endpoint of a broker. It is no DNS name: the
// operator dials pods by address and checks this name.
func AdminServerName(namespace, broker string) string { return "admin." + broker + "." + namespace }

// PKI are the Secrets with a broker's own key material. Only <broker>-admin-tls is ever mounted in a pod.
func PKI(f *verdict.Facts, m *verdict.Material) []client.Object {
	name := f.Broker.Name
	adminCA := m.AdminCA.Data()
	adminCA[ClientCertKey], adminCA[ClientKeyKey] = m.AdminClient.Certificate, m.AdminClient.Key
	objects := []client.Object{
		// Each CA before what it signs: a write that fails in between leaves nothing that is signed by a key which is lost.
		secret(meta(f, v1alpha1.CASecretName(name)), v1alpha1.SecretTypeCA, m.CA.Data()),
		secret(meta(f, v1alpha1.TLSSecretName(name)), corev1.SecretTypeTLS, map[string][]byte{
			corev1.TLSCertKey: m.Server.Certificate, corev1.TLSPrivateKeyKey: m.Server.Key, CACertKey: m.CA.Trusted(),
		}),
		secret(meta(f, v1alpha1.AdminCASecretName(name)), v1alpha1.SecretTypeCA, adminCA),
		secret(meta(f, v1alpha1.AdminTLSSecretName(name)), corev1.SecretTypeTLS, map[string][]byte{
			corev1.TLSCertKey: m.AdminServer.Certificate, corev1.TLSPrivateKeyKey: m.AdminServer.Key, CACertKey: m.AdminCA.Trusted(),
		}),
	}
	if m.ClientCA != nil {
		objects = append(objects, secret(meta(f, v1alpha1.ClientCASecretName(name)), v1alpha1.SecretTypeCA, m.ClientCA.Data()))
	}
	return objects
}

// ServerRequest is the certificate that the operator signs for the listeners of a broker: each listener's Service by
// its short names, each pod, and localhost for those who come through a port-forward. No cluster domain is assumed.
func ServerRequest(f *verdict.Facts) pki.Request {
	b := f.Broker
	names := []string{}
	for _, l := range f.Spec.Listeners {
		if l.Encrypted() && l.TLS.SelfManaged() {
			names = append(names, serviceNames(b, l)...)
		}
	}
	slices.Sort(names)
	return pki.Request{CommonName: v1alpha1.StatefulSetName(b.Name), DNSNames: append(names, podNames(b)...), Server: true}
}

func serviceNames(b *v1alpha1.MQTTBroker, l v1alpha1.ResolvedListener) []string {
	service := v1alpha1.ListenerServiceName(b.Name, l.Name)
	return []string{service, service + "." + b.Namespace, service + "." + b.Namespace + ".svc"}
}

func podNames(b *v1alpha1.MQTTBroker) []string {
	headless := v1alpha1.HeadlessServiceName(b.Name) + "." + b.Namespace
	return []string{"*." + headless, "*." + headless + ".svc", "localhost"}
}

// AdminServerRequest is the certificate of the admin endpoint.
func AdminServerRequest(b *v1alpha1.MQTTBroker) pki.Request {
	name := AdminServerName(b.Namespace, b.Name)
	return pki.Request{CommonName: "broker", DNSNames: []string{name}, Server: true}
}

// AdminClientRequest is the certificate by which the admin endpoint knows the operator.
func AdminClientRequest() pki.Request { return pki.Request{CommonName: "operator", Client: true} }
