// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
)

// Labels of every object that the operator makes. None of their values ever changes for an object that exists.
const (
	LabelName      = "app.kubernetes.io/name"       // always NameValue
	LabelInstance  = "app.kubernetes.io/instance"   // the name of the object that asked for it
	LabelComponent = "app.kubernetes.io/component"  // one of the Component values
	LabelPartOf    = "app.kubernetes.io/part-of"    // always PartOfValue
	LabelManagedBy = "app.kubernetes.io/managed-by" // always ManagedByValue

	// LabelBroker carries the name of the broker that an object belongs to.
	LabelBroker = "mqtt-operator.io/broker"

	// LabelAllow opens a Secret or ConfigMap to the operator: its cache holds none without this label.
	LabelAllow = "mqtt-operator.io/allow"
)

// Values of labels.
const (
	NameValue      = "mqtt-broker"
	PartOfValue    = "mqtt-operator"
	ManagedByValue = "mqtt-operator"

	ComponentBroker = "broker"
	ComponentUser   = "user"
	ComponentBridge = "bridge"

	// AllowReference is what people write on a Secret that the operator may read for them. Only such Secrets can be
	// referred to.
	AllowReference = "true"

	// AllowOwned is what the operator writes on its own Secrets. It opens nothing to references.
	AllowOwned = "operator"
)

// AnnotationPaused on a broker, with the value "true", makes the operator write nothing of it but its
// status. Its users get their Secrets all the same; the broker hears of them when the pause ends.
const AnnotationPaused = "mqtt-operator.io/paused"

// AnnotationRestartAt on a broker holds a time as in RFC 3339. Another time than before replaces the broker's pods once; the
// time itself is only a name for the wish. On a pod it is the wish that the pod was made for.
const AnnotationRestartAt = "mqtt-operator.io/restart-at"

// AnnotationUrgent on a broker, with the value "true", lets changes that replace pods pass outside of maintenance windows.
const AnnotationUrgent = "mqtt-operator.io/urgent"

// AnnotationRotateCA on a broker, with a value other than the last one, replaces the broker's CAs in stages.
const AnnotationRotateCA = "mqtt-operator.io/rotate-ca"

// AnnotationRotate on a user, with a value other than the last one, draws another password or issues another
// certificate, where the operator makes them.
const AnnotationRotate = "mqtt-operator.io/rotate"

// Types of the Secrets that the operator writes.
const (
	SecretTypeBinding  corev1.SecretType = "servicebinding.io/mqtt"    // what applications mount
	SecretTypeVerifier corev1.SecretType = "mqtt-operator.io/verifier" // hashes by which a user is recognised
	SecretTypeCA       corev1.SecretType = "mqtt-operator.io/ca"       // a CA with its key
	SecretTypeConfig   corev1.SecretType = "mqtt-operator.io/config"   // a part of a broker's configuration
)

// Keys of the Secrets that people write.
const (
	DefaultPasswordKey     = "password"
	DefaultPasswordHashKey = "hash"
	DefaultCRLKey          = "ca.crl"
	DefaultJWKSKey         = "jwks.json"
	DefaultCAKey           = "ca.crt"
)

// Keys of the binding Secret, as servicebinding.io names them.
const (
	BindingType     = "type"
	BindingProvider = "provider"
	BindingHost     = "host"
	BindingPort     = "port"
	BindingURI      = "uri"
	BindingUsername = "username"
	BindingPassword = "password"
	BindingCA       = "ca.crt"
	BindingCert     = "tls.crt"
	BindingKey      = "tls.key"
)

// Values of the binding Secret.
const (
	BindingTypeValue     = "mqtt"
	BindingProviderValue = "mqtt-operator"
)

// StatefulSetName is the StatefulSet of a broker, and its pods' name without the ordinal.
func StatefulSetName(broker string) string { return broker + "-broker" }

// PodName is the pod of a broker with that ordinal.
func PodName(broker string, ordinal int) string {
	return StatefulSetName(broker) + "-" + strconv.Itoa(ordinal)
}

// VolumeName is the volume of a broker's pod, and the claim for it in the StatefulSet.
const VolumeName = "data"

// VolumeClaimName is the PersistentVolumeClaim of a broker's pod with that ordinal.
func VolumeClaimName(broker string, ordinal int) string {
	return VolumeName + "-" + PodName(broker, ordinal)
}

// HeadlessServiceName is the Service that gives each pod of a broker a name.
func HeadlessServiceName(broker string) string { return broker + "-headless" }

// ListenerServiceName is the Service of a listener.
func ListenerServiceName(broker, listener string) string { return broker + "-" + listener }

// ServiceAccountName is the ServiceAccount of a broker's pods.
func ServiceAccountName(broker string) string { return broker + "-broker" }

// NetworkPolicyName is the NetworkPolicy of a broker's pods.
func NetworkPolicyName(broker string) string { return broker + "-broker" }

// DisruptionBudgetName is the PodDisruptionBudget of a broker's pods.
func DisruptionBudgetName(broker string) string { return broker + "-broker" }

// MonitoringName is the PodMonitor and the PrometheusRule of a broker.
func MonitoringName(broker string) string { return broker + "-broker" }

