// SPDX-License-Identifier: Apache-2.0

// Package controllers joins the reconcilers to a manager: what the cache holds, which event wakes which object. The
// binary and every test of a controller go through it, so that what is tested is what runs.
package controllers

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"
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
	mqttaccesspolicy "github.com/mqtt-operator/mqtt-operator/controllers/accesspolicy"
	"github.com/mqtt-operator/mqtt-operator/controllers/apply"
	mqttbridge "github.com/mqtt-operator/mqtt-operator/controllers/bridge"
	mqttbroker "github.com/mqtt-operator/mqtt-operator/controllers/broker"
	"github.com/mqtt-operator/mqtt-operator/controllers/scope"
	"github.com/mqtt-operator/mqtt-operator/controllers/traces"
	mqttuser "github.com/mqtt-operator/mqtt-operator/controllers/user"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
	"github.com/mqtt-operator/mqtt-operator/controllers/waiting"
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
	// Namespaces that the operator looks after, as in [CacheOptions]; none means all.
	Namespaces []string
	// Operator is where the operator's own pods are; unknown where it does not run in the cluster.
	Operator verdict.Operator
	// Tracing makes a span of each reconcile; nil makes none.
	Tracing *traces.Tracing
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

// CacheOptions bound what the operator keeps in memory: of Secrets and ConfigMaps only those that are labelled for it, of pods,
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
			&corev1.Secret{}:    {Label: labels.NewSelector().Add(*allowed), UnsafeDisableDeepCopy: new(true)},
			&corev1.ConfigMap{}: {Label: labels.NewSelector().Add(*allowed)},
			&corev1.Pod{}:       own,
			// The StatefulSet makes them, with the labels of its selector alone.
			&corev1.PersistentVolumeClaim{}: {Label: labels.SelectorFromSet(labels.Set{
				v1alpha1.LabelName: v1alpha1.NameValue, v1alpha1.LabelComponent: v1alpha1.ComponentBroker,
			})},
			&corev1.Service{}:        own,
			&corev1.ServiceAccount{}: own,
			&appsv1.StatefulSet{}:    own,
			&appsv1.Deployment{}:     own,

			&networkingv1.NetworkPolicy{}:   own,
			&policyv1.PodDisruptionBudget{}: own,
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
	looksAfter := NewScope(mgr, o.Namespaces)
	if err := setupBroker(mgr, o, writer, looksAfter); err != nil {
		return fmt.Errorf("controller of MQTTBroker: %w", err)
	}
	if err := setupUser(mgr, o, writer, looksAfter); err != nil {
		return fmt.Errorf("controller of MQTTUser: %w", err)
	}
	if err := setupAccessPolicy(mgr, o, writer, looksAfter); err != nil {
		return fmt.Errorf("controller of MQTTAccessPolicy: %w", err)
	}
	if err := setupBridge(mgr, o, writer); err != nil {
		return fmt.Errorf("controller of MQTTBridge: %w", err)
	}
	return nil
}

// NewScope is the part of the cluster that an operator for these namespaces looks after; none means all.
func NewScope(mgr manager.Manager, namespaces []string) *scope.Scope {
	if len(namespaces) == 0 {
		return &scope.Scope{Reader: mgr.GetClient()}
	}
	return &scope.Scope{Namespaces: namespaces, Reader: mgr.GetAPIReader()}
}

// Names of the indexes by which a Secret finds those who name it.
const (
	// indexBrokerSecret finds the brokers whose listeners show what is in a Secret.
	indexBrokerSecret = "spec.listeners.tls.secretRef"
	// indexBrokerReference finds the brokers that name a Secret for whatever purpose, indexBrokerConfigMap a ConfigMap.
	indexBrokerReference = "spec.secrets"
	indexBrokerConfigMap = "spec.configMaps"
	indexUserSecret      = "spec.authentication.password.secrets"
)

