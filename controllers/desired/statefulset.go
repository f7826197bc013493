// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
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
	dataVolume     = v1alpha1.VolumeName
	configVolume   = "config"
	adminVolume    = "admin"
	// nonRoot is the user and group of the broker's image.
	nonRoot = 65532
	// gracePeriodSeconds is how long a bridge's pod has to end.
	gracePeriodSeconds = 30
	// graceBeyondDrain is how much longer the pod's grace period is than the broker's own deadline for saying goodbye.
	graceBeyondDrain = 10 * time.Second
)

// StatefulSet runs the broker. Every field of its template restarts the broker when it changes, the operator's own
// version is not among them: see [DefaultImageAnnotation] and [EditionAnnotation].
func StatefulSet(f *verdict.Facts) *appsv1.StatefulSet {
	set := statefulSet(f, editionOf(f))
	if f.StatefulSet != nil && Replaces(set, f.StatefulSet) {
		return statefulSet(f, edition) // pods are replaced in any case
	}
	return set
}

func statefulSet(f *verdict.Facts, edition int) *appsv1.StatefulSet {
	b := f.Broker
	set := &appsv1.StatefulSet{ObjectMeta: meta(f, v1alpha1.StatefulSetName(b.Name))}
	if f.StatefulSet != nil {
		set.UID = f.StatefulSet.UID
	}
	template := podTemplate(f, edition)
	set.Annotations = map[string]string{DefaultImageAnnotation: defaultImage(f), verdict.TemplateAnnotation: digestOf(&template)}
	if since := templateSince(f, set.Annotations[verdict.TemplateAnnotation]); since != "" {
		set.Annotations[verdict.SinceAnnotation] = since
	}
	if f.StatefulSet != nil && f.StatefulSet.Annotations[verdict.RestartedAnnotation] != "" {
		set.Annotations[verdict.RestartedAnnotation] = f.StatefulSet.Annotations[verdict.RestartedAnnotation]
	}
	set.Spec = appsv1.StatefulSetSpec{
		Replicas:             new(f.Spec.Replicas),
		ServiceName:          v1alpha1.HeadlessServiceName(b.Name),
		Selector:             &metav1.LabelSelector{MatchLabels: v1alpha1.BrokerSelector(b.Name)},
		RevisionHistoryLimit: new(int32(3)),
		// With the default, OrderedReady, a pod that never became ready blocks the update that would mend it.
		PodManagementPolicy: appsv1.ParallelPodManagement,
		UpdateStrategy:      appsv1.StatefulSetUpdateStrategy{Type: appsv1.RollingUpdateStatefulSetStrategyType},
		Template:            template,
	}
	if volume := f.Spec.Persistence; volume != nil {
		set.Spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{claim(f, volume)}
		set.Spec.PersistentVolumeClaimRetentionPolicy = retention(volume)
	}
	return set
}

// templateSince is when the template of that digest was first wished.
func templateSince(f *verdict.Facts, digest string) string {
	if f.StatefulSet != nil && f.StatefulSet.Annotations[verdict.TemplateAnnotation] == digest {
		return f.StatefulSet.Annotations[verdict.SinceAnnotation]
	}
	return f.Now.UTC().Format(time.RFC3339)
}

