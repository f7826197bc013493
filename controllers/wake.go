// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	mqttaccesspolicy "github.com/mqtt-operator/mqtt-operator/controllers/accesspolicy"
	mqttbridge "github.com/mqtt-operator/mqtt-operator/controllers/bridge"
	mqttbroker "github.com/mqtt-operator/mqtt-operator/controllers/broker"
	"github.com/mqtt-operator/mqtt-operator/controllers/desired"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
	"github.com/mqtt-operator/mqtt-operator/controllers/waiting"
)

const (
	// wakeGrace gathers events that come together: a user and its verifier.
	wakeGrace = 20 * time.Millisecond
	// wakePerUser is the distance between two passes that users ask for, for each user that the object has. A pass over a
	// broker of ten thousand users reads and renders all of them, so that many changes share one: at most two a second.
	wakePerUser = 50 * time.Microsecond
)

// pacer gathers the wake-ups of one kind of object. The first after a pause comes at once, those behind it share the
// next pass.
type pacer struct {
	clock clock.PassiveClock
	// users is how many users an object has.
	users func(context.Context, reconcile.Request) int

	mu  sync.Mutex
	due map[reconcile.Request]time.Time
}

// wait is in what time an object is to be woken for an event of now.
func (p *pacer) wait(ctx context.Context, r reconcile.Request) time.Duration {
	now, distance := p.clock.Now(), wakeGrace+time.Duration(p.users(ctx, r))*wakePerUser
	p.mu.Lock()
	defer p.mu.Unlock()
	last, found := p.due[r]
	if found && last.After(now) {
		return last.Sub(now) // that one sees this event, too
	}
	due := now.Add(wakeGrace)
	if next := last.Add(distance); found && next.After(due) {
		due = next
	}
	if p.due == nil {
		p.due = map[reconcile.Request]time.Time{}
	}
	p.due[r] = due
	return due.Sub(now)
}

// forget drops an object that is gone.
func (p *pacer) forget(r reconcile.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.due, r)
}

// paced wakes what requests names, at the pacer's pace. Of an update both sides count.
func (p *pacer) paced(requests handler.MapFunc) handler.EventHandler {
	wake := func(ctx context.Context, q handlerQueue, objects ...client.Object) {
		for _, object := range objects {
			for _, r := range requests(ctx, object) {
				q.AddAfter(r, p.wait(ctx, r))
			}
		}
	}
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q handlerQueue) { wake(ctx, q, e.Object) },
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q handlerQueue) { wake(ctx, q, e.ObjectOld, e.ObjectNew) },
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q handlerQueue) { wake(ctx, q, e.Object) },
	}
}

// brokerPacer knows from its status how many users a broker has.
func brokerPacer(c client.Client, passive clock.PassiveClock) *pacer {
	p := &pacer{clock: passive}
	p.users = func(ctx context.Context, r reconcile.Request) int {
		broker := &v1alpha1.MQTTBroker{}
		if err := c.Get(ctx, r.NamespacedName, broker, client.UnsafeDisableDeepCopy); err != nil {
			p.forget(r)
			return 0
		}
		if users := broker.Status.Users; users != nil && users.Accepted != nil {
			return int(*users.Accepted)
		}
		return 0
	}
	return p
}

// policyPacer knows from its status how many users a policy has.
func policyPacer(c client.Client, passive clock.PassiveClock) *pacer {
	p := &pacer{clock: passive}
	p.users = func(ctx context.Context, r reconcile.Request) int {
		policy := &v1alpha1.MQTTAccessPolicy{}
		if err := c.Get(ctx, r.NamespacedName, policy, client.UnsafeDisableDeepCopy); err != nil {
			p.forget(r)
			return 0
		}
		if bound := policy.Status.BoundUsers; bound != nil {
			return int(*bound)
		}
		return 0
	}
	return p
}

// isVerifier lets verifier Secrets through.
func isVerifier() predicate.Predicate {
	return predicate.NewPredicateFuncs(func(o client.Object) bool {
		secret, ok := o.(*corev1.Secret)
		return ok && secret.Type == v1alpha1.SecretTypeVerifier
	})
}

// brokerOfVerifier wakes the broker of the user that a verifier belongs to, which may be in another namespace.
func brokerOfVerifier(c client.Client) handler.MapFunc {
	return func(ctx context.Context, o client.Object) []reconcile.Request {
		owner := metav1.GetControllerOf(o)
		if owner == nil {
			return nil
		}
		user := &v1alpha1.MQTTUser{}
		if err := c.Get(ctx, client.ObjectKey{Namespace: o.GetNamespace(), Name: owner.Name}, user, client.UnsafeDisableDeepCopy); err != nil {
			return nil // When it is gone, its own event wakes the broker.
		}
		return brokerOfUser(ctx, user)
	}
}

