// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
)

// ago is a time before noon.
func ago(d time.Duration) metav1.Time { return metav1.NewTime(noon.Add(-d)) }

func says(kind v1alpha1.ConditionType, status metav1.ConditionStatus, reason v1alpha1.ConditionReason, message string) metav1.Condition {
	return metav1.Condition{Type: string(kind), Status: status, Reason: string(reason), Message: message, LastTransitionTime: ago(90 * time.Minute)}
}

// wellConditions are those of a broker that is as it should be.
func wellConditions() []metav1.Condition {
	return []metav1.Condition{
		says(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady, "Everything that the spec says is in force."),
		says(v1alpha1.ConditionAvailable, metav1.ConditionTrue, v1alpha1.ReasonPodsReady, "1 of 1 pods are ready."),
		says(v1alpha1.ConditionProgressing, metav1.ConditionTrue, v1alpha1.ReasonRolloutComplete, "Every pod is in the form that the spec says."),
		says(v1alpha1.ConditionConfigApplied, metav1.ConditionTrue, v1alpha1.ReasonConfigApplied, "Every ready pod runs revision 12."),
		says(v1alpha1.ConditionTLSReady, metav1.ConditionTrue, v1alpha1.ReasonTLSReady, "Every listener with TLS has a certificate."),
		says(v1alpha1.ConditionStorageReady, metav1.ConditionTrue, v1alpha1.ReasonStorageReady, "Every pod can write."),
		says(v1alpha1.ConditionCertificateExpiring, metav1.ConditionFalse, v1alpha1.ReasonCertificatesValid, "No certificate ends within 14 days."),
		says(v1alpha1.ConditionPaused, metav1.ConditionFalse, v1alpha1.ReasonNotPaused, "The operator looks after the broker."),
		says(v1alpha1.ConditionInsecure, metav1.ConditionFalse, v1alpha1.ReasonSecure, "Every listener has TLS, and every client a name."),
	}
}

// but replaces conditions.
func but(all []metav1.Condition, others ...metav1.Condition) []metav1.Condition {
	for _, other := range others {
		for i := range all {
			if all[i].Type == other.Type {
				all[i] = other
			}
		}
	}
	return all
}

// wellBroker is one that is as it should be.
func wellBroker(namespace, name string, options ...gen.BrokerOption) *v1alpha1.MQTTBroker {
	b := gen.Broker(namespace, name, options...)
	end := metav1.NewTime(noon.Add(70*24*time.Hour + time.Hour))
	b.Status = v1alpha1.MQTTBrokerStatus{
		Conditions: wellConditions(), Revision: &v1alpha1.RevisionStatus{Desired: new(int64(12)), Applied: new(int64(12))},
		Pods: []v1alpha1.BrokerPodStatus{{
			Name: v1alpha1.PodName(name, 0), Ready: new(true), ConfigRevision: new(int64(12)), Connections: new(int32(42)), Sessions: new(int32(57)),
		}},
		Listeners: []v1alpha1.ListenerStatus{{Name: "mqtts", Addresses: []string{name + "-mqtts." + namespace + ".svc:8883", "192.0.2.10:8883"}, CertNotAfter: &end}},
		Users:     &v1alpha1.UsersStatus{Accepted: new(int32(1)), Rejected: new(int32(0))},
	}
	return b
}

// podOf is a pod of a broker, that has been restarted so often.
func podOf(b *v1alpha1.MQTTBroker, restarts int32) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.Namespace, Name: v1alpha1.PodName(b.Name, 0), Labels: v1alpha1.BrokerLabels(b.Name)},
		Spec:       corev1.PodSpec{NodeName: "node-1", Containers: []corev1.Container{{Name: "broker", Image: "registry.example.com/mqtt-broker:1.2.3"}}},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
			ContainerStatuses: []corev1.ContainerStatus{{Name: "broker", Image: "registry.example.com/mqtt-broker:1.2.3", RestartCount: restarts}},
		},
	}
	if restarts > 0 {
		pod.Status.ContainerStatuses[0].LastTerminationState.Terminated = &corev1.ContainerStateTerminated{Reason: "OOMKilled", ExitCode: 137, FinishedAt: ago(3 * time.Hour)}
	}
	return pod
}

