// SPDX-License-Identifier: Apache-2.0

package chart_test

import (
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

// What helm test makes, as far as it can be told without a cluster; test/e2e runs it.
func TestRoundTrip(t *testing.T) {
	cases := map[string]struct {
		reason, release, namespace string
		values                     []string
		in                         string
	}{
		"the whole cluster":    {"the release's namespace is looked after too", "mo", "home", nil, "home"},
		"some namespaces":      {"the operator looks nowhere else", "mo", "home", []string{`scope={"mode":"Namespaces","namespaces":["team","other"]}`}, "team"},
		"its own namespace":    {"as above", "mo", "home", []string{`scope.mode="OwnNamespace"`}, "home"},
		"the longest name":     {"a broker's name has at most 40 characters", strings.Repeat("a", 53), "home", nil, "home"},
		"a name with a number": {"a broker's name begins with a letter", "1", "home", nil, "home"},
		"images of one's own":  {"the pod must be let pull them", "mo", "home", []string{`brokerImage.tag="dev"`, `imagePullSecrets=[{"name":"key"}]`}, "home"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var tests manifests
			all := template(t, c.release, c.namespace, c.values...)
			for _, o := range all {
				if _, hook := o.Metadata.Annotations["helm.sh/hook"]; hook {
					tests = append(tests, o)
					if o.Metadata.Namespace != c.in {
						t.Errorf("%s is not in %s: %s", o, c.in, c.reason)
					}
					if o.Metadata.Annotations["helm.sh/hook"] != "test" || o.Metadata.Annotations["helm.sh/hook-delete-policy"] != "before-hook-creation,hook-succeeded" {
						t.Errorf("%s has the annotations %v", o, o.Metadata.Annotations)
					}
				}
			}
			if len(tests) != 3 || tests[0].Kind == tests[1].Kind {
				t.Fatalf("got %v, want a broker, a user and a pod", tests)
			}
			broker := one[v1alpha1.MQTTBroker](t, tests, "MQTTBroker", "")
			user := one[v1alpha1.MQTTUser](t, tests, "MQTTUser", "")
			pod := one[corev1.Pod](t, tests, "Pod", "")
			if len(broker.Name) > 40 || broker.Name[0] < 'a' || broker.Name[0] > 'z' || user.Spec.BrokerRef.Name != broker.Name {
				t.Errorf("the broker is %s, the user's is %s: %s", broker.Name, user.Spec.BrokerRef.Name, c.reason)
			}
			restricted(t, &pod.Spec)
			container := pod.Spec.Containers[0]
			if secret := pod.Spec.Volumes[0].Secret.SecretName; secret != v1alpha1.BindingSecretName(user.Name) {
				t.Errorf("the pod mounts %s, the user is %s", secret, user.Name)
			}
			deployment := one[appsv1.Deployment](t, all, "Deployment", "").Spec
			if args := deployment.Template.Spec.Containers[0].Args; !slices.Contains(args, "--broker-image="+container.Image) {
				t.Errorf("the pod is of %s, brokers by %q", container.Image, args)
			}
			if len(pod.Spec.ImagePullSecrets) != len(deployment.Template.Spec.ImagePullSecrets) {
				t.Errorf("the pod has the pull secrets %v", pod.Spec.ImagePullSecrets)
			}
			// The operator's Service and budget must not take the pod for theirs.
			taken := true
			for key, value := range deployment.Selector.MatchLabels {
				taken = taken && pod.Labels[key] == value
			}
			if taken {
				t.Errorf("the Deployment selects the pod: %v", pod.Labels)
			}
			mayUse(t, &user, strings.TrimPrefix(container.Args[slices.IndexFunc(container.Args, func(a string) bool {
				return strings.HasPrefix(a, "--topic=")
			})], "--topic="))
		})
	}
}

// mayUse tells whether the rules of the user let it publish and subscribe where the pod does.
func mayUse(t *testing.T, user *v1alpha1.MQTTUser, topic string) {
	t.Helper()
	for _, rule := range user.Spec.ACL {
		if rule.Effect == v1alpha1.ACLAllow && string(rule.Filter) == topic && len(rule.Actions) == 2 {
			return
		}
	}
	t.Errorf("no rule lets the user publish and subscribe on %s: %v", topic, user.Spec.ACL)
}
