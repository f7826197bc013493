// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"bytes"
	"maps"
	"net"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/pki"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// BridgeContainerName is the bridge's container.
const BridgeContainerName = "bridge"

// BridgeMaterial is the key material of the connection between operator and bridge.
type BridgeMaterial struct {
	CA             pki.CA
	Client, Server pki.Pair
}

// Bridge is what a bridge should consist of.
type Bridge struct {
	// Objects in the order in which they are to be written: what a pod mounts before the pods.
	Objects []client.Object
	// Text is the configuration, with its revision; nil while there is none to hand out.
	Text     []byte
	Revision int64
}

// BuildBridge is everything that a bridge should consist of. Until its users are in force for the first time that is
// they and the key material; while the judgement holds a configuration back, what stands in the Secret stays.
func BuildBridge(f *verdict.BridgeFacts, m *BridgeMaterial, j *verdict.BridgeJudgement) (*Bridge, error) {
	b := &Bridge{}
	isSettled := f.IsSettled
	switch {
	case j.Config != nil && j.Hold == nil:
		var err error
		if b.Text, b.Revision, err = contract.NextBridge(j.Config, priorText(f), f.Floor); err != nil {
			return nil, err
		}
		isSettled = isSettled && bytes.Equal(b.Text, priorText(f))
	case f.Config != nil:
		b.Text = priorText(f)
		b.Revision, _ = contract.BridgeRevision(b.Text)
		isSettled = false
	default:
		isSettled = true // no pod has ever had more than it needs
	}
	b.Objects = []client.Object{bridgeUser(f, &f.Local, f.Spec.Broker, verdict.Granted(&f.Local, j.LocalRules, isSettled))}
	if f.Spec.RemoteBroker != nil {
		b.Objects = append(b.Objects, bridgeUser(f, &f.Remote, *f.Spec.RemoteBroker, verdict.Granted(&f.Remote, j.RemoteRules, isSettled)))
	}
	b.Objects = append(b.Objects, BridgeAdmin(f, m))
	if b.Text != nil {
		b.Objects = append(b.Objects, bridgeConfig(f, b), BridgeDeployment(f))
	}
	return b, nil
}

// priorText is the configuration that stands in the Secret.
func priorText(f *verdict.BridgeFacts) []byte {
	if f.Config == nil {
		return nil
	}
	return f.Config.Data[contract.BridgeFile]
}

func bridgeMeta(f *verdict.BridgeFacts, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: f.Bridge.Namespace, Labels: v1alpha1.BridgeLabels(f.Bridge.Name, f.Spec.Broker.Name)}
}

// bridgeUser is the user by which the bridge connects to one of its ends. It may do what the routes need, and its client
// identifiers are the bridge's own.
func bridgeUser(f *verdict.BridgeFacts, u *verdict.BridgeUser, broker v1alpha1.BrokerReference, rules []v1alpha1.ACLRule) *v1alpha1.MQTTUser {
	bridge := f.Bridge
	name, username := v1alpha1.BridgeUserName(bridge.Name), v1alpha1.BridgeUsername(bridge.Namespace, bridge.Name)
	if u == &f.Remote {
		name, username = v1alpha1.BridgeRemoteUserName(bridge.Name), v1alpha1.BridgeRemoteUsername(bridge.Namespace, bridge.Name)
	}
	var quota *v1alpha1.UserQuota
	if most := f.Spec.MaxQueuedMessages; most > 0 {
		quota = &v1alpha1.UserQuota{QueuedMessages: &most}
	}
	return &v1alpha1.MQTTUser{
		ObjectMeta: bridgeMeta(f, name),
		Spec: v1alpha1.MQTTUserSpec{
			BrokerRef:      broker,
			Username:       &username,
			Authentication: v1alpha1.UserAuthentication{Password: &v1alpha1.UserPassword{Generate: &v1alpha1.GeneratePassword{}}},
			ClientIDs:      &v1alpha1.UserClientIDs{Prefix: &f.Spec.ClientIDPrefix},
			ACL:            rules,
			Quota:          quota,
		},
	}
}

func bridgeConfig(f *verdict.BridgeFacts, b *Bridge) *corev1.Secret {
	m := bridgeMeta(f, v1alpha1.BridgeConfigSecretName(f.Bridge.Name))
	m.Annotations = map[string]string{RevisionAnnotation: strconv.FormatInt(b.Revision, 10)}
	if f.Config != nil {
		m.UID = f.Config.UID // the revision follows from it
	}
	return secret(m, v1alpha1.SecretTypeConfig, map[string][]byte{contract.BridgeFile: b.Text})
}

// BridgeAdmin is the Secret with the CA and the two ends of the connection between operator and bridge. Of it the pods
// mount their own end alone.
func BridgeAdmin(f *verdict.BridgeFacts, m *BridgeMaterial) *corev1.Secret {
	data := m.CA.Data()
	data[ClientCertKey], data[ClientKeyKey] = m.Client.Certificate, m.Client.Key
	data[corev1.TLSCertKey], data[corev1.TLSPrivateKeyKey] = m.Server.Certificate, m.Server.Key
	return secret(bridgeMeta(f, v1alpha1.BridgeAdminSecretName(f.Bridge.Name)), v1alpha1.SecretTypeCA, data)
}

// BridgeServerName is the name by which the operator knows the admin endpoint of a bridge.
func BridgeServerName(namespace, bridge string) string {
	return "admin." + v1alpha1.BridgeDeploymentName(bridge) + "." + namespace
}

