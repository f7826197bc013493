// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/admin"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// node stands in for the StatefulSet controller and the kubelet. A pod is a [player] on a loopback address of its own,
// with the configuration and the certificates that a container would find mounted.
type node struct {
	w      *world
	play   player
	cancel context.CancelFunc
	ended  chan struct{}

	mu   sync.Mutex
	pods map[string]*pod // by broker
	err  error
}

// player starts what a pod runs and returns how it ends. It returns when the pod's readiness probe would pass.
type player func(ctx context.Context, p *pod) (end func(), err error)

// pod is one pod of a broker.
type pod struct {
	w      *world
	broker string
	// ip is where its admin and health endpoints are, at their usual ports.
	ip string
	// config and admin are the directories that a container would find mounted.
	config, admin string
	// process is nil where a pod is none.
	process *process
	end     func()
}

func newNode(ctx context.Context, w *world, play player) *node {
	n := &node{w: w, play: play, ended: make(chan struct{}), pods: map[string]*pod{}}
	ctx, n.cancel = context.WithCancel(ctx)
	go func() {
		defer close(n.ended)
		for ctx.Err() == nil {
			if err := n.run(ctx); err != nil && ctx.Err() == nil {
				n.mu.Lock()
				n.err = fmt.Errorf("node: %w", err)
				n.mu.Unlock()
				return
			}
		}
	}()
	return n
}

func (n *node) close() {
	n.cancel()
	<-n.ended
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.pods {
		p.end()
	}
}

// fault says why the node stands still, or which pod has ended.
func (n *node) fault() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	err := n.err
	for _, p := range n.pods {
		if p.process != nil {
			err = errors.Join(err, p.process.alive())
		}
	}
	return err
}

// of is the pod of a broker, nil where there is none yet.
func (n *node) of(broker string) *pod {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.pods[broker]
}

// run looks after StatefulSets until the watch ends.
func (n *node) run(ctx context.Context) error {
	watcher, err := n.w.Watch(ctx, &appsv1.StatefulSetList{}, client.InNamespace(namespace))
	if err != nil {
		return err
	}
	defer watcher.Stop()
	for event := range watcher.ResultChan() {
		set, ok := event.Object.(*appsv1.StatefulSet)
		if !ok || event.Type == watch.Deleted {
			continue
		}
		if err := n.keep(ctx, set); err != nil {
			return fmt.Errorf("%s: %w", set.Name, err)
		}
	}
	return nil
}

// keep starts the pod of a StatefulSet where there is none, and writes what the StatefulSet controller would.
func (n *node) keep(ctx context.Context, set *appsv1.StatefulSet) error {
	broker := set.Labels[v1alpha1.LabelBroker]
	if n.of(broker) == nil {
		if err := n.start(ctx, broker, set); err != nil {
			return err
		}
	}
	if set.Status.ObservedGeneration == set.Generation && set.Status.ReadyReplicas == 1 {
		return nil
	}
	set.Status = appsv1.StatefulSetStatus{
		ObservedGeneration: set.Generation, Replicas: 1, ReadyReplicas: 1, UpdatedReplicas: 1, CurrentReplicas: 1, AvailableReplicas: 1,
	}
	if err := n.w.Status().Update(ctx, set); !apierrors.IsConflict(err) {
		return err
	}
	return nil // Somebody else wrote in between: the watch brings the newer one.
}

func (n *node) start(ctx context.Context, broker string, set *appsv1.StatefulSet) error {
	n.mu.Lock()
	number := len(n.pods)
	n.mu.Unlock()
	p := &pod{w: n.w, broker: broker, ip: podIP(os.Getpid(), number)}
	p.config, p.admin = filepath.Join(n.w.dir, broker, "config"), filepath.Join(n.w.dir, broker, "admin")
	if err := p.mount(ctx); err != nil {
		return err
	}
	var err error
	if p.end, err = n.play(ctx, p); err != nil {
		return err
	}
	n.mu.Lock()
	n.pods[broker] = p
	n.mu.Unlock()
	return n.tell(ctx, p, set)
}

// podIP gives each pod of each run an address of 127.0.0.0/8, so that runs side by side do not meet.
func podIP(pid, number int) string {
	return net.IPv4(127, byte(16+pid%200), byte(number/250), byte(1+number%250)).String() //nolint:gosec // within a byte, each
}

