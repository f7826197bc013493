// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/admin"
	"github.com/mqtt-operator/mqtt-operator/broker-image/bridge"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// bridgePod is what runs in place of a bridge's container: the admin endpoint and the keeper of the real one, with the
// configuration and the certificates that a pod would find mounted. How its ends and routes are doing, the story says.
type bridgePod struct {
	pod    *corev1.Pod
	of     string // name of the bridge
	at     string
	admin  *http.Server
	keeper *admin.BridgeKeeper
	muted  atomic.Bool

	mu     sync.Mutex
	config *contract.Bridge
	// told are the configurations that it has taken, in order.
	told []*contract.Bridge
	// say changes what it would say of itself: all connected, nothing carried yet.
	say func(*admin.BridgeStatus)
	// refuse is why it takes no configuration; empty: it takes each.
	refuse string
	// real carries messages and speaks for itself; nil in most stories.
	real *bridge.Bridge
	// reach is where a broker's listener can be reached from here, by the address in its Service.
	reach func(endpoint string) (string, error)
}

// status is what the pod says about itself.
func (b *bridgePod) status() admin.BridgeStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.real != nil {
		return b.real.Status()
	}
	s := admin.BridgeStatus{Active: strings.HasSuffix(b.pod.Name, "-0"), Version: "test"}
	s.Local.Connected, s.Local.Endpoint = true, b.config.Local.Endpoints[0]
	s.Remote.Connected, s.Remote.Endpoint = true, b.config.Remote.Endpoints[0]
	for i := range b.config.Routes {
		s.Routes = append(s.Routes, admin.RouteStatus{Name: b.config.Routes[i].Name, Connected: true})
	}
	if b.say != nil {
		b.say(&s)
	}
	return s
}

func (b *bridgePod) apply(cfg *contract.Bridge) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refuse != "" {
		return errors.New(b.refuse)
	}
	if b.real != nil {
		near, err := b.nearby(cfg)
		if err != nil {
			return err
		}
		if err := b.real.Apply(near); err != nil {
			return err
		}
	}
	b.config, b.told = cfg, append(b.told, cfg)
	return nil
}

// nearby is a configuration with the addresses at which the brokers of the story listen. Their certificates name the
// Services, as in a cluster.
func (b *bridgePod) nearby(cfg *contract.Bridge) (*contract.Bridge, error) {
	near := *cfg
	for _, end := range []*contract.BridgeEnd{&near.Local, &near.Remote} {
		service, err := url.Parse(end.Endpoints[0])
		if err != nil {
			return nil, err
		}
		address, err := b.reach(service.Hostname())
		if err != nil {
			return nil, err
		}
		end.Endpoints, end.ServerName = []string{service.Scheme + "://" + address}, service.Hostname()
	}
	return &near, nil
}

func (b *bridgePod) end() {
	_ = b.admin.Close()
	if b.real != nil {
		b.real.Close()
	}
}

// saying changes what the pod says from now on.
func (b *bridgePod) saying(say func(*admin.BridgeStatus)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.say = say
}

func (b *bridgePod) refusing(why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refuse = why
}

// runs is the configuration of now.
func (b *bridgePod) runs() *contract.Bridge {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.config
}

func (b *bridgePod) history() []*contract.Bridge {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.told)
}