// digestOf is over what is said alone. Of what is not, one release of the Kubernetes libraries writes nothing and another
// null or {}: that must restart nobody.
func digestOf(template *corev1.PodTemplateSpec) string {
	said, err := runtime.DefaultUnstructuredConverter.ToUnstructured(template)
	if err != nil {
		panic(err) // there is nothing in it that JSON does not know
	}
	text, err := json.Marshal(withoutEmpty(said))
	if err != nil {
		panic(err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// withoutEmpty is a value without the fields that hold nothing; nil if nothing is left.
func withoutEmpty(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for key, field := range value {
			if field = withoutEmpty(field); field == nil {
				delete(value, key)
			} else {
				value[key] = field
			}
		}
		if len(value) == 0 {
			return nil
		}
		return value
	case []any:
		if len(value) == 0 {
			return nil
		}
		for i := range value { // each stays in its place
			value[i] = withoutEmpty(value[i])
		}
		return value
	default:
		return value
	}
}

// Replaces reports whether pods made by one StatefulSet are replaced when the other is written over it.
func Replaces(wanted, stood *appsv1.StatefulSet) bool {
	if !equality.Semantic.DeepDerivative(wanted.Spec.Template, stood.Spec.Template) {
		return true
	}
	before := stood.Annotations[verdict.TemplateAnnotation]
	return before != "" && before != wanted.Annotations[verdict.TemplateAnnotation]
}

// Hold leaves the pods of a StatefulSet as they are, whatever else is wished of it.
func Hold(wanted, stood *appsv1.StatefulSet) {
	wanted.Spec.Template = *stood.Spec.Template.DeepCopy()
	for _, name := range []string{verdict.TemplateAnnotation, verdict.SinceAnnotation, verdict.FailedAnnotation, verdict.BecauseAnnotation} {
		delete(wanted.Annotations, name)
		if before := stood.Annotations[name]; before != "" {
			wanted.Annotations[name] = before
		}
	}
}

// Return gives the pods the template of before, and notes which one failed and why.
func Return(wanted *appsv1.StatefulSet, previous *corev1.PodTemplateSpec, because string) {
	wanted.Annotations[verdict.FailedAnnotation] = wanted.Annotations[verdict.TemplateAnnotation]
	wanted.Annotations[verdict.BecauseAnnotation] = because
	delete(wanted.Annotations, verdict.TemplateAnnotation) // what was wished when it was made is not known any more
	delete(wanted.Annotations, verdict.SinceAnnotation)
	wanted.Spec.Template = *previous.DeepCopy()
}

// Restart notes on a StatefulSet why writing it replaces pods.
func Restart(wanted *appsv1.StatefulSet, reason v1alpha1.ConditionReason, now time.Time) {
	wanted.Annotations[verdict.RestartedAnnotation] = string(reason) + " " + now.UTC().Format(time.RFC3339)
}

// EditionAnnotation on a pod template, and on the ServiceAccount beside it, is the edition of what the operator says of a pod
// by itself. Without it pods are of edition 1. A newer operator leaves pods in the edition that they have, so that its upgrade
// restarts nobody, and takes its own for those that it makes or replaces anyway.
const EditionAnnotation = "mqtt-operator.io/edition"

// edition is the one in which pods are made. To say something else of all pods is to begin another: [podTemplate] has to go on
// to know the ones of before.
//
//	1  before there were editions
//	2  asks each second whether a pod that starts is there
const edition = 2

// editionOf is the one in which pods stand.
func editionOf(f *verdict.Facts) int {
	switch {
	case f.StatefulSet != nil:
		return editionIn(f.StatefulSet.Spec.Template.Annotations)
	case f.ServiceAccount != nil && f.ServiceAccount.Annotations[DefaultImageAnnotation] != "": // the StatefulSet is made anew
		return editionIn(f.ServiceAccount.Annotations)
	default:
		return edition
	}
}

// editionIn takes what it does not know, of a newer operator or by hand, for the newest.
func editionIn(annotations map[string]string) int {
	text := annotations[EditionAnnotation]
	if text == "" {
		return 1
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > edition {
		return edition
	}
	return n
}

// OutlivesStatefulSet reports whether the ServiceAccount knows what the StatefulSet alone would: what its pods have and the spec
// does not say. While the StatefulSet is made anew, it is looked up there.
func OutlivesStatefulSet(account *corev1.ServiceAccount, set *appsv1.StatefulSet) bool {
	return account != nil && account.Annotations[DefaultImageAnnotation] == set.Annotations[DefaultImageAnnotation] &&
		editionIn(account.Annotations) == editionIn(set.Spec.Template.Annotations)
}

// DefaultImageAnnotation on a StatefulSet is the image that its broker runs when spec names none: the one that belonged
// to the release of the operator which made the StatefulSet. A newer operator keeps it, so that its upgrade restarts
// nobody. It stands on the ServiceAccount, too, which outlives a StatefulSet that is made anew.
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
	if f.StatefulSet == nil && f.ServiceAccount != nil && f.ServiceAccount.Annotations[DefaultImageAnnotation] != "" {
		return f.ServiceAccount.Annotations[DefaultImageAnnotation]
	}
	return f.DefaultImage
}

// claim is what the volumes are made from. It cannot change while the StatefulSet exists: see [verdict.Facts.IsOutgrown].
func claim(f *verdict.Facts, volume *v1alpha1.ResolvedPersistence) corev1.PersistentVolumeClaim {
	size := volume.Size
	if stood, found := f.TemplateSize(); found {
		size = stood
	}
	claim := corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: dataVolume, Labels: v1alpha1.BrokerSelector(f.Broker.Name)},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			VolumeMode:  new(corev1.PersistentVolumeFilesystem),
			Resources: corev1.VolumeResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceStorage: size},
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

func podTemplate(f *verdict.Facts, edition int) corev1.PodTemplateSpec {
	b, pod := f.Broker, f.Spec.Pod
	labels := map[string]string{}
	maps.Copy(labels, pod.Labels)
	maps.Copy(labels, v1alpha1.BrokerLabels(b.Name))
	annotations := map[string]string{}
	maps.Copy(annotations, pod.Annotations)
	if wish, _ := verdict.RestartAt(f); wish != "" {
		annotations[v1alpha1.AnnotationRestartAt] = wish
	}
	if edition > 1 {
		annotations[EditionAnnotation] = strconv.Itoa(edition)
	}
	template := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: annotations},
		Spec: corev1.PodSpec{
			ServiceAccountName:            v1alpha1.ServiceAccountName(b.Name),
			AutomountServiceAccountToken:  new(false),
			EnableServiceLinks:            new(false),
			TerminationGracePeriodSeconds: new(int64((f.Spec.Drain.Timeout + graceBeyondDrain) / time.Second)),
			SecurityContext:               podSecurity(),
			Containers:                    []corev1.Container{container(f, pod.Resources, edition)},
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

func container(f *verdict.Facts, resources corev1.ResourceRequirements, edition int) corev1.Container {
	// A configuration may be slow to arrive and a store slow to open; only a broker that has once been ready is
	// restarted for being stuck.
	startup := probe(contract.LivePath, 1, 120)
	if edition < 2 {
		startup = probe(contract.LivePath, 2, 60)
	}
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
			"--shutdown-timeout=" + f.Spec.Drain.Timeout.String(),
		},
		Ports: []corev1.ContainerPort{
			{Name: "admin", ContainerPort: contract.AdminPort, Protocol: corev1.ProtocolTCP},
			{Name: healthPortName, ContainerPort: contract.HealthPort, Protocol: corev1.ProtocolTCP},
		},
		Resources:       resources,
		SecurityContext: containerSecurity(),
		StartupProbe:    startup,
		LivenessProbe:   probe(contract.LivePath, 10, 3),
		ReadinessProbe:  probe(contract.ReadyPath, 5, 2),
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