// tell writes the pod object as a kubelet would after its probes passed.
func (n *node) tell(ctx context.Context, p *pod, set *appsv1.StatefulSet) error {
	object := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: namespace, Name: set.Name + "-0", Labels: set.Spec.Template.Labels,
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(set, appsv1.SchemeGroupVersion.WithKind("StatefulSet"))},
	}, Spec: set.Spec.Template.Spec}
	object.Spec.Volumes, object.Spec.Containers[0].VolumeMounts = nil, nil
	if err := n.w.Create(ctx, object); err != nil {
		return err
	}
	object.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: p.ip, PodIPs: []corev1.PodIP{{IP: p.ip}},
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
	}
	return n.w.Status().Update(ctx, object)
}

// mount writes the pod's Secrets into its directories.
func (p *pod) mount(ctx context.Context) error {
	for _, dir := range []string{p.config, p.admin} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	trust := &corev1.Secret{}
	if err := p.w.Get(ctx, client.ObjectKey{Namespace: namespace, Name: v1alpha1.AdminTLSSecretName(p.broker)}, trust); err != nil {
		return err
	}
	if err := writeFiles(p.admin, trust.Data); err != nil {
		return err
	}
	return until(ctx, connectPause, func() error {
		bundle, err := p.bundle(ctx)
		if err != nil {
			return err
		}
		if _, err := contract.Parse(bundle); errors.Is(err, contract.ErrInconsistent) {
			return notYet{err} // The operator wrote while it was read.
		}
		return writeFiles(p.config, bundle)
	})
}

// bundle is the configuration that stands in the broker's Secrets.
func (p *pod) bundle(ctx context.Context) (contract.Bundle, error) {
	bundle := contract.Bundle{}
	names := []string{v1alpha1.ConfigSecretName(p.broker)}
	for shard := range contract.MaxShards {
		names = append(names, v1alpha1.UsersSecretName(p.broker, shard))
	}
	for _, name := range names {
		secret := &corev1.Secret{}
		if err := p.w.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, secret); client.IgnoreNotFound(err) != nil {
			return nil, err
		}
		maps.Copy(bundle, secret.Data)
	}
	return bundle, nil
}

func writeFiles(dir string, files map[string][]byte) error {
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// asProcess runs the broker.
func asProcess(ctx context.Context, p *pod) (func(), error) {
	var err error
	p.process, err = p.w.spawn.start(p.w.dir, "broker-"+p.broker, nil, p.w.bench.broker, "serve",
		"--config-dir", p.config, "--data", filepath.Join(p.w.dir, p.broker, "data"), "--admin-tls", p.admin,
		"--admin-listen", address(p.ip, contract.AdminPort), "--health-listen", address(p.ip, contract.HealthPort))
	if err != nil {
		return nil, err
	}
	if err := p.process.ready(ctx, address(p.ip, contract.HealthPort)); err != nil {
		p.process.stop()
		return nil, err
	}
	return p.process.stop, nil
}

// ready waits until a broker says that it is.
func (p *process) ready(ctx context.Context, health string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return until(ctx, connectPause, func() error {
		if err := p.alive(); err != nil {
			return err
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+health+contract.ReadyPath, http.NoBody)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return notYet{err}
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return wait("the broker is not ready: it answers %d", response.StatusCode)
		}
		return nil
	})
}

func address(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// asEndpoint plays a pod by its admin endpoint alone, which takes every configuration that a broker would.
func asEndpoint(ctx context.Context, p *pod) (func(), error) {
	bundle, err := contract.ReadDir(p.config)
	if err != nil {
		return nil, err
	}
	keeper := admin.NewKeeper(func(*contract.Config) error { return nil })
	if err := keeper.Offer(bundle); err != nil {
		return nil, err
	}
	server, err := admin.NewServer(admin.Handler(keeper, func() admin.Status { return admin.Status{Version: "bench"} }, nil), p.admin)
	if err != nil {
		return nil, err
	}
	socket, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address(p.ip, contract.AdminPort))
	if err != nil {
		return nil, err
	}
	go func() { _ = server.ServeTLS(socket, "", "") }()
	return func() { _ = server.Close() }, nil
}
