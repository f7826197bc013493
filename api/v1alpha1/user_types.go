// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// MQTTUserSpec says who may connect, how they prove it, and what they may do.
type MQTTUserSpec struct {
	// brokerRef names the broker that knows this user. Immutable.
	//
	// +required
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="spec.brokerRef is immutable: delete the user and create it for the other broker"
	BrokerRef BrokerReference `json:"brokerRef,omitzero"`

	// username is the name in CONNECT, 1 to 128 bytes. Default: metadata.name. Immutable. It may not hold "+", "#",
	// "/" or control characters, nor begin with "$", because %u puts it into topic filters as one level: a user named
	// "#" or "$SYS" would otherwise be granted what a rule never meant.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:XValidation:rule="size(bytes(self)) <= 128",message="spec.username may have at most 128 bytes"
	// +kubebuilder:validation:XValidation:rule="!self.matches('[+#/\\\\p{Cc}]')",message="spec.username may not hold +, #, / or control characters: it stands for a topic level where a rule says %u"
	// +kubebuilder:validation:XValidation:rule="!self.startsWith('$')",message="spec.username may not begin with $: such names and topics are the broker's own"
	Username *string `json:"username,omitempty"`

	// authentication says how the user proves who they are.
	//
	// +required
	Authentication UserAuthentication `json:"authentication,omitzero"`

	// clientIDs restricts the client identifiers that the user may connect with. Default: any that no other user holds.
	//
	// +optional
	ClientIDs *UserClientIDs `json:"clientIDs,omitempty"`

	// acl are the rules of this user, at most 256, asked in order; the first that matches decides, no match denies.
	// Default: none, so the user may connect but neither publish nor subscribe.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=256
	ACL []ACLRule `json:"acl,omitempty"`

	// policyRefs names policies of this namespace whose rules are asked after acl, in this order; those whose
	// userSelector matches the user follow, by name, each policy once. While one of them does not exist the user keeps the
	// rules that it had, or stays out where it had none. Default: none.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	PolicyRefs []PolicyReference `json:"policyRefs,omitempty"`

	// quota bounds what the user may use. Default: the limits of the broker alone.
	//
	// +optional
	Quota *UserQuota `json:"quota,omitempty"`

	// suspend locks the user out and ends their connections while it is true; Secrets and sessions stay. Default: false.
	//
	// +optional
	Suspend *bool `json:"suspend,omitempty"`

	// binding says what goes into the binding Secret <metadata.name>-mqtt, which applications mount.
	//
	// +optional
	Binding *UserBinding `json:"binding,omitempty"`
}

// UserAuthentication is one way of proving an identity.
//
// +kubebuilder:validation:XValidation:rule="(has(self.password) ? 1 : 0) + (has(self.certificate) ? 1 : 0) + (has(self.jwt) ? 1 : 0) + (has(self.serviceAccount) ? 1 : 0) == 1",message="spec.authentication needs exactly one of password, certificate, jwt and serviceAccount"
type UserAuthentication struct {
	// password lets the user in by username and password.
	//
	// +optional
	Password *UserPassword `json:"password,omitempty"`

	// certificate lets the user in by a TLS client certificate. It needs a listener with tls.clientAuth. Write an empty
	// object for one that the operator issues: {}.
	//
	// +optional
	Certificate *UserCertificate `json:"certificate,omitempty"`

	// jwt lets the user in by a JSON Web Token that carries the username. It needs the broker's authentication.jwt. Write
	// an empty object for tokens of any issuer of the broker: {}.
	//
	// +optional
	JWT *UserJWT `json:"jwt,omitempty"`

	// serviceAccount lets the pods of a ServiceAccount in by their token. It needs the broker's
	// authentication.serviceAccounts.
	//
	// +optional
	ServiceAccount *UserServiceAccount `json:"serviceAccount,omitempty"`
}

// UserPassword says where the password comes from.
//
// +kubebuilder:validation:XValidation:rule="(has(self.secretRef) ? 1 : 0) + (has(self.generate) ? 1 : 0) + (has(self.hashSecretRef) ? 1 : 0) == 1",message="spec.authentication.password needs exactly one of secretRef, generate and hashSecretRef"
type UserPassword struct {
	// secretRef names a Secret of this namespace that holds the password in plain form; key defaults to "password". The
	// Secret must carry the label mqtt-operator.io/allow: "true". A change of the Secret is taken at once.
	//
	// +optional
	SecretRef *SecretKeyReference `json:"secretRef,omitempty"`

	// generate lets the operator draw a password of 256 random bits and put it into the binding Secret. It draws another
	// one at the age of rotateAfter, and whenever the annotation mqtt-operator.io/rotate of the user gets another value.
	//
	// +optional
	Generate *GeneratePassword `json:"generate,omitempty"`

	// hashSecretRef names a Secret of this namespace that holds a hash of the password and nothing else, as argon2id,
	// bcrypt, PBKDF2, SCRAM-SHA-256 or one of Mosquitto ($7$, $6$); key defaults to "hash". The Secret must carry the label
	// mqtt-operator.io/allow: "true". The binding Secret then holds no password.
	//
	// +optional
	HashSecretRef *SecretKeyReference `json:"hashSecretRef,omitempty"`

	// scram lets the user log in by SCRAM-SHA-256 too, which never sends the password. What the broker keeps for it is
	// easier to guess from than its other hash, unless the password is a generated one. Default: false. With hashSecretRef
	// the hash itself must be of SCRAM-SHA-256.
	//
	// +optional
	SCRAM *bool `json:"scram,omitempty"`
}

