// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/admin"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/broker-image/engine"
)

// kubelet stands in for the controllers of StatefulSets and Deployments, the garbage collector, the storage driver and the
// kubelet of one namespace, which no API server brings along.
// What it runs in place of a container is the real broker: engine, keeper and admin endpoint, with the configuration
// and the certificates that a pod would find mounted.
type kubelet struct {
	t         *testing.T
	namespace string

	mu   sync.Mutex
	pods map[string]*container // by broker
	// bridges are the pods of Deployments, by name.
	bridges map[string]*bridgePod
	// realBridges says that their pods carry messages.
	realBridges bool
	// revisions are the templates that have been kept, by name.
	revisions sync.Map
	// missing are images that cannot be pulled.
	missing sync.Map
	// slowDisk keeps volumes from growing.
	slowDisk atomic.Bool
	// running are the containers of brokers by name, for those who may not wait for mu.
	running sync.Map
	// starts counts them, by name of the broker.
	starts map[string]int
}

type container struct {
	pod *corev1.Pod
	// form is the template that the pod was made from.
	form   string
	engine *engine.Engine
	admin  *http.Server
	at     string
	muted  atomic.Bool
}

func newKubelet(t *testing.T, namespace string) *kubelet {
	t.Helper()
	return newKubeletOf(t, namespace, tick)
}

// newKubeletOf is newKubelet that looks around that often.
func newKubeletOf(t *testing.T, namespace string, every time.Duration) *kubelet {
	t.Helper()
	k := &kubelet{t: t, namespace: namespace, pods: map[string]*container{}, bridges: map[string]*bridgePod{}, starts: map[string]int{}}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			if err := errors.Join(k.sync(ctx), k.syncBridges(ctx)); err != nil && ctx.Err() == nil {
				t.Logf("kubelet: %v", err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(every):
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		for _, c := range k.pods {
			c.end()
		}
		for _, b := range k.bridges {
			b.end()
		}
	})
	return k
}