// BridgeServerRequest is the certificate of the bridge's admin endpoint.
func BridgeServerRequest(b *v1alpha1.MQTTBridge) pki.Request {
	return pki.Request{CommonName: "bridge", DNSNames: []string{BridgeServerName(b.Namespace, b.Name)}, Server: true}
}

// BridgeDeployment runs the bridge. Every field of its template replaces the pods when it changes; what the bridge is
// told travels in its configuration and changes without.
func BridgeDeployment(f *verdict.BridgeFacts) *appsv1.Deployment {
	deployment := &appsv1.Deployment{ObjectMeta: bridgeMeta(f, v1alpha1.BridgeDeploymentName(f.Bridge.Name))}
	if f.Deployment != nil {
		deployment.UID = f.Deployment.UID
	}
	deployment.Annotations = map[string]string{DefaultImageAnnotation: bridgeDefaultImage(f)}
	deployment.Spec = appsv1.DeploymentSpec{
		Replicas:             new(f.Spec.Replicas),
		Selector:             &metav1.LabelSelector{MatchLabels: v1alpha1.BridgeSelector(f.Bridge.Name)},
		RevisionHistoryLimit: new(int32(3)),
		// The pod that comes stands by until the one that goes has let go, so that there is never more than one at work
		// and hardly a moment without.
		Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{
			MaxSurge: new(intstr.FromInt32(1)), MaxUnavailable: new(intstr.FromInt32(0)),
		}},
		Template: bridgeTemplate(f),
	}
	return deployment
}

func bridgeImage(f *verdict.BridgeFacts) string {
	if f.Spec.Image != "" {
		return f.Spec.Image
	}
	return bridgeDefaultImage(f)
}

func bridgeDefaultImage(f *verdict.BridgeFacts) string {
	if f.Deployment != nil && f.Deployment.Annotations[DefaultImageAnnotation] != "" {
		return f.Deployment.Annotations[DefaultImageAnnotation]
	}
	return f.DefaultImage
}

func bridgeTemplate(f *verdict.BridgeFacts) corev1.PodTemplateSpec {
	bridge, pod := f.Bridge, f.Spec.Pod
	labels := map[string]string{}
	maps.Copy(labels, pod.Labels)
	maps.Copy(labels, v1alpha1.BridgeLabels(bridge.Name, f.Spec.Broker.Name))
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: maps.Clone(pod.Annotations)},
		Spec: corev1.PodSpec{
			AutomountServiceAccountToken:  new(false),
			EnableServiceLinks:            new(false),
			TerminationGracePeriodSeconds: new(int64(gracePeriodSeconds)),
			SecurityContext:               podSecurity(),
			Containers:                    []corev1.Container{bridgeContainer(f, pod.Resources)},
			Volumes: []corev1.Volume{
				{Name: configVolume, VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
					SecretName: v1alpha1.BridgeConfigSecretName(bridge.Name), DefaultMode: new(int32(0o440)),
				}}},
				{Name: adminVolume, VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
					SecretName: v1alpha1.BridgeAdminSecretName(bridge.Name), DefaultMode: new(int32(0o440)),
					// Neither the CA's key nor the operator's end: a bridge that is broken into signs and rules nothing.
					Items: []corev1.KeyToPath{
						{Key: corev1.TLSCertKey, Path: corev1.TLSCertKey},
						{Key: corev1.TLSPrivateKeyKey, Path: corev1.TLSPrivateKeyKey},
						{Key: CACertKey, Path: CACertKey},
					},
				}}},
			},
			Affinity:                  pod.Affinity,
			TopologySpreadConstraints: pod.TopologySpreadConstraints,
			Tolerations:               pod.Tolerations,
			NodeSelector:              pod.NodeSelector,
			PriorityClassName:         pod.PriorityClassName,
		},
	}
}

func bridgeContainer(f *verdict.BridgeFacts, resources corev1.ResourceRequirements) corev1.Container {
	return corev1.Container{
		Name:            BridgeContainerName,
		Image:           bridgeImage(f),
		ImagePullPolicy: corev1.PullIfNotPresent,
		Args: []string{
			"bridge",
			"--config=" + contract.BridgeConfigDir,
			"--admin-tls=" + contract.BridgeAdminTLSDir,
			"--admin-listen=" + net.JoinHostPort("", strconv.Itoa(contract.AdminPort)),
			"--health-listen=" + net.JoinHostPort("", strconv.Itoa(contract.HealthPort)),
		},
		Ports: []corev1.ContainerPort{
			{Name: "admin", ContainerPort: contract.AdminPort, Protocol: corev1.ProtocolTCP},
			{Name: healthPortName, ContainerPort: contract.HealthPort, Protocol: corev1.ProtocolTCP},
		},
		Resources:       resources,
		SecurityContext: containerSecurity(),
		StartupProbe:    probe(contract.LivePath, 2, 60),
		LivenessProbe:   probe(contract.LivePath, 10, 3),
		ReadinessProbe:  probe(contract.ReadyPath, 5, 2),
		VolumeMounts: []corev1.VolumeMount{
			{Name: configVolume, MountPath: contract.BridgeConfigDir, ReadOnly: true},
			{Name: adminVolume, MountPath: contract.BridgeAdminTLSDir, ReadOnly: true},
		},
	}
}