// policiesOfUser wakes the policies that bind a user.
func policiesOfUser(c client.Client) handler.MapFunc {
	return func(ctx context.Context, o client.Object) []reconcile.Request {
		user, ok := o.(*v1alpha1.MQTTUser)
		if !ok {
			return nil
		}
		list := &v1alpha1.MQTTAccessPolicyList{}
		if err := c.List(ctx, list, client.InNamespace(user.Namespace), client.UnsafeDisableDeepCopy); err != nil {
			return nil
		}
		var requests []reconcile.Request
		for i := range list.Items {
			if verdict.Binds(&list.Items[i], user) {
				requests = append(requests, request(list.Items[i].Namespace, list.Items[i].Name)...)
			}
		}
		return requests
	}
}

// boundUsers are the users for whom a policy makes a difference.
func boundUsers(ctx context.Context, c client.Client, policy *v1alpha1.MQTTAccessPolicy) []*v1alpha1.MQTTUser {
	list := &v1alpha1.MQTTUserList{}
	if err := c.List(ctx, list, client.InNamespace(policy.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return nil
	}
	users := make([]*v1alpha1.MQTTUser, len(list.Items))
	for i := range list.Items {
		users[i] = &list.Items[i]
	}
	if verdict.PolicyProblem(policy) != nil {
		return users // Nobody knows whom it binds.
	}
	return verdict.BoundUsers(policy, users)
}

// brokersOfPolicy wakes the brokers of the users that a policy binds.
func brokersOfPolicy(c client.Client) handler.MapFunc {
	return func(ctx context.Context, o client.Object) []reconcile.Request {
		policy, ok := o.(*v1alpha1.MQTTAccessPolicy)
		if !ok {
			return nil
		}
		var requests []reconcile.Request
		for _, user := range boundUsers(ctx, c, policy) {
			for _, r := range brokerOfUser(ctx, user) {
				if !slices.Contains(requests, r) {
					requests = append(requests, r)
				}
			}
		}
		return requests
	}
}

// usersOfPolicy wakes the users that a policy binds when it comes, goes or binds others. Other rules change nothing for
// them: those are the broker's to take.
func usersOfPolicy(c client.Client) handler.EventHandler {
	wake := func(ctx context.Context, q handlerQueue, objects ...client.Object) {
		for _, o := range objects {
			policy, ok := o.(*v1alpha1.MQTTAccessPolicy)
			if !ok {
				continue
			}
			for _, user := range boundUsers(ctx, c, policy) {
				q.Add(request(user.Namespace, user.Name)[0])
			}
		}
	}
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q handlerQueue) { wake(ctx, q, e.Object) },
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q handlerQueue) { wake(ctx, q, e.Object) },
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q handlerQueue) {
			before, isPolicy := e.ObjectOld.(*v1alpha1.MQTTAccessPolicy)
			after, _ := e.ObjectNew.(*v1alpha1.MQTTAccessPolicy)
			if !isPolicy || !reflect.DeepEqual(before.Spec.UserSelector, after.Spec.UserSelector) ||
				(verdict.PolicyProblem(before) == nil) != (verdict.PolicyProblem(after) == nil) || after.DeletionTimestamp != nil {
				wake(ctx, q, e.ObjectOld, e.ObjectNew)
			}
		},
	}
}

// policiesOfBroker wakes the policies that wait for a broker when its revision moves. Those in force it leaves alone.
func policiesOfBroker(c client.Client, waits *waiting.List) handler.EventHandler {
	wakeAll := func(ctx context.Context, q handlerQueue) {
		list := &v1alpha1.MQTTAccessPolicyList{}
		if err := c.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
			return
		}
		for i := range list.Items {
			q.Add(request(list.Items[i].Namespace, list.Items[i].Name)[0])
		}
	}
	return handler.Funcs{
		DeleteFunc: func(ctx context.Context, _ event.DeleteEvent, q handlerQueue) { wakeAll(ctx, q) },
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q handlerQueue) {
			before, isBroker := e.ObjectOld.(*v1alpha1.MQTTBroker)
			after, _ := e.ObjectNew.(*v1alpha1.MQTTBroker)
			switch {
			case !isBroker:
			case before.Generation != after.Generation:
				wakeAll(ctx, q)
			case !reflect.DeepEqual(before.Status.Revision, after.Status.Revision):
				addAll(q, waits.Take(mqttaccesspolicy.AnyBroker))
			}
		},
	}
}