// DashboardName is the ConfigMap with the dashboard of a broker.
func DashboardName(broker string) string { return broker + "-dashboard" }

// ConfigSecretName is the Secret with the first part of a broker's configuration.
func ConfigSecretName(broker string) string { return broker + "-config" }

// UsersSecretName is the Secret with a shard of a broker's users.
func UsersSecretName(broker string, shard int) string {
	return broker + "-users-" + strconv.Itoa(shard)
}

// CASecretName is the Secret with the CA that clients of a broker trust.
func CASecretName(broker string) string { return broker + "-ca" }

// ClientCASecretName is the Secret with the CA that signs the client certificates of a broker's users.
func ClientCASecretName(broker string) string { return broker + "-client-ca" }

// IssuedName is the Certificate that cert-manager is asked for, and the Secret into which it writes.
func IssuedName(broker, listener string) string { return broker + "-" + listener + "-issued" }

// TLSSecretName is the Secret with the certificate that the operator signs for listeners.
func TLSSecretName(broker string) string { return broker + "-tls" }

// AdminCASecretName is the Secret with the CA of the connection between operator and broker.
func AdminCASecretName(broker string) string { return broker + "-admin-ca" }

// AdminTLSSecretName is the Secret with the certificates of the two ends of that connection.
func AdminTLSSecretName(broker string) string { return broker + "-admin-tls" }

// BindingSecretName is the Secret that applications of a user mount.
func BindingSecretName(user string) string { return user + "-mqtt" }

// VerifierSecretName is the Secret with the hashes by which a user is recognised.
func VerifierSecretName(user string) string { return user + "-mqtt-verifier" }

// BridgeDeploymentName is the Deployment of a bridge.
func BridgeDeploymentName(bridge string) string { return bridge + "-bridge" }

// BridgeNetworkPolicyName is the NetworkPolicy of a bridge's pods.
func BridgeNetworkPolicyName(bridge string) string { return bridge + "-bridge" }

// BridgeMonitoringName is the PodMonitor and the PrometheusRule of a bridge.
func BridgeMonitoringName(bridge string) string { return bridge + "-bridge" }

// BridgeDashboardName is the ConfigMap with the dashboard of a bridge.
func BridgeDashboardName(bridge string) string { return bridge + "-bridge-dashboard" }

// BridgeUserName is the MQTTUser by which a bridge connects to its local broker.
func BridgeUserName(bridge string) string { return bridge + "-bridge" }

// BridgeRemoteUserName is the MQTTUser by which a bridge connects to a remote broker of the same cluster.
func BridgeRemoteUserName(bridge string) string { return bridge + "-bridge-remote" }

// BridgeConfigSecretName is the Secret with the configuration of a bridge.
func BridgeConfigSecretName(bridge string) string { return bridge + "-bridge-config" }

// BridgeAdminSecretName is the Secret with the CA and the two ends of the connection between operator and bridge.
func BridgeAdminSecretName(bridge string) string { return bridge + "-bridge-admin" }

// BridgeUsername is the name by which a broker knows a bridge at its local end, BridgeRemoteUsername the one at its
// remote end. They tell namespaces apart, because a broker may take bridges of several. No label holds a dot, so that no
// two bridges share one.
func BridgeUsername(namespace, bridge string) string { return namespace + "." + bridge + ".bridge" }

// BridgeRemoteUsername see [BridgeUsername].
func BridgeRemoteUsername(namespace, bridge string) string {
	return namespace + "." + bridge + ".remote"
}

// BrokerLabels are the labels of every object of a broker.
func BrokerLabels(broker string) map[string]string {
	return labels(broker, ComponentBroker, broker)
}

// BrokerSelector finds the pods of a broker. A StatefulSet's selector can never change, so neither can this.
func BrokerSelector(broker string) map[string]string {
	return map[string]string{LabelName: NameValue, LabelInstance: broker, LabelComponent: ComponentBroker}
}

// UserLabels are the labels of every object of a user. A user's name may be longer than a label's value; then the
// instance is cut, and only the owner reference tells users apart.
func UserLabels(user, broker string) map[string]string {
	return labels(user, ComponentUser, broker)
}

// BridgeSelector finds the pods of a bridge. A Deployment's selector can never change, so neither can this.
func BridgeSelector(bridge string) map[string]string {
	return map[string]string{LabelName: NameValue, LabelInstance: bridge, LabelComponent: ComponentBridge}
}

// BridgeLabels are the labels of every object of a bridge.
func BridgeLabels(bridge, broker string) map[string]string {
	return labels(bridge, ComponentBridge, broker)
}

func labels(instance, component, broker string) map[string]string {
	return map[string]string{
		LabelName:      NameValue,
		LabelInstance:  labelValue(instance),
		LabelComponent: component,
		LabelPartOf:    PartOfValue,
		LabelManagedBy: ManagedByValue,
		LabelBroker:    broker,
	}
}

// labelValue cuts a name to what a label can hold: 63 characters that end with a letter or digit.
func labelValue(name string) string {
	const longest = 63
	if len(name) <= longest {
		return name
	}

	end := longest
	for end > 0 && (name[end-1] == '-' || name[end-1] == '.') {
		end--
	}

	return name[:end]
}