func index(ctx context.Context, indexer client.FieldIndexer) error {
	users := map[string]func(*v1alpha1.MQTTUser) []string{
		mqttbroker.IndexUserBroker: func(u *v1alpha1.MQTTUser) []string { return []string{u.BrokerKey()} },
		mqttuser.IndexUsername:     func(u *v1alpha1.MQTTUser) []string { return []string{mqttuser.UsernameKey(u)} },
		indexUserSecret: func(u *v1alpha1.MQTTUser) []string {
			password := u.Resolved().Password
			return slices.DeleteFunc([]string{password.Secret, password.HashSecret}, func(name string) bool { return name == "" })
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
	if err := indexer.IndexField(ctx, &corev1.Secret{}, mqttuser.IndexConfig, func(o client.Object) []string {
		if secret, ok := o.(*corev1.Secret); ok && secret.Type == v1alpha1.SecretTypeConfig {
			return []string{secret.Namespace + "/" + secret.Labels[v1alpha1.LabelBroker]}
		}
		return nil
	}); err != nil {
		return fmt.Errorf("index %s: %w", mqttuser.IndexConfig, err)
	}
	for name, values := range map[string]func(v1alpha1.ResolvedBroker) []string{
		indexBrokerSecret:    v1alpha1.ResolvedBroker.TLSSecrets,
		indexBrokerReference: v1alpha1.ResolvedBroker.ReferencedSecrets,
		indexBrokerConfigMap: v1alpha1.ResolvedBroker.ReferencedConfigMaps,
	} {
		if err := indexer.IndexField(ctx, &v1alpha1.MQTTBroker{}, name, func(o client.Object) []string {
			broker, _ := o.(*v1alpha1.MQTTBroker)
			return values(broker.Resolved())
		}); err != nil {
			return fmt.Errorf("index %s: %w", name, err)
		}
	}
	if err := indexer.IndexField(ctx, &v1alpha1.MQTTBridge{}, mqttbridge.IndexSecret, func(o client.Object) []string {
		bridge, _ := o.(*v1alpha1.MQTTBridge)
		return bridge.Resolved().ReferencedSecrets()
	}); err != nil {
		return fmt.Errorf("index %s: %w", mqttbridge.IndexSecret, err)
	}
	return nil
}

func setupBroker(mgr manager.Manager, o Options, writer *apply.Writer, looksAfter *scope.Scope) error {
	cluster, err := mqttbroker.NewClusterKeys(mgr.GetConfig(), mgr.GetHTTPClient(), o.Clock)
	if err != nil {
		return err
	}
	if err := mqttbroker.ExportMetrics(mgr.GetCache()); err != nil {
		return err
	}
	c := mgr.GetClient()
	r := &mqttbroker.Reconciler{
		Client: c, Live: mgr.GetAPIReader(), Writer: writer, Events: mgr.GetEventRecorder(eventSource), Clock: o.Clock,
		Image: o.Image, AdminAddress: o.AdminAddress, Cluster: cluster, Scope: looksAfter, Operator: o.Operator,
	}
	pace := brokerPacer(c, clock.RealClock{})
	b := ctrl.NewControllerManagedBy(mgr).
		For(&v1alpha1.MQTTBroker{}, builder.WithPredicates(wished())).
		Owns(&appsv1.StatefulSet{}).
		Owns(&corev1.Service{}).
		Owns(&corev1.ServiceAccount{}).
		Owns(&corev1.Secret{}).
		Owns(&corev1.ConfigMap{}).
		Owns(&networkingv1.NetworkPolicy{}).
		Owns(&policyv1.PodDisruptionBudget{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})). // its status counts pods
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(brokerByLabel)).
		Watches(&corev1.PersistentVolumeClaim{}, handler.EnqueueRequestsFromMapFunc(brokerOfClaim)).
		Watches(&v1alpha1.MQTTUser{}, pace.paced(brokerOfUser), builder.WithPredicates(wished())).
		Watches(&corev1.Secret{}, pace.paced(brokerOfVerifier(c)), builder.WithPredicates(isVerifier())).
		Watches(&v1alpha1.MQTTAccessPolicy{}, pace.paced(brokersOfPolicy(c)), builder.WithPredicates(wished())).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(brokersNaming(c, indexBrokerReference)), builder.WithPredicates(predicate.Not(isVerifier()))).
		Watches(&corev1.ConfigMap{}, handler.EnqueueRequestsFromMapFunc(brokersNaming(c, indexBrokerConfigMap))).
		WithOptions(controller.Options{MaxConcurrentReconciles: o.Concurrency})
	return watchNamespaces(b, looksAfter, brokersOfNamespace(c)).Complete(o.Tracing.Reconciler("MQTTBroker", reconcile.AsReconciler(c, r)))
}

