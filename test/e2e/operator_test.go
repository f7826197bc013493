// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
)

// The tests of this file that touch the operator itself are not parallel: the others must find it running.

const (
	operatorReplicas = 2
	// takeoverWithin is the lease's fifteen seconds, two for the next try, and time to start.
	takeoverWithin = 40 * time.Second
)

func operator() *appsv1.Deployment {
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: operatorName}}
}

// scaleOperator sets the number of the operator's pods and waits until it is so.
func (s *story) scaleOperator(replicas int32) {
	s.Helper()
	deployment := operator()
	s.update(deployment, func() { deployment.Spec.Replicas = &replicas })
	s.eventually(patience, fmt.Sprintf("the operator has %d ready pods", replicas), func() error {
		if err := s.get(deployment); err != nil {
			return err
		}
		pods, err := s.operatorPods()
		if err != nil {
			return err
		}
		if len(pods) != int(replicas) || deployment.Status.ReadyReplicas != replicas {
			return fmt.Errorf("it has %d, of which %d are ready", len(pods), deployment.Status.ReadyReplicas)
		}
		return nil
	})
}

func (s *story) operatorPods() ([]corev1.Pod, error) {
	pods := &corev1.PodList{}
	err := kube.List(s.ctx, pods, client.InNamespace(operatorNamespace), client.MatchingLabels{
		"app.kubernetes.io/name": operatorName, "app.kubernetes.io/component": "operator",
	})
	return pods.Items, err
}

// TestOperatorIsDown: nothing that runs needs it.
func TestOperatorIsDown(t *testing.T) {
	s, doomed := begin(t), begin(t)
	broker := s.broker(withVolume)
	s.user("anna", allow("#"))
	steady := s.pulse("anna", "steady")
	if err := steady.from.retain("kept", "without an operator"); err != nil {
		t.Fatal(err)
	}
	doomed.broker(withVolume)
	doomed.user("ben", allow("#"))
	doomed.searchForSecrets()

	s.sayf("the operator is scaled to 0")
	s.keepLogs()
	t.Cleanup(func() { s.scaleOperator(operatorReplicas) })
	s.scaleOperator(0)
	s.beat(steady)

	s.sayf("the broker's pod is killed meanwhile, and starts from its Secrets")
	pod := s.pod()
	if err := kube.Delete(s.ctx, pod, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	s.awaitEnd(steady.from)
	again := s.reconnect("anna", session{})
	s.mustSubscribe(again, "kept")
	s.hears(again, "kept", "without an operator")

	s.sayf("a namespace is deleted meanwhile: no finalizer may hold it")
	doomed.deleteNamespace()
	doomed.noVolumes()

	s.sayf("somebody writes a user, and the operator comes back")
	late := gen.User(s.namespace, "late", brokerName, allow("#"))
	s.create(late)
	s.scaleOperator(operatorReplicas)
	s.awaitReady(late)
	s.connect("late")
	s.awaitReady(broker)
	if err := again.ended(); err != nil {
		t.Errorf("the operator's return disturbed a client: %v", err)
	}
	if broker.Status.LastRestart != nil {
		t.Errorf("the operator says that it restarted the broker: %+v", broker.Status.LastRestart)
	}
}

// TestLeaderIsKilled: the other replica takes over.
func TestLeaderIsKilled(t *testing.T) {
	s := begin(t)
	s.broker()
	s.user("anna", allow("#"))
	steady, pod := s.pulse("anna", "steady"), s.pod()
	leader := s.leader()
	s.sayf("%s leads", leader)
	s.keepLogs()
	killed := time.Now()
	if err := kube.Delete(s.ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: leader}}, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	s.create(gen.User(s.namespace, "newcomer", brokerName, allow("#")))
	s.eventually(takeoverWithin, "a user that was written after the kill can connect", func() error {
		_, err := s.tryConnect("newcomer", session{})
		return err
	})
	s.sayf("a user written after the kill was let in %.1fs after it", time.Since(killed).Seconds())
	// The killed one may have had the time for that, too: what follows is the other one's alone.
	s.eventually(takeoverWithin, "another one leads", func() error {
		now := s.leader()
		if now == leader {
			return fmt.Errorf("%s leads still, and it was killed", now)
		}
		s.sayf("%s leads, %.1fs after the kill", now, time.Since(killed).Seconds())
		return nil
	})
	s.user("successor", allow("#"))
	s.connect("successor")
	s.beat(steady)
	s.samePod(pod)
	s.scaleOperator(operatorReplicas)

	leader = s.leader()
	crashed := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: leader}}
	if err := s.get(crashed); err != nil {
		t.Fatal(err)
	}
	killed = time.Now()
	if !s.crash(crashed) {
		return
	}
	s.sayf("%s leads, and its process is killed with no time to say goodbye", leader)
	s.create(gen.User(s.namespace, "latecomer", brokerName, allow("#")))
	s.eventually(takeoverWithin, "a user that was written after the crash can connect", func() error {
		_, err := s.tryConnect("latecomer", session{})
		return err
	})
	s.sayf("a user written after the crash was let in %.1fs after it", time.Since(killed).Seconds())
	s.beat(steady)
	s.samePod(pod)
	s.scaleOperator(operatorReplicas)
}

