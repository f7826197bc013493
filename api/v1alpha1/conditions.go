// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// ConditionType names a condition in the status of an object.
//
// Every condition of a kind is set on every pass, with the observedGeneration of that pass; Unknown means that the
// operator could not find out. True is the good news, except for Paused, Insecure,
// CertificateExpiring, Looping and Stalled.
type ConditionType string

// ConditionReason is the one word that says why a condition is what it is. An event that reports a change of the
// condition carries the same word.
type ConditionReason string

// Conditions of every kind.
const (
	// ConditionReady sums up the others. True: what the spec of the observed generation says is in force. False: it is
	// not, and the reason is that of the most telling condition below it. Unknown: the operator has not found out yet.
	ConditionReady ConditionType = "Ready"

	// ConditionStalled is for tools that read kstatus. True: nothing will change until somebody acts, and the reason is
	// that of Ready. Absent otherwise: it is never False and never Unknown.
	ConditionStalled ConditionType = "Stalled"
)

// Conditions of MQTTBroker and MQTTBridge.
const (
	// ConditionNetworkPolicyReady says whether the NetworkPolicy of the pods is what the spec says. True: it stands, or it is
	// not wanted (reason NetworkPolicyOff). False: the reason says what is in the way; the pods serve all the same. Unknown:
	// the pass ended before it was written, and the reason says why.
	ConditionNetworkPolicyReady ConditionType = "NetworkPolicyReady"

	// ConditionMonitoringReady says whether the objects of spec.monitoring stand. True: they do, or none is wanted (reason
	// NoMonitoring). False: the reason says what is in the way; Ready does not depend on it. Unknown: the pass ended before
	// they were written, and the reason says why.
	ConditionMonitoringReady ConditionType = "MonitoringReady"
)

// Conditions of MQTTBroker.
const (
	// ConditionDisruptionBudgetReady says whether the PodDisruptionBudget stands. True: it does. False: the reason says what is
	// in the way; the pods serve all the same. Unknown: the pass ended before it was written. Absent where none is wanted.
	ConditionDisruptionBudgetReady ConditionType = "DisruptionBudgetReady"

	// ConditionAvailable says whether clients are served at all, with whatever configuration. True: at least one pod is
	// ready. False: none is, or the broker hibernates. Unknown: the pods could not be read.
	ConditionAvailable ConditionType = "Available"

	// ConditionProgressing says whether pods are on their way to what the spec says. True: a roll-out is under way, or it
	// ended well (reason RolloutComplete). False: it does not get on, and the reason says why. Unknown: the pods could
	// not be read.
	ConditionProgressing ConditionType = "Progressing"

	// ConditionConfigApplied says whether every ready pod runs the newest configuration. True: each has answered its
	// revision. False: at least one has not answered yet, or has refused it. Unknown: no pod is ready to answer.
	ConditionConfigApplied ConditionType = "ConfigApplied"

	// ConditionTLSReady says whether every listener with TLS has a certificate that it can serve; in the status of a
	// listener it speaks of that one. True: all have, or there is no such listener (reason NoTLSListener). False: one has
	// not; what it served before, it goes on serving. Unknown: the Secrets could not be read.
	ConditionTLSReady ConditionType = "TLSReady"

	// ConditionAuthenticationReady says whether the broker has the keys of everybody whose tokens it is to believe. True:
	// it has, or there is nobody (reason NoTokens). False: the keys of one are missing or bad; those that it had before
	// stay in force. Unknown: the API server could not be asked for the cluster's own keys; those of before stay in force.
	ConditionAuthenticationReady ConditionType = "AuthenticationReady"

	// ConditionStorageReady says whether the pods can write what they must keep. True: every pod that answers can. False:
	// one cannot, and refuses what it could not keep. Unknown: no pod answers.
	ConditionStorageReady ConditionType = "StorageReady"

	// ConditionCertificateExpiring is a warning. True: a certificate that a listener serves, or a revocation list, ends
	// within 14 days and has not been renewed. False: none does. Unknown: the Secrets could not be read.
	ConditionCertificateExpiring ConditionType = "CertificateExpiring"

	// ConditionPaused says whether the operator leaves the broker alone. True: the annotation mqtt-operator.io/paused is
	// "true"; nothing is written but the status. False: it is not. Never Unknown.
	ConditionPaused ConditionType = "Paused"

	// ConditionInsecure is a warning. True: the spec asks for a listener that carries passwords in plain text, or lets
	// clients in without a name. False: it does neither. Never Unknown.
	ConditionInsecure ConditionType = "Insecure"
)

