// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
)

// beyondGrace is how much longer than the longest grace period of its pods a namespace may take to go.
const beyondGrace = 10 * time.Second

// TestNamespaceIsDeleted with all that can be in it, while the operator looks after it.
func TestNamespaceIsDeleted(t *testing.T) {
	t.Parallel()
	s := begin(t)
	in := s.furnish()
	s.searchForSecrets()
	s.deleteNamespace()
	s.awaitEnd(in)
	s.noVolumes()
}

// TestNamespaceIsDeletedWithoutOperator: no finalizer holds it. It is not parallel: the others need the operator.
func TestNamespaceIsDeletedWithoutOperator(t *testing.T) {
	s := begin(t)
	in := s.furnish()
	s.searchForSecrets()
	s.keepLogs()
	t.Cleanup(func() { s.scaleOperator(operatorReplicas) })
	s.scaleOperator(0)
	s.deleteNamespace()
	s.awaitEnd(in)
	s.noVolumes()
}

// furnish fills the namespace: what is well, and what is broken in every way that holds up a pod or a user. The client that
// it returns is connected.
func (s *story) furnish() *mqttClient {
	s.Helper()
	s.broker(withVolume)
	s.create(gen.Broker(s.namespace, hubName))
	policy := gen.Policy(s.namespace, "shared", gen.Rule(v1alpha1.ACLAllow, "#", v1alpha1.ACLPublish, v1alpha1.ACLSubscribe))
	s.create(policy)
	s.user("anna", gen.WithPolicies("shared"))
	link := gen.Bridge(s.namespace, "link", brokerName, small, gen.ToBroker(v1alpha1.BrokerReference{Name: hubName}))
	s.create(link)
	s.awaitReady(link)

	unpulled := func(b *v1alpha1.MQTTBroker) { b.Spec.Image = new("localhost/mqtt-broker:mistyped") }
	unbound := func(b *v1alpha1.MQTTBroker) {
		b.Spec.Persistence = &v1alpha1.BrokerPersistence{StorageClassName: new("of-no-one")}
	}
	broken := gen.Bridge(s.namespace, "broken", brokerName, small)
	broken.Spec.Image = new("localhost/mqtt-broker:mistyped")
	s.create(
		gen.Broker(s.namespace, "unpulled", withVolume, unpulled),
		gen.Broker(s.namespace, "unbound", unbound),
		gen.Broker(s.namespace, "uncertified", gen.WithListener(gen.FromSecret("other", 8884, "nowhere"))),
		gen.User(s.namespace, "secretless", brokerName, gen.WithPasswordFrom("nowhere")),
		gen.User(s.namespace, "brokerless", "nowhere"),
		broken,
	)
	s.eventually(patience, "what is broken is as broken as it will be", func() error {
		pods := &corev1.PodList{}
		if err := kube.List(s.ctx, pods, client.InNamespace(s.namespace)); err != nil {
			return err
		}
		unpullable, unschedulable := 0, 0
		for i := range pods.Items {
			for _, c := range pods.Items[i].Status.ContainerStatuses {
				if w := c.State.Waiting; w != nil && (w.Reason == "ErrImagePull" || w.Reason == "ImagePullBackOff") {
					unpullable++
				}
			}
			for _, c := range pods.Items[i].Status.Conditions {
				if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
					unschedulable++
				}
			}
		}
		if unpullable != 2 || unschedulable != 1 {
			return fmt.Errorf("%d pods wait for an image, want 2, and %d for a volume, want 1", unpullable, unschedulable)
		}
		return nil
	})
	for name, reason := range map[string]v1alpha1.ConditionReason{"secretless": v1alpha1.ReasonSecretNotUsable, "brokerless": v1alpha1.ReasonBrokerNotFound} {
		s.await(gen.User(s.namespace, name, brokerName), v1alpha1.ConditionReady, metav1.ConditionFalse, reason)
	}
	return s.connect("anna")
}

// deleteNamespace deletes the story's namespace and waits until it is gone, which has to be soon.
func (s *story) deleteNamespace() {
	s.Helper()
	pods := &corev1.PodList{}
	if err := kube.List(s.ctx, pods, client.InNamespace(s.namespace)); err != nil {
		s.Fatal(err)
	}
	var grace time.Duration
	for i := range pods.Items {
		grace = max(grace, time.Duration(*pods.Items[i].Spec.TerminationGracePeriodSeconds)*time.Second)
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.namespace}}
	s.remove(namespace)
	took := s.eventually(patience, "the namespace is gone", func() error {
		err := s.isGone(namespace)
		if err != nil {
			err = fmt.Errorf("%w: %v", err, namespace.Status.Conditions)
		}
		return err
	})
	s.sayf("the namespace with %d pods was gone after %.1fs; their grace period is %v", len(pods.Items), took.Seconds(), grace)
	if took > grace+beyondGrace {
		s.Errorf("that is more than %v", grace+beyondGrace)
	}
}

func (s *story) noVolumes() {
	s.Helper()
	s.eventually(patience, "its volumes are gone", func() error {
		volumes := &corev1.PersistentVolumeList{}
		if err := kube.List(s.ctx, volumes); err != nil {
			return err
		}
		for i := range volumes.Items {
			if claim := volumes.Items[i].Spec.ClaimRef; claim != nil && claim.Namespace == s.namespace {
				return errors.New(volumes.Items[i].Name + " is still there")
			}
		}
		return nil
	})
}
