// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"net"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// SourceAnnotation on a verifier Secret names the version of the password's Secret that the hash was made from, so
// that an unchanged password is not hashed again.
const SourceAnnotation = "mqtt-operator.io/source"

// Verifier is the Secret by which the broker's reconciler learns how to recognise a user. It holds a hash and no
// password.
func Verifier(user *v1alpha1.MQTTUser, verifier, source string) *corev1.Secret {
	m := userMeta(user, v1alpha1.VerifierSecretName(user.Name))
	if source != "" {
		m.Annotations = map[string]string{SourceAnnotation: source}
	}
	return secret(m, v1alpha1.SecretTypeVerifier, map[string][]byte{verdict.VerifierKey: []byte(verifier)})
}

// Binding is what an application of the user mounts, in the shape of servicebinding.io. ca may be nil: then the
// system's roots, or nothing at all, vouch for the listener.
func Binding(user *v1alpha1.MQTTUser, listener v1alpha1.ResolvedListener, password, ca []byte) *corev1.Secret {
	resolved := user.Resolved()
	host := v1alpha1.ListenerServiceName(resolved.Broker, listener.Name) + "." + user.Namespace + ".svc"
	port := strconv.Itoa(int(listener.Port))
	data := map[string][]byte{
		v1alpha1.BindingType:     []byte(v1alpha1.BindingTypeValue),
		v1alpha1.BindingProvider: []byte(v1alpha1.BindingProviderValue),
		v1alpha1.BindingHost:     []byte(host),
		v1alpha1.BindingPort:     []byte(port),
		v1alpha1.BindingURI:      []byte(uri(listener, net.JoinHostPort(host, port))),
		v1alpha1.BindingUsername: []byte(resolved.Username),
		v1alpha1.BindingPassword: password,
	}
	if listener.Encrypted() && len(ca) > 0 {
		data[v1alpha1.BindingCA] = ca
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
