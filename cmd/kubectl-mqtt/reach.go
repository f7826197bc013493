// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/admin"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/desired"
)

const (
	// reachPatience is how long one question to a pod may take.
	reachPatience = 20 * time.Second
	// goodbyePatience is how long the other side gets to take in the last bytes and to close.
	goodbyePatience = time.Second
	// mostLogs and mostMetrics bound what is read of one container.
	mostLogs    = 8 << 20
	mostMetrics = 8 << 20
)

// podReach reaches pods through the API server.
type podReach struct {
	config *rest.Config
	api    *rest.RESTClient
}

func newPodReach(config *rest.Config, scheme *runtime.Scheme) (*podReach, error) {
	core := rest.CopyConfig(config)
	core.GroupVersion, core.APIPath = &corev1.SchemeGroupVersion, "/api"
	core.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	api, err := rest.RESTClientFor(core)
	if err != nil {
		return nil, err
	}
	return &podReach{config: config, api: api}, nil
}

func (r *podReach) logs(ctx context.Context, pod client.ObjectKey, container string, previous bool) ([]byte, error) {
	return r.api.Get().Namespace(pod.Namespace).Resource("pods").Name(pod.Name).SubResource("log").
		Param("container", container).Param("previous", strconv.FormatBool(previous)).
		Param("limitBytes", strconv.Itoa(mostLogs)).Param("timestamps", "true").DoRaw(ctx)
}

// dial makes one connection as kubectl port-forward does, and needs no port of this machine for it.
func (r *podReach) dial(ctx context.Context, pod client.ObjectKey, port int) (net.Conn, error) {
	type made struct {
		conn httpstream.Connection
		err  error
	}
	done := make(chan made, 1)
	go func() { // the library knows no context
		conn, err := r.forward(pod)
		done <- made{conn, err}
	}()
	select {
	case m := <-done:
		if m.err != nil {
			return nil, fmt.Errorf("pod %s: %w", pod.Name, m.err)
		}
		conn, err := through(m.conn, port)
		if err != nil {
			_ = m.conn.Close()
			return nil, fmt.Errorf("pod %s, port %d: %w", pod.Name, port, err)
		}
		return conn, nil
	case <-ctx.Done():
		go func() { // what comes too late is let go of
			if m := <-done; m.err == nil {
				_ = m.conn.Close()
			}
		}()
		return nil, fmt.Errorf("pod %s: %w", pod.Name, ctx.Err())
	}
}

func (r *podReach) forward(pod client.ObjectKey) (httpstream.Connection, error) {
	url := r.api.Post().Namespace(pod.Namespace).Resource("pods").Name(pod.Name).SubResource("portforward").URL()
	transport, upgrader, err := spdy.RoundTripperFor(r.config)
	if err != nil {
		return nil, err
	}
	older := spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, url)
	newer, err := portforward.NewSPDYOverWebsocketDialerForStreaming(url, r.config)
	if err != nil {
		return nil, err
	}
	dialer := portforward.NewFallbackDialerForStreaming(newer, older, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
	conn, protocol, err := dialer.Dial(portforward.PortForwardProtocolV1Name)
	if err != nil {
		return nil, err
	}
	if protocol != portforward.PortForwardProtocolV1Name {
		_ = conn.Close()
		return nil, fmt.Errorf("the API server speaks %q where %q was asked for", protocol, portforward.PortForwardProtocolV1Name)
	}
	return conn, nil
}

// forwarded is a connection to a port of a pod.
type forwarded struct {
	net.Conn // this end of a pipe; streams have no deadlines of their own

	// fault is what the node had to say, once the stream has ended.
	fault chan string
	// closed is closed when the streams are.
	closed chan struct{}
}

// through opens the two streams that make a connection: one for data, one on which the node says what is wrong.
func through(conn httpstream.Connection, port int) (net.Conn, error) {
	headers := http.Header{}
	headers.Set(corev1.PortHeader, strconv.Itoa(port))
	headers.Set(corev1.PortForwardRequestIDHeader, "0")
	headers.Set(corev1.StreamType, corev1.StreamTypeError)
	faults, err := conn.CreateStream(headers)
	if err != nil {
		return nil, err
	}
	_ = faults.Close() // nothing is said to it
	headers.Set(corev1.StreamType, corev1.StreamTypeData)
	data, err := conn.CreateStream(headers)
	if err != nil {
		return nil, err
	}
	near, far := net.Pipe()
	f := &forwarded{Conn: near, fault: make(chan string, 1), closed: make(chan struct{})}
	gone := make(chan struct{}) // the other side has closed
	go func() {
		said, _ := io.ReadAll(io.LimitReader(faults, 4<<10)) // words, where there are some
		f.fault <- strings.TrimSpace(string(said))
		close(f.fault)
	}()
	go func() {
		_, _ = io.Copy(far, data)
		_ = far.Close()
		_, _ = io.Copy(io.Discard, data) // where nobody reads any more, the end of it is waited for all the same
		close(gone)
	}()
	go func() {
		_, _ = io.Copy(data, far)
		_ = far.Close()
		_ = data.Close()
		select {
		case <-gone:
		case <-time.After(goodbyePatience):
		}
		_ = conn.Close()
		close(f.closed)
	}()
	return f, nil
}