// Conditions of MQTTUser, and Applied of MQTTBridge too.
const (
	// ConditionCredentialsReady says whether the operator has what it takes to recognise the user. True: verifier and
	// binding Secret are written. False: the reason says what is wrong with the credentials. Unknown: the Secrets could
	// not be read.
	ConditionCredentialsReady ConditionType = "CredentialsReady"

	// ConditionApplied says whether what the spec says has reached those who carry it out. True for a user: every ready
	// pod of the broker knows the user in this form; for a bridge: its pods run with this form. False: not yet, or the
	// object was rejected. Unknown: nobody is there to answer, for instance because the broker hibernates.
	ConditionApplied ConditionType = "Applied"
)

// Conditions of MQTTBridge.
const (
	// ConditionLocalConnected says whether the local end is connected. True: it is, in the pod that is active. False: it
	// is not, and the reason says why. Unknown: no pod of the bridge answers, or none is meant to run.
	ConditionLocalConnected ConditionType = "LocalConnected"

	// ConditionRemoteConnected says the same of the remote end.
	ConditionRemoteConnected ConditionType = "RemoteConnected"

	// ConditionLooping is a warning. True: messages that come by this bridge go round through others and back without end; the
	// message names them. It is looked for every 10 s among the bridges that this operator sees. Absent otherwise: it is
	// never False and never Unknown.
	ConditionLooping ConditionType = "Looping"
)

// Reasons that any kind may give.
const (
	// ReasonReconciling: the operator has not finished its first pass over this generation.
	ReasonReconciling ConditionReason = "Reconciling"
	// ReasonReady: everything that the spec says is in force.
	ReasonReady ConditionReason = "Ready"
	// ReasonDeleting: the object is being deleted.
	ReasonDeleting ConditionReason = "Deleting"
	// ReasonPaused: the object, or the broker that it belongs to, is paused.
	ReasonPaused ConditionReason = "Paused"
	// ReasonNotPaused: the operator looks after the object.
	ReasonNotPaused ConditionReason = "NotPaused"
	// ReasonObjectConflict: an object of a name that is needed exists and is not the operator's; it is left alone.
	ReasonObjectConflict ConditionReason = "ObjectConflict"
	// ReasonApplyRefused: the API server refused an object that the operator wanted to write.
	ReasonApplyRefused ConditionReason = "ApplyRefused"
	// ReasonObserveFailed: the API server did not answer a question that the operator had.
	ReasonObserveFailed ConditionReason = "ObserveFailed"
	// ReasonSpecInvalid: the spec holds what no schema could refuse; the message says what.
	ReasonSpecInvalid ConditionReason = "SpecInvalid"
	// ReasonSecretNotUsable: a Secret that the spec names does not exist or lacks the label mqtt-operator.io/allow:
	// "true". It is one reason, so that nobody learns from it which Secrets exist.
	ReasonSecretNotUsable ConditionReason = "SecretNotUsable"
	// ReasonSecretKeyMissing: a Secret that the operator may read lacks the key that the spec names.
	ReasonSecretKeyMissing ConditionReason = "SecretKeyMissing"
	// ReasonBrokerNotFound: there is no broker of the name in brokerRef, or it does not allow the namespace. It is one
	// reason, so that nobody learns from it which brokers exist.
	ReasonBrokerNotFound ConditionReason = "BrokerNotFound"
)