// troubled serves clients, but much is not as it should be.
func troubled() []client.Object {
	b := wellBroker("factory", "troubled", gen.WithListener(gen.FromSecret("other", 8884, "cert")), gen.WithListener(gen.Plain("plain", 1883)))
	b.Generation = 3
	why := "listener other: Secret cert does not exist or lacks the label mqtt-operator.io/allow: \"true\"; create it."
	b.Status.Conditions = but(b.Status.Conditions,
		says(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonTLSSecretNotUsable, why),
		says(v1alpha1.ConditionTLSReady, metav1.ConditionFalse, v1alpha1.ReasonTLSSecretNotUsable, why),
		says(v1alpha1.ConditionConfigApplied, metav1.ConditionUnknown, v1alpha1.ReasonConfigPending, "Pod troubled-broker-0 has not answered yet."),
		says(v1alpha1.ConditionCertificateExpiring, metav1.ConditionTrue, v1alpha1.ReasonCertificateExpiring, "The certificate of listener mqtts ends within 14 days."),
		says(v1alpha1.ConditionInsecure, metav1.ConditionTrue, v1alpha1.ReasonPlaintextListener, "Listener plain carries passwords in plain text."))
	b.Status.Conditions = append(b.Status.Conditions, says(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonTLSSecretNotUsable, why))
	b.Status.Revision.Applied = new(int64(11))
	b.Status.Pods[0].ConfigRevision = new(int64(11))
	b.Status.Listeners[0].CertNotAfter = new(metav1.NewTime(noon.Add(30 * time.Hour)))
	b.Status.Listeners = append(b.Status.Listeners,
		v1alpha1.ListenerStatus{
			Name: "other", CertNotAfter: new(ago(time.Hour)),
			Conditions: []metav1.Condition{says(v1alpha1.ConditionTLSReady, metav1.ConditionFalse, v1alpha1.ReasonTLSSecretNotUsable, why)},
		},
		v1alpha1.ListenerStatus{Name: "plain", Addresses: []string{"troubled-plain.factory.svc:1883"}})
	b.Status.Users = &v1alpha1.UsersStatus{Accepted: new(int32(1)), Rejected: new(int32(1))}
	b.Status.LastRestart = &v1alpha1.RestartStatus{Reason: v1alpha1.ReasonPodChanged, Time: ago(50 * time.Hour)}
	accepted, twin := gen.User("factory", "accepted", "troubled"), gen.User("factory", "twin", "troubled", gen.WithUsername("accepted"))
	accepted.Status.Conditions = []metav1.Condition{says(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonAccepted, "Every ready pod knows the user.")}
	twin.Status.Conditions = []metav1.Condition{says(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonUsernameConflict, "MQTTUser accepted is older and has the username accepted:\nchoose another one.")}
	flows, broken := gen.Bridge("factory", "flows", "troubled"), gen.Bridge("factory", "broken", "troubled")
	flows.Status.Conditions = []metav1.Condition{says(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady, "Messages flow on every route.")}
	broken.Status.Conditions = []metav1.Condition{says(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonHostNotFound, "mqtts://nowhere.example.com: no address is known.")}
	return []client.Object{b, podOf(b, 2), accepted, twin, gen.User("factory", "new", "troubled"), flows, broken, gen.Bridge("factory", "unseen", "troubled"), gen.User("factory", "elsewhere", "well")}
}

// brokersOfAllKinds are in two namespaces.
func brokersOfAllKinds() []client.Object {
	well := wellBroker("factory", "well")
	hibernating := wellBroker("factory", "hibernating")
	hibernating.Spec.Replicas = new(int32(0))
	hibernating.Status.Pods, hibernating.Annotations = nil, map[string]string{v1alpha1.AnnotationPaused: "true"}
	hibernating.Status.Conditions = but(hibernating.Status.Conditions,
		says(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonHibernated, "The broker hibernates, as spec.replicas says."),
		says(v1alpha1.ConditionAvailable, metav1.ConditionFalse, v1alpha1.ReasonHibernated, "The broker hibernates."),
		says(v1alpha1.ConditionPaused, metav1.ConditionTrue, v1alpha1.ReasonPaused, "The annotation mqtt-operator.io/paused is \"true\"."))
	lost := wellBroker("lab", "lost")
	lost.Status.Conditions = but(lost.Status.Conditions,
		says(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonPodsNotReady, "0 of 1 pods are ready."),
		says(v1alpha1.ConditionAvailable, metav1.ConditionFalse, v1alpha1.ReasonPodsNotReady, "0 of 1 pods are ready."))
	lost.Status.Pods[0].Ready, lost.Status.Pods[0].ConfigRevision, lost.Status.Pods[0].Connections = new(false), nil, nil
	return append(troubled(), well, podOf(well, 0), hibernating, lost, gen.Broker("lab", "new"))
}

