// SPDX-License-Identifier: Apache-2.0

// Package controllers joins the reconcilers to a manager: what the cache holds, which event wakes which object. The
// binary and every test of a controller go through it, so that what is tested is what runs.
package controllers

import (
	"context"
	"fmt"
	"net"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/selection"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/apply"
	mqttbroker "github.com/mqtt-operator/mqtt-operator/controllers/broker"
	mqttuser "github.com/mqtt-operator/mqtt-operator/controllers/user"
)

// eventSource is the name under which events are recorded.
const eventSource = "mqtt-operator"

// Options are what main and tests may choose.
type Options struct {
	// Image is the broker image of this release.
	Image string
	// AdminAddress is where the admin endpoint of a pod listens; default: the pod's address and [contract.AdminPort].
	AdminAddress func(*corev1.Pod) string
	// Concurrency is how many objects of a kind are reconciled at the same time; default 4.
	Concurrency int
	// Clock tells the time; default: the system's.
	Clock clock.PassiveClock
}

func (o *Options) resolve() {
	if o.AdminAddress == nil {
		o.AdminAddress = func(pod *corev1.Pod) string {
			return net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(contract.AdminPort))
		}
	}
	if o.Concurrency == 0 {
		o.Concurrency = 4
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
}

// Scheme knows every kind that the operator reads or writes.
func Scheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("scheme: %w", err)
		}
	}
	return scheme, nil
}

// CacheOptions bound what the operator keeps in memory: of Secrets only those that are labelled for it, of pods,
// Services and the rest only its own, and of nothing what nobody reads (see slim). namespaces may be empty: then all.
//
// Secrets are read without a copy, because those with a broker's users are large and every user's reconciler looks into
// them: what a reconciler reads it must not change. KUBE_CACHE_MUTATION_DETECTOR=true, which the tests set, panics when
// one does.
func CacheOptions(namespaces []string) (cache.Options, error) {
	allowed, err := labels.NewRequirement(v1alpha1.LabelAllow, selection.Exists, nil)
	if err != nil {
		return cache.Options{}, fmt.Errorf("cache: %w", err)
	}
	own := cache.ByObject{Label: labels.SelectorFromSet(labels.Set{v1alpha1.LabelManagedBy: v1alpha1.ManagedByValue})}
	options := cache.Options{
		DefaultTransform: slim,
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Secret{}:         {Label: labels.NewSelector().Add(*allowed), UnsafeDisableDeepCopy: new(true)},
			&corev1.Pod{}:            own,
			&corev1.Service{}:        own,
			&corev1.ServiceAccount{}: own,
			&appsv1.StatefulSet{}:    own,
		},
	}
	if len(namespaces) > 0 {
		options.DefaultNamespaces = map[string]cache.Config{}
		for _, namespace := range namespaces {
			options.DefaultNamespaces[namespace] = cache.Config{}
		}
	}
	return options, nil
}

// Setup joins every reconciler to mgr.
func Setup(ctx context.Context, mgr manager.Manager, o Options) error {
	o.resolve()
	if err := index(ctx, mgr.GetFieldIndexer()); err != nil {
		return err
	}
	writer := apply.NewWriter(mgr.GetClient(), mgr.GetAPIReader())
	if err := setupBroker(mgr, o, writer); err != nil {
		return fmt.Errorf("controller of MQTTBroker: %w", err)
	}
	if err := setupUser(mgr, o, writer); err != nil {
		return fmt.Errorf("controller of MQTTUser: %w", err)
	}
	return nil
}

// Names of the indexes by which a Secret finds those who name it.
const (
	indexBrokerSecret = "spec.listeners.tls.secretRef"
	indexUserSecret   = "spec.authentication.password.secretRef"
)