// Reasons of what stands beside the pods: NetworkPolicyReady, DisruptionBudgetReady and MonitoringReady.
const (
	// ReasonNetworkPolicyReady: the NetworkPolicy is what the spec says.
	ReasonNetworkPolicyReady ConditionReason = "NetworkPolicyReady"
	// ReasonNetworkPolicyOff: spec.networkPolicy.enabled is false, and there is none.
	ReasonNetworkPolicyOff ConditionReason = "NetworkPolicyOff"
	// ReasonDisruptionBudgetReady: the PodDisruptionBudget stands.
	ReasonDisruptionBudgetReady ConditionReason = "DisruptionBudgetReady"
	// ReasonMonitoringReady: every object of spec.monitoring stands.
	ReasonMonitoringReady ConditionReason = "MonitoringReady"
	// ReasonNoMonitoring: spec.monitoring wants none.
	ReasonNoMonitoring ConditionReason = "NoMonitoring"
	// ReasonMonitoringKindMissing: the cluster does not have the kinds of the Prometheus operator.
	ReasonMonitoringKindMissing ConditionReason = "MonitoringKindMissing"
	// ReasonMonitoringRequestFailed: the API server did not take an object of spec.monitoring, and is asked again.
	ReasonMonitoringRequestFailed ConditionReason = "MonitoringRequestFailed"
)

// Reasons of a broker's pods and roll-outs: Available, Progressing, Ready and lastRestart.
const (
	// ReasonPodsReady: as many pods are ready as the spec asks for.
	ReasonPodsReady ConditionReason = "PodsReady"
	// ReasonPodsNotReady: fewer pods are ready than the spec asks for.
	ReasonPodsNotReady ConditionReason = "PodsNotReady"
	// ReasonDrained: every pod that is ready lets nobody in, because somebody has asked for a drain.
	ReasonDrained ConditionReason = "Drained"
	// ReasonHibernated: spec.replicas is 0, so no pod is meant to run.
	ReasonHibernated ConditionReason = "Hibernated"
	// ReasonRolloutInProgress: pods are being made or replaced.
	ReasonRolloutInProgress ConditionReason = "RolloutInProgress"
	// ReasonRolloutComplete: every pod is in the form that the spec says.
	ReasonRolloutComplete ConditionReason = "RolloutComplete"
	// ReasonRolloutStuck: a pod did not become ready in the time that a roll-out may take, and the form of before came back.
	// As the reason of a restart, it is that return.
	ReasonRolloutStuck ConditionReason = "RolloutStuck"
	// ReasonVolumeExpanding: the volumes are on their way to a larger spec.persistence.size; pods go on meanwhile.
	ReasonVolumeExpanding ConditionReason = "VolumeExpanding"
	// ReasonVolumeExpansionRefused: the API server lets a volume not grow, mostly because its storage class does not.
	ReasonVolumeExpansionRefused ConditionReason = "VolumeExpansionRefused"
	// ReasonWaitingForWindow: a change that replaces pods waits for a maintenance window.
	ReasonWaitingForWindow ConditionReason = "WaitingForWindow"
	// ReasonMaintenanceWindowInvalid: a maintenance window names a time zone that nobody knows, so it never opens.
	ReasonMaintenanceWindowInvalid ConditionReason = "MaintenanceWindowInvalid"
	// ReasonImageChanged: pods were restarted for another image.
	ReasonImageChanged ConditionReason = "ImageChanged"
	// ReasonPodChanged: pods were restarted for a change of spec.pod.
	ReasonPodChanged ConditionReason = "PodChanged"
	// ReasonRestartRequested: pods were restarted because somebody asked for it by the annotation mqtt-operator.io/restart-at.
	ReasonRestartRequested ConditionReason = "RestartRequested"
	// ReasonRestartAtInvalid: the annotation mqtt-operator.io/restart-at holds no time, so nothing comes of it.
	ReasonRestartAtInvalid ConditionReason = "RestartAtInvalid"
	// ReasonTemplateChanged: pods were restarted because this release of the operator shapes them differently.
	ReasonTemplateChanged ConditionReason = "TemplateChanged"
)