// town is a cluster with these objects.
func town(t *testing.T, objects []client.Object, change ...func(*fake.ClientBuilder)) *site {
	t.Helper()
	scheme, err := controllers.Scheme()
	if err != nil {
		t.Fatal(err)
	}
	builder := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...)
	for _, f := range change {
		f(builder)
	}
	return &site{Client: builder.Build(), now: func() time.Time { return noon }}
}

// opens is an opener of a cluster.
func (s *site) opens(f connection) (*site, string, error) { return s, or(f.namespace, "factory"), nil }

func TestStatus(t *testing.T) {
	open := town(t, brokersOfAllKinds()).opens
	for name, tc := range map[string]struct {
		args string
		code int
	}{
		"well":        {"well", exitYes},
		"troubled":    {"troubled", exitNo},
		"wide":        {"troubled -o wide", exitNo},
		"hibernating": {"hibernating", exitYes},
		"lost":        {"lost -n lab", exitNo},
		"new":         {"new -n lab", exitNo},
		"table":       {"", exitNo},
		"all":         {"-A", exitNo},
		"all-wide":    {"-A -o wide", exitNo},
		"yaml":        {"well -o yaml", exitYes},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errs := call(t, open, append([]string{"status"}, strings.Fields(tc.args)...)...)
			if code != tc.code || errs != "" {
				t.Errorf("exit code %d, want %d; %s", code, tc.code, errs)
			}
			golden(t, "status-"+name, out)
		})
	}
}

func TestStatusInColour(t *testing.T) {
	var out, errs bytes.Buffer
	open := town(t, brokersOfAllKinds()).opens
	if code := run(t.Context(), []string{"status", "troubled"}, streams{out: &out, err: &errs, colour: true}, open); code != exitNo {
		t.Errorf("exit code %d, %s", code, errs.String())
	}
	golden(t, "status-colour", out.String())
	_, plain, _ := call(t, open, "status", "troubled")
	stripped := out.String()
	for _, code := range []tone{well, warning, bad} {
		stripped = strings.ReplaceAll(stripped, "\x1b["+string(code)+"m", "")
	}
	if strings.ReplaceAll(stripped, "\x1b[0m", "") != plain {
		t.Error("colours must change nothing but the colour")
	}
	if strings.Contains(plain, "\x1b") {
		t.Error("there are colours where nobody asked for them")
	}
}

