// SPDX-License-Identifier: Apache-2.0

package mqttbridge

import "github.com/mqtt-operator/mqtt-operator/api/v1alpha1"

// reasonOf is the condition's reason for the word by which a bridge says why an end is not connected. A word that this
// operator does not know, of a newer bridge, is an end that is not connected; its sentence says why.
func reasonOf(word string) v1alpha1.ConditionReason {
	if reason, known := reasons[word]; known {
		return reason
	}
	return v1alpha1.ReasonNotConnected
}

// reasons by the words of package bridge of the broker's image, which the operator does not import.
var reasons = map[string]v1alpha1.ConditionReason{
	"StandBy":                  v1alpha1.ReasonConnecting, // Nobody is active yet, or not any more.
	"ConnectionClosed":         v1alpha1.ReasonConnectionLost,
	"CertificateExpired":       v1alpha1.ReasonCertificateExpired,
	"Connecting":               v1alpha1.ReasonConnecting,
	"WaitingForLocal":          v1alpha1.ReasonWaitingForLocal,
	"HostNotFound":             v1alpha1.ReasonHostNotFound,
	"HostUnreachable":          v1alpha1.ReasonHostUnreachable,
	"ConnectionRefused":        v1alpha1.ReasonConnectionRefused,
	"ConnectionLost":           v1alpha1.ReasonConnectionLost,
	"CertificateUntrusted":     v1alpha1.ReasonCertificateUntrusted,
	"CertificateNameMismatch":  v1alpha1.ReasonCertificateNameMismatch,
	"ClientCertificateRefused": v1alpha1.ReasonClientCertificateRefused,
	"NotAuthorized":            v1alpha1.ReasonNotAuthorized,
	"ClientIDRejected":         v1alpha1.ReasonClientIDRejected,
	"ProtocolVersionRejected":  v1alpha1.ReasonProtocolVersionRejected,
	"ProtocolError":            v1alpha1.ReasonProtocolError,
	"NoAnswer":                 v1alpha1.ReasonNoAnswer,
	"ServerUnavailable":        v1alpha1.ReasonServerUnavailable,
	"ServerMoved":              v1alpha1.ReasonServerMoved,
	"SessionTakenOver":         v1alpha1.ReasonSessionTakenOver,
	"WebSocketRefused":         v1alpha1.ReasonWebSocketRefused,
	"SubscriptionRefused":      v1alpha1.ReasonSubscriptionRefused,
}