func index(ctx context.Context, indexer client.FieldIndexer) error {
	users := map[string]func(*v1alpha1.MQTTUser) []string{
		mqttbroker.IndexUserBroker: func(u *v1alpha1.MQTTUser) []string { return []string{u.Namespace + "/" + u.Spec.BrokerRef.Name} },
		mqttuser.IndexUsername:     func(u *v1alpha1.MQTTUser) []string { return []string{mqttuser.UsernameKey(u)} },
		indexUserSecret: func(u *v1alpha1.MQTTUser) []string {
			if name := u.Resolved().PasswordSecret; name != "" {
				return []string{name}
			}
			return nil
		},
	}
	for name, values := range users {
		if err := indexer.IndexField(ctx, &v1alpha1.MQTTUser{}, name, func(o client.Object) []string {
			user, _ := o.(*v1alpha1.MQTTUser)
			return values(user)
		}); err != nil {
			return fmt.Errorf("index %s: %w", name, err)
		}
	}
	err := indexer.IndexField(ctx, &v1alpha1.MQTTBroker{}, indexBrokerSecret, func(o client.Object) []string {
		broker, _ := o.(*v1alpha1.MQTTBroker)
		var names []string
		for _, l := range broker.Resolved().Listeners {
			if l.Encrypted() && !l.TLS.SelfManaged() {
				names = append(names, l.TLS.SecretName)
			}
		}
		return names
	})
	if err != nil {
		return fmt.Errorf("index %s: %w", indexBrokerSecret, err)
	}
	return nil
}

func setupBroker(mgr manager.Manager, o Options, writer *apply.Writer) error {
	r := &mqttbroker.Reconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Writer: writer, Events: mgr.GetEventRecorder(eventSource), Clock: o.Clock,
		Image: o.Image, AdminAddress: o.AdminAddress,
	}
	return ctrl.NewControllerManagedBy(mgr).
		For(&v1alpha1.MQTTBroker{}, builder.WithPredicates(wished())).
		Owns(&appsv1.StatefulSet{}).
		Owns(&corev1.Service{}).
		Owns(&corev1.ServiceAccount{}).
		Owns(&corev1.Secret{}).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(brokerByLabel)).
		Watches(&v1alpha1.MQTTUser{}, handler.EnqueueRequestsFromMapFunc(brokerOfUser), builder.WithPredicates(wished())).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(brokersOfSecret(mgr.GetClient()))).
		WithOptions(controller.Options{MaxConcurrentReconciles: o.Concurrency}).
		Complete(reconcile.AsReconciler(mgr.GetClient(), r))
}

func setupUser(mgr manager.Manager, o Options, writer *apply.Writer) error {
	r := &mqttuser.Reconciler{Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Writer: writer, Events: mgr.GetEventRecorder(eventSource), Clock: o.Clock}
	return ctrl.NewControllerManagedBy(mgr).
		For(&v1alpha1.MQTTUser{}, builder.WithPredicates(wished())).
		Owns(&corev1.Secret{}).
		Watches(&v1alpha1.MQTTUser{}, handler.EnqueueRequestsFromMapFunc(namesakes(mgr.GetClient())), builder.WithPredicates(wished())).
		Watches(&v1alpha1.MQTTBroker{}, usersOfBroker(mgr.GetClient())).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(usersOfSecret(mgr.GetClient()))).
		WithOptions(controller.Options{MaxConcurrentReconciles: o.Concurrency}).
		Complete(reconcile.AsReconciler(mgr.GetClient(), r))
}

// wished lets through what a person wished: a new spec or annotation, an object that comes or goes. What the operator
// itself wrote into the status wakes nobody.
func wished() predicate.Predicate {
	return predicate.Or(predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{})
}

func request(namespace, name string) []reconcile.Request {
	return []reconcile.Request{{NamespacedName: client.ObjectKey{Namespace: namespace, Name: name}}}
}

func brokerByLabel(_ context.Context, o client.Object) []reconcile.Request {
	if name := o.GetLabels()[v1alpha1.LabelBroker]; name != "" {
		return request(o.GetNamespace(), name)
	}
	return nil
}

func brokerOfUser(_ context.Context, o client.Object) []reconcile.Request {
	user, ok := o.(*v1alpha1.MQTTUser)
	if !ok {
		return nil
	}
	return request(user.Namespace, user.Spec.BrokerRef.Name)
}

// brokersOfSecret wakes the broker of a verifier, and the brokers whose listeners name the Secret.
func brokersOfSecret(c client.Client) handler.MapFunc {
	return func(ctx context.Context, o client.Object) []reconcile.Request {
		if secret, ok := o.(*corev1.Secret); ok && secret.Type == v1alpha1.SecretTypeVerifier {
			return brokerByLabel(ctx, o)
		}
		list := &v1alpha1.MQTTBrokerList{}
		if err := c.List(ctx, list, client.InNamespace(o.GetNamespace()), client.MatchingFields{indexBrokerSecret: o.GetName()}); err != nil {
			return nil
		}
		var requests []reconcile.Request
		for i := range list.Items {
			requests = append(requests, request(list.Items[i].Namespace, list.Items[i].Name)...)
		}
		return requests
	}
}

