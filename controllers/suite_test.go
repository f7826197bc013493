// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/yaml"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers"
	mqttaccesspolicy "github.com/mqtt-operator/mqtt-operator/controllers/accesspolicy"
	"github.com/mqtt-operator/mqtt-operator/controllers/apply"
	mqttbridge "github.com/mqtt-operator/mqtt-operator/controllers/bridge"
	mqttbroker "github.com/mqtt-operator/mqtt-operator/controllers/broker"
	"github.com/mqtt-operator/mqtt-operator/controllers/traces"
	mqttuser "github.com/mqtt-operator/mqtt-operator/controllers/user"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
	"github.com/mqtt-operator/mqtt-operator/controllers/waiting"
)

// patience is how long a fact may take; machines are noisy.
const patience = 60 * time.Second

// tick is the time between two looks for a fact.
const tick = 20 * time.Millisecond

var (
	apiServer *rest.Config
	// k8s reads and writes past every cache.
	k8s client.Client
)

func TestMain(m *testing.M) {
	if err := run(m); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(m *testing.M) error {
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		return errors.New("these tests need a kube-apiserver: export KUBEBUILDER_ASSETS=$(cd hack/devcluster && go run . assets)")
	}
	log.SetLogger(logr.Discard())
	scheme, err := controllers.Scheme()
	if err != nil {
		return err
	}
	definitions, err := liftedDefinitions()
	if err != nil {
		return err
	}
	environment := &envtest.Environment{CRDs: definitions, Scheme: scheme}
	// Services get addresses of both families where they may have both.
	environment.ControlPlane.GetAPIServer().Configure().Set("service-cluster-ip-range", "10.0.0.0/16,fd00:0:0:1::/108")
	if apiServer, err = environment.Start(); err != nil {
		return err
	}
	apiServer.QPS, apiServer.Burst = 1000, 1000
	if k8s, err = client.New(apiServer, client.Options{Scheme: scheme}); err != nil {
		return errors.Join(err, environment.Stop())
	}
	code := m.Run()
	if err := environment.Stop(); err != nil {
		return err
	}
	os.Exit(code)
	return nil
}

// liftedDefinitions are the kinds without the rules that refuse what is not alive: a story may ask what the reconcilers do
// with a field before all of the product can.
func liftedDefinitions() ([]*apiextensionsv1.CustomResourceDefinition, error) {
	paths, err := filepath.Glob("../config/crd/bases/*.yaml")
	if err != nil || len(paths) == 0 {
		return nil, fmt.Errorf("no definitions: %w", err)
	}
	var list []*apiextensionsv1.CustomResourceDefinition
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		definition := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.Unmarshal(text, definition); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		for i := range definition.Spec.Versions {
			lift(definition.Spec.Versions[i].Schema.OpenAPIV3Schema)
		}
		list = append(list, definition)
	}
	return list, nil
}

func lift(schema *apiextensionsv1.JSONSchemaProps) {
	schema.XValidations = slices.DeleteFunc(schema.XValidations, func(rule apiextensionsv1.ValidationRule) bool {
		return strings.Contains(rule.Message, " is not alive in this version")
	})
	for name, property := range schema.Properties {
		lift(&property)
		schema.Properties[name] = property
	}
	if schema.Items != nil && schema.Items.Schema != nil {
		lift(schema.Items.Schema)
	}
}

// world is one namespace with an operator that looks after it alone, and a stand-in for the kubelet.
type world struct {
	t         *testing.T
	namespace string
	// others are namespaces beside it that the operator looks after, too.
	others  []string
	kubelet *kubelet
	// log is all that the operators have logged, debug and all.
	log *logBuffer
	// operator is what the manager of now uses: the same caches and options as in the binary.
	operator manager.Manager
	stop     func()
	// elects says that the operators to come elect a leader, as in the binary.
	elects bool
	clock  clock.PassiveClock
	// image is the broker image that belongs to the operator's release.
	image string
	// tracing takes spans; nil where nobody does.
	tracing *traces.Tracing
	// between stands between the operator and the API server, if it is not nil.
	between func(client.Client) client.Client
	// tick is the time between two looks for a fact, and patience how long one may take, where they are longer than usual.
	tick, patience time.Duration
	// lease is how long an operator leads without a sign of life, where it is not as usual.
	lease time.Duration
}

