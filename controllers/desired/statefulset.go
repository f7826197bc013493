// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"maps"
	"net"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

const (
	// ContainerName is the broker's container.
	ContainerName = "broker"
	// healthPortName is the port of health and metrics, by which a PodMonitor finds it.
	healthPortName = "health"
	dataVolume     = "data"
	configVolume   = "config"
	adminVolume    = "admin"
	// nonRoot is the user and group of the broker's image.
	nonRoot = 65532
	// gracePeriodSeconds is longer than the broker's own deadline for saying goodbye.
	gracePeriodSeconds = 30
	shutdownTimeout    = "20s"
)

// StatefulSet runs the broker. Every field of its template restarts the broker when it changes, the operator's own
// version is not among them: see [DefaultImageAnnotation].
func StatefulSet(f *verdict.Facts) *appsv1.StatefulSet {
	b := f.Broker
	set := &appsv1.StatefulSet{ObjectMeta: meta(f, v1alpha1.StatefulSetName(b.Name))}
	set.Annotations = map[string]string{DefaultImageAnnotation: defaultImage(f)}
	set.Spec = appsv1.StatefulSetSpec{
		Replicas:             new(f.Spec.Replicas),
		ServiceName:          v1alpha1.HeadlessServiceName(b.Name),
		Selector:             &metav1.LabelSelector{MatchLabels: v1alpha1.BrokerSelector(b.Name)},
		RevisionHistoryLimit: new(int32(3)),
		// With the default, OrderedReady, a pod that never became ready blocks the update that would mend it.
		PodManagementPolicy: appsv1.ParallelPodManagement,
		UpdateStrategy:      appsv1.StatefulSetUpdateStrategy{Type: appsv1.RollingUpdateStatefulSetStrategyType},
		Template:            podTemplate(f),
	}
	if volume := f.Spec.Persistence; volume != nil {
		set.Spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{claim(b.Name, volume)}
		set.Spec.PersistentVolumeClaimRetentionPolicy = retention(volume)
	}
	return set
}

// DefaultImageAnnotation on a StatefulSet is the image that its broker runs when spec names none: the one that belonged
// to the release of the operator which made the StatefulSet. A newer operator keeps it, so that its upgrade restarts
// nobody.
const DefaultImageAnnotation = "mqtt-operator.io/default-image"

// Image is the broker's image: what spec says, else the default that its StatefulSet was made with.
func Image(f *verdict.Facts) string {
	if f.Spec.Image != "" {
		return f.Spec.Image
	}
	return defaultImage(f)
}

func defaultImage(f *verdict.Facts) string {
	if f.StatefulSet != nil && f.StatefulSet.Annotations[DefaultImageAnnotation] != "" {
		return f.StatefulSet.Annotations[DefaultImageAnnotation]
	}
	return f.DefaultImage
}

func claim(broker string, volume *v1alpha1.ResolvedPersistence) corev1.PersistentVolumeClaim {
	claim := corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: dataVolume, Labels: v1alpha1.BrokerSelector(broker)},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			VolumeMode:  new(corev1.PersistentVolumeFilesystem),
			Resources: corev1.VolumeResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceStorage: volume.Size},
			},
		},
	}
	if volume.StorageClassName != "" {
		claim.Spec.StorageClassName = &volume.StorageClassName
	}
	return claim
}

func retention(r *v1alpha1.ResolvedPersistence) *appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy {
	return &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{
		WhenDeleted: appsv1.PersistentVolumeClaimRetentionPolicyType(r.WhenDeleted),
		WhenScaled:  appsv1.PersistentVolumeClaimRetentionPolicyType(r.WhenScaled),
	}
}

func podTemplate(f *verdict.Facts) corev1.PodTemplateSpec {
	b, pod := f.Broker, f.Spec.Pod
	labels := map[string]string{}
	maps.Copy(labels, pod.Labels)
	maps.Copy(labels, v1alpha1.BrokerLabels(b.Name))
	template := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: maps.Clone(pod.Annotations)},
		Spec: corev1.PodSpec{
			ServiceAccountName:            v1alpha1.ServiceAccountName(b.Name),
			AutomountServiceAccountToken:  new(false),
			EnableServiceLinks:            new(false),
			TerminationGracePeriodSeconds: new(int64(gracePeriodSeconds)),
			SecurityContext:               podSecurity(),
			Containers:                    []corev1.Container{container(f, pod.Resources)},
			Volumes:                       volumes(f),
			Affinity:                      pod.Affinity,
			TopologySpreadConstraints:     pod.TopologySpreadConstraints,
			Tolerations:                   pod.Tolerations,
			NodeSelector:                  pod.NodeSelector,
		},
	}
	template.Spec.PriorityClassName = pod.PriorityClassName
	return template
}