// crash kills the process of a pod's container with SIGKILL, where the test runs beside the node's containerd, as on
// the development node. Elsewhere it says that it cannot.
func (s *story) crash(pod *corev1.Pod) bool {
	s.Helper()
	if os.Getenv("CONTAINERD_ADDRESS") == "" {
		s.sayf("this cluster's containers cannot be killed from here: that part is left out")
		return false
	}
	_, id, found := strings.Cut(pod.Status.ContainerStatuses[0].ContainerID, "://")
	if !found {
		s.Fatalf("pod %s has no container", pod.Name)
	}
	if text, err := exec.CommandContext(s.ctx, "ctr", "tasks", "kill", "--signal", "SIGKILL", id).CombinedOutput(); err != nil {
		s.Fatalf("ctr: %v: %s", err, text)
	}
	return true
}

// leader is the name of the operator's pod that holds the Lease.
func (s *story) leader() string {
	s.Helper()
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: operatorName}}
	var holder string
	s.eventually(patience, "the Lease has a holder that runs", func() error {
		if err := s.get(lease); err != nil {
			return err
		}
		if lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "" {
			return errors.New("nobody holds it")
		}
		holder, _, _ = strings.Cut(*lease.Spec.HolderIdentity, "_")
		return nil
	})
	return holder
}

// TestMetricsNeedAToken: numbers of the operator are for those whom the cluster lets read them.
func TestMetricsNeedAToken(t *testing.T) {
	t.Parallel()
	s := begin(t)
	reader, stranger := s.token("reader"), s.token("stranger")
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: s.namespace},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: operatorName + ":" + operatorNamespace + ":metrics-reader"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: s.namespace, Name: "reader"}},
	}
	s.create(binding)
	t.Cleanup(func() { _ = kube.Delete(context.Background(), binding) })

	url := "https://" + operatorName + "-metrics." + operatorNamespace + ".svc:8443/metrics"
	for who, ask := range map[string]struct {
		token string
		want  int
	}{
		"nobody": {"", http.StatusUnauthorized},
		// The API server's answer to the TokenReview is an error, and the library passes it on as one.
		"somebody with a made-up token":    {"made-up", http.StatusInternalServerError},
		"a ServiceAccount without a right": {stranger, http.StatusForbidden},
		"a ServiceAccount with the right":  {reader, http.StatusOK},
	} {
		s.eventually(patience, fmt.Sprintf("%s is answered with %d", who, ask.want), func() error {
			status, text, err := fetch(url, ask.token)
			switch {
			case err != nil:
				return err
			case status != ask.want:
				return fmt.Errorf("the answer is %d: %s", status, text)
			case status == http.StatusOK && !strings.Contains(text, "controller_runtime_reconcile_total"):
				return errors.New("there is nothing about reconciling in it")
			case status != http.StatusOK && strings.Contains(text, "controller_runtime"):
				return errors.New("the refusal holds metrics")
			default:
				return nil
			}
		})
	}
	if _, _, err := fetch(strings.Replace(url, "https", "http", 1), reader); err == nil {
		if status, text, _ := fetch(strings.Replace(url, "https", "http", 1), ""); status == http.StatusOK {
			t.Errorf("metrics are served in plain text: %s", text)
		}
	}
}

// token makes a ServiceAccount and asks for its token.
func (s *story) token(name string) string {
	s.Helper()
	s.create(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}})
	request, err := core.CoreV1().ServiceAccounts(s.namespace).CreateToken(s.ctx, name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		s.Fatalf("token of %s: %v", name, err)
	}
	s.secrets.add(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string][]byte{"token": []byte(request.Status.Token)}})
	return request.Status.Token
}

func fetch(url, token string) (status int, text string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, "", err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	// The operator's certificate is its own: what is asked here is whom it answers.
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	return response.StatusCode, string(body), err
}

// TestPausedBrokerIsLeftAlone: the annotation means what it says.
func TestPausedBrokerIsLeftAlone(t *testing.T) {
	t.Parallel()
	s := begin(t)
	broker := s.broker()
	s.user("anna", allow("#"))
	steady := s.pulse("anna", "steady")
	s.update(broker, func() { broker.Annotations = map[string]string{v1alpha1.AnnotationPaused: "true"} })
	s.await(broker, v1alpha1.ConditionPaused, metav1.ConditionTrue, "")

	s.sayf("its Service is deleted, and a listener added")
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: v1alpha1.ListenerServiceName(brokerName, "mqtts")}}
	s.remove(service)
	s.update(broker, func() { broker.Spec.Listeners = append(broker.Spec.Listeners, gen.Plain("plain", 1883)) })
	s.await(broker, v1alpha1.ConditionInsecure, metav1.ConditionTrue, "") // so the operator has looked at it
	if err := s.isGone(service); err != nil {
		t.Errorf("the operator wrote, and it was asked not to: %v", err)
	}
	s.beat(steady)

	s.sayf("the annotation is removed")
	s.update(broker, func() { broker.Annotations = nil })
	s.await(broker, v1alpha1.ConditionPaused, metav1.ConditionFalse, "")
	s.awaitReady(broker)
	s.eventually(patience, "the Service is there again", func() error { return s.get(service) })
	s.beat(steady)
}