func (k *kubelet) sync(ctx context.Context) error {
	sets := &appsv1.StatefulSetList{}
	if err := k8s.List(ctx, sets, client.InNamespace(k.namespace), client.HasLabels{v1alpha1.LabelBroker}); err != nil {
		return err
	}
	wanted := map[string]*appsv1.StatefulSet{}
	for i := range sets.Items {
		if set := &sets.Items[i]; *set.Spec.Replicas > 0 && set.DeletionTimestamp == nil {
			wanted[set.Labels[v1alpha1.LabelBroker]] = set
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range sets.Items {
		if err := k.collect(ctx, &sets.Items[i]); err != nil {
			return err
		}
	}
	for broker, c := range k.pods {
		set := wanted[broker]
		if metav1.GetControllerOf(c.pod) == nil {
			if err := k.adopt(ctx, set, c.pod); err != nil {
				return err
			}
			continue
		}
		if set == nil || !metav1.IsControlledBy(c.pod, set) || c.form != formOf(set) {
			c.end()
			delete(k.pods, broker)
			if err := k8s.Delete(ctx, c.pod, client.GracePeriodSeconds(0)); client.IgnoreNotFound(err) != nil {
				return err
			}
		}
	}
	for broker, set := range wanted {
		if err := k.volumes(ctx, set); err != nil {
			return fmt.Errorf("volumes of %s: %w", broker, err)
		}
		if k.pods[broker] == nil {
			c, err := k.start(ctx, broker, set)
			if err != nil {
				return fmt.Errorf("pod of %s: %w", broker, err)
			}
			k.pods[broker] = c
			k.running.Store(broker, c)
			k.starts[broker]++
		}
	}
	for i := range sets.Items {
		if err := k.report(ctx, &sets.Items[i]); err != nil && !apierrors.IsConflict(err) {
			return client.IgnoreNotFound(err)
		}
	}
	return nil
}

// collect does what the garbage collector does when a StatefulSet is deleted without its pods.
func (k *kubelet) collect(ctx context.Context, set *appsv1.StatefulSet) error {
	if set.DeletionTimestamp == nil || !slices.Contains(set.Finalizers, metav1.FinalizerOrphanDependents) {
		return nil
	}
	for _, c := range k.pods {
		if metav1.IsControlledBy(c.pod, set) {
			before := c.pod.DeepCopy()
			c.pod.OwnerReferences = nil
			if err := k8s.Patch(ctx, c.pod, client.MergeFrom(before)); err != nil {
				return err
			}
		}
	}
	before := set.DeepCopy()
	set.Finalizers = slices.DeleteFunc(set.Finalizers, func(name string) bool { return name == metav1.FinalizerOrphanDependents })
	return client.IgnoreNotFound(k8s.Patch(ctx, set, client.MergeFrom(before)))
}

// adopt does what the controller of StatefulSets does with a pod that belongs to nobody. set may be nil.
func (k *kubelet) adopt(ctx context.Context, set *appsv1.StatefulSet, pod *corev1.Pod) error {
	if set == nil {
		return nil
	}
	before := pod.DeepCopy()
	pod.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(set, appsv1.SchemeGroupVersion.WithKind("StatefulSet"))}
	return k8s.Patch(ctx, pod, client.MergeFrom(before))
}

// volumes makes the claims of a StatefulSet and lets them grow.
func (k *kubelet) volumes(ctx context.Context, set *appsv1.StatefulSet) error {
	for i := range set.Spec.VolumeClaimTemplates {
		template := &set.Spec.VolumeClaimTemplates[i]
		claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{
			Namespace: set.Namespace, Name: template.Name + "-" + set.Name + "-0", Labels: maps.Clone(set.Spec.Selector.MatchLabels),
		}}
		err := k8s.Get(ctx, client.ObjectKeyFromObject(claim), claim)
		if apierrors.IsNotFound(err) {
			claim.Spec = template.Spec
			err = k8s.Create(ctx, claim)
		}
		if err != nil {
			return err
		}
		size, has := claim.Spec.Resources.Requests[corev1.ResourceStorage], claim.Status.Capacity[corev1.ResourceStorage]
		if has.Cmp(size) >= 0 || (!has.IsZero() && k.slowDisk.Load()) {
			continue
		}
		claim.Status.Phase, claim.Status.Capacity = corev1.ClaimBound, corev1.ResourceList{corev1.ResourceStorage: size}
		if err := k8s.Status().Update(ctx, claim); err != nil && !apierrors.IsConflict(err) {
			return err
		}
	}
	return nil
}

// report writes what the StatefulSet controller would.
func (k *kubelet) report(ctx context.Context, set *appsv1.StatefulSet) error {
	running, ready := int32(0), int32(0)
	if c := k.pods[set.Labels[v1alpha1.LabelBroker]]; c != nil && metav1.IsControlledBy(c.pod, set) {
		running = 1
		if c.engine != nil {
			ready = 1
		}
	}
	revision, err := k.revision(ctx, set)
	if err != nil {
		return err
	}
	status := appsv1.StatefulSetStatus{
		ObservedGeneration: set.Generation, Replicas: running, ReadyReplicas: ready, UpdatedReplicas: running, CurrentReplicas: running, AvailableReplicas: ready,
		UpdateRevision: revision, CurrentRevision: set.Status.CurrentRevision,
	}
	if status.CurrentRevision == "" || ready > 0 {
		status.CurrentRevision = revision
	}
	if equality.Semantic.DeepEqual(set.Status, status) {
		return nil
	}
	set.Status = status
	return k8s.Status().Update(ctx, set)
}

// revision keeps the template of a StatefulSet, as the controller does, and returns its name.
func (k *kubelet) revision(ctx context.Context, set *appsv1.StatefulSet) (string, error) {
	form := formOf(set)
	sum := sha256.Sum256([]byte(form))
	revision := &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: set.Namespace, Name: set.Name + "-" + hex.EncodeToString(sum[:5]),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(set, appsv1.SchemeGroupVersion.WithKind("StatefulSet"))},
		},
		Data: runtime.RawExtension{Raw: []byte(`{"spec":{"template":` + strings.TrimSuffix(form, "}") + `,"$patch":"replace"}}}`)}, Revision: 1,
	}
	if _, known := k.revisions.Load(revision.Name); known {
		return revision.Name, nil
	}
	err := k8s.Create(ctx, revision)
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return "", err
	}
	k.revisions.Store(revision.Name, true)
	return revision.Name, nil
}