// Reasons of a broker's configuration: ConfigApplied, and Applied of users.
const (
	// ReasonConfigApplied: every ready pod runs the newest configuration.
	ReasonConfigApplied ConditionReason = "ConfigApplied"
	// ReasonConfigPending: a pod has not answered with the newest revision yet.
	ReasonConfigPending ConditionReason = "ConfigPending"
	// ReasonConfigRefused: a pod refused the newest configuration and goes on with the one that it had.
	ReasonConfigRefused ConditionReason = "ConfigRefused"
	// ReasonConfigInvalid: the operator's own check refused the configuration before any pod saw it.
	ReasonConfigInvalid ConditionReason = "ConfigInvalid"
	// ReasonConfigTooLarge: the configuration does not fit into the Secrets that may hold it.
	ReasonConfigTooLarge ConditionReason = "ConfigTooLarge"
)

// Reasons of certificates: TLSReady.
const (
	// ReasonTLSReady: every listener with TLS has a certificate that it can serve.
	ReasonTLSReady ConditionReason = "TLSReady"
	// ReasonNoTLSListener: no listener has TLS.
	ReasonNoTLSListener ConditionReason = "NoTLSListener"
	// ReasonTLSSecretNotUsable: the Secret of a listener's certificate does not exist or lacks the label
	// mqtt-operator.io/allow: "true". A Secret that lacks tls.crt or tls.key has the reason SecretKeyMissing.
	ReasonTLSSecretNotUsable ConditionReason = "TLSSecretNotUsable"
	// ReasonKeyPairMismatch: tls.key is not the key of tls.crt.
	ReasonKeyPairMismatch ConditionReason = "KeyPairMismatch"
	// ReasonCertificateInvalid: tls.crt or tls.key cannot be parsed.
	ReasonCertificateInvalid ConditionReason = "CertificateInvalid"
	// ReasonCertificateExpired: the certificate's time is over, or has not come.
	ReasonCertificateExpired ConditionReason = "CertificateExpired"
	// ReasonCertManagerMissing: a listener has issuerRef, and the cluster has no cert-manager.
	ReasonCertManagerMissing ConditionReason = "CertManagerMissing"
	// ReasonCertificatePending: cert-manager has been asked for a certificate and has not delivered it yet.
	ReasonCertificatePending ConditionReason = "CertificatePending"
	// ReasonCertificateRequestFailed: cert-manager could not be asked for a certificate.
	ReasonCertificateRequestFailed ConditionReason = "CertificateRequestFailed"
	// ReasonClientCANotUsable: the Secret with the CAs of client certificates does not exist or lacks the label.
	ReasonClientCANotUsable ConditionReason = "ClientCANotUsable"
	// ReasonClientCAInvalid: what it holds are no CA certificates, or too many.
	ReasonClientCAInvalid ConditionReason = "ClientCAInvalid"
	// ReasonCRLNotUsable: the Secret with revocation lists does not exist or lacks the label.
	ReasonCRLNotUsable ConditionReason = "CRLNotUsable"
	// ReasonCRLInvalid: what it holds are no revocation lists, too many, or lists of a CA that is not trusted.
	ReasonCRLInvalid ConditionReason = "CRLInvalid"
	// ReasonCertificateExpiring: a certificate or revocation list ends within 14 days.
	ReasonCertificateExpiring ConditionReason = "CertificateExpiring"
	// ReasonCertificatesValid: no certificate ends within 14 days.
	ReasonCertificatesValid ConditionReason = "CertificatesValid"
)

// Reasons of tokens: AuthenticationReady.
const (
	// ReasonAuthenticationReady: the broker has the keys of every issuer, or knows where to fetch them.
	ReasonAuthenticationReady ConditionReason = "AuthenticationReady"
	// ReasonNoTokens: spec.authentication names nobody.
	ReasonNoTokens ConditionReason = "NoTokens"
	// ReasonJWKSNotUsable: the Secret or ConfigMap with a key set does not exist or lacks the label.
	ReasonJWKSNotUsable ConditionReason = "JWKSNotUsable"
	// ReasonJWKSInvalid: what it holds is no key set, or one without a key that can verify a token.
	ReasonJWKSInvalid ConditionReason = "JWKSInvalid"
	// ReasonIssuerCANotUsable: the Secret with the CAs that vouch for an issuer's address does not exist or lacks the label.
	ReasonIssuerCANotUsable ConditionReason = "IssuerCANotUsable"
	// ReasonIssuerCAInvalid: what it holds are no CA certificates, or too many.
	ReasonIssuerCAInvalid ConditionReason = "IssuerCAInvalid"
	// ReasonServiceAccountKeysUnavailable: the API server does not say who signs the tokens of ServiceAccounts.
	ReasonServiceAccountKeysUnavailable ConditionReason = "ServiceAccountKeysUnavailable"
)

