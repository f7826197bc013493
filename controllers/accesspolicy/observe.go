// SPDX-License-Identifier: Apache-2.0

package mqttaccesspolicy

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/desired"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// brokerFacts are what is known of a broker that should have the policy.
type brokerFacts struct {
	broker *v1alpha1.MQTTBroker
	// config is the Secret with policies.json as it stands, nil where there is none.
	config *corev1.Secret
}

// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch
// +kubebuilder:rbac:groups=mqtt-operator.io,resources=mqttaccesspolicies;mqttbrokers;mqttusers,verbs=get;list;watch
// +kubebuilder:rbac:groups=mqtt-operator.io,resources=mqttaccesspolicies/status,verbs=patch

// observe reads everything and decides nothing.
func (r *Reconciler) observe(ctx context.Context, p *pass) error {
	if err := r.Writer.Seen(p.policy); err != nil {
		return err
	}
	list := &v1alpha1.MQTTUserList{}
	if err := r.Client.List(ctx, list, client.InNamespace(p.policy.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("users: %w", err)
	}
	users := make([]*v1alpha1.MQTTUser, len(list.Items))
	for i := range list.Items {
		users[i] = &list.Items[i]
	}
	p.bound = verdict.BoundUsers(p.policy, users)
	seen := map[types.NamespacedName]bool{}
	for _, user := range p.bound {
		key := types.NamespacedName{Namespace: user.BrokerNamespace(), Name: user.Spec.BrokerRef.Name}
		if seen[key] || user.Status.Binding == nil || !r.Scope.Includes(key.Namespace) {
			continue
		}
		seen[key] = true
		if err := r.observeBroker(ctx, p, key); err != nil {
			return err
		}
	}
	slices.SortFunc(p.brokers, func(a, b brokerFacts) int {
		return cmp.Or(cmp.Compare(a.broker.Namespace, b.broker.Namespace), cmp.Compare(a.broker.Name, b.broker.Name))
	})
	p.isObserved = true
	return nil
}

func (r *Reconciler) observeBroker(ctx context.Context, p *pass, key types.NamespacedName) error {
	broker := &v1alpha1.MQTTBroker{}
	if err := r.Client.Get(ctx, key, broker); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("broker %s: %w", key, err)
	}
	if broker.Name == "" || broker.DeletionTimestamp != nil { // there is none
		return nil
	}
	allowed, err := r.Scope.Allows(ctx, broker, p.policy.Namespace)
	if err != nil || !allowed {
		return err
	}
	facts, config := brokerFacts{broker: broker}, &corev1.Secret{}
	err = r.Client.Get(ctx, client.ObjectKey{Namespace: key.Namespace, Name: v1alpha1.ConfigSecretName(key.Name)}, config, client.UnsafeDisableDeepCopy)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("configuration of %s: %w", key, err)
	}
	if err == nil && metav1.IsControlledBy(config, broker) {
		facts.config = config
	}
	p.brokers = append(p.brokers, facts)
	return nil
}

// has reports whether every pod of the broker has answered a revision with these rules.
func (b *brokerFacts) has(policy *v1alpha1.MQTTAccessPolicy) bool {
	if b.config == nil || b.broker.Status.Revision == nil || b.broker.Status.Revision.Applied == nil {
		return false
	}
	since, err := strconv.ParseInt(b.config.Annotations[desired.PoliciesRevisionAnnotation], 10, 64)
	if err != nil || *b.broker.Status.Revision.Applied < since {
		return false
	}
	policies, err := contract.ParsePolicies(b.config.Data[contract.PoliciesFile])
	rules, found := policies[verdict.PolicyKey(policy)]
	return err == nil && found && reflect.DeepEqual(rules, verdict.PolicyRules(policy))
}