// start runs a broker with what a pod would find mounted.
func (k *kubelet) start(ctx context.Context, broker string, set *appsv1.StatefulSet) (*container, error) {
	if _, missing := k.missing.Load(set.Spec.Template.Spec.Containers[0].Image); missing {
		pod, err := k.pod0(ctx, set, false)
		return &container{pod: pod, form: formOf(set)}, err
	}
	bundle, trust := contract.Bundle{}, &corev1.Secret{}
	secrets := &corev1.SecretList{}
	if err := k8s.List(ctx, secrets, client.InNamespace(k.namespace), client.MatchingLabels(v1alpha1.BrokerLabels(broker))); err != nil {
		return nil, err
	}
	for i := range secrets.Items {
		if secrets.Items[i].Type == v1alpha1.SecretTypeConfig {
			maps.Copy(bundle, secrets.Items[i].Data)
		}
	}
	if err := k8s.Get(ctx, client.ObjectKey{Namespace: k.namespace, Name: v1alpha1.AdminTLSSecretName(broker)}, trust); err != nil {
		return nil, err
	}
	dir := k.t.TempDir()
	for name, content := range trust.Data {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return nil, err
		}
	}
	e, err := engine.New(engine.Options{})
	if err != nil {
		return nil, err
	}
	c := &container{engine: e}
	keeper := admin.NewKeeper(func(cfg *contract.Config) error {
		elsewhere := *cfg
		elsewhere.Listeners = nil
		for _, l := range cfg.Listeners {
			l.Address = "127.0.0.1:0" // pods have addresses of their own, tests share one
			elsewhere.Listeners = append(elsewhere.Listeners, l)
		}
		return e.Apply(&elsewhere)
	})
	if err := keeper.Offer(bundle); err != nil {
		return nil, errors.Join(err, e.Shutdown(ctx))
	}
	handler := admin.Handler(keeper, func() admin.Status { return admin.Status{Version: "test"} }, nil)
	server, err := admin.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c.muted.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		handler.ServeHTTP(w, r)
	}), dir)
	if err != nil {
		return nil, errors.Join(err, e.Shutdown(ctx))
	}
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, e.Shutdown(ctx))
	}
	c.admin, c.at, c.form = server, socket.Addr().String(), formOf(set)
	go func() { _ = server.ServeTLS(socket, "", "") }()
	c.pod, err = k.pod0(ctx, set, true)
	if err != nil {
		c.end()
		return nil, err
	}
	return c, nil
}

// formOf is what makes the pods of a StatefulSet others when it changes.
func formOf(set *appsv1.StatefulSet) string {
	text, err := json.Marshal(&set.Spec.Template)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// pod0 writes the pod object as a kubelet would after its probes passed, or when it cannot pull the image.
func (k *kubelet) pod0(ctx context.Context, set *appsv1.StatefulSet, runs bool) (*corev1.Pod, error) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: k.namespace, Name: set.Name + "-0", Labels: set.Spec.Template.Labels, Annotations: set.Spec.Template.Annotations,
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(set, appsv1.SchemeGroupVersion.WithKind("StatefulSet"))},
	}, Spec: *set.Spec.Template.Spec.DeepCopy()}
	pod.Spec.Volumes, pod.Spec.Containers[0].VolumeMounts = nil, nil
	if err := k8s.Create(ctx, pod); err != nil {
		return nil, err
	}
	pod.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: "127.0.0.1", PodIPs: []corev1.PodIP{{IP: "127.0.0.1"}},
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
	}
	if !runs {
		pod.Status = corev1.PodStatus{Phase: corev1.PodPending, ContainerStatuses: []corev1.ContainerStatus{{
			Name: pod.Spec.Containers[0].Name, Image: pod.Spec.Containers[0].Image, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}},
		}}}
	}
	return pod, k8s.Status().Update(ctx, pod)
}

