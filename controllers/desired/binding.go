// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"net"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/pki"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// Verifier is the Secret by which the broker's reconciler learns how to recognise a user. It holds hashes and sums, and
// neither a password nor a key.
func Verifier(user *v1alpha1.MQTTUser, credentials verdict.Credentials) *corev1.Secret {
	m := userMeta(user, v1alpha1.VerifierSecretName(user.Name))
	data, annotations := credentials.Data()
	if len(annotations) > 0 {
		m.Annotations = annotations
	}
	return secret(m, v1alpha1.SecretTypeVerifier, data)
}

// BindingContent is what a binding holds beside the way to the listener.
type BindingContent struct {
	// Password and Pair are absent where the user has another proof.
	Password []byte
	Pair     pki.Pair
	// CA may be nil: then the system's roots, or nothing at all, vouch for the listener.
	CA []byte
}

// Binding is what an application of the user mounts, in the shape of servicebinding.io.
func Binding(user *v1alpha1.MQTTUser, listener v1alpha1.ResolvedListener, content BindingContent) *corev1.Secret {
	host := v1alpha1.ListenerServiceName(user.Spec.BrokerRef.Name, listener.Name) + "." + user.BrokerNamespace() + ".svc"
	port := strconv.Itoa(int(listener.Port))
	data := map[string][]byte{
		v1alpha1.BindingType:     []byte(v1alpha1.BindingTypeValue),
		v1alpha1.BindingProvider: []byte(v1alpha1.BindingProviderValue),
		v1alpha1.BindingHost:     []byte(host),
		v1alpha1.BindingPort:     []byte(port),
		v1alpha1.BindingURI:      []byte(uri(listener, net.JoinHostPort(host, port))),
		v1alpha1.BindingUsername: []byte(user.Username()),
	}
	for key, value := range map[string][]byte{
		v1alpha1.BindingPassword: content.Password, v1alpha1.BindingCert: content.Pair.Certificate, v1alpha1.BindingKey: content.Pair.Key,
	} {
		if len(value) > 0 {
			data[key] = value
		}
	}
	if listener.Encrypted() && len(content.CA) > 0 {
		data[v1alpha1.BindingCA] = content.CA
	}
	return secret(userMeta(user, v1alpha1.BindingSecretName(user.Name)), v1alpha1.SecretTypeBinding, data)
}

// uri is the address as client libraries take it, in the schemes of an MQTTBridge's endpoints.
func uri(listener v1alpha1.ResolvedListener, address string) string {
	switch web := listener.WebSocket; {
	case web != nil && listener.Encrypted():
		return "wss://" + address + web.Path
	case web != nil:
		return "ws://" + address + web.Path
	case listener.Encrypted():
		return "mqtts://" + address
	default:
		return "mqtt://" + address
	}
}

func userMeta(user *v1alpha1.MQTTUser, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: user.Namespace, Labels: v1alpha1.UserLabels(user.Name, user.Spec.BrokerRef.Name)}
}
