// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/controllers/pki"
)

// detour is a way from the operator to the API server that goes wrong.
type detour struct {
	server *http.Server
	proxy  *httputil.ReverseProxy

	mu   sync.Mutex
	dice *rand.Rand
	// rate is how many of a thousand requests go wrong.
	rate int
	// closed is until when nothing passes.
	closed time.Time
	counts map[string]int
}

// What goes wrong, as it is counted.
const (
	passed     = "requests that passed"
	refused    = "answered with 500, nothing done"
	overloaded = "answered with 503, nothing done"
	conflicted = "writes answered with 409, nothing done"
	unanswered = "done, and never answered"
	late       = "answered late, by up to 3 s"
	cut        = "watches cut off"
	shut       = "requests while the way was shut"
)

// detourHost is what the operator calls the API server.
const detourHost = "apiserver.example.com"

// takeDetour leads the operator over a way of its own to the API server, until the story ends.
func (s *story) takeDetour(seed uint64) *detour {
	s.Helper()
	d := &detour{dice: rand.New(rand.NewPCG(seed, 1)), counts: map[string]int{}}
	ca, err := pki.NewCA("detour", time.Now())
	if err != nil {
		s.Fatal(err)
	}
	pair, err := pki.Issue(ca, pki.Request{CommonName: detourHost, DNSNames: []string{detourHost}, Server: true}, time.Now())
	if err != nil {
		s.Fatal(err)
	}
	certificate, err := tls.X509KeyPair(pair.Certificate, pair.Key)
	if err != nil {
		s.Fatal(err)
	}
	quiet := log.New(io.Discard, "", 0) // what goes wrong is counted
	address := s.nodeAddress()
	socket, err := (&net.ListenConfig{}).Listen(s.ctx, "tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		s.Fatalf("this story has to listen at the node's address: %v", err)
	}
	target, err := url.Parse(config.Host)
	if err != nil {
		s.Fatal(err)
	}
	trust, err := rest.TransportFor(rest.AnonymousClientConfig(config))
	if err != nil {
		s.Fatal(err)
	}
	d.proxy = &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:      trust,
		FlushInterval:  -1,
		ModifyResponse: d.shorten,
		ErrorHandler:   func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		ErrorLog:       quiet,
	}
	d.server = &http.Server{
		Handler: d, TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}}, ReadHeaderTimeout: time.Minute,
		ErrorLog: quiet,
	}
	go func() { _ = d.server.ServeTLS(socket, "", "") }()
	s.Cleanup(func() { _ = d.server.Close() })
	_, port, err := net.SplitHostPort(socket.Addr().String())
	if err != nil {
		s.Fatal(err)
	}
	s.redirect(address, port, string(ca.Certificate))
	return d
}

// redirect changes the operator's Deployment, and changes it back when the story ends.
func (s *story) redirect(address, port, ca string) {
	s.Helper()
	const volume = "detour"
	trust := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: s.namespace}, Data: map[string]string{"ca.crt": ca}}
	s.create(trust)
	deployment := operator()
	if err := s.get(deployment); err != nil {
		s.Fatal(err)
	}
	original := deployment.Spec.Template.DeepCopy()
	s.Cleanup(func() {
		if err := s.tryUpdate(deployment, func() { deployment.Spec.Template = *original }); err != nil {
			s.Errorf("the operator's Deployment stays as this story left it: %v", err)
		}
		s.rolledOut()
		_ = kube.Delete(context.WithoutCancel(s.ctx), trust)
	})
	s.update(deployment, func() {
		pod := &deployment.Spec.Template.Spec
		pod.AutomountServiceAccountToken = new(false)
		pod.HostAliases = []corev1.HostAlias{{IP: address, Hostnames: []string{detourHost}}}
		pod.Volumes = append(pod.Volumes, corev1.Volume{Name: volume, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: new(int64(3600))}},
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: trust.Name}}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.namespace"}}}}},
		}}}})
		container := &pod.Containers[0]
		container.VolumeMounts = append(container.VolumeMounts, corev1.VolumeMount{Name: volume, MountPath: "/var/run/secrets/kubernetes.io/serviceaccount", ReadOnly: true})
		container.Env = append(container.Env, corev1.EnvVar{Name: "KUBERNETES_SERVICE_HOST", Value: detourHost}, corev1.EnvVar{Name: "KUBERNETES_SERVICE_PORT", Value: port})
	})
	s.rolledOut()
}