func (c *container) end() {
	if c.engine == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = c.admin.Close()
	_ = c.engine.Shutdown(ctx)
}

// adminAddress is where the endpoint of a pod listens; a pod that is gone listens nowhere.
func (k *kubelet) adminAddress(pod *corev1.Pod) string {
	if c := k.find(func(c *container) bool { return c.pod.UID == pod.UID }); c != nil {
		return c.at
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if b := k.bridges[pod.Name]; b != nil {
		return b.at
	}
	return "127.0.0.1:1"
}

func (k *kubelet) find(is func(*container) bool) *container {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.pods {
		if is(c) {
			return c
		}
	}
	return nil
}

func (k *kubelet) of(broker string) *container {
	k.t.Helper()
	c := k.find(func(c *container) bool { return c.pod.Labels[v1alpha1.LabelBroker] == broker })
	if c == nil {
		k.t.Fatalf("broker %s has no pod", broker)
	}
	return c
}

// begun is how many pods the broker has had.
func (k *kubelet) begun(broker string) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.starts[broker]
}

// pod is the pod of a broker.
func (k *kubelet) pod(broker string) struct{ UID types.UID } {
	k.t.Helper()
	return struct{ UID types.UID }{k.of(broker).pod.UID}
}

// mute keeps a pod from answering the operator.
func (k *kubelet) mute(broker string, muted bool) {
	k.t.Helper()
	k.of(broker).muted.Store(muted)
}

// mustConnect waits until a client with that name and password is let in, over TLS that it verifies.
func (k *kubelet) mustConnect(broker, username, password string) {
	k.must(broker, username, password, 0)
}

// mustBeRefused waits until it is not.
func (k *kubelet) mustBeRefused(broker, username, password string) {
	k.must(broker, username, password, 5)
}

func (k *kubelet) must(broker, username, password string, want byte) {
	k.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		code, err := k.connect(broker, username, password)
		if err == nil && code == want {
			return
		}
		if time.Now().After(deadline) {
			k.t.Fatalf("CONNECT of %s: return code %d, want %d (%v)", username, code, want, err)
		}
	}
}

// connect sends a CONNECT of MQTT 3.1.1 and returns the code of the CONNACK.
func (k *kubelet) connect(broker, username, password string) (byte, error) {
	conn, code, err := k.open(broker, username, password)
	if conn != nil {
		_ = conn.Close()
	}
	return code, err
}

// open is connect with the connection, which may be nil where there is an error.
func (k *kubelet) open(broker, username, password string) (net.Conn, byte, error) {
	ca := &corev1.Secret{}
	if err := k8s.Get(k.t.Context(), client.ObjectKey{Namespace: k.namespace, Name: v1alpha1.CASecretName(broker)}, ca); err != nil {
		return nil, 0, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.Data["ca.crt"])
	var address string
	for _, l := range k.of(broker).engine.Status().Listeners {
		if l.Name == "mqtts" {
			address = l.Address
		}
	}
	dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: patience}, Config: &tls.Config{RootCAs: roots, ServerName: broker + "-mqtts." + k.namespace + ".svc"}}
	conn, err := dialer.DialContext(k.t.Context(), "tcp", address)
	if err != nil {
		return nil, 0, err
	}
	field := func(s string) []byte { return append([]byte{byte(len(s) >> 8), byte(len(s))}, s...) }
	body := append(field("MQTT"), 4, 0xC2, 0, 60)
	for _, s := range []string{"story", username, password} {
		body = append(body, field(s)...)
	}
	if _, err := conn.Write(append([]byte{0x10, byte(len(body))}, body...)); err != nil {
		return conn, 0, err
	}
	var connack [4]byte
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return conn, 0, err
	}
	if _, err := io.ReadFull(conn, connack[:]); err != nil {
		return conn, 0, err
	}
	return conn, connack[3], nil
}
