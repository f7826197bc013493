// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"bytes"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
)

// TestAPolicysChangeRendersItAlone: whoever shares it, no shard of users is written again.
func TestAPolicysChangeRendersItAlone(t *testing.T) {
	policy := gen.Policy("factory", "shared", gen.Rule(v1alpha1.ACLAllow, "a/#", v1alpha1.ACLPublish))
	f, m := facts(t, gen.Broker("factory", "mq"), gen.User("factory", "alice", "mq", gen.WithPolicies("shared")), gen.User("factory", "bob", "mq", gen.WithPolicies("shared")))
	f.Policies = []*v1alpha1.MQTTAccessPolicy{policy}
	before := mustBuild(t, f, m)
	if cfg, err := contract.Parse(before.Bundle); err != nil || len(cfg.Policies) != 1 || len(cfg.Users) != 2 {
		t.Fatalf("%v: one list of rules for both", err)
	}
	keep(f, before)
	policy.Spec.Rules[0].Filter = "b/#"
	after := mustBuild(t, f, m)
	for name := range after.Bundle {
		changed := !bytes.Equal(after.Bundle[name], before.Bundle[name])
		if wanted := name == contract.PoliciesFile || name == contract.BrokerFile; changed != wanted {
			t.Errorf("%s changed: %v", name, changed)
		}
	}
	if revision := annotationOf(t, after, v1alpha1.ConfigSecretName("mq"), PoliciesRevisionAnnotation); revision != "2" {
		t.Errorf("policies.json is of revision %s, want 2", revision)
	}
	keep(f, after)
	f.Users = f.Users[:1]
	third := mustBuild(t, f, m)
	if revision := annotationOf(t, third, v1alpha1.ConfigSecretName("mq"), PoliciesRevisionAnnotation); third.Revision != 3 || revision != "2" {
		t.Errorf("revision %d, of policies.json %s: a user less does not change it", third.Revision, revision)
	}
}

// TestPoliciesThatNobodyUsesAreNotRendered: a broker of an older release knows no such file.
func TestPoliciesThatNobodyUsesAreNotRendered(t *testing.T) {
	f, m := facts(t, gen.Broker("factory", "mq"), gen.User("factory", "alice", "mq"))
	f.Policies = []*v1alpha1.MQTTAccessPolicy{gen.Policy("factory", "unused", gen.Rule(v1alpha1.ACLAllow, "a/#", v1alpha1.ACLPublish))}
	if _, found := mustBuild(t, f, m).Bundle[contract.PoliciesFile]; found {
		t.Error("policies.json stands there")
	}
}

func annotationOf(t *testing.T, built *Broker, name, key string) string {
	t.Helper()
	for _, object := range built.Objects {
		if _, isSecret := object.(*corev1.Secret); isSecret && object.GetName() == name {
			return object.GetAnnotations()[key]
		}
	}
	t.Fatalf("no %s", name)
	return ""
}
