// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

// application is a pod of test/e2e/client: it runs as a ServiceAccount and logs in with the token that the kubelet gives
// it for an audience. It trusts the CA of a user's binding, and needs nothing else of it.
func (s *story) application(name, account, audience, user, topic string) *corev1.Pod {
	s.Helper()
	b := mustBinding(s, user)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name},
		Spec: corev1.PodSpec{
			ServiceAccountName: account, AutomountServiceAccountToken: new(false), RestartPolicy: corev1.RestartPolicyNever,
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: new(true), RunAsUser: new(int64(65532)), FSGroup: new(int64(65532)),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name: "application", Image: os.Getenv("E2E_CLIENT_IMAGE"), ImagePullPolicy: corev1.PullIfNotPresent,
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
				Env: []corev1.EnvVar{
					{Name: "MQTT_ADDRESS", Value: net.JoinHostPort(b.host, b.port)},
					{Name: "MQTT_TOPIC", Value: topic},
					{Name: "MQTT_CA", Value: "/var/run/mqtt/ca.crt"},
					{Name: "MQTT_TOKEN", Value: "/var/run/mqtt/token"},
				},
				VolumeMounts: []corev1.VolumeMount{{Name: "mqtt", MountPath: "/var/run/mqtt", ReadOnly: true}},
			}},
			Volumes: []corev1.Volume{{Name: "mqtt", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", Audience: audience, ExpirationSeconds: new(int64(600))}},
				{Secret: &corev1.SecretProjection{
					LocalObjectReference: corev1.LocalObjectReference{Name: v1alpha1.BindingSecretName(user)},
					Items:                []corev1.KeyToPath{{Key: v1alpha1.BindingCA, Path: "ca.crt"}},
				}},
			}}}}},
		},
	}
	s.create(pod)
	return pod
}

// ends waits until the pod's only container has ended, and returns its code and last words.
func (s *story) ends(pod *corev1.Pod) (code int32, words string) {
	s.Helper()
	s.eventually(patience, "pod "+pod.Name+" has ended", func() error {
		if err := s.get(pod); err != nil {
			return err
		}
		for _, c := range pod.Status.ContainerStatuses {
			if end := c.State.Terminated; end != nil {
				code, words = end.ExitCode, end.Message
				return nil
			}
		}
		return fmt.Errorf("it is %s", pod.Status.Phase)
	})
	return code, words
}

// TestPodLogin: an application in a pod logs in with the token that the kubelet writes into it, and with nothing else.
func TestPodLogin(t *testing.T) {
	t.Parallel()
	if os.Getenv("E2E_CLIENT_IMAGE") == "" {
		t.Skip("left out: E2E_CLIENT_IMAGE names no image of test/e2e/client; hack/e2e.sh makes it for the development node and for kind")
	}
	s := begin(t)
	for _, name := range []string{"press", "other"} {
		s.create(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}})
	}
	s.broker(func(b *v1alpha1.MQTTBroker) {
		b.Spec.Authentication = &v1alpha1.BrokerAuthentication{ServiceAccounts: &v1alpha1.ServiceAccountTokens{Audiences: []string{audience}}}
	})
	press := s.user("press-1", byServiceAccount("press"), allow("hall/#"))
	s.user("host", allow("#"))
	host := s.connect("host")
	s.mustSubscribe(host, "hall/#")

	began := time.Now()
	pod := s.application("press", "press", audience, press.Name, "hall/press")
	s.hears(host, "hall/press", "hello")
	s.sayf("the application said hello %.1fs after its pod was created", time.Since(began).Seconds())
	s.mustPublish(host, "hall/press/leave", "please")
	if code, words := s.ends(pod); code != 0 {
		t.Errorf("it ended with %d: %s", code, words)
	}

	for what, pod := range map[string]*corev1.Pod{
		"another ServiceAccount": s.application("other", "other", audience, press.Name, "hall/other"),
		"another audience":       s.application("elsewhere", "press", "urn:example:elsewhere", press.Name, "hall/elsewhere"),
	} {
		if code, words := s.ends(pod); code != 1 || words != fmt.Sprintf("refused with %#x", badUserNameOrPassword) {
			t.Errorf("%s: it ended with %d: %s", what, code, words)
		}
	}

	s.sayf("the user is suspended while its pod runs")
	pod = s.application("again", "press", audience, press.Name, "hall/again")
	s.hears(host, "hall/again", "hello")
	s.update(press, func() { press.Spec.Suspend = new(true) })
	if code, words := s.ends(pod); code != 1 || words != fmt.Sprintf("the broker disconnects with %#x", notAuthorized) {
		t.Errorf("it ended with %d: %s", code, words)
	}
}
