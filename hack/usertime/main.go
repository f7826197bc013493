// SPDX-License-Identifier: Apache-2.0

// Command usertime measures how long a person waits: from the apply of an MQTTUser to the first CONNECT over TLS that
// the broker accepts. hack/usertime.sh brings a cluster with the operator and runs it in the cluster's network:
//
//	hack/usertime.sh            20 users, one after another
//	hack/usertime.sh -tries 5
//
// It makes a namespace with a broker, and one user per try. The clock starts before the apply is sent. The Secret with
// the user's binding is watched for; from then on the user tries to connect, with a pause of 10 ms, until it is let in.
package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

const (
	broker   = "mq"
	patience = 3 * time.Minute
	// pause between two tries of a user that is not known yet.
	pause = 10 * time.Millisecond
)

func main() {
	tries := flag.Int("tries", 20, "how many users")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *tries)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "usertime:", err)
		os.Exit(1)
	}
}

// bench is the namespace in which it is measured.
type bench struct {
	client.WithWatch

	namespace string
}

func run(ctx context.Context, tries int) error {
	if tries < 1 {
		return errors.New("-tries must be at least 1")
	}
	log.SetLogger(logr.Discard())
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("no cluster to talk to: %w; start this with hack/usertime.sh", err)
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return fmt.Errorf("scheme: %w", err)
	}
	cluster, err := client.NewWithWatch(config, client.Options{Scheme: scheme})
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	suffix := make([]byte, 3)
	_, _ = rand.Read(suffix) // never fails
	b := bench{WithWatch: cluster, namespace: "usertime-" + hex.EncodeToString(suffix)}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: b.namespace}}
	if err := b.Create(ctx, namespace); err != nil {
		return fmt.Errorf("namespace: %w", err)
	}
	defer func() { _ = b.Delete(context.WithoutCancel(ctx), namespace) }()
	if err := b.makeBroker(ctx); err != nil {
		return err
	}
	all := make([]time.Duration, 0, tries)
	for n := range tries {
		secret, connected, err := b.try(ctx, fmt.Sprintf("user-%02d", n+1))
		if err != nil {
			return fmt.Errorf("try %d: %w", n+1, err)
		}
		all = append(all, connected)
		fmt.Printf("%3d  connected after %5d ms (binding Secret after %5d ms)\n", n+1, connected.Milliseconds(), secret.Milliseconds())
	}
	slices.Sort(all)
	fmt.Printf("from apply to CONNACK, %d tries: median %d ms, max %d ms\n", tries, all[(tries-1)/2].Milliseconds(), all[tries-1].Milliseconds())
	return nil
}

func (b bench) makeBroker(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	object := &v1alpha1.MQTTBroker{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: broker},
		Spec: v1alpha1.MQTTBrokerSpec{Listeners: []v1alpha1.BrokerListener{{
			Name: "mqtts", Protocol: v1alpha1.ProtocolTLS, Port: 8883, TLS: &v1alpha1.ListenerTLS{SelfManaged: &v1alpha1.SelfManagedTLS{}},
		}}},
	}
	if err := b.Create(ctx, object); err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	err := b.follow(ctx, &v1alpha1.MQTTBrokerList{}, broker, func(o client.Object) bool {
		seen, ok := o.(*v1alpha1.MQTTBroker)
		return ok && meta.IsStatusConditionTrue(seen.Status.Conditions, string(v1alpha1.ConditionReady))
	})
	if err != nil {
		return fmt.Errorf("the broker is not ready: %w", err)
	}
	return nil
}

// follow waits until an object of a name is as wanted.
func (b bench) follow(ctx context.Context, list client.ObjectList, name string, is func(client.Object) bool) error {
	watcher, err := b.Watch(ctx, list, client.InNamespace(b.namespace), client.MatchingFields{"metadata.name": name})
	if err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	defer watcher.Stop()
	for event := range watcher.ResultChan() {
		object, ok := event.Object.(client.Object)
		if ok && event.Type != watch.Deleted && is(object) {
			return nil
		}
	}
	return fmt.Errorf("%s: %w", name, errors.Join(ctx.Err(), errors.New("the watch ended")))
}

// try makes one user and measures.
func (b bench) try(ctx context.Context, name string) (secret, connected time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	user := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(), "kind": "MQTTUser",
		"metadata": map[string]any{"namespace": b.namespace, "name": name},
		"spec": map[string]any{
			"brokerRef":      map[string]any{"name": broker},
			"authentication": map[string]any{"password": map[string]any{"generate": map[string]any{}}},
			"acl":            []any{map[string]any{"effect": "allow", "actions": []any{"publish", "subscribe"}, "filter": "%u/#"}},
		},
	}}
	start := time.Now()
	if err := b.Apply(ctx, client.ApplyConfigurationFromUnstructured(user), client.FieldOwner("usertime")); err != nil {
		return 0, 0, fmt.Errorf("apply: %w", err)
	}
	var binding map[string][]byte
	err = b.follow(ctx, &corev1.SecretList{}, v1alpha1.BindingSecretName(name), func(o client.Object) bool {
		found, ok := o.(*corev1.Secret)
		if ok {
			binding = found.Data
		}
		return ok && len(binding[v1alpha1.BindingCA]) > 0
	})
	if err != nil {
		return 0, 0, fmt.Errorf("binding: %w", err)
	}
	secret = time.Since(start)
	for {
		err := connect(ctx, binding)
		if err == nil {
			return secret, time.Since(start), nil
		}
		select {
		case <-ctx.Done():
			return 0, 0, fmt.Errorf("the user is never let in: %w", err)
		case <-time.After(pause):
		}
	}
}

// connect is one CONNECT over TLS with what the binding Secret says.
func connect(ctx context.Context, binding map[string][]byte) error {
	host := string(binding[v1alpha1.BindingHost])
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(binding[v1alpha1.BindingCA])
	dialer := &tls.Dialer{Config: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: host}}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, string(binding[v1alpha1.BindingPort])))
	if err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	defer conn.Close()
	mqtt := paho.NewClient(paho.ClientConfig{Conn: packets.NewThreadSafeConn(conn)})
	if _, err := mqtt.Connect(ctx, &paho.Connect{
		ClientID: "usertime", CleanStart: true, KeepAlive: 30,
		Username: string(binding[v1alpha1.BindingUsername]), UsernameFlag: true,
		Password: binding[v1alpha1.BindingPassword], PasswordFlag: true,
	}); err != nil {
		return fmt.Errorf("CONNECT: %w", err)
	}
	return mqtt.Disconnect(&paho.Disconnect{})
}
