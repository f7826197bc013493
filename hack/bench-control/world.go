// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers"
)

const (
	namespace    = "bench"
	operatorUser = "mqtt-operator"
	brokerImage  = "example.com/broker:1"
	// writers is how many requests this program has under way when it makes many objects.
	writers = 16
)

// world is one API server with one operator and one node.
type world struct {
	client.WithWatch

	*bench
	dir        string
	server     *envtest.Environment
	audit      *audit
	kubeconfig string
	node       *node
	operator   *process
	metricsAt  string
	profilesAt string
}

// newWorld starts an API server, a node that plays pods in the way given, and the operator.
func (b *bench) newWorld(ctx context.Context, name string, play player) (*world, error) {
	w := &world{bench: b, dir: filepath.Join(b.dir, name)}
	if err := os.Mkdir(w.dir, 0o700); err != nil { //nolint:gosec // in a directory of our own making, as below
		return nil, err
	}
	scheme, err := controllers.Scheme()
	if err != nil {
		return nil, err
	}
	policy, logs := filepath.Join(w.dir, "audit-policy.yaml"), filepath.Join(w.dir, "audit.log")
	if err := os.WriteFile(policy, []byte(auditPolicy), 0o600); err != nil { //nolint:gosec // as above
		return nil, err
	}
	w.audit = &audit{path: logs}
	w.server = &envtest.Environment{CRDDirectoryPaths: []string{filepath.Join(b.root, "config", "crd", "bases")}, ErrorIfCRDPathMissing: true, Scheme: scheme}
	w.server.ControlPlane.GetAPIServer().Configure().Set("audit-policy-file", policy).Set("audit-log-path", logs).Set("audit-log-maxsize", "4096").
		Set("service-cluster-ip-range", "10.96.0.0/16") // the default has 256 addresses
	config, err := w.server.Start()
	if err != nil {
		return nil, fmt.Errorf("API server: %w", err)
	}
	config.QPS = -1
	if err := w.open(ctx, client.Options{Scheme: scheme}, play); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *world) open(ctx context.Context, options client.Options, play player) (err error) {
	if w.WithWatch, err = client.NewWithWatch(w.server.Config, options); err != nil {
		return err
	}
	if err := w.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
		return err
	}
	user, err := w.server.ControlPlane.AddUser(envtest.User{Name: operatorUser, Groups: []string{"system:masters"}}, nil)
	if err != nil {
		return err
	}
	text, err := user.KubeConfig()
	if err != nil {
		return err
	}
	w.kubeconfig = filepath.Join(w.dir, "kubeconfig")
	if err := os.WriteFile(w.kubeconfig, text, 0o600); err != nil {
		return err
	}
	w.node = newNode(ctx, w, play)
	return w.startOperator()
}

func (w *world) close() {
	if w.operator != nil {
		w.operator.stop()
	}
	if w.node != nil {
		w.node.close()
	}
	_ = w.server.Stop()
}

// startOperator starts the operator, or ends it and starts another one.
func (w *world) startOperator() (err error) {
	if w.operator != nil {
		w.operator.stop()
	}
	health, err := freePort()
	if err != nil {
		return err
	}
	metrics, err := freePort()
	if err != nil {
		return err
	}
	profiles, err := freePort()
	if err != nil {
		return err
	}
	w.metricsAt, w.profilesAt = "127.0.0.1:"+strconv.Itoa(metrics), "127.0.0.1:"+strconv.Itoa(profiles)
	w.operator, err = w.spawn.start(w.dir, "operator", []string{"KUBECONFIG=" + w.kubeconfig}, w.bench.operator,
		"--broker-image="+brokerImage, "--metrics-secure=false", "--metrics-bind-address="+w.metricsAt,
		"--health-probe-bind-address=127.0.0.1:"+strconv.Itoa(health), "--pprof-bind-address="+w.profilesAt)
	return err
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // nothing to wait for
	if err != nil {
		return 0, err
	}
	defer l.Close()
	address, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return 0, fmt.Errorf("%v has no port", l.Addr())
	}
	return address.Port, nil
}

