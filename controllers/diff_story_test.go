// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
)

// foretold is what kubectl mqtt diff -o json says of one object, as far as this story reads it.
type foretold struct {
	Action  string `json:"action"`
	Refusal string `json:"refusal"`
	Effects []struct {
		What     string       `json:"what"`
		Disturbs bool         `json:"disturbs"`
		Reason   string       `json:"reason"`
		Pods     []string     `json:"pods"`
		Window   string       `json:"window"`
		Opens    *metav1.Time `json:"opens"`
	} `json:"effects"`
}

// plugin is kubectl-mqtt with a kubeconfig of the API server.
type plugin struct {
	w                   *world
	program, kubeconfig string
}

func (w *world) plugin() *plugin {
	w.t.Helper()
	dir := w.t.TempDir()
	p := &plugin{w: w, program: filepath.Join(dir, "kubectl-mqtt"), kubeconfig: filepath.Join(dir, "kubeconfig")}
	if out, err := exec.CommandContext(w.t.Context(), "go", "build", "-o", p.program, "../cmd/kubectl-mqtt").CombinedOutput(); err != nil {
		w.t.Fatalf("%v\n%s", err, out)
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["story"] = &clientcmdapi.Cluster{Server: apiServer.Host, CertificateAuthorityData: apiServer.CAData}
	config.AuthInfos["story"] = &clientcmdapi.AuthInfo{ClientCertificateData: apiServer.CertData, ClientKeyData: apiServer.KeyData}
	config.Contexts["story"] = &clientcmdapi.Context{Cluster: "story", AuthInfo: "story", Namespace: w.namespace}
	config.CurrentContext = "story"
	must(w.t, clientcmd.WriteToFile(*config, p.kubeconfig))
	return p
}

// diff says what a file would do.
func (p *plugin) diff(code int, file []byte, args ...string) *foretold {
	p.w.t.Helper()
	command := exec.CommandContext(p.w.t.Context(), p.program, append([]string{"diff", "-f", "-", "-o", "json", "--kubeconfig", p.kubeconfig}, args...)...)
	var out, complaints bytes.Buffer
	command.Stdin, command.Stdout, command.Stderr = bytes.NewReader(file), &out, &complaints
	err := command.Run()
	if ended := (*exec.ExitError)(nil); err != nil && !errors.As(err, &ended) {
		p.w.t.Fatal(err)
	}
	said := struct {
		Objects []*foretold `json:"objects"`
	}{}
	if got := command.ProcessState.ExitCode(); got != code || json.Unmarshal(out.Bytes(), &said) != nil || len(said.Objects) != 1 {
		p.w.t.Fatalf("exit code %d, want %d:\n%s%s", got, code, out.String(), complaints.String())
	}
	return said.Objects[0]
}

// says reports whether something is foretold.
func (f *foretold) says(what string) bool { return f.effect(what) >= 0 }

func (f *foretold) effect(what string) int {
	for i := range f.Effects {
		if f.Effects[i].What == what {
			return i
		}
	}
	return -1
}

func (f *foretold) disturbs() bool {
	for i := range f.Effects {
		if f.Effects[i].Disturbs {
			return true
		}
	}
	return false
}

// file is an object as a person writes it.
func (w *world) file(object client.Object) []byte {
	w.t.Helper()
	text, err := json.Marshal(object)
	must(w.t, err)
	content := map[string]any{}
	must(w.t, json.Unmarshal(text, &content))
	delete(content, "status")
	kind, err := k8s.GroupVersionKindFor(object)
	must(w.t, err)
	content["apiVersion"], content["kind"] = kind.GroupVersion().String(), kind.Kind
	text, err = json.Marshal(content)
	must(w.t, err)
	return text
}

// applyFile does what kubectl apply does where nobody else writes the spec: what stands in the file is what the object says, and the
// file is kept in an annotation. With onServer it is kubectl apply --server-side.
func (w *world) applyFile(file []byte, onServer bool) error {
	w.t.Helper()
	wanted := &unstructured.Unstructured{}
	must(w.t, wanted.UnmarshalJSON(file))
	if onServer {
		return k8s.Apply(w.t.Context(), client.ApplyConfigurationFromUnstructured(wanted), client.FieldOwner("kubectl"), client.ForceOwnership)
	}
	wanted.SetAnnotations(map[string]string{corev1.LastAppliedConfigAnnotation: string(file)})
	live := wanted.DeepCopy()
	if err := k8s.Get(w.t.Context(), client.ObjectKeyFromObject(wanted), live); apierrors.IsNotFound(err) {
		return k8s.Create(w.t.Context(), wanted)
	}
	live.Object["spec"] = wanted.Object["spec"]
	live.SetAnnotations(wanted.GetAnnotations())
	return k8s.Update(w.t.Context(), live)
}

// disconnected waits until the broker has closed the connection.
func (s *steady) disconnected() {
	s.w.t.Helper()
	must(s.w.t, s.conn.SetReadDeadline(time.Now().Add(patience)))
	if _, err := io.Copy(io.Discard, s.conn); err != nil && strings.Contains(err.Error(), "timeout") {
		s.w.t.Error("the client was not disconnected")
	}
}

// TestWhatIsForetoldHappens asks kubectl mqtt diff about one file after another, applies it, and looks whether what happens is what
// was said: whether pods are replaced and why, what waits for which window, who is disconnected, and what is refused.
func TestWhatIsForetoldHappens(t *testing.T) {
	w := newWorld(t)
	p, class := w.plugin(), w.storageClass(true)
	broker := gen.Broker(w.namespace, "mq", gen.WithVolume("1Gi", class.Name))
	alice := gen.User(w.namespace, "alice", "mq", gen.Allow("plant/#", v1alpha1.ACLPublish))
	for _, object := range []client.Object{broker, alice} {
		file := w.file(object)
		if said := p.diff(1, file); said.Action != "created" || said.disturbs() {
			t.Errorf("%+v", said)
		}
		must(t, w.applyFile(file, false))
		if said := p.diff(0, file); said.Action != "unchanged" {
			t.Errorf("%+v", said)
		}
	}
	w.ready(broker, alice)

	wish := broker.DeepCopy()
	wish.ObjectMeta = metav1.ObjectMeta{Namespace: w.namespace, Name: "mq"}
	for _, step := range []struct {
		name     string
		change   func(*v1alpha1.MQTTBroker)
		onServer bool
		says     string
		reason   v1alpha1.ConditionReason // of the replacement, empty where there is none
		waits    bool
	}{
		{name: "limits, a listener", says: "ListenerAdded", change: func(b *v1alpha1.MQTTBroker) {
			b.Spec.Limits = &v1alpha1.BrokerLimits{MaxQueuedMessages: new(int32(5))}
			gen.WithListener(gen.Plain("inside", 1883))(b)
		}},
		{name: "limits go", says: "Live", change: func(b *v1alpha1.MQTTBroker) { b.Spec.Limits = nil }},
		{name: "an image", says: "PodsReplaced", reason: v1alpha1.ReasonImageChanged, change: func(b *v1alpha1.MQTTBroker) { b.Spec.Image = new("example.com/broker:2") }},
		{name: "a default written down", says: "NotReplaced", change: func(b *v1alpha1.MQTTBroker) {
			b.Spec.Updates = &v1alpha1.BrokerUpdates{Drain: &v1alpha1.BrokerDrain{Timeout: &metav1.Duration{Duration: v1alpha1.DefaultDrainTimeout}}}
		}},
		{name: "a larger volume", says: "VolumeGrows", change: func(b *v1alpha1.MQTTBroker) { b.Spec.Persistence.Size = new(resource.MustParse("2Gi")) }},
		{name: "a pod", says: "PodsReplaced", reason: v1alpha1.ReasonPodChanged, onServer: true, change: func(b *v1alpha1.MQTTBroker) {
			b.Spec.Pod = &v1alpha1.BrokerPod{Labels: map[string]v1alpha1.LabelValue{"team": "presses"}}
		}},
		{name: "a pod, in a window", says: "PodsReplaced", reason: v1alpha1.ReasonPodChanged, waits: true, onServer: true, change: func(b *v1alpha1.MQTTBroker) {
			b.Spec.Pod = nil
			b.Spec.Updates.MaintenanceWindows = hour(time.Now(), 3*time.Hour).MaintenanceWindows
		}},
	} {
		step.change(wish)
		file, args := w.file(wish), []string{}
		if step.onServer {
			args = []string{"--server-side", "--force-conflicts"}
		}
		guest := w.steady("alice")
		said := p.diff(1, file, args...)
		if said.Action != "changed" || !said.says(step.says) || said.disturbs() != (step.reason != "") {
			t.Fatalf("%s: %+v", step.name, said)
		}
		must(t, w.applyFile(file, step.onServer))
		switch {
		case step.waits:
			w.is(broker, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonWaitingForWindow)
			pending, foretold := broker.Status.PendingRestart, said.Effects[said.effect(step.says)]
			if pending == nil || string(pending.Reason) != foretold.Reason || pending.Window == nil || *pending.Window != foretold.Window || !pending.Opens.Equal(foretold.Opens) {
				t.Errorf("%s: what was said is %+v, and what is so is %+v", step.name, foretold, pending)
			}
			guest.undisturbed()
		case step.reason != "":
			guest.disconnected()
			w.anotherPod(guest.pod.pod.UID)
			w.ready(broker)
			foretold := said.Effects[said.effect(step.says)]
			if last := broker.Status.LastRestart; last == nil || last.Reason != step.reason || foretold.Reason != string(last.Reason) || !slices.Equal(foretold.Pods, []string{guest.pod.pod.Name}) {
				t.Errorf("%s: what was said is %+v, and what was so is %+v", step.name, foretold, last)
			}
		default:
			w.ready(broker)
			w.settle()
			guest.undisturbed()
		}
		_ = guest.conn.Close()
	}

	// Nothing is said to be refused that is taken, or the other way round.
	smaller := wish.DeepCopy()
	smaller.Spec.Persistence.Size = new(resource.MustParse("1Gi"))
	said, err := p.diff(3, w.file(smaller)), w.applyFile(w.file(smaller), false)
	if said.Action != "refused" || err == nil || !strings.Contains(err.Error(), said.Refusal) || !strings.Contains(said.Refusal, "may grow but not shrink") {
		t.Errorf("what was said is %q, and the answer was %v", said.Refusal, err)
	}
	unknown := bytes.Replace(w.file(wish), []byte(`"persistence"`), []byte(`"persistance"`), 1)
	if said := p.diff(3, unknown); !strings.Contains(said.Refusal, `unknown field "spec.persistance"`) {
		t.Errorf("%+v", said)
	}

	// A user that may do less stays connected, and one that is locked out does not.
	guest, person := w.steady("alice"), gen.User(w.namespace, "alice", "mq", gen.Allow("plant/press/#", v1alpha1.ACLPublish))
	if said := p.diff(1, w.file(person)); !said.says("RulesNarrowed") || !said.disturbs() {
		t.Errorf("%+v", said)
	}
	must(t, w.applyFile(w.file(person), false))
	w.eventually("the broker knows the new rule", func() error {
		if known := w.known("mq", "alice"); known == nil || len(known.ACL) != 1 || known.ACL[0].Filter != "plant/press/#" {
			return fmt.Errorf("%+v", known)
		}
		return nil
	})
	guest.undisturbed()
	person.Spec.Suspend = new(true)
	if said := p.diff(1, w.file(person)); !said.says("UserSuspended") {
		t.Errorf("%+v", said)
	}
	must(t, w.applyFile(w.file(person), false))
	guest.disconnected()
}
