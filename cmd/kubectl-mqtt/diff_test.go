// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
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
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	kjson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/yaml"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/controllers/desired"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// plant is a broker with a volume, two listeners and three users, one of another namespace, and a bridge.
func plant() []client.Object {
	b := wellBroker("factory", "plant", gen.WithListener(gen.Plain("inside", 1883)), gen.WithVolume("1Gi", "fast"))
	b.Spec.Image = new("example.com/broker:1")
	b.Spec.AllowedNamespaces = &v1alpha1.AllowedNamespaces{From: new(v1alpha1.NamespacesAll)}
	set := desired.StatefulSet(&verdict.Facts{Broker: b, Spec: b.Resolved(), Now: noon})
	set.Namespace = "factory"
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "factory", Name: v1alpha1.VolumeClaimName("plant", 0)},
		Spec:       corev1.PersistentVolumeClaimSpec{StorageClassName: new("fast")},
	}
	readers := &v1alpha1.MQTTAccessPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "factory", Name: "readers"}}
	readers.Spec.UserSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"role": "reader"}}
	readers.Spec.Rules = []v1alpha1.ACLRule{gen.Rule(v1alpha1.ACLAllow, "plant/#", v1alpha1.ACLSubscribe)}
	alice := gen.User("factory", "alice", "plant", gen.Allow("plant/%u/#", v1alpha1.ACLPublish), gen.WithLabels(map[string]string{"role": "reader"}))
	bob := gen.User("factory", "bob", "plant", gen.Allow("plant/+/state", v1alpha1.ACLPublish, v1alpha1.ACLSubscribe), gen.WithPolicies("readers"))
	guest := gen.User("lab", "guest", "plant", gen.OfNamespace("factory"))
	objects := []client.Object{b, set, claim, readers, alice, bob, guest, gen.Bridge("factory", "cloud", "plant")}
	for _, name := range []string{"factory", "lab"} {
		objects = append(objects, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	for _, object := range objects {
		object.SetCreationTimestamp(ago(time.Hour))
	}
	return objects
}

// applied is an object of the plant as it stood in a file when it was last applied, with a change.
func applied[T client.Object](t *testing.T, object T, change func(T)) string {
	t.Helper()
	wanted, _ := object.DeepCopyObject().(T)
	wanted.SetCreationTimestamp(metav1.Time{})
	change(wanted)
	content := map[string]any{}
	text, err := json.Marshal(wanted)
	if err == nil {
		err = json.Unmarshal(text, &content)
	}
	if err != nil {
		t.Fatal(err)
	}
	kind, _ := strings.CutPrefix(strings.TrimPrefix(typeName(object), "*"), "v1alpha1.")
	delete(content, "status")
	content["apiVersion"], content["kind"] = v1alpha1.GroupVersion.String(), kind
	out, err := yaml.Marshal(content)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func typeName(object client.Object) string {
	switch object.(type) {
	case *v1alpha1.MQTTBroker:
		return "MQTTBroker"
	case *v1alpha1.MQTTUser:
		return "MQTTUser"
	case *v1alpha1.MQTTAccessPolicy:
		return "MQTTAccessPolicy"
	default:
		return "MQTTBridge"
	}
}

func pick[T client.Object](objects []client.Object, name string) (found T) {
	for _, object := range objects {
		if typed, is := object.(T); is && object.GetName() == name {
			return typed
		}
	}
	return found
}

// dryRuns answers dry runs as an API server does: by what the object would be.
func dryRuns(b *fake.ClientBuilder) {
	b.WithInterceptorFuncs(interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, options ...client.CreateOption) error {
			if answered := (&client.CreateOptions{}).ApplyOptions(options); !slices.Contains(answered.DryRun, metav1.DryRunAll) || answered.FieldValidation != metav1.FieldValidationStrict {
				return errors.New("this would have been written, or not been checked")
			}
			o.SetCreationTimestamp(metav1.NewTime(noon))
			return c.Create(ctx, o, options...)
		},
		Patch: func(_ context.Context, _ client.WithWatch, o client.Object, patch client.Patch, options ...client.PatchOption) error {
			if answered := (&client.PatchOptions{}).ApplyOptions(options); !slices.Contains(answered.DryRun, metav1.DryRunAll) || answered.FieldValidation != metav1.FieldValidationStrict {
				return errors.New("this would have been written, or not been checked")
			}
			object, isUntyped := o.(*unstructured.Unstructured)
			if !isUntyped || patch.Type() != types.MergePatchType {
				return errors.New("this is no merge patch of an untyped object")
			}
			text, err := patch.Data(o)
			if err != nil {
				return err
			}
			change := map[string]any{}
			if err := kjson.Unmarshal(text, &change); err != nil {
				return err
			}
			merge(object.Object, change)
			return nil
		},
	})
}