// GeneratePassword says how a generated password lives.
//
// +kubebuilder:validation:XValidation:rule="!has(self.overlap) || !has(self.rotateAfter) || duration(self.overlap) <= duration(self.rotateAfter)",message="spec.authentication.password.generate.overlap may be at most rotateAfter"
type GeneratePassword struct {
	// rotateAfter is the age at which a new password is drawn, 1h to 87600h. Default: never.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=20
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1h') && duration(self) <= duration('87600h')",message="spec.authentication.password.generate.rotateAfter must be between 1h and 87600h"
	RotateAfter *metav1.Duration `json:"rotateAfter,omitempty"`

	// overlap is how long the old password works beside the new one, 0s to 87600h and at most rotateAfter. Applications
	// must have read the new one by then. Default: 24h, or half of rotateAfter where that is shorter.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=20
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('87600h')",message="spec.authentication.password.generate.overlap must be between 0s and 87600h"
	Overlap *metav1.Duration `json:"overlap,omitempty"`
}

// UserCertificate says how a client certificate is made or recognised.
//
// +kubebuilder:validation:XValidation:rule="(has(self.validity) ? duration(self.validity) : duration('2160h')) > (has(self.renewBefore) ? duration(self.renewBefore) : duration('1h'))",message="spec.authentication.certificate.renewBefore must be shorter than validity (default 2160h)"
type UserCertificate struct {
	// issue lets the operator issue the certificate into the binding Secret and opens the broker to that one alone.
	// Default: true. With false the user brings a certificate of a CA that the listener trusts, whose name equals the
	// username; any such certificate opens.
	//
	// +optional
	Issue *bool `json:"issue,omitempty"`

	// validity is how long an issued certificate is valid, 1h to 87600h. Default: 2160h.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=20
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1h') && duration(self) <= duration('87600h')",message="spec.authentication.certificate.validity must be between 1h and 87600h"
	Validity *metav1.Duration `json:"validity,omitempty"`

	// renewBefore is how long before its end an issued certificate is renewed, 1m to 87600h and shorter than validity.
	// Default: a third of validity.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=20
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1m') && duration(self) <= duration('87600h')",message="spec.authentication.certificate.renewBefore must be between 1m and 87600h"
	RenewBefore *metav1.Duration `json:"renewBefore,omitempty"`
}

// UserJWT says whose tokens are the user's.
type UserJWT struct {
	// issuer is one of the broker's authentication.jwt whose tokens carry the username. Default: any of them.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Issuer *string `json:"issuer,omitempty"`
}

// UserServiceAccount names the ServiceAccount whose pods are this user.
type UserServiceAccount struct {
	// name is a ServiceAccount of this namespace.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`
}

// UserClientIDs restricts client identifiers.
//
// +kubebuilder:validation:XValidation:rule="has(self.exact) != has(self.prefix)",message="spec.clientIDs needs exactly one of exact and prefix"
type UserClientIDs struct {
	// exact lists the client identifiers that are allowed, at most 64.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=256
	Exact []string `json:"exact,omitempty"`

	// prefix is what every client identifier must begin with, 1 to 128 characters.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	Prefix *string `json:"prefix,omitempty"`
}

// PolicyReference names an MQTTAccessPolicy of the same namespace.
type PolicyReference struct {
	// name is the name of the MQTTAccessPolicy.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`
}

// UserQuota bounds what one user may use.
//
// +kubebuilder:validation:MinProperties=1
type UserQuota struct {
	// connections is the most connections at the same time, 1 to 1000000. Default: no bound.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	Connections *int32 `json:"connections,omitempty"`

	// publishRate is the most messages per second that all connections of the user may publish, 1 to 1000000. What
	// comes faster is read more slowly. Default: no bound.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	PublishRate *int32 `json:"publishRate,omitempty"`

	// bytesRate is the most bytes per second that all connections of the user may send, from 1Ki. What comes faster is
	// read more slowly. Default: no bound.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).isInteger() && quantity(string(self)).compareTo(quantity('1Ki')) >= 0",message="spec.quota.bytesRate must be a whole number of bytes, at least 1Ki"
	BytesRate *resource.Quantity `json:"bytesRate,omitempty"`

	// queuedMessages is the most messages that wait for one session of the user, 1 to 10000000. Default: the broker's
	// limits.maxQueuedMessages.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000000
	QueuedMessages *int32 `json:"queuedMessages,omitempty"`

	// sessionExpiry is the longest that a session of the user outlives its connection, 0s to 1193046h. Default: the
	// broker's limits.maxSessionExpiry.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=20
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('1193046h')",message="spec.quota.sessionExpiry must be between 0s and 1193046h"
	SessionExpiry *metav1.Duration `json:"sessionExpiry,omitempty"`
}

