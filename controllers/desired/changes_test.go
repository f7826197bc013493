// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

// wholeBroker sets every field.
func wholeBroker(t *testing.T) *v1alpha1.MQTTBroker {
	t.Helper()
	text, err := os.ReadFile("../../config/testdata/good/broker-whole.yaml")
	if err != nil {
		t.Fatal(err)
	}
	whole := &v1alpha1.MQTTBroker{}
	mustUnmarshal(t, text, whole)
	return whole
}

// TestEachFieldDoesWhatTheTableSays changes every field that is alive, one at a time, in a broker that sets all of them,
// and looks whether the pod template is another one.
func TestEachFieldDoesWhatTheTableSays(t *testing.T) {
	whole := wholeBroker(t)
	before, _ := facts(t, whole)
	template, alive, tried := templateOf(t, before), aliveFields(t, "MQTTBroker"), map[string]bool{}
	for _, field := range leaves(reflect.TypeFor[v1alpha1.MQTTBrokerSpec](), "spec") {
		under := within(alive, field)
		if under == "" {
			continue
		}
		tried[under] = true
		changed := whole.DeepCopy()
		alter(t, reflect.ValueOf(&changed.Spec).Elem(), strings.Split(field, ".")[1:])
		if reflect.DeepEqual(changed.Spec, whole.Spec) {
			t.Fatalf("this test does not know how to change %s", field)
		}
		after, _ := facts(t, changed)
		restarts := templateOf(t, after) != template
		switch change := v1alpha1.BrokerChange(field); change {
		case v1alpha1.ChangeRestart:
			if !restarts {
				t.Errorf("%s is said to restart the broker, and the pod template is the same", field)
			}
		case v1alpha1.ChangeLive, v1alpha1.ChangeScale:
			if restarts {
				t.Errorf("%s is said not to restart the broker (%s), and the pod template is another one", field, change)
			}
		case v1alpha1.ChangeRefused: // testdata/rules/broker.yaml sees to it
		default:
			t.Errorf("api/v1alpha1/changes.go does not say what %s does", field)
		}
	}
	for field := range alive {
		if !tried[field] {
			t.Errorf("%s is alive, and nobody tried it", field)
		}
	}
}

// TestEachFieldOfABridgeDoesWhatTheTableSays is the same for bridges.
func TestEachFieldOfABridgeDoesWhatTheTableSays(t *testing.T) {
	text, err := os.ReadFile("../../config/testdata/good/bridge.yaml")
	if err != nil {
		t.Fatal(err)
	}
	whole := &v1alpha1.MQTTBridge{}
	mustUnmarshal(t, text, whole)
	templateOf := func(bridge *v1alpha1.MQTTBridge) string {
		return string(render(t, &corev1.Pod{Spec: BridgeDeployment(bridgeFacts(bridge)).Spec.Template.Spec, ObjectMeta: BridgeDeployment(bridgeFacts(bridge)).Spec.Template.ObjectMeta}))
	}
	template, alive, tried := templateOf(whole), aliveFields(t, "MQTTBridge"), 0
	for _, field := range leaves(reflect.TypeFor[v1alpha1.MQTTBridgeSpec](), "spec") {
		if within(alive, field) == "" {
			continue
		}
		tried++
		changed := whole.DeepCopy()
		alter(t, reflect.ValueOf(&changed.Spec).Elem(), strings.Split(field, ".")[1:])
		if reflect.DeepEqual(changed.Spec, whole.Spec) {
			t.Fatalf("this test does not know how to change %s", field)
		}
		change, restarts := v1alpha1.BridgeChange(field), templateOf(changed) != template
		if change == "" || change != v1alpha1.ChangeRefused && restarts != (change == v1alpha1.ChangeRestart) {
			t.Errorf("%s is said to be %q, and the pod template is another one: %t", field, change, restarts)
		}
	}
	if tried == 0 {
		t.Error("no field was tried")
	}
}

func aliveFields(t *testing.T, kind string) map[string]bool {
	t.Helper()
	text, err := os.ReadFile("../../config/testdata/alive.txt")
	if err != nil {
		t.Fatal(err)
	}
	alive := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if field, found := strings.CutPrefix(strings.TrimSpace(line), kind+" "); found {
			alive[field] = true
		}
	}
	return alive
}

// within is the entry that a field stands below, or is itself.
func within(alive map[string]bool, field string) string {
	for under := range alive {
		if field == under || strings.HasPrefix(field, under+".") || strings.HasPrefix(field, under+"[]") {
			return under
		}
	}
	return ""
}

// isOurs reports whether a struct is one of the API's own with fields: others are changed as a whole.
func isOurs(kind reflect.Type) bool {
	return kind.Kind() == reflect.Struct && kind.NumField() > 0 && kind.PkgPath() == reflect.TypeFor[v1alpha1.MQTTBroker]().PkgPath()
}

// leaves are the fields below a struct that have no fields of ours, such as spec.listeners[].port.
func leaves(kind reflect.Type, path string) []string {
	for kind.Kind() == reflect.Pointer {
		kind = kind.Elem()
	}
	switch {
	case kind.Kind() == reflect.Slice && isOurs(kind.Elem()):
		return leaves(kind.Elem(), path+"[]")
	case !isOurs(kind):
		return []string{path}
	}
	var all []string
	for field := range kind.Fields() {
		all = append(all, leaves(field.Type, path+"."+jsonName(field))...)
	}
	return all
}

func jsonName(field reflect.StructField) string {
	name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
	return name
}

// alter changes the field at path below v, and makes what it stands in where that is missing.
func alter(t *testing.T, v reflect.Value, path []string) {
	t.Helper()
	if len(path) == 0 {
		flip(t, v)
		return
	}
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		v = v.Elem()
	}
	name, isList := strings.CutSuffix(path[0], "[]")
	for i := range v.NumField() {
		if jsonName(v.Type().Field(i)) != name {
			continue
		}
		field := v.Field(i)
		if isList {
			if field.Len() == 0 {
				field.Set(reflect.MakeSlice(field.Type(), 1, 1))
			}
			field = field.Index(0)
		}
		alter(t, field, path[1:])
		return
	}
	t.Fatalf("%s has no field %s", v.Type(), name)
}

// flip makes a value another one.
func flip(t *testing.T, v reflect.Value) {
	t.Helper()
	switch value := v.Addr().Interface().(type) {
	case *resource.Quantity:
		value.Add(resource.MustParse("1Mi"))
		return
	case *metav1.Duration:
		value.Duration += time.Hour
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		switch kind := v.Type().Elem(); {
		case v.IsNil():
			v.Set(reflect.New(kind))
			if kind.Kind() != reflect.Struct {
				flip(t, v.Elem())
			}
		case kind.Kind() == reflect.Struct && kind != reflect.TypeFor[resource.Quantity]() && kind != reflect.TypeFor[metav1.Duration]():
			v.SetZero()
		default:
			flip(t, v.Elem())
		}
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int32, reflect.Int64:
		v.SetInt(v.Int() + 1)
	case reflect.Slice:
		v.Set(reflect.Append(v, reflect.New(v.Type().Elem()).Elem()))
	case reflect.Map:
		after := reflect.MakeMap(v.Type())
		after.SetMapIndex(reflect.ValueOf("other").Convert(v.Type().Key()), reflect.ValueOf("other").Convert(v.Type().Elem()))
		v.Set(after)
	default:
		t.Fatalf("this test does not know how to change a %s", v.Type())
	}
}