// newWorld starts an operator for a new namespace. The manager's options are those of the binary.
func newWorld(t *testing.T, labelsOfOthers ...map[string]string) *world {
	t.Helper()
	return newWorldOf(t, nil, labelsOfOthers...)
}

// newWorldOf is newWorld with a clock of its own; nil is the system's.
func newWorldOf(t *testing.T, now clock.PassiveClock, labelsOfOthers ...map[string]string) *world {
	t.Helper()
	return newWorldFrom(t, &world{clock: now}, labelsOfOthers...)
}

// newWorldFrom is newWorld with something about it that is different.
func newWorldFrom(t *testing.T, w *world, labelsOfOthers ...map[string]string) *world {
	t.Helper()
	w.t, w.log, w.stop, w.image = t, &logBuffer{}, func() {}, "example.com/broker:1"
	w.namespace = w.newNamespace(nil)
	for _, labels := range labelsOfOthers {
		w.others = append(w.others, w.newNamespace(labels))
	}
	w.kubelet = newKubelet(t, w.namespace)
	w.startOperator()
	t.Cleanup(func() { w.stop() })
	return w
}

func (w *world) newNamespace(labels map[string]string) string {
	w.t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "story-", Labels: labels}}
	must(w.t, k8s.Create(w.t.Context(), namespace))
	return namespace.Name
}

func (w *world) namespaces() []string { return append([]string{w.namespace}, w.others...) }

// operatorPods is where the operator of the stories says that it runs.
var operatorPods = verdict.Operator{Namespace: "mqtt-operator-system", Labels: map[string]string{"app.kubernetes.io/name": "mqtt-operator"}}

// startOperator starts an operator, after ending the one before.
func (w *world) startOperator() {
	w.t.Helper()
	w.stop()
	ctx, cancel := context.WithCancel(context.Background())
	mgr, err := w.newOperator(ctx, apiServer)
	must(w.t, err)
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	w.operator, w.stop = mgr, func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("the operator ended with %v", err)
		}
		w.stop = func() {}
	}
	if !mgr.GetCache().WaitForCacheSync(ctx) {
		w.t.Fatal("the operator's cache does not fill")
	}
}

// newOperator is an operator that is about to start.
func (w *world) newOperator(ctx context.Context, at *rest.Config) (manager.Manager, error) {
	scheme, err := controllers.Scheme()
	if err != nil {
		return nil, err
	}
	cached, err := controllers.CacheOptions(w.namespaces())
	if err != nil {
		return nil, err
	}
	var lease, renew *time.Duration
	if w.lease > 0 {
		lease, renew = &w.lease, new(w.lease*3/4)
	}
	at = rest.CopyConfig(at)
	w.tracing.Wrap(at)
	mgr, err := ctrl.NewManager(at, manager.Options{
		Scheme: scheme, Cache: cached, Metrics: server.Options{BindAddress: "0"}, HealthProbeBindAddress: "0",
		Controller: config.Controller{SkipNameValidation: new(true)}, Logger: w.log.logger(),
		LeaderElection: w.elects, LeaderElectionID: "mqtt-operator", LeaderElectionNamespace: w.namespace, LeaderElectionReleaseOnCancel: true, LeaseDuration: lease, RenewDeadline: renew,
		NewClient: w.newClient,
	})
	if err != nil {
		return nil, err
	}
	return mgr, controllers.Setup(ctx, mgr, controllers.Options{
		Image: w.image, Clock: w.clock, AdminAddress: w.kubelet.adminAddress, Namespaces: w.namespaces(), Operator: operatorPods,
		Tracing: w.tracing,
	})
}

func (w *world) newClient(at *rest.Config, options client.Options) (client.Client, error) {
	c, err := client.New(at, options)
	if err != nil || w.between == nil {
		return c, err
	}
	return w.between(c), nil
}