// Reasons of the broker's disk: StorageReady, and Ready.
const (
	// ReasonStorageReady: every pod that answers can write.
	ReasonStorageReady ConditionReason = "StorageReady"
	// ReasonStorageDegraded: a pod cannot write what it must keep.
	ReasonStorageDegraded ConditionReason = "StorageDegraded"
)

// Reasons of warnings: Insecure.
const (
	// ReasonPlaintextListener: a listener has protocol tcp or ws.
	ReasonPlaintextListener ConditionReason = "PlaintextListener"
	// ReasonAnonymousAccess: a listener lets clients in without a name. It is given before PlaintextListener.
	ReasonAnonymousAccess ConditionReason = "AnonymousAccess"
	// ReasonSecure: every listener has TLS, and every client a name.
	ReasonSecure ConditionReason = "Secure"
)

// Reasons of users: CredentialsReady and Applied.
const (
	// ReasonCredentialsReady: verifier and binding Secret are written.
	ReasonCredentialsReady ConditionReason = "CredentialsReady"
	// ReasonPasswordInvalid: the password in the Secret is empty, too long, or holds what MQTT cannot carry.
	ReasonPasswordInvalid ConditionReason = "PasswordInvalid"
	// ReasonListenerUnknown: the broker has no listener of the name in spec.binding.listener.
	ReasonListenerUnknown ConditionReason = "ListenerUnknown"
	// ReasonPasswordHashInvalid: the hash in the Secret is of no form that a broker can check.
	ReasonPasswordHashInvalid ConditionReason = "PasswordHashInvalid"
	// ReasonClientAuthMissing: no listener of the broker, or not the one of the binding, asks clients for a certificate.
	ReasonClientAuthMissing ConditionReason = "ClientAuthMissing"
	// ReasonClientCAPending: the broker's CA for client certificates has not been made yet.
	ReasonClientCAPending ConditionReason = "ClientCAPending"
	// ReasonIssuerUnknown: the broker takes no JSON Web Tokens, or none of the issuer that the user names.
	ReasonIssuerUnknown ConditionReason = "IssuerUnknown"
	// ReasonServiceAccountsNotTaken: the broker takes no tokens of ServiceAccounts.
	ReasonServiceAccountsNotTaken ConditionReason = "ServiceAccountsNotTaken"
	// ReasonUsernameConflict: an older user of the same broker has the username.
	ReasonUsernameConflict ConditionReason = "UsernameConflict"
	// ReasonAccepted: the broker's configuration holds the user, and every ready pod knows it.
	ReasonAccepted ConditionReason = "Accepted"
)

// Reasons of bridges: LocalConnected, RemoteConnected, Applied and Ready.
const (
	// ReasonConnected: the end is connected.
	ReasonConnected ConditionReason = "Connected"
	// ReasonNotConnected: the end is not connected, for a reason that this release has no word for; the message says why.
	ReasonNotConnected ConditionReason = "NotConnected"
	// ReasonBridgesInCircle: messages go round through this bridge and others without end.
	ReasonBridgesInCircle ConditionReason = "BridgesInCircle"
	// ReasonRouteLoop: two routes would carry messages in a circle.
	ReasonRouteLoop ConditionReason = "RouteLoop"
	// ReasonBridgePodsNotReady: no pod of the bridge answers.
	ReasonBridgePodsNotReady ConditionReason = "BridgePodsNotReady"
	// ReasonBridgeUserNotReady: the MQTTUser by which the bridge connects is not in force yet.
	ReasonBridgeUserNotReady ConditionReason = "BridgeUserNotReady"
	// ReasonRouteDegraded: a route is not connected although both ends are; the message names it.
	ReasonRouteDegraded ConditionReason = "RouteDegraded"
	// ReasonRemoteCAInvalid: what the Secret of spec.remote.tls.caSecretRef holds are no CA certificates.
	ReasonRemoteCAInvalid ConditionReason = "RemoteCAInvalid"
)