func container(f *verdict.Facts, resources corev1.ResourceRequirements) corev1.Container {
	return corev1.Container{
		Name:            ContainerName,
		Image:           Image(f),
		ImagePullPolicy: corev1.PullIfNotPresent,
		Args: []string{
			"serve",
			"--config-dir=" + contract.ConfigDir,
			"--data=" + contract.DataDir,
			"--admin-tls=" + contract.AdminTLSDir,
			"--admin-listen=" + net.JoinHostPort("", strconv.Itoa(contract.AdminPort)),
			"--health-listen=" + net.JoinHostPort("", strconv.Itoa(contract.HealthPort)),
			"--shutdown-timeout=" + shutdownTimeout,
		},
		Ports: []corev1.ContainerPort{
			{Name: "admin", ContainerPort: contract.AdminPort, Protocol: corev1.ProtocolTCP},
			{Name: healthPortName, ContainerPort: contract.HealthPort, Protocol: corev1.ProtocolTCP},
		},
		Resources:       resources,
		SecurityContext: containerSecurity(),
		// A configuration may be slow to arrive and a store slow to open; only a broker that has once been ready is
		// restarted for being stuck.
		StartupProbe:   probe(contract.LivePath, 2, 60),
		LivenessProbe:  probe(contract.LivePath, 10, 3),
		ReadinessProbe: probe(contract.ReadyPath, 5, 2),
		VolumeMounts: []corev1.VolumeMount{
			{Name: dataVolume, MountPath: contract.DataDir},
			{Name: configVolume, MountPath: contract.ConfigDir, ReadOnly: true},
			{Name: adminVolume, MountPath: contract.AdminTLSDir, ReadOnly: true},
		},
	}
}

// podSecurity and containerSecurity are what the restricted Pod Security Standard wants.
func podSecurity() *corev1.PodSecurityContext {
	return &corev1.PodSecurityContext{
		RunAsNonRoot: new(true), RunAsUser: new(int64(nonRoot)), RunAsGroup: new(int64(nonRoot)), FSGroup: new(int64(nonRoot)),
		FSGroupChangePolicy: new(corev1.FSGroupChangeOnRootMismatch),
		SeccompProfile:      &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}

func containerSecurity() *corev1.SecurityContext {
	return &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false),
		ReadOnlyRootFilesystem:   new(true),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
}

func probe(path string, periodSeconds, failures int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt32(contract.HealthPort), Scheme: corev1.URISchemeHTTP}},
		PeriodSeconds: periodSeconds, FailureThreshold: failures, TimeoutSeconds: 5, SuccessThreshold: 1,
	}
}

func volumes(f *verdict.Facts) []corev1.Volume {
	b := f.Broker
	config := &corev1.ProjectedVolumeSource{DefaultMode: new(int32(0o440)), Sources: []corev1.VolumeProjection{source(v1alpha1.ConfigSecretName(b.Name), false)}}
	for n := range contract.MaxShards {
		config.Sources = append(config.Sources, source(v1alpha1.UsersSecretName(b.Name, n), true))
	}
	list := []corev1.Volume{
		{Name: configVolume, VolumeSource: corev1.VolumeSource{Projected: config}},
		{Name: adminVolume, VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
			SecretName: v1alpha1.AdminTLSSecretName(b.Name), DefaultMode: new(int32(0o440)),
		}}},
	}
	if f.Spec.Persistence == nil {
		list = append(list, corev1.Volume{Name: dataVolume, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
	}
	return list
}

func source(name string, optional bool) corev1.VolumeProjection {
	projection := &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: name}}
	if optional {
		projection.Optional = new(true)
	}
	return corev1.VolumeProjection{Secret: projection}
}