func TestColoursAreForTerminals(t *testing.T) {
	for name, tc := range map[string]struct {
		terminal bool
		env      map[string]string
		want     bool
	}{
		"a terminal":            {true, nil, true},
		"a file":                {false, nil, false},
		"NO_COLOR":              {true, map[string]string{"NO_COLOR": "1"}, false},
		"an empty NO_COLOR":     {true, map[string]string{"NO_COLOR": ""}, true},
		"a terminal without":    {true, map[string]string{"TERM": "dumb"}, false},
		"a file, and a TERM":    {false, map[string]string{"TERM": "xterm"}, false},
		"a terminal of colours": {true, map[string]string{"TERM": "xterm-256color"}, true},
	} {
		if got := coloured(tc.terminal, func(name string) string { return tc.env[name] }); got != tc.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestStatusForPrograms(t *testing.T) {
	open := town(t, brokersOfAllKinds()).opens
	_, out, _ := call(t, open, "status", "troubled", "-o", "json")
	one := brokerInfo{}
	if err := json.Unmarshal([]byte(out), &one); err != nil {
		t.Fatal(err)
	}
	if one.Health != degraded || one.Revision != 12 || one.Applied != 11 || *one.Listeners[0].CertDaysLeft != 1 || *one.Listeners[1].CertDaysLeft != -1 ||
		one.Pods[0].Died != "OOMKilled" || len(one.Users.NotReady) != 2 || one.Bridges[0].Name != "broken" || one.Current {
		t.Errorf("%+v", one)
	}
	_, out, _ = call(t, open, "status", "-A", "-o", "json")
	all := []brokerInfo{}
	if err := json.Unmarshal([]byte(out), &all); err != nil || len(all) != 5 {
		t.Errorf("%v, %d brokers", err, len(all))
	}
}

func TestStatusOfWhatIsNotThere(t *testing.T) {
	open := town(t, brokersOfAllKinds()).opens
	for args, want := range map[string]struct {
		code int
		errs string
	}{
		"nobody":        {exitUnknown, "not found"},
		"-n empty":      {exitYes, "there is no MQTTBroker here; try -A"},
		"well -A":       {exitUsage, "a name and -A do not go together"},
		"well -o table": {exitUsage, "-o table is neither json nor yaml nor wide"},
		"a b":           {exitUsage, "accepts at most 1 arg"},
	} {
		if code, out, errs := call(t, open, append([]string{"status"}, strings.Fields(args)...)...); code != want.code || out != "" || !strings.Contains(errs, want.errs) {
			t.Errorf("%s: %d %s%s", args, code, out, errs)
		}
	}
}

// forbidden is a cluster in which the caller may not list these kinds, or not in all namespaces.
func forbidden(everywhere bool, kinds ...client.ObjectList) func(*fake.ClientBuilder) {
	return func(b *fake.ClientBuilder) {
		b.WithInterceptorFuncs(interceptor.Funcs{List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			asked := client.ListOptions{}
			asked.ApplyOptions(opts)
			for _, kind := range kinds {
				if sameKind(kind, list) && (everywhere || asked.Namespace == "") {
					return apierrors.NewForbidden(schema.GroupResource{Resource: "things"}, "", errors.New("no"))
				}
			}
			return c.List(ctx, list, opts...)
		}})
	}
}

func sameKind(a, b client.ObjectList) bool {
	switch a.(type) {
	case *corev1.PodList:
		_, ok := b.(*corev1.PodList)
		return ok
	case *corev1.SecretList:
		_, ok := b.(*corev1.SecretList)
		return ok
	case *v1alpha1.MQTTUserList:
		_, ok := b.(*v1alpha1.MQTTUserList)
		return ok
	default:
		return false
	}
}

func TestStatusWithFewRights(t *testing.T) {
	shared := wellBroker("factory", "shared", func(b *v1alpha1.MQTTBroker) {
		b.Spec.AllowedNamespaces = &v1alpha1.AllowedNamespaces{From: new(v1alpha1.NamespacesAll)}
	})
	guest := gen.User("lab", "guest", "shared", gen.OfNamespace("factory"))
	objects := []client.Object{shared, podOf(shared, 0), guest, gen.User("factory", "own", "shared")}
	if _, out, errs := call(t, town(t, objects).opens, "status", "shared"); !strings.Contains(out, "lab/guest") || errs != "" {
		t.Errorf("users of other namespaces belong to it: %s%s", out, errs)
	}
	open := town(t, objects, forbidden(false, &v1alpha1.MQTTUserList{})).opens
	code, out, errs := call(t, open, "status", "shared")
	if code != exitYes || strings.Contains(out, "guest") || !strings.Contains(out, "own") || !strings.Contains(errs, "note: you may not see the users of other namespaces") {
		t.Errorf("%d %s%s", code, out, errs)
	}
	open = town(t, objects, forbidden(true, &v1alpha1.MQTTUserList{}, &corev1.PodList{})).opens
	code, out, errs = call(t, open, "status", "shared")
	if code != exitYes || !strings.Contains(out, "is healthy") || !strings.Contains(errs, "note: you may not see the pods\nnote: you may not see the users\n") {
		t.Errorf("%d %s%s", code, out, errs)
	}
}
