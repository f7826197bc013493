// SPDX-License-Identifier: Apache-2.0

// Package gen builds objects for tests: a valid one, and functions that say what is different about it.
package gen

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

// BrokerOption changes a broker.
type BrokerOption func(*v1alpha1.MQTTBroker)

// Broker has one listener: TLS on 8883, certificate by the operator.
func Broker(namespace, name string, options ...BrokerOption) *v1alpha1.MQTTBroker {
	broker := &v1alpha1.MQTTBroker{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1alpha1.MQTTBrokerSpec{Listeners: []v1alpha1.BrokerListener{{
			Name: "mqtts", Protocol: v1alpha1.ProtocolTLS, Port: 8883, TLS: &v1alpha1.ListenerTLS{SelfManaged: &v1alpha1.SelfManagedTLS{}},
		}}},
	}
	for _, option := range options {
		option(broker)
	}
	return broker
}

// WithListener adds a listener.
func WithListener(listener v1alpha1.BrokerListener) BrokerOption {
	return func(b *v1alpha1.MQTTBroker) { b.Spec.Listeners = append(b.Spec.Listeners, listener) }
}

// WithVolume keeps what clients left behind on a volume of that size and class.
func WithVolume(size, class string) BrokerOption {
	return func(b *v1alpha1.MQTTBroker) {
		b.Spec.Persistence = &v1alpha1.BrokerPersistence{Size: new(resource.MustParse(size)), StorageClassName: &class}
	}
}

// Plain is a listener without TLS.
func Plain(name string, port int32) v1alpha1.BrokerListener {
	return v1alpha1.BrokerListener{Name: name, Protocol: v1alpha1.ProtocolTCP, Port: port}
}

// FromSecret is a TLS listener with a certificate that somebody else keeps.
func FromSecret(name string, port int32, secret string) v1alpha1.BrokerListener {
	return v1alpha1.BrokerListener{
		Name: name, Protocol: v1alpha1.ProtocolTLS, Port: port,
		TLS: &v1alpha1.ListenerTLS{SecretRef: &v1alpha1.SecretReference{Name: secret}},
	}
}

// UserOption changes a user.
type UserOption func(*v1alpha1.MQTTUser)

// User has a generated password and may do nothing.
func User(namespace, name, broker string, options ...UserOption) *v1alpha1.MQTTUser {
	user := &v1alpha1.MQTTUser{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1alpha1.MQTTUserSpec{
			BrokerRef:      v1alpha1.BrokerReference{Name: broker},
			Authentication: v1alpha1.UserAuthentication{Password: &v1alpha1.UserPassword{Generate: &v1alpha1.GeneratePassword{}}},
		},
	}
	for _, option := range options {
		option(user)
	}
	return user
}

// WithUsername is another name than the object's.
func WithUsername(username string) UserOption {
	return func(u *v1alpha1.MQTTUser) { u.Spec.Username = &username }
}

// WithPasswordFrom takes the password from a Secret.
func WithPasswordFrom(secret string) UserOption {
	return func(u *v1alpha1.MQTTUser) {
		u.Spec.Authentication.Password = &v1alpha1.UserPassword{SecretRef: &v1alpha1.SecretKeyReference{Name: secret}}
	}
}

// Allow adds a rule.
func Allow(filter string, actions ...v1alpha1.ACLAction) UserOption {
	return func(u *v1alpha1.MQTTUser) {
		u.Spec.ACL = append(u.Spec.ACL, v1alpha1.ACLRule{Effect: v1alpha1.ACLAllow, Filter: v1alpha1.TopicFilter(filter), Actions: actions})
	}
}

// WithPolicies names policies.
func WithPolicies(names ...string) UserOption {
	return func(u *v1alpha1.MQTTUser) {
		for _, name := range names {
			u.Spec.PolicyRefs = append(u.Spec.PolicyRefs, v1alpha1.PolicyReference{Name: name})
		}
	}
}

// WithLabels sets labels.
func WithLabels(labels map[string]string) UserOption {
	return func(u *v1alpha1.MQTTUser) { u.Labels = labels }
}

// OfNamespace looks for the broker in another namespace.
func OfNamespace(namespace string) UserOption {
	return func(u *v1alpha1.MQTTUser) { u.Spec.BrokerRef.Namespace = &namespace }
}

// WithAuthentication replaces the generated password.
func WithAuthentication(authentication v1alpha1.UserAuthentication) UserOption {
	return func(u *v1alpha1.MQTTUser) { u.Spec.Authentication = authentication }
}

// Rule is one rule.
func Rule(effect v1alpha1.ACLEffect, filter string, actions ...v1alpha1.ACLAction) v1alpha1.ACLRule {
	return v1alpha1.ACLRule{Effect: effect, Filter: v1alpha1.TopicFilter(filter), Actions: actions}
}

// Policy is bound to those who name it.
func Policy(namespace, name string, rules ...v1alpha1.ACLRule) *v1alpha1.MQTTAccessPolicy {
	return &v1alpha1.MQTTAccessPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: v1alpha1.MQTTAccessPolicySpec{Rules: rules}}
}

// Selecting binds a policy to users by their labels.
func Selecting(policy *v1alpha1.MQTTAccessPolicy, labels map[string]string) *v1alpha1.MQTTAccessPolicy {
	policy.Spec.UserSelector = &metav1.LabelSelector{MatchLabels: labels}
	return policy
}

// Secret is one that people let the operator read.
func Secret(namespace, name string, data map[string]string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{v1alpha1.LabelAllow: v1alpha1.AllowReference}},
		StringData: data,
	}
}