// UserBinding says what goes into the binding Secret.
type UserBinding struct {
	// listener names the listener of the broker whose host, port and uri go into the binding Secret. Default: the first
	// listener with protocol tls, else the first with wss, else the first of all.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=15
	Listener *string `json:"listener,omitempty"`
}

// AuthenticationMethod is the way by which a user proves who they are.
//
// +kubebuilder:validation:Enum=password;certificate;jwt;serviceAccount
type AuthenticationMethod string

// The ways to prove an identity.
const (
	AuthenticationPassword       AuthenticationMethod = "password"
	AuthenticationCertificate    AuthenticationMethod = "certificate"
	AuthenticationJWT            AuthenticationMethod = "jwt"
	AuthenticationServiceAccount AuthenticationMethod = "serviceAccount"
)

// MQTTUserStatus is what the operator knows about the user.
type MQTTUserStatus struct {
	// conditions are Ready, CredentialsReady and Applied, and Stalled while it is true.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is the generation of the spec that this status speaks of.
	//
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// username is the name under which the broker knows the user.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=128
	Username string `json:"username,omitempty"`

	// authentication is the way by which the user proves who they are.
	//
	// +optional
	Authentication AuthenticationMethod `json:"authentication,omitempty"`

	// binding names the Secret that applications mount, in the shape of a Provisioned Service of servicebinding.io.
	//
	// +optional
	Binding *BindingStatus `json:"binding,omitempty"`

	// password says how old a generated password is, and what comes next. Absent for other users.
	//
	// +optional
	Password *PasswordStatus `json:"password,omitempty"`

	// certificate says how long an issued certificate lasts, and what comes next. Absent for other users.
	//
	// +optional
	Certificate *UserCertificateStatus `json:"certificate,omitempty"`
}

// PasswordStatus says where a generated password is in its life.
type PasswordStatus struct {
	// rotatedAt is when the password was drawn.
	//
	// +optional
	RotatedAt *metav1.Time `json:"rotatedAt,omitempty"`

	// nextRotation is when another one will be drawn. Absent without rotateAfter.
	//
	// +optional
	NextRotation *metav1.Time `json:"nextRotation,omitempty"`

	// oldValidUntil is when the password before this one stops working. Absent where it has.
	//
	// +optional
	OldValidUntil *metav1.Time `json:"oldValidUntil,omitempty"`
}

// UserCertificateStatus says where an issued certificate is in its life.
type UserCertificateStatus struct {
	// notAfter is the end of the certificate.
	//
	// +optional
	NotAfter *metav1.Time `json:"notAfter,omitempty"`

	// nextRenewal is when another one will be issued.
	//
	// +optional
	NextRenewal *metav1.Time `json:"nextRenewal,omitempty"`

	// oldValidUntil is when the certificate before this one stops opening the broker. Absent where it has.
	//
	// +optional
	OldValidUntil *metav1.Time `json:"oldValidUntil,omitempty"`
}

// BindingStatus names the binding Secret.
type BindingStatus struct {
	// name is the name of the binding Secret, in the user's namespace.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`
}

// MQTTUser is somebody or something that connects to a broker.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=mqttusers,singular=mqttuser,shortName=mqu,categories=mqtt,scope=Namespaced
// +kubebuilder:selectablefield:JSONPath=`.spec.brokerRef.name`
// +kubebuilder:printcolumn:name="Broker",type=string,JSONPath=`.spec.brokerRef.name`,description="The broker that knows the user"
// +kubebuilder:printcolumn:name="Username",type=string,JSONPath=`.status.username`,description="The name in CONNECT"
// +kubebuilder:printcolumn:name="Auth",type=string,JSONPath=`.status.authentication`,description="How the user proves who they are"
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`,description="Whether what the spec says is in force"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,description="Why it is so"
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 200",message="metadata.name of a user may have at most 200 characters: names of Secrets are made from it"
// +kubebuilder:validation:XValidation:rule="has(self.spec.username) || size(self.metadata.name) <= 128",message="metadata.name over 128 characters cannot be the username: set spec.username"
// +kubebuilder:validation:XValidation:rule="(has(self.spec.username) ? self.spec.username : self.metadata.name) == (has(oldSelf.spec.username) ? oldSelf.spec.username : oldSelf.metadata.name)",message="spec.username is immutable: delete the user and create it under the other name"
type MQTTUser struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object's metadata; name has at most 200 characters.
	//
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says what is wanted.
	//
	// +required
	Spec MQTTUserSpec `json:"spec,omitzero"`

	// status says what is true now. Until the operator has looked at the object, observedGeneration is -1: tools that read
	// kstatus take an object without a status for one that is ready.
	//
	// +optional
	// +default={"observedGeneration":-1}
	Status MQTTUserStatus `json:"status,omitzero"`
}

// MQTTUserList is a list of MQTTUser.
//
// +kubebuilder:object:root=true
type MQTTUserList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []MQTTUser `json:"items"`
}