// usersOfSecret wakes the users whose password the Secret holds, and all users of a broker whose CA it is.
func usersOfSecret(c client.Client) handler.MapFunc {
	return func(ctx context.Context, o client.Object) []reconcile.Request {
		if secret, ok := o.(*corev1.Secret); ok && secret.Type == v1alpha1.SecretTypeCA {
			broker := o.GetLabels()[v1alpha1.LabelBroker]
			if o.GetName() != v1alpha1.CASecretName(broker) {
				return nil
			}
			return users(ctx, c, client.MatchingFields{mqttbroker.IndexUserBroker: o.GetNamespace() + "/" + broker}, nil)
		}
		if o.GetLabels()[v1alpha1.LabelAllow] == v1alpha1.AllowOwned {
			return nil
		}
		// A TLS Secret may carry the ca.crt that bindings repeat.
		requests := users(ctx, c, client.MatchingFields{indexUserSecret: o.GetName()}, client.InNamespace(o.GetNamespace()))
		for _, broker := range brokersOfSecret(c)(ctx, o) {
			requests = append(requests, users(ctx, c, client.MatchingFields{mqttbroker.IndexUserBroker: broker.String()}, nil)...)
		}
		return requests
	}
}

// namesakes wakes the users that want the same name: the oldest of them may be another one now.
func namesakes(c client.Client) handler.MapFunc {
	return func(ctx context.Context, o client.Object) []reconcile.Request {
		user, ok := o.(*v1alpha1.MQTTUser)
		if !ok {
			return nil
		}
		return users(ctx, c, client.MatchingFields{mqttuser.IndexUsername: mqttuser.UsernameKey(user)}, nil)
	}
}

// usersOfBroker wakes every user when a broker comes, goes or is wished otherwise, and only those that wait for it
// when its status moves: with ten thousand users, one new one must not wake the others.
func usersOfBroker(c client.Client) handler.EventHandler {
	key := func(o client.Object) client.MatchingFields {
		return client.MatchingFields{mqttbroker.IndexUserBroker: o.GetNamespace() + "/" + o.GetName()}
	}
	enqueue := func(queue handlerQueue, requests []reconcile.Request) {
		for _, r := range requests {
			queue.Add(r)
		}
	}
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q handlerQueue) {
			enqueue(q, users(ctx, c, key(e.Object), nil))
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q handlerQueue) {
			enqueue(q, users(ctx, c, key(e.Object), nil))
		},
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q handlerQueue) {
			if e.ObjectOld.GetGeneration() != e.ObjectNew.GetGeneration() || e.ObjectNew.GetDeletionTimestamp() != nil {
				enqueue(q, users(ctx, c, key(e.ObjectNew), nil))
				return
			}
			enqueue(q, unsettled(ctx, c, key(e.ObjectNew)))
		},
	}
}

func users(ctx context.Context, c client.Client, match client.MatchingFields, scope client.ListOption) []reconcile.Request {
	return usersThat(ctx, c, func(*v1alpha1.MQTTUser) bool { return true }, match, scope)
}

func unsettled(ctx context.Context, c client.Client, match client.MatchingFields) []reconcile.Request {
	return usersThat(ctx, c, func(u *v1alpha1.MQTTUser) bool { return !mqttuser.IsSettled(u) }, match, nil)
}

func usersThat(ctx context.Context, c client.Client, wanted func(*v1alpha1.MQTTUser) bool, match client.MatchingFields, scope client.ListOption) []reconcile.Request {
	options := []client.ListOption{match}
	if scope != nil {
		options = append(options, scope)
	}
	list := &v1alpha1.MQTTUserList{}
	if err := c.List(ctx, list, options...); err != nil {
		return nil
	}
	var requests []reconcile.Request
	for i := range list.Items {
		if wanted(&list.Items[i]) {
			requests = append(requests, request(list.Items[i].Namespace, list.Items[i].Name)...)
		}
	}
	return requests
}

// handlerQueue is what event handlers put requests into.
type handlerQueue = workqueue.TypedRateLimitingInterface[reconcile.Request]