// rolledOut waits until every pod of the operator is of the newest form.
func (s *story) rolledOut() {
	s.Helper()
	deployment := operator()
	s.eventually(3*patience, "every pod of the operator is of the newest form", func() error {
		if err := s.get(deployment); err != nil {
			return err
		}
		if st := deployment.Status; st.ObservedGeneration != deployment.Generation || st.UpdatedReplicas != operatorReplicas || st.ReadyReplicas != operatorReplicas || st.Replicas != operatorReplicas {
			return fmt.Errorf("%d pods, %d of them new, %d ready", st.Replicas, st.UpdatedReplicas, st.ReadyReplicas)
		}
		return nil
	})
}

// goWrong sets how many of a thousand requests go wrong from now on.
func (d *detour) goWrong(rate int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rate = rate
}

// shut lets nothing pass for a time.
func (d *detour) shutFor(t time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = time.Now().Add(t)
}

func (d *detour) count(what string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.counts[what]++
}

// draw is what becomes of a request, and how long that takes.
func (d *detour) draw(isWrite, isWatch bool) (string, time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if left := time.Until(d.closed); left > 0 {
		return shut, left * time.Duration(d.dice.IntN(2))
	}
	if d.dice.IntN(1000) >= d.rate {
		return passed, 0
	}
	ways := []string{refused, overloaded, late}
	if isWrite {
		ways = []string{refused, overloaded, late, conflicted, unanswered, unanswered}
	}
	if isWatch {
		ways = []string{refused, overloaded}
	}
	return ways[d.dice.IntN(len(ways))], time.Duration(d.dice.IntN(3000)) * time.Millisecond
}

// ServeHTTP lets a request pass, or not.
func (d *detour) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	isWatch := r.URL.Query().Get("watch") != ""
	what, by := d.draw(r.Method != http.MethodGet, isWatch)
	d.count(what)
	switch what {
	case shut:
		select { // half of them are refused at once, half hang until the way is open again
		case <-r.Context().Done():
		case <-time.After(by):
		}
		panic(http.ErrAbortHandler)
	case refused:
		say(w, http.StatusInternalServerError, metav1.StatusReasonInternalError)
	case overloaded:
		say(w, http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable)
	case conflicted:
		say(w, http.StatusConflict, metav1.StatusReasonConflict)
	case unanswered:
		d.proxy.ServeHTTP(&silent{header: http.Header{}}, r)
		panic(http.ErrAbortHandler)
	case late:
		select {
		case <-r.Context().Done():
			return
		case <-time.After(by):
		}
		d.proxy.ServeHTTP(w, r)
	default:
		d.proxy.ServeHTTP(w, r)
	}
}

func say(w http.ResponseWriter, code int, reason metav1.StatusReason) {
	text, err := json.Marshal(&metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Code: int32(code), Reason: reason,
		Message: "the way to the API server fails",
	})
	if err != nil {
		panic(err) // there is nothing in it that JSON does not know
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(text)
}

// silent takes an answer and keeps it.
type silent struct{ header http.Header }

func (s *silent) Header() http.Header         { return s.header }
func (s *silent) Write(p []byte) (int, error) { return len(p), nil }
func (s *silent) WriteHeader(int)             {}

// shorten lets some watches end while they stand.
func (d *detour) shorten(response *http.Response) error {
	if response.Request.URL.Query().Get("watch") == "" || response.StatusCode != http.StatusOK {
		return nil
	}
	body := &shortened{ReadCloser: response.Body}
	body.timer = time.AfterFunc(d.life(), func() {
		d.mu.Lock()
		goesWrong := d.rate > 0 || time.Now().Before(d.closed)
		if goesWrong {
			d.counts[cut]++
		}
		d.mu.Unlock()
		if goesWrong {
			_ = response.Body.Close()
		}
	})
	response.Body = body
	return nil
}

// life is how long a watch lasts.
func (d *detour) life() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Second + time.Duration(d.dice.IntN(30_000))*time.Millisecond
}

// shortened is a watch with a timer that may end it.
type shortened struct {
	io.ReadCloser

	timer *time.Timer
}

func (s *shortened) Close() error {
	s.timer.Stop()
	return s.ReadCloser.Close()
}

// restartOperator replaces the operator's pods, as an upgrade does.
func (s *story) restartOperator(round int) {
	s.Helper()
	patch := client.RawPatch(types.StrategicMergePatchType, fmt.Appendf(nil, `{"spec":{"template":{"metadata":{"annotations":{"round":%s}}}}}`, strconv.Quote(strconv.Itoa(round))))
	if err := kube.Patch(s.ctx, operator(), patch); err != nil {
		s.Fatal(err)
	}
}