// reconcilers are the three of the operator, for those who want to walk one pass by hand; writes counts what they write.
func (w *world) reconcilers(writes *atomic.Int64) (*mqttbroker.Reconciler, *mqttuser.Reconciler, *mqttaccesspolicy.Reconciler) {
	c := &counting{Client: w.operator.GetClient(), writes: writes}
	writer, events, looksAfter := apply.NewWriter(c, w.operator.GetAPIReader()), w.operator.GetEventRecorder("test"), controllers.NewScope(w.operator, w.namespaces())
	cluster, err := mqttbroker.NewClusterKeys(w.operator.GetConfig(), w.operator.GetHTTPClient(), clock.RealClock{})
	must(w.t, err)
	return &mqttbroker.Reconciler{
			Client: c, Live: w.operator.GetAPIReader(), Writer: writer, Events: events, Clock: clock.RealClock{}, Scope: looksAfter,
			Image: "example.com/broker:1", AdminAddress: w.kubelet.adminAddress, Cluster: cluster, Operator: operatorPods,
		},
		&mqttuser.Reconciler{Client: c, Live: w.operator.GetAPIReader(), Writer: writer, Events: events, Clock: clock.RealClock{}, Scope: looksAfter, Waiting: &waiting.List{}},
		&mqttaccesspolicy.Reconciler{Client: c, Writer: writer, Events: events, Clock: clock.RealClock{}, Scope: looksAfter, Waiting: &waiting.List{}}
}

// bridges is the reconciler of bridges, for those who want to walk one pass by hand.
func (w *world) bridges(writes *atomic.Int64) *mqttbridge.Reconciler {
	c := &counting{Client: w.operator.GetClient(), writes: writes}
	return &mqttbridge.Reconciler{
		Client: c, Live: w.operator.GetAPIReader(), Writer: apply.NewWriter(c, w.operator.GetAPIReader()), Events: w.operator.GetEventRecorder("test"),
		Clock: clock.RealClock{}, Image: "example.com/broker:1", AdminAddress: w.kubelet.adminAddress, Operator: operatorPods,
	}
}

// logBuffer keeps what is logged.
type logBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logBuffer) logger() logr.Logger {
	return funcr.New(func(prefix, args string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.text.WriteString(prefix + " " + args + "\n")
	}, funcr.Options{Verbosity: 10})
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// counting counts the requests by which the operator writes: server-side apply and delete.
type counting struct {
	client.Client
	writes *atomic.Int64
}

func (c *counting) Apply(ctx context.Context, o runtime.ApplyConfiguration, options ...client.ApplyOption) error {
	c.writes.Add(1)
	return c.Client.Apply(ctx, o, options...)
}

func (c *counting) Delete(ctx context.Context, o client.Object, options ...client.DeleteOption) error {
	c.writes.Add(1)
	return c.Client.Delete(ctx, o, options...)
}

func (c *counting) Status() client.SubResourceWriter {
	c.writes.Add(1) // whoever asks for it is about to write
	return c.Client.Status()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) create(objects ...client.Object) {
	w.t.Helper()
	for _, object := range objects {
		must(w.t, k8s.Create(w.t.Context(), object))
	}
}

// change reads an object, changes it and writes it, until no other writer was in between.
func change[T client.Object](w *world, object T, edit func(T)) {
	w.t.Helper()
	w.eventually("change "+object.GetName(), func() error {
		if err := k8s.Get(w.t.Context(), client.ObjectKeyFromObject(object), object); err != nil {
			return err
		}
		edit(object)
		return k8s.Update(w.t.Context(), object)
	})
}

// eventually asks until there is no error.
func (w *world) eventually(what string, ask func() error) {
	w.t.Helper()
	deadline, next := time.After(max(w.patience, patience)), time.NewTicker(max(w.tick, tick))
	defer next.Stop()
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			w.t.Fatalf("%s: %v\n%s", what, err, w.picture())
		case <-next.C:
		}
	}
}