// configOfBroker wakes those who wait for a broker when the cache learns of its configuration after it has learnt that every
// pod answered: Secrets and brokers are watched apart, and a pass in between has seen an answer to what it did not know.
func configOfBroker(c client.Client, take func(broker types.NamespacedName) []reconcile.Request) handler.EventHandler {
	wake := func(ctx context.Context, q handlerQueue, o client.Object) {
		secret, ok := o.(*corev1.Secret)
		if !ok || secret.Type != v1alpha1.SecretTypeConfig {
			return
		}
		key, broker := types.NamespacedName{Namespace: secret.Namespace, Name: secret.Labels[v1alpha1.LabelBroker]}, &v1alpha1.MQTTBroker{}
		if err := c.Get(ctx, key, broker, client.UnsafeDisableDeepCopy); err != nil {
			return
		}
		since, err := strconv.ParseInt(secret.Annotations[desired.RevisionAnnotation], 10, 64)
		if r := broker.Status.Revision; err == nil && r != nil && r.Applied != nil && *r.Applied >= since {
			addAll(q, take(key))
		}
	}
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q handlerQueue) { wake(ctx, q, e.Object) },
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q handlerQueue) { wake(ctx, q, e.ObjectNew) },
	}
}

// brokersOfNamespace wakes the brokers that tell namespaces apart by their labels.
func brokersOfNamespace(c client.Client) handler.MapFunc {
	return func(ctx context.Context, _ client.Object) []reconcile.Request {
		list := &v1alpha1.MQTTBrokerList{}
		if err := c.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
			return nil
		}
		var requests []reconcile.Request
		for i := range list.Items {
			if list.Items[i].SelectsNamespaces() {
				requests = append(requests, request(list.Items[i].Namespace, list.Items[i].Name)...)
			}
		}
		return requests
	}
}

// usersOfNamespace wakes the users in a namespace whose broker is in another one, and those who contest a name with
// them.
func usersOfNamespace(c client.Client) handler.MapFunc {
	return func(ctx context.Context, o client.Object) []reconcile.Request {
		list := &v1alpha1.MQTTUserList{}
		if err := c.List(ctx, list, client.InNamespace(o.GetName()), client.UnsafeDisableDeepCopy); err != nil {
			return nil
		}
		var requests []reconcile.Request
		for i := range list.Items {
			if user := &list.Items[i]; user.BrokerNamespace() != user.Namespace {
				requests = append(requests, namesakes(c)(ctx, user)...)
			}
		}
		return requests
	}
}

// brokerKeyOf is the value of [mqttbroker.IndexUserBroker].
func brokerKeyOf(o client.Object) client.MatchingFields {
	return client.MatchingFields{mqttbroker.IndexUserBroker: o.GetNamespace() + "/" + o.GetName()}
}

// bridgeOfPod wakes the bridge that a pod belongs to.
func bridgeOfPod(_ context.Context, o client.Object) []reconcile.Request {
	labels := o.GetLabels()
	if name := labels[v1alpha1.LabelInstance]; name != "" && labels[v1alpha1.LabelComponent] == v1alpha1.ComponentBridge {
		return request(o.GetNamespace(), name)
	}
	return nil
}

// bridgesOfSecret wakes the bridges that name a Secret, and the one whose user a binding belongs to.
func bridgesOfSecret(c client.Client) handler.MapFunc {
	return func(ctx context.Context, o client.Object) []reconcile.Request {
		secret, ok := o.(*corev1.Secret)
		if !ok {
			return nil
		}
		if secret.Labels[v1alpha1.LabelAllow] == v1alpha1.AllowOwned {
			return bridgeOfBinding(ctx, c, secret)
		}
		list := &v1alpha1.MQTTBridgeList{}
		if err := c.List(ctx, list, client.InNamespace(secret.Namespace), client.MatchingFields{mqttbridge.IndexSecret: secret.Name}, client.UnsafeDisableDeepCopy); err != nil {
			return nil
		}
		var requests []reconcile.Request
		for i := range list.Items {
			requests = append(requests, request(list.Items[i].Namespace, list.Items[i].Name)...)
		}
		return requests
	}
}

func bridgeOfBinding(ctx context.Context, c client.Client, secret *corev1.Secret) []reconcile.Request {
	owner := metav1.GetControllerOf(secret)
	if owner == nil || secret.Type != v1alpha1.SecretTypeBinding {
		return nil
	}
	user := &v1alpha1.MQTTUser{}
	if err := c.Get(ctx, client.ObjectKey{Namespace: secret.Namespace, Name: owner.Name}, user, client.UnsafeDisableDeepCopy); err != nil {
		return nil // When it is gone, its own event wakes the bridge.
	}
	if bridge := metav1.GetControllerOf(user); bridge != nil && bridge.Kind == "MQTTBridge" {
		return request(secret.Namespace, bridge.Name)
	}
	return nil
}