func setupUser(mgr manager.Manager, o Options, writer *apply.Writer, looksAfter *scope.Scope) error {
	c, waits := mgr.GetClient(), &waiting.List{}
	r := &mqttuser.Reconciler{
		Client: c, Live: mgr.GetAPIReader(), Writer: writer, Events: mgr.GetEventRecorder(eventSource), Clock: o.Clock, Scope: looksAfter,
		Waiting: waits,
	}
	b := ctrl.NewControllerManagedBy(mgr).
		For(&v1alpha1.MQTTUser{}, builder.WithPredicates(wished())).
		Owns(&corev1.Secret{}).
		Watches(&v1alpha1.MQTTUser{}, handler.EnqueueRequestsFromMapFunc(namesakes(c)), builder.WithPredicates(wished())).
		Watches(&v1alpha1.MQTTBroker{}, usersOfBroker(c, waits)).
		Watches(&corev1.Secret{}, configOfBroker(c, waits.Take)).
		Watches(&v1alpha1.MQTTAccessPolicy{}, usersOfPolicy(c), builder.WithPredicates(wished())).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(usersOfSecret(c))).
		WithOptions(controller.Options{MaxConcurrentReconciles: o.Concurrency})
	return watchNamespaces(b, looksAfter, usersOfNamespace(c)).Complete(o.Tracing.Reconciler("MQTTUser", reconcile.AsReconciler(c, r)))
}

func setupAccessPolicy(mgr manager.Manager, o Options, writer *apply.Writer, looksAfter *scope.Scope) error {
	c, waits := mgr.GetClient(), &waiting.List{}
	r := &mqttaccesspolicy.Reconciler{Client: c, Writer: writer, Events: mgr.GetEventRecorder(eventSource), Clock: o.Clock, Scope: looksAfter, Waiting: waits}
	takeAny := func(types.NamespacedName) []reconcile.Request { return waits.Take(mqttaccesspolicy.AnyBroker) }
	return ctrl.NewControllerManagedBy(mgr).
		For(&v1alpha1.MQTTAccessPolicy{}, builder.WithPredicates(wished())).
		Watches(&v1alpha1.MQTTUser{}, policyPacer(c, clock.RealClock{}).paced(policiesOfUser(c)), builder.WithPredicates(wished())).
		Watches(&v1alpha1.MQTTBroker{}, policiesOfBroker(c, waits)).
		Watches(&corev1.Secret{}, configOfBroker(c, takeAny)).
		WithOptions(controller.Options{MaxConcurrentReconciles: o.Concurrency}).
		Complete(o.Tracing.Reconciler("MQTTAccessPolicy", reconcile.AsReconciler(c, r)))
}

func setupBridge(mgr manager.Manager, o Options, writer *apply.Writer) error {
	c := mgr.GetClient()
	r := &mqttbridge.Reconciler{
		Client: c, Live: mgr.GetAPIReader(), Writer: writer, Events: mgr.GetEventRecorder(eventSource), Clock: o.Clock,
		Image: o.Image, AdminAddress: o.AdminAddress, Operator: o.Operator,
	}
	return ctrl.NewControllerManagedBy(mgr).
		For(&v1alpha1.MQTTBridge{}, builder.WithPredicates(wished())).
		Owns(&appsv1.Deployment{}).
		Owns(&corev1.Secret{}).
		Owns(&corev1.ConfigMap{}).
		Owns(&networkingv1.NetworkPolicy{}).
		Owns(&v1alpha1.MQTTUser{}).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(bridgeOfPod)).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(bridgesOfSecret(c))).
		WithOptions(controller.Options{MaxConcurrentReconciles: o.Concurrency}).
		Complete(o.Tracing.Reconciler("MQTTBridge", reconcile.AsReconciler(c, r)))
}

// watchNamespaces wakes those who tell namespaces apart by their labels when these change. An operator that looks after
// some namespaces has no right to watch any: it asks when it looks at a broker, which is every minute.
func watchNamespaces(b *ctrl.Builder, looksAfter *scope.Scope, requests handler.MapFunc) *ctrl.Builder {
	if len(looksAfter.Namespaces) > 0 {
		return b
	}
	return b.WatchesMetadata(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(requests), builder.WithPredicates(predicate.LabelChangedPredicate{}))
}