// Close returns when what was written has been taken in, as far as that can be known: the program may end right after.
func (f *forwarded) Close() error {
	err := f.Conn.Close()
	<-f.closed
	return err
}

// Read says what the node said where there was nobody to talk to.
func (f *forwarded) Read(b []byte) (int, error) {
	n, err := f.Conn.Read(b)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	select {
	case said := <-f.fault:
		if said != "" {
			return n, errors.New(said)
		}
	case <-time.After(goodbyePatience): // it never had anything to say
	}
	return n, err
}

// reached is a broker of which pods are asked.
type reached struct {
	*site

	broker *v1alpha1.MQTTBroker
	pods   []corev1.Pod // those that run, the ready ones first
}

// reach finds a broker and its pods.
func reach(ctx context.Context, open opener, f connection) (*reached, error) {
	at, namespace, err := open(f)
	if err != nil {
		return nil, &exit{exitUnknown, err}
	}
	broker, err := findBroker(ctx, at, namespace, f.broker)
	if err != nil {
		return nil, err
	}
	return at.reach(ctx, broker)
}

func (s *site) reach(ctx context.Context, broker *v1alpha1.MQTTBroker) (*reached, error) {
	r := &reached{site: s, broker: broker}
	pods, err := s.podsOf(ctx, broker.Namespace, v1alpha1.BrokerSelector(broker.Name))
	if err != nil {
		return nil, &exit{exitUnknown, err}
	}
	for i := range pods {
		if pods[i].Status.Phase == corev1.PodRunning {
			r.pods = append(r.pods, pods[i])
		}
	}
	if len(r.pods) == 0 {
		return nil, &exit{exitUnknown, fmt.Errorf("no pod of broker %s/%s runs: see kubectl mqtt status %s -n %s", broker.Namespace, broker.Name, broker.Name, broker.Namespace)}
	}
	slices.SortStableFunc(r.pods, func(a, b corev1.Pod) int {
		switch x, y := isReady(&a), isReady(&b); {
		case x == y:
			return strings.Compare(a.Name, b.Name)
		case x:
			return -1
		default:
			return 1
		}
	})
	return r, nil
}

func (s *site) podsOf(ctx context.Context, namespace string, labels map[string]string) ([]corev1.Pod, error) {
	list := &corev1.PodList{}
	if err := s.List(ctx, list, client.InNamespace(namespace), client.MatchingLabels(labels)); err != nil {
		return nil, err
	}
	slices.SortFunc(list.Items, func(a, b corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	return list.Items, nil
}

func isReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// admins are clients of the admin endpoint of each pod, in the order of the pods. They show the certificate of the operator, which
// lies in a Secret: whoever may read that may do what the operator may.
func (r *reached) admins(ctx context.Context) ([]*admin.Client, error) {
	name := v1alpha1.AdminCASecretName(r.broker.Name)
	secret := &corev1.Secret{}
	err := r.Get(ctx, client.ObjectKey{Namespace: r.broker.Namespace, Name: name}, secret)
	switch {
	case apierrors.IsForbidden(err):
		return nil, &exit{exitUnknown, fmt.Errorf("you may not read Secret %s, which opens the admin endpoint of broker %s/%s: ask somebody who may", name, r.broker.Namespace, r.broker.Name)}
	case err != nil:
		return nil, &exit{exitUnknown, err}
	}
	pair, err := tls.X509KeyPair(secret.Data[desired.ClientCertKey], secret.Data[desired.ClientKeyKey])
	if err != nil {
		return nil, &exit{exitUnknown, fmt.Errorf("secret %s: %w", name, err)}
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(secret.Data[desired.CACertKey])
	clients := make([]*admin.Client, len(r.pods))
	for i := range r.pods {
		pod := client.ObjectKeyFromObject(&r.pods[i])
		clients[i] = admin.NewClientOver(func(ctx context.Context) (net.Conn, error) { return r.dial(ctx, pod, contract.AdminPort) }, &tls.Config{
			MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, RootCAs: roots,
			ServerName: desired.AdminServerName(r.broker.Namespace, r.broker.Name),
		})
	}
	return clients, nil
}

// metrics are those of a pod, as it shows them to Prometheus.
func (s *site) metrics(ctx context.Context, pod client.ObjectKey) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, reachPatience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+pod.Name+contract.MetricsPath, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("metrics of pod %s: %w", pod.Name, err)
	}
	over := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return s.dial(ctx, pod, contract.HealthPort) },
	}}
	response, err := over.Do(request)
	if err != nil {
		return nil, fmt.Errorf("metrics of pod %s: %w", pod.Name, err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("metrics of pod %s: the answer is %s", pod.Name, response.Status)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, mostMetrics))
	if err != nil {
		return nil, fmt.Errorf("metrics of pod %s: %w", pod.Name, err)
	}
	return text, nil
}