// picture is the status of every broker, user and bridge, for a test that fails.
func (w *world) picture() string {
	var text strings.Builder
	brokers, users, bridges := &v1alpha1.MQTTBrokerList{}, &v1alpha1.MQTTUserList{}, &v1alpha1.MQTTBridgeList{}
	_ = k8s.List(context.Background(), bridges, client.InNamespace(w.namespace))
	for i := range bridges.Items {
		fmt.Fprintf(&text, "bridge %s: %v\n", bridges.Items[i].Name, bridges.Items[i].Status.Conditions)
	}
	_ = k8s.List(context.Background(), brokers, client.InNamespace(w.namespace))
	_ = k8s.List(context.Background(), users, client.InNamespace(w.namespace))
	for i := range brokers.Items {
		fmt.Fprintf(&text, "broker %s: %v\n", brokers.Items[i].Name, brokers.Items[i].Status.Conditions)
	}
	for i := range users.Items {
		fmt.Fprintf(&text, "user %s: %v\n", users.Items[i].Name, users.Items[i].Status.Conditions)
	}
	return text.String()
}

// is waits until a condition has a status and a reason.
func (w *world) is(object client.Object, kind v1alpha1.ConditionType, status metav1.ConditionStatus, reason v1alpha1.ConditionReason) *metav1.Condition {
	w.t.Helper()
	var found *metav1.Condition
	w.eventually(fmt.Sprintf("%s is %s/%s", kind, status, reason), func() error {
		if err := k8s.Get(w.t.Context(), client.ObjectKeyFromObject(object), object); err != nil {
			return err
		}
		found = meta.FindStatusCondition(conditionsOf(object), string(kind))
		if found == nil || found.Status != status || found.Reason != string(reason) || found.ObservedGeneration != object.GetGeneration() {
			return fmt.Errorf("is %+v", found)
		}
		return nil
	})
	return found
}

func conditionsOf(object client.Object) []metav1.Condition {
	switch object := object.(type) {
	case *v1alpha1.MQTTBroker:
		return object.Status.Conditions
	case *v1alpha1.MQTTUser:
		return object.Status.Conditions
	case *v1alpha1.MQTTAccessPolicy:
		return object.Status.Conditions
	case *v1alpha1.MQTTBridge:
		return object.Status.Conditions
	default:
		return nil
	}
}

func (w *world) ready(objects ...client.Object) {
	w.t.Helper()
	for _, object := range objects {
		w.is(object, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	}
}

func (w *world) secret(name string) *corev1.Secret {
	w.t.Helper()
	secret := &corev1.Secret{}
	must(w.t, k8s.Get(w.t.Context(), client.ObjectKey{Namespace: w.namespace, Name: name}, secret))
	return secret
}

// versions are the resourceVersions of everything in the namespace that the operator could write.
func (w *world) versions() map[string]string {
	w.t.Helper()
	versions := map[string]string{}
	w.each(func(object client.Object) {
		versions[fmt.Sprintf("%T %s", object, object.GetName())] = object.GetResourceVersion()
	})
	return versions
}

// each looks at everything in the namespace that the operator could write, and at pods and claims.
func (w *world) each(look func(client.Object)) {
	w.t.Helper()
	for _, list := range []client.ObjectList{
		&corev1.SecretList{}, &corev1.ServiceList{}, &corev1.ServiceAccountList{}, &appsv1.StatefulSetList{}, &appsv1.DeploymentList{}, &corev1.PodList{},
		&corev1.ConfigMapList{}, &networkingv1.NetworkPolicyList{}, &policyv1.PodDisruptionBudgetList{},
		&corev1.PersistentVolumeClaimList{},
		&v1alpha1.MQTTBrokerList{}, &v1alpha1.MQTTUserList{}, &v1alpha1.MQTTAccessPolicyList{}, &v1alpha1.MQTTBridgeList{},
	} {
		must(w.t, k8s.List(w.t.Context(), list, client.InNamespace(w.namespace)))
		must(w.t, meta.EachListItem(list, func(o runtimeObject) error {
			object, ok := o.(client.Object)
			if !ok {
				return fmt.Errorf("%T is no object", o)
			}
			look(object)
			return nil
		}))
	}
}