// wished lets through what a person wished: a new spec, annotation or label, an object that comes or goes. What the
// operator itself wrote into the status wakes nobody.
func wished() predicate.Predicate {
	return predicate.Or(predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{}, predicate.LabelChangedPredicate{})
}

func request(namespace, name string) []reconcile.Request {
	return []reconcile.Request{{NamespacedName: client.ObjectKey{Namespace: namespace, Name: name}}}
}

func brokerByLabel(_ context.Context, o client.Object) []reconcile.Request {
	carried := o.GetLabels()
	if name := carried[v1alpha1.LabelBroker]; name != "" && carried[v1alpha1.LabelComponent] == v1alpha1.ComponentBroker {
		return request(o.GetNamespace(), name)
	}
	return nil
}

// brokerOfClaim wakes the broker whose volume it is: the label of the selector names it.
func brokerOfClaim(_ context.Context, o client.Object) []reconcile.Request {
	return request(o.GetNamespace(), o.GetLabels()[v1alpha1.LabelInstance])
}

func brokerOfUser(_ context.Context, o client.Object) []reconcile.Request {
	user, ok := o.(*v1alpha1.MQTTUser)
	if !ok {
		return nil
	}
	return request(user.BrokerNamespace(), user.Spec.BrokerRef.Name)
}

// brokersNaming wakes the brokers that name the object by the index.
func brokersNaming(c client.Client, index string) handler.MapFunc {
	return func(ctx context.Context, o client.Object) []reconcile.Request {
		list := &v1alpha1.MQTTBrokerList{}
		if err := c.List(ctx, list, client.InNamespace(o.GetNamespace()), client.MatchingFields{index: o.GetName()}); err != nil {
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
			if o.GetName() != v1alpha1.CASecretName(broker) && o.GetName() != v1alpha1.ClientCASecretName(broker) {
				return nil
			}
			return users(ctx, c, client.MatchingFields{mqttbroker.IndexUserBroker: o.GetNamespace() + "/" + broker}, nil)
		}
		if o.GetLabels()[v1alpha1.LabelAllow] == v1alpha1.AllowOwned {
			return nil
		}
		// A TLS Secret may carry the ca.crt that bindings repeat.
		requests := users(ctx, c, client.MatchingFields{indexUserSecret: o.GetName()}, client.InNamespace(o.GetNamespace()))
		for _, broker := range brokersNaming(c, indexBrokerSecret)(ctx, o) {
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
func usersOfBroker(c client.Client, waits *waiting.List) handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q handlerQueue) {
			addAll(q, users(ctx, c, brokerKeyOf(e.Object), nil))
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q handlerQueue) {
			addAll(q, users(ctx, c, brokerKeyOf(e.Object), nil))
		},
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q handlerQueue) {
			if e.ObjectOld.GetGeneration() != e.ObjectNew.GetGeneration() || e.ObjectNew.GetDeletionTimestamp() != nil {
				addAll(q, users(ctx, c, brokerKeyOf(e.ObjectNew), nil))
				return
			}
			addAll(q, waits.Take(client.ObjectKeyFromObject(e.ObjectNew)))
		},
	}
}

func addAll(queue handlerQueue, requests []reconcile.Request) {
	for _, r := range requests {
		queue.Add(r)
	}
}

func users(ctx context.Context, c client.Client, match client.MatchingFields, within client.ListOption) []reconcile.Request {
	options := []client.ListOption{match, client.UnsafeDisableDeepCopy}
	if within != nil {
		options = append(options, within)
	}
	list := &v1alpha1.MQTTUserList{}
	if err := c.List(ctx, list, options...); err != nil {
		return nil
	}
	requests := make([]reconcile.Request, 0, len(list.Items))
	for i := range list.Items {
		requests = append(requests, request(list.Items[i].Namespace, list.Items[i].Name)...)
	}
	return requests
}

// handlerQueue is what event handlers put requests into.
type handlerQueue = workqueue.TypedRateLimitingInterface[reconcile.Request]