// Reasons why an end of a bridge is not connected: LocalConnected and RemoteConnected. ReasonCertificateExpired is one, too.
const (
	// ReasonConnecting: a connection is being made, or one pod takes over from another.
	ReasonConnecting ConditionReason = "Connecting"
	// ReasonWaitingForLocal: the remote end is connected once the local end is.
	ReasonWaitingForLocal ConditionReason = "WaitingForLocal"
	// ReasonHostNotFound: no address is known for the host of the endpoint.
	ReasonHostNotFound ConditionReason = "HostNotFound"
	// ReasonHostUnreachable: no way leads to the host.
	ReasonHostUnreachable ConditionReason = "HostUnreachable"
	// ReasonConnectionRefused: nobody listens at the endpoint.
	ReasonConnectionRefused ConditionReason = "ConnectionRefused"
	// ReasonConnectionLost: the connection broke, or the broker closed it.
	ReasonConnectionLost ConditionReason = "ConnectionLost"
	// ReasonCertificateUntrusted: the broker's certificate is signed by nobody who is trusted.
	ReasonCertificateUntrusted ConditionReason = "CertificateUntrusted"
	// ReasonCertificateNameMismatch: the broker's certificate is for another name.
	ReasonCertificateNameMismatch ConditionReason = "CertificateNameMismatch"
	// ReasonClientCertificateRefused: the broker refuses the bridge's client certificate, or its lack of one.
	ReasonClientCertificateRefused ConditionReason = "ClientCertificateRefused"
	// ReasonNotAuthorized: the broker refuses username and password, or does not let this user connect.
	ReasonNotAuthorized ConditionReason = "NotAuthorized"
	// ReasonClientIDRejected: the broker refuses the client identifier.
	ReasonClientIDRejected ConditionReason = "ClientIDRejected"
	// ReasonProtocolVersionRejected: the broker does not speak the version of MQTT in spec.remote.protocolVersion.
	ReasonProtocolVersionRejected ConditionReason = "ProtocolVersionRejected"
	// ReasonProtocolError: what answers at the endpoint speaks no MQTT, or not as the standard says.
	ReasonProtocolError ConditionReason = "ProtocolError"
	// ReasonNoAnswer: the broker answers nothing, or acknowledges nothing.
	ReasonNoAnswer ConditionReason = "NoAnswer"
	// ReasonServerUnavailable: the broker takes no connection at the moment.
	ReasonServerUnavailable ConditionReason = "ServerUnavailable"
	// ReasonServerMoved: the broker asks to use another server.
	ReasonServerMoved ConditionReason = "ServerMoved"
	// ReasonSessionTakenOver: another client with the same client identifier took the session over.
	ReasonSessionTakenOver ConditionReason = "SessionTakenOver"
	// ReasonWebSocketRefused: the server refuses the WebSocket.
	ReasonWebSocketRefused ConditionReason = "WebSocketRefused"
	// ReasonSubscriptionRefused: the source does not let the bridge subscribe to a route's filter.
	ReasonSubscriptionRefused ConditionReason = "SubscriptionRefused"
)

// Reasons of users, bridges and policies.
const (
	// ReasonSuspended: spec.suspend is true.
	ReasonSuspended ConditionReason = "Suspended"
	// ReasonPolicyNotFound: there is no policy of a name in policyRefs.
	ReasonPolicyNotFound ConditionReason = "PolicyNotFound"
	// ReasonPolicyUnusable: a policy that the user is bound to holds what no broker would take.
	ReasonPolicyUnusable ConditionReason = "PolicyUnusable"
	// ReasonNoUsers: no user is bound to the policy.
	ReasonNoUsers ConditionReason = "NoUsers"
)
