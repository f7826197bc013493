// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
)

// TestReferencesOpenNothing: who may write users but not read Secrets learns nothing by writing users.
func TestReferencesOpenNothing(t *testing.T) {
	t.Parallel()
	s := begin(t)
	s.broker()
	victim := s.user("victim", allow("#"))
	steady := s.pulse(victim.Name, "steady")
	foreign := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "someone-elses"},
		StringData: map[string]string{"password": "not-for-you-" + random(8)},
	}
	s.create(foreign)

	absent := gen.User(s.namespace, "nothing", brokerName, gen.WithPasswordFrom("there-is-none"), allow("#"))
	s.create(absent)
	said := s.await(absent, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonSecretNotUsable)
	s.sayf("of a Secret that is not there: %s", said)
	i := 0
	for secret, key := range map[string]string{
		v1alpha1.AdminCASecretName(brokerName):   "ca.key",
		v1alpha1.CASecretName(brokerName):        "ca.key",
		v1alpha1.TLSSecretName(brokerName):       "tls.key",
		v1alpha1.AdminTLSSecretName(brokerName):  "tls.key",
		v1alpha1.ConfigSecretName(brokerName):    "tls.json",
		v1alpha1.UsersSecretName(brokerName, 0):  "users-0.json",
		v1alpha1.BindingSecretName(victim.Name):  "password",
		v1alpha1.VerifierSecretName(victim.Name): "verifier",
		foreign.Name:                             "password",
	} {
		if _, err := s.secret(secret); err != nil {
			t.Fatalf("this Secret should be there, else the story proves nothing: %v", err)
		}
		i++
		eve := gen.User(s.namespace, fmt.Sprintf("eve-%d", i), brokerName, gen.WithPasswordFrom(secret), allow("#"))
		eve.Spec.Authentication.Password.SecretRef.Key = &key
		s.create(eve)
		message := s.await(eve, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonSecretNotUsable)
		if want := strings.ReplaceAll(said, "there-is-none", secret); message != want {
			t.Errorf("what is said of %s tells it from a Secret that is not there:\n%s\n%s", secret, message, want)
		}
		for _, made := range []string{v1alpha1.BindingSecretName(eve.Name), v1alpha1.VerifierSecretName(eve.Name)} {
			if err := s.isGone(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: made}}); err != nil {
				t.Errorf("a copy of the password could be in it: %v", err)
			}
		}
	}

	s.sayf("a listener that names the key of the admin endpoint")
	evil := gen.Broker(s.namespace, "evil")
	evil.Spec.Listeners = []v1alpha1.BrokerListener{gen.FromSecret("mqtts", 8883, v1alpha1.AdminTLSSecretName(brokerName))}
	s.create(evil)
	s.sayf("%s", s.await(evil, v1alpha1.ConditionTLSReady, metav1.ConditionFalse, v1alpha1.ReasonTLSSecretNotUsable))
	s.beat(steady)
}

// TestNothingIsAdopted: an object that somebody else made under a name that we need is left alone.
func TestNothingIsAdopted(t *testing.T) {
	t.Parallel()
	s := begin(t)
	s.broker()
	trap := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: v1alpha1.BindingSecretName("eve")},
		StringData: map[string]string{"password": "chosen-by-eve-" + random(8)},
	}
	s.create(trap)
	user := gen.User(s.namespace, "eve", brokerName, allow("#"))
	s.create(user)
	message := s.await(user, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonObjectConflict)
	s.sayf("%s", message)
	if !strings.Contains(message, trap.Name) {
		t.Error("the message does not name the object that is in the way")
	}
	before := trap.ResourceVersion
	if err := s.get(trap); err != nil || trap.ResourceVersion != before {
		t.Errorf("the foreign Secret was touched: %v", err)
	}
	s.sayf("it is removed")
	s.remove(trap)
	s.awaitReady(user)
	s.connect(user.Name)
}

// TestPodIsRestricted: no token, no rights, nothing that the restricted standard forbids.
func TestPodIsRestricted(t *testing.T) {
	t.Parallel()
	s := begin(t)
	s.broker(withVolume)
	pod := s.pod()

	root := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "root"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "root", Image: pod.Spec.Containers[0].Image}}},
	}
	if err := kube.Create(s.ctx, root, client.DryRunAll); !apierrors.IsForbidden(err) {
		t.Errorf("the namespace should let in restricted pods only, else the story proves nothing: %v", err)
	}
	for _, volume := range pod.Spec.Volumes {
		if volume.Projected == nil {
			continue
		}
		for _, source := range volume.Projected.Sources {
			if source.ServiceAccountToken != nil {
				t.Errorf("volume %s holds a ServiceAccount's token", volume.Name)
			}
		}
	}
	if mount := pod.Spec.AutomountServiceAccountToken; mount == nil || *mount {
		t.Error("the pod does not refuse a ServiceAccount's token")
	}
	for _, c := range pod.Spec.Containers {
		for _, mount := range c.VolumeMounts {
			if strings.Contains(mount.MountPath, "serviceaccount") {
				t.Errorf("container %s has a mount at %s", c.Name, mount.MountPath)
			}
			if mount.Name != "data" && !mount.ReadOnly {
				t.Errorf("container %s may write to %s", c.Name, mount.MountPath)
			}
		}
		if sc := c.SecurityContext; sc == nil || sc.ReadOnlyRootFilesystem == nil || !*sc.ReadOnlyRootFilesystem {
			t.Errorf("container %s may write to its root file system", c.Name)
		}
	}
	for _, name := range []string{v1alpha1.AdminCASecretName(brokerName), v1alpha1.CASecretName(brokerName)} {
		if strings.Contains(s.asText(pod.Spec), `"`+name+`"`) {
			t.Errorf("the pod mounts the key of a CA: %s", name)
		}
	}
	s.sayf("pods of the operator are restricted too")
	pods, err := s.operatorPods()
	if err != nil || len(pods) == 0 {
		t.Fatalf("the operator's pods: %v", err)
	}
	same := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "same"}, Spec: *pods[0].Spec.DeepCopy()}
	same.Spec.NodeName, same.Spec.ServiceAccountName, same.Spec.DeprecatedServiceAccount = "", "default", "default"
	same.Spec.AutomountServiceAccountToken = new(false)
	same.Spec.Volumes, same.Spec.Containers[0].VolumeMounts = nil, nil
	if err := kube.Create(s.ctx, same, client.DryRunAll); err != nil {
		t.Errorf("a namespace that lets in restricted pods only refuses the operator's: %v", err)
	}
}
