// SPDX-License-Identifier: Apache-2.0

package gen

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

// BridgeOption changes a bridge.
type BridgeOption func(*v1alpha1.MQTTBridge)

// Bridge takes telemetry out to mqtt.example.com, over TLS with the system's roots and without credentials.
func Bridge(namespace, name, broker string, options ...BridgeOption) *v1alpha1.MQTTBridge {
	bridge := &v1alpha1.MQTTBridge{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1alpha1.MQTTBridgeSpec{
			BrokerRef: v1alpha1.BrokerReference{Name: broker},
			Remote:    v1alpha1.BridgeRemote{Endpoints: []string{"mqtts://mqtt.example.com"}},
			Routes:    []v1alpha1.BridgeRoute{Route("telemetry", v1alpha1.RouteOut, "telemetry/#")},
		},
	}
	for _, option := range options {
		option(bridge)
	}
	return bridge
}

// Route is one route without prefixes.
func Route(name string, direction v1alpha1.RouteDirection, filter string) v1alpha1.BridgeRoute {
	return v1alpha1.BridgeRoute{Name: name, Direction: direction, Filter: v1alpha1.TopicFilter(filter)}
}

// Between puts prefixes before a route's topics.
func Between(route v1alpha1.BridgeRoute, localPrefix, remotePrefix string) v1alpha1.BridgeRoute {
	if localPrefix != "" {
		route.LocalPrefix = &localPrefix
	}
	if remotePrefix != "" {
		route.RemotePrefix = &remotePrefix
	}
	return route
}

// WithRoutes replaces the routes.
func WithRoutes(routes ...v1alpha1.BridgeRoute) BridgeOption {
	return func(b *v1alpha1.MQTTBridge) { b.Spec.Routes = routes }
}

// To replaces the endpoints.
func To(endpoints ...string) BridgeOption {
	return func(b *v1alpha1.MQTTBridge) { b.Spec.Remote.Endpoints = endpoints }
}

// ToBroker replaces the endpoints by another broker of the cluster.
func ToBroker(ref v1alpha1.BrokerReference) BridgeOption {
	return func(b *v1alpha1.MQTTBridge) {
		b.Spec.Remote.Endpoints, b.Spec.Remote.BrokerRef = nil, &ref
	}
}

// WithCredentials names the Secret with username and password.
func WithCredentials(secret string) BridgeOption {
	return func(b *v1alpha1.MQTTBridge) {
		b.Spec.Remote.CredentialsSecretRef = &v1alpha1.SecretReference{Name: secret}
	}
}

// WithTrust names the Secrets with the CA and with the certificate to show; either may be empty.
func WithTrust(ca, certificate string) BridgeOption {
	return func(b *v1alpha1.MQTTBridge) {
		b.Spec.Remote.TLS = &v1alpha1.BridgeTLS{}
		if ca != "" {
			b.Spec.Remote.TLS.CASecretRef = &v1alpha1.SecretKeyReference{Name: ca}
		}
		if certificate != "" {
			b.Spec.Remote.TLS.CertificateSecretRef = &v1alpha1.SecretReference{Name: certificate}
		}
	}
}