// profile has a profile of the operator written, if somebody wants it.
func (w *world) profile(ctx context.Context, name, path string) error {
	if w.settings.profile == "" {
		return nil
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.profilesAt+"/debug/pprof/"+path, http.NoBody)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return errors.Join(err, os.WriteFile(filepath.Join(w.settings.profile, name), text, 0o600))
}

// metrics are the operator's.
func (w *world) metrics(ctx context.Context) (map[string]float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.metricsAt+"/metrics", http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return scrape(string(text)), err
}

// each does something for 0 to n-1, some at the same time, and stops at the first error.
func each(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for i := range next {
				if err := do(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := range n {
		select {
		case next <- i:
		case <-ctx.Done():
		}
	}
	close(next)
	all.Wait()
	return context.Cause(ctx)
}

// follow waits until an object of a name is as wanted.
func follow(ctx context.Context, w watch.Interface, is func(client.Object) bool) error {
	for {
		select {
		case event, open := <-w.ResultChan():
			if !open {
				return errors.New("the watch ended")
			}
			if object, ok := event.Object.(client.Object); ok && event.Type != watch.Deleted && is(object) {
				return nil
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// one watches one object.
func (w *world) one(ctx context.Context, list client.ObjectList, name string) (watch.Interface, error) {
	return w.Watch(ctx, list, client.InNamespace(namespace), client.MatchingFields{"metadata.name": name})
}

func isReady(conditions []metav1.Condition, generation int64) bool {
	c := meta.FindStatusCondition(conditions, string(v1alpha1.ConditionReady))
	return c != nil && c.Status == metav1.ConditionTrue && c.ObservedGeneration == generation
}

func isReadyUser(o client.Object) bool {
	user, ok := o.(*v1alpha1.MQTTUser)
	return ok && isReady(user.Status.Conditions, user.Generation)
}

// isDone says whether a broker is ready and its pods run the newest configuration with this many users.
func isDone(b *v1alpha1.MQTTBroker, users int) bool {
	known := b.Status.Users != nil && b.Status.Users.Accepted != nil && int(*b.Status.Users.Accepted) == users
	return known && isReady(b.Status.Conditions, b.Generation) &&
		meta.IsStatusConditionTrue(b.Status.Conditions, string(v1alpha1.ConditionConfigApplied))
}

// converge waits until every broker is ready with its users, and every user is.
func (w *world) converge(ctx context.Context, brokers, usersEach int) error {
	err := until(ctx, 200*time.Millisecond, func() error {
		if err := w.alive(); err != nil {
			return err
		}
		list := &v1alpha1.MQTTBrokerList{}
		if err := w.List(ctx, list, client.InNamespace(namespace)); err != nil {
			return err
		}
		done := 0
		for i := range list.Items {
			if isDone(&list.Items[i], usersEach) {
				done++
			}
		}
		if done < brokers {
			return wait("%d of %d brokers are ready", done, brokers)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return until(ctx, time.Second, func() error {
		ready, all, err := w.readyUsers(ctx)
		switch {
		case err != nil:
			return err
		case ready < all || all < brokers*usersEach:
			return wait("%d of %d users are ready", ready, all)
		default:
			return w.alive()
		}
	})
}

// readyUsers counts the users that are ready, and all.
func (w *world) readyUsers(ctx context.Context) (ready, all int, err error) {
	page := &v1alpha1.MQTTUserList{}
	for more := true; more; more = page.Continue != "" {
		if err := w.List(ctx, page, client.InNamespace(namespace), client.Limit(500), client.Continue(page.Continue)); err != nil {
			return 0, 0, err
		}
		for i := range page.Items {
			all++
			if isReadyUser(&page.Items[i]) {
				ready++
			}
		}
	}
	return ready, all, nil
}

// alive is an error if a process has ended that should not have.
func (w *world) alive() error { return errors.Join(w.operator.alive(), w.node.fault()) }

// rest waits until the operator has nothing to do and returns what it asked for since the last take.
func (w *world) rest(ctx context.Context) (calls, error) { return w.audit.settle(ctx, restSilence) }

// restSilence is longer than the operator waits before it tries something again.
const restSilence = 1500 * time.Millisecond