// merge is a merge patch as in RFC 7386.
func merge(into, change map[string]any) {
	for key, value := range change {
		below, isObject := value.(map[string]any)
		switch stood, stands := into[key].(map[string]any); {
		case value == nil:
			delete(into, key)
		case isObject && stands:
			merge(stood, below)
		case isObject:
			fresh := map[string]any{}
			merge(fresh, below)
			into[key] = fresh
		default:
			into[key] = value
		}
	}
}

// remembering makes objects look as if kubectl apply had written them.
func remembering(t *testing.T, objects []client.Object) {
	t.Helper()
	for _, object := range objects {
		switch object.(type) {
		case *v1alpha1.MQTTBroker, *v1alpha1.MQTTUser, *v1alpha1.MQTTAccessPolicy, *v1alpha1.MQTTBridge:
			text, err := yaml.YAMLToJSON([]byte(applied(t, object, func(client.Object) {})))
			if err != nil {
				t.Fatal(err)
			}
			annotations := object.GetAnnotations()
			if annotations == nil {
				annotations = map[string]string{}
			}
			annotations[corev1.LastAppliedConfigAnnotation] = string(text)
			object.SetAnnotations(annotations)
		}
	}
}

func TestDiff(t *testing.T) {
	objects := plant()
	broker := func(change func(*v1alpha1.MQTTBroker)) func(*testing.T) string {
		return func(t *testing.T) string { return applied(t, pick[*v1alpha1.MQTTBroker](objects, "plant"), change) }
	}
	nightly := []v1alpha1.MaintenanceWindow{{Name: "night", Start: "22:00", Duration: &metav1.Duration{Duration: time.Hour}}}
	for name, tc := range map[string]struct {
		files []func(*testing.T) string
		args  string
		code  int
	}{
		"nothing": {files: []func(*testing.T) string{broker(func(*v1alpha1.MQTTBroker) {})}, code: exitYes},
		"restart": {files: []func(*testing.T) string{broker(func(b *v1alpha1.MQTTBroker) {
			b.Spec.Image = new("example.com/broker:2")
			b.Spec.Limits = &v1alpha1.BrokerLimits{MaxQueuedMessages: new(int32(5))}
		})}, code: exitNo},
		"window": {files: []func(*testing.T) string{broker(func(b *v1alpha1.MQTTBroker) {
			b.Spec.Pod = &v1alpha1.BrokerPod{PriorityClassName: new("first")}
			b.Spec.Updates = &v1alpha1.BrokerUpdates{MaintenanceWindows: nightly}
		})}, code: exitNo},
		"live": {files: []func(*testing.T) string{broker(func(b *v1alpha1.MQTTBroker) {
			b.Spec.Listeners = append(b.Spec.Listeners, gen.Plain("web", 8080))
			b.Spec.Listeners[2].Protocol = v1alpha1.ProtocolWS
			b.Spec.Persistence.Size = new(resource.MustParse("2Gi"))
			b.Labels = map[string]string{"team": "presses"}
		})}, code: exitNo},
		"listeners": {files: []func(*testing.T) string{broker(func(b *v1alpha1.MQTTBroker) {
			b.Spec.Listeners[0].Port = 8884
			b.Spec.Listeners = b.Spec.Listeners[:1]
			b.Spec.Listeners[0].TLS.ClientAuth = new(v1alpha1.ClientAuthRequired)
			b.Spec.AllowedNamespaces = nil
		})}, code: exitNo},
		"hibernates": {files: []func(*testing.T) string{broker(func(b *v1alpha1.MQTTBroker) {
			b.Spec.Replicas = new(int32(0))
			b.Spec.Persistence.Retention = &v1alpha1.PersistenceRetention{WhenScaled: new(v1alpha1.DeleteVolume)}
		})}, code: exitNo},
		"policy": {files: []func(*testing.T) string{func(t *testing.T) string {
			return applied(t, pick[*v1alpha1.MQTTAccessPolicy](objects, "readers"), func(p *v1alpha1.MQTTAccessPolicy) {
				p.Spec.Rules = append([]v1alpha1.ACLRule{gen.Rule(v1alpha1.ACLDeny, "plant/secret/#", v1alpha1.ACLSubscribe)}, p.Spec.Rules...)
			})
		}}, code: exitNo},
		"users": {files: []func(*testing.T) string{
			func(t *testing.T) string {
				return applied(t, pick[*v1alpha1.MQTTUser](objects, "alice"), func(u *v1alpha1.MQTTUser) {
					u.Labels = nil
					u.Spec.ACL[0].MaxQoS = new(int32(1))
					u.Spec.ClientIDs = &v1alpha1.UserClientIDs{Prefix: new("alice-")}
				})
			},
			func(t *testing.T) string {
				return applied(t, pick[*v1alpha1.MQTTUser](objects, "bob"), func(u *v1alpha1.MQTTUser) { u.Spec.Suspend = new(true) })
			},
			func(t *testing.T) string {
				return applied(t, gen.User("factory", "carol", "plant"), func(*v1alpha1.MQTTUser) {})
			},
			func(t *testing.T) string {
				return applied(t, gen.User("lab", "twin", "plant", gen.OfNamespace("factory"), gen.WithUsername("bob")), func(*v1alpha1.MQTTUser) {})
			},
		}, code: exitNo},
		"prune": {files: []func(*testing.T) string{
			broker(func(*v1alpha1.MQTTBroker) {}),
			func(t *testing.T) string {
				return applied(t, pick[*v1alpha1.MQTTUser](objects, "bob"), func(*v1alpha1.MQTTUser) {})
			},
		}, args: "--prune", code: exitNo},
		"bridge": {files: []func(*testing.T) string{func(t *testing.T) string {
			return applied(t, pick[*v1alpha1.MQTTBridge](objects, "cloud"), func(b *v1alpha1.MQTTBridge) {
				b.Spec.Routes = []v1alpha1.BridgeRoute{gen.Route("commands", v1alpha1.RouteIn, "commands/#")}
				b.Spec.Image = new("example.com/broker:2")
			})
		}}, code: exitNo},
		"created": {files: []func(*testing.T) string{func(t *testing.T) string {
			return applied(t, gen.Broker("factory", "second", gen.WithVolume("5Gi", "fast")), func(*v1alpha1.MQTTBroker) {})
		}}, code: exitNo},
	} {
		t.Run(name, func(t *testing.T) {
			standing := plant()
			remembering(t, standing)
			at := town(t, standing, dryRuns)
			dir := t.TempDir()
			for i, file := range tc.files {
				// A Secret beside them is passed over, and nothing of it is shown.
				text := file(t) + "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: x\nstringData:\n  password: " + marker + "\n---\n# end\n"
				if err := os.WriteFile(filepath.Join(dir, string(rune('a'+i))+".yaml"), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			before := everything(t, at)
			code, out, errs := call(t, at.opens, append([]string{"diff", "-f", dir}, strings.Fields(tc.args)...)...)
			if code != tc.code || !strings.Contains(errs, "of kind Secret in the files: not looked at") {
				t.Errorf("exit code %d, want %d; %s", code, tc.code, errs)
			}
			golden(t, "diff-"+name, out)
			if after := everything(t, at); after != before {
				t.Error("something was changed")
			}
		})
	}
}

// everything is all that our kinds hold.
func everything(t *testing.T, at *site) string {
	t.Helper()
	var all []any
	for _, kind := range ourKinds {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(kind + "List"))
		if err := at.List(t.Context(), list); err != nil {
			t.Fatal(err)
		}
		for i := range list.Items {
			all = append(all, list.Items[i].Object)
		}
	}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestDiffOfWhatThePodsHaveAlready: what stands in the table as a restart restarts nobody where it says what is so anyway.
func TestDiffOfWhatThePodsHaveAlready(t *testing.T) {
	objects := plant()
	remembering(t, objects)
	for name, tc := range map[string]struct {
		change func(*v1alpha1.MQTTBroker)
		stood  func(*v1alpha1.MQTTBroker, map[string]string)
		what   string
		reason string
	}{
		"a default that is written down": {change: func(b *v1alpha1.MQTTBroker) {
			b.Spec.Updates = &v1alpha1.BrokerUpdates{Drain: &v1alpha1.BrokerDrain{Timeout: &metav1.Duration{Duration: 20 * time.Second}}}
		}, what: "NotReplaced"},
		"a restart that is wished":          {change: annotated(v1alpha1.AnnotationRestartAt, "2026-11-28T18:00:00Z"), what: "PodsReplaced", reason: "RestartRequested"},
		"a restart that nobody understands": {change: annotated(v1alpha1.AnnotationRestartAt, "tonight"), what: "NotReplaced"},
		"a form that failed before": {change: func(b *v1alpha1.MQTTBroker) { b.Spec.Image = new("example.com/broker:broken") }, stood: func(b *v1alpha1.MQTTBroker, annotations map[string]string) {
			broken := b.DeepCopy()
			broken.Spec.Image = new("example.com/broker:broken")
			annotations[verdict.FailedAnnotation] = desired.StatefulSet(&verdict.Facts{Broker: broken, Spec: broken.Resolved(), Now: noon}).Annotations[verdict.TemplateAnnotation]
		}, what: "RolloutStuck"},
		"a change that is paused": {change: func(b *v1alpha1.MQTTBroker) {
			annotated(v1alpha1.AnnotationPaused, "true")(b)
			b.Spec.Image = new("example.com/broker:2")
		}, what: "Paused"},
		"a window that never opens": {change: func(b *v1alpha1.MQTTBroker) {
			b.Spec.Image = new("example.com/broker:2")
			b.Spec.Updates = &v1alpha1.BrokerUpdates{MaintenanceWindows: []v1alpha1.MaintenanceWindow{{
				Name: "never", Start: "12:00", Duration: &metav1.Duration{Duration: time.Hour}, TimeZone: new("Europe/Atlantis"),
			}}}
		}, what: "Waits", reason: "ImageChanged"},
		"a window that is open": {change: func(b *v1alpha1.MQTTBroker) {
			b.Spec.Image = new("example.com/broker:2")
			b.Spec.Updates = &v1alpha1.BrokerUpdates{MaintenanceWindows: []v1alpha1.MaintenanceWindow{{Name: "noon", Start: "11:30", Duration: &metav1.Duration{Duration: time.Hour}}}}
		}, what: "PodsReplaced", reason: "ImageChanged"},
	} {
		t.Run(name, func(t *testing.T) {
			standing := plant()
			remembering(t, standing)
			if tc.stood != nil {
				for _, object := range standing {
					if object.GetName() == "plant-broker" {
						tc.stood(pick[*v1alpha1.MQTTBroker](standing, "plant"), object.GetAnnotations())
					}
				}
			}
			at := town(t, standing, dryRuns)
			file := filepath.Join(t.TempDir(), "plant.yaml")
			if err := os.WriteFile(file, []byte(applied(t, pick[*v1alpha1.MQTTBroker](plant(), "plant"), tc.change)), 0o600); err != nil {
				t.Fatal(err)
			}
			code, out, errs := call(t, at.opens, "diff", "-f", file, "-o", "json")
			got := diffInfo{}
			if err := json.Unmarshal([]byte(out), &got); err != nil || code != exitNo || len(got.Objects) != 1 {
				t.Fatalf("%d %v %s%s", code, err, out, errs)
			}
			i := slices.IndexFunc(got.Objects[0].Effects, func(e effect) bool { return e.What == tc.what })
			if i < 0 || got.Objects[0].Effects[i].Reason != tc.reason {
				t.Errorf("%+v", got.Objects[0].Effects)
			}
			replaced := slices.ContainsFunc(got.Objects[0].Effects, func(e effect) bool { return e.What == "PodsReplaced" })
			if tc.what != "Paused" && replaced != (tc.what == "PodsReplaced") {
				t.Errorf("%+v", got.Objects[0].Effects)
			}
		})
	}
}

func annotated(key, value string) func(*v1alpha1.MQTTBroker) {
	return func(b *v1alpha1.MQTTBroker) { b.Annotations = map[string]string{key: value} }
}

func TestDiffThatCannotBe(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	user := applied(t, gen.User("factory", "carol", "plant"), func(*v1alpha1.MQTTUser) {})
	good := write("good.yaml", user)
	twice := write("twice.yaml", user+"---\n"+user)
	secret := write("secret.yaml", "password: "+marker+"\n\tx\n")
	nameless := write("nameless.yaml", "apiVersion: mqtt-operator.io/v1alpha1\nkind: MQTTUser\n")
	for name, tc := range map[string]struct {
		args, errs string
		code       int
	}{
		"no file":             {"", "-f is needed", exitUsage},
		"not there":           {"-f " + dir + "/x.yaml", "no such file", exitUsage},
		"not YAML":            {"-f " + secret, "secret.yaml: document 1: is no object in YAML or JSON", exitUsage},
		"twice":               {"-f " + twice, "MQTTUser factory/carol stands twice", exitUsage},
		"nameless":            {"-f " + nameless, "an MQTTUser of the files has no metadata.name", exitUsage},
		"another namespace":   {"-f " + good + " -n lab", "is of namespace factory, and -n says lab", exitUsage},
		"a directory of none": {"-f " + t.TempDir(), "holds no .yaml", exitUsage},
	} {
		t.Run(name, func(t *testing.T) {
			at := town(t, plant())
			if code, out, errs := call(t, at.opens, append([]string{"diff"}, strings.Fields(tc.args)...)...); code != tc.code || out != "" || !strings.Contains(errs, tc.errs) {
				t.Errorf("%d %s%s", code, out, errs)
			}
		})
	}
	refusing := func(answer error) *site {
		return town(t, plant(), func(b *fake.ClientBuilder) {
			b.WithInterceptorFuncs(interceptor.Funcs{Create: func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error { return answer }})
		})
	}
	kind := schema.GroupKind{Group: "mqtt-operator.io", Kind: "MQTTUser"}
	invalid := apierrors.NewInvalid(kind, "carol", nil)
	invalid.ErrStatus.Details.Causes = []metav1.StatusCause{{Field: "spec.username", Message: "may have at most 128 bytes"}}
	if code, out, errs := call(t, refusing(invalid).opens, "diff", "-f", good); code != exitIncomplete || !strings.Contains(out, "spec.username: may have at most 128 bytes") {
		t.Errorf("%d %s%s", code, out, errs)
	}
	barred := apierrors.NewForbidden(schema.GroupResource{Resource: "mqttusers"}, "carol", errors.New("no"))
	if code, out, errs := call(t, refusing(barred).opens, "diff", "-f", good); code != exitUnknown || out != "" || !strings.Contains(errs, "forbidden") {
		t.Errorf("%d %s%s", code, out, errs)
	}
}

func TestLessAndMore(t *testing.T) {
	both := []acl.Action{acl.Publish, acl.Subscribe}
	once := allow(publish, "a/#")
	once.MaxQoS = new(byte(1))
	plain := allow(publish, "a/#")
	plain.Retain = new(false)
	low := allow(subscribe, "a/#")
	low.MaxQoS = new(byte(0))
	for name, tc := range map[string]struct {
		before, after []acl.Rule
		less, more    string
	}{
		"the same":                     {[]acl.Rule{allow(both, "a/#")}, []acl.Rule{allow(both, "a/#")}, "", ""},
		"a rule that goes":             {[]acl.Rule{allow(publish, "a/#"), allow(publish, "b")}, []acl.Rule{allow(publish, "a/#")}, "publish b", ""},
		"a rule that comes":            {nil, []acl.Rule{allow(both, "a/+")}, "", "publish a/+, subscribe a/+"},
		"a rule that says nothing new": {[]acl.Rule{allow(both, "#")}, []acl.Rule{allow(both, "#"), allow(both, "a/#")}, "", ""},
		"a rule that is narrower":      {[]acl.Rule{allow(publish, "a/#")}, []acl.Rule{allow(publish, "a/b")}, "publish a/#", ""},
		"a denial within":              {[]acl.Rule{allow(both, "a/#")}, []acl.Rule{deny(both, "a/x"), allow(both, "a/#")}, "publish a/x, subscribe a/#", ""},
		"a denial that comes too late": {[]acl.Rule{allow(publish, "a/#")}, []acl.Rule{allow(publish, "a/#"), deny(publish, "a/x")}, "", ""},
		"a denial that goes":           {[]acl.Rule{deny(publish, "a/+/c"), allow(publish, "a/b/#")}, []acl.Rule{allow(publish, "a/b/#")}, "", "publish a/b/c"},
		"rules that change places":     {[]acl.Rule{allow(publish, "a/+"), deny(publish, "+/b")}, []acl.Rule{deny(publish, "+/b"), allow(publish, "a/+")}, "publish a/b", ""},
		"a lower QoS":                  {[]acl.Rule{allow(publish, "a/#")}, []acl.Rule{once}, "publish a/# at QoS 2", ""},
		"a lower QoS of subscriptions": {[]acl.Rule{allow(subscribe, "a/#")}, []acl.Rule{low}, "subscribe a/# above QoS 0", ""},
		"nothing retained":             {[]acl.Rule{allow(publish, "a/#")}, []acl.Rule{plain}, "publish a/# retained", ""},
		"one's own name":               {[]acl.Rule{allow(publish, "a/%u/#")}, nil, "publish a/alice/#", ""},
		"any client id":                {[]acl.Rule{allow(publish, "a/%c/#")}, nil, "publish a/%c/#", ""},
		"from wide to wider":           {[]acl.Rule{allow(subscribe, "a/+")}, []acl.Rule{allow(subscribe, "a/#")}, "", "subscribe a/#"},
		"one for another":              {[]acl.Rule{allow(publish, "a")}, []acl.Rule{allow(publish, "b")}, "publish a", "publish b"},
		"three that meet":              {[]acl.Rule{deny(publish, "a/+/c"), deny(publish, "+/b/+"), allow(publish, "+/+/c")}, []acl.Rule{deny(publish, "+/b/+"), allow(publish, "+/+/c")}, "", "publish a/+/c"},
	} {
		t.Run(name, func(t *testing.T) {
			less, more := lessAndMore(acl.Subject{Username: "alice"}, tc.before, tc.after)
			if got := strings.Join(less, ", "); got != tc.less {
				t.Errorf("less: %q, want %q", got, tc.less)
			}
			if got := strings.Join(more, ", "); got != tc.more {
				t.Errorf("more: %q, want %q", got, tc.more)
			}
		})
	}
}

// TestNoLossIsOverlooked tries random lists of rules with every short topic and filter: whatever one list grants and the other does
// not is said, or lies within what is.
func TestNoLossIsOverlooked(t *testing.T) {
	words := []string{"a", "b", "+", "%u"}
	var filters, topics []string
	for _, x := range words {
		for _, end := range []string{"", "/#"} {
			filters = append(filters, x+end)
			for _, y := range words {
				filters = append(filters, x+"/"+y+end)
			}
		}
	}
	for _, x := range []string{"a", "b", "alice", "z"} {
		topics = append(topics, x)
		for _, y := range []string{"a", "b", "alice", "z"} {
			topics = append(topics, x+"/"+y, x+"/"+y+"/z")
		}
	}
	who, seed := acl.Subject{Username: "alice"}, uint32(7)
	next := func(n int) int {
		seed = seed*1664525 + 1013904223
		return int(seed>>8) % n
	}
	random := func() (rules []acl.Rule) {
		for range next(4) {
			actions := [][]acl.Action{publish, subscribe, {acl.Publish, acl.Subscribe}}[next(3)]
			rule := allow(actions, filters[next(len(filters))])
			if next(3) == 0 {
				rule = deny(actions, rule.Filter)
			}
			rules = append(rules, rule)
		}
		return rules
	}
	for range 3000 {
		before, after := random(), random()
		was, err := acl.Compile(before)
		if err != nil {
			continue
		}
		is, err := acl.Compile(after)
		if err != nil {
			continue
		}
		less, _ := lessAndMore(who, before, after)
		lost := func(action, asked string) bool {
			return len(less) > mostLosses || slices.ContainsFunc(less, func(text string) bool {
				filter, found := strings.CutPrefix(text, action+" ")
				return found && isWithin(asked, filter)
			})
		}
		for _, topic := range topics {
			if was.Publish(who, topic, 0, false).Allowed && !is.Publish(who, topic, 0, false).Allowed && !lost("publish", topic) {
				t.Fatalf("publish %s is lost from %v to %v, and what is said is %q", topic, before, after, less)
			}
		}
		for _, filter := range append(slices.Clone(topics), filters...) {
			if was.Subscribe(who, filter, 0).Allowed && !is.Subscribe(who, filter, 0).Allowed && !slices.ContainsFunc(less, func(text string) bool { return strings.HasPrefix(text, "subscribe ") }) {
				t.Fatalf("subscribe %s is lost from %v to %v, and what is said is %q", filter, before, after, less)
			}
		}
	}
}