// syncBridges does for Deployments what sync does for StatefulSets.
func (k *kubelet) syncBridges(ctx context.Context) error {
	list := &appsv1.DeploymentList{}
	if err := k8s.List(ctx, list, client.InNamespace(k.namespace), client.MatchingLabels{v1alpha1.LabelComponent: v1alpha1.ComponentBridge}); err != nil {
		return err
	}
	wanted := map[string]*appsv1.Deployment{} // by the name of the pod
	for i := range list.Items {
		d := &list.Items[i]
		for n := range int(*d.Spec.Replicas) {
			if d.DeletionTimestamp == nil {
				wanted[fmt.Sprintf("%s-%s-%d", d.Name, d.UID[:5], n)] = d
			}
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for name, b := range k.bridges {
		if wanted[name] == nil {
			b.end()
			delete(k.bridges, name)
			if err := k8s.Delete(ctx, b.pod, client.GracePeriodSeconds(0)); client.IgnoreNotFound(err) != nil {
				return err
			}
		}
	}
	for name, d := range wanted {
		if k.bridges[name] != nil {
			continue
		}
		b, err := k.startBridge(ctx, name, d)
		if err != nil {
			return fmt.Errorf("pod %s: %w", name, err)
		}
		k.bridges[name] = b
	}
	return nil
}

func (k *kubelet) startBridge(ctx context.Context, name string, d *appsv1.Deployment) (_ *bridgePod, err error) {
	b := &bridgePod{of: d.Labels[v1alpha1.LabelInstance], pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}}}
	b.keeper = admin.NewBridgeKeeper(b.apply)
	if k.realBridges {
		b.real, b.reach = bridge.New(bridge.Options{}), k.reach
		defer func() {
			if err != nil {
				b.real.Close()
			}
		}()
	}
	dir := k.t.TempDir()
	for _, volume := range d.Spec.Template.Spec.Volumes {
		secret := &corev1.Secret{}
		if err := k8s.Get(ctx, client.ObjectKey{Namespace: k.namespace, Name: volume.Secret.SecretName}, secret); err != nil {
			return nil, err
		}
		if text := secret.Data[contract.BridgeFile]; text != nil {
			if err := b.keeper.Offer(text); err != nil {
				return nil, err
			}
		}
		for _, item := range volume.Secret.Items {
			if err := os.WriteFile(filepath.Join(dir, item.Path), secret.Data[item.Key], 0o600); err != nil {
				return nil, err
			}
		}
	}
	handler := admin.BridgeHandler(b.keeper, b.status)
	server, err := admin.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if b.muted.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		handler.ServeHTTP(w, r)
	}), dir)
	if err != nil {
		return nil, err
	}
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b.admin, b.at = server, socket.Addr().String()
	go func() { _ = server.ServeTLS(socket, "", "") }()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: k.namespace, Name: name, Labels: d.Spec.Template.Labels,
		OwnerReferences: []metav1.OwnerReference{{
			APIVersion: "apps/v1", Kind: "ReplicaSet", Name: d.Name + "-" + string(d.UID[:5]), UID: d.UID, Controller: new(true),
		}},
	}, Spec: d.Spec.Template.Spec}
	pod.Spec.Volumes, pod.Spec.Containers[0].VolumeMounts = nil, nil
	if err := k8s.Create(ctx, pod); err != nil {
		return nil, errors.Join(err, server.Close())
	}
	pod.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: "127.0.0.1", PodIPs: []corev1.PodIP{{IP: "127.0.0.1"}},
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
	}
	b.mu.Lock()
	b.pod = pod
	b.mu.Unlock()
	return b, k8s.Status().Update(ctx, pod)
}

// reach is where the listener of a Service <broker>-mqtts.<namespace>.svc listens; called with the kubelet's lock held, or
// by the operator's push.
func (k *kubelet) reach(service string) (string, error) {
	broker, _, _ := strings.Cut(service, "-mqtts.")
	if c, found := k.running.Load(broker); found {
		for _, l := range c.(*container).engine.Status().Listeners { //nolint:forcetypeassert // nothing else is stored
			if l.Name == "mqtts" {
				return l.Address, nil
			}
		}
	}
	return "", fmt.Errorf("broker %s does not run yet", broker)
}

// bridge waits for the n-th pod of a bridge.
func (w *world) bridge(name string, n int) *bridgePod {
	w.t.Helper()
	var found *bridgePod
	w.eventually(fmt.Sprintf("bridge %s has pod %d", name, n), func() error {
		w.kubelet.mu.Lock()
		defer w.kubelet.mu.Unlock()
		for _, b := range w.kubelet.bridges {
			if b.of == name && strings.HasSuffix(b.pod.Name, fmt.Sprintf("-%d", n)) {
				found = b
				return nil
			}
		}
		return errors.New("it has not")
	})
	return found
}

// told waits until a pod runs what it is to be told.
func (w *world) told(b *bridgePod, what string, is func(*contract.Bridge) bool) {
	w.t.Helper()
	w.eventually("the bridge is told of "+what, func() error {
		if cfg := b.runs(); cfg == nil || !is(cfg) {
			return fmt.Errorf("it runs %+v", cfg)
		}
		return nil
	})
}
