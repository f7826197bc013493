// SPDX-License-Identifier: Apache-2.0

package gitops

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	flux "github.com/fluxcd/cli-utils/pkg/kstatus/status"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
	"sigs.k8s.io/yaml"
)

// judgements say what the page promises of each object in testdata.
var judgements = map[string]struct{ kstatus, argo, says string }{
	"broker-new":                  {"InProgress", "Progressing", "not looked"},
	"user-new":                    {"InProgress", "Progressing", "not looked"},
	"policy-new":                  {"InProgress", "Progressing", "not looked"},
	"bridge-new":                  {"InProgress", "Progressing", "not looked"},
	"broker-changed":              {"InProgress", "Progressing", "not looked"},
	"broker-ready":                {"Current", "Healthy", "Clients are served"},
	"user-ready":                  {"Current", "Healthy", "can connect"},
	"bridge-ready":                {"Current", "Healthy", ""},
	"policy-without-users":        {"Current", "Healthy", "No user"},
	"broker-unanswered":           {"InProgress", "Progressing", "ConfigPending: "},
	"bridge-remote-away":          {"InProgress", "Progressing", "NotAuthorized: "},
	"broker-stalled":              {"Failed", "Degraded", "TLSSecretNotUsable: "},
	"user-conflict":               {"Failed", "Degraded", "UsernameConflict: "},
	"user-without-broker":         {"Failed", "Degraded", "BrokerNotFound: "},
	"bridge-loop":                 {"Failed", "Degraded", "RouteLoop: "},
	"broker-hibernated":           {"Current", "Suspended", "no pod is meant to run"},
	"broker-paused":               {"Current", "Suspended", "Nothing is changed"},
	"user-suspended":              {"Current", "Suspended", "locked out"},
	"bridge-suspended":            {"Current", "Suspended", "spec.suspend"},
	"user-of-a-hibernated-broker": {"InProgress", "Suspended", "hibernates"},
}

// objects are those of testdata, by name.
func objects(t *testing.T) map[string]*unstructured.Unstructured {
	t.Helper()
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]*unstructured.Unstructured{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found[strings.TrimSuffix(filepath.Base(file), ".yaml")] = parse(t, file, text)
	}
	return found
}

func TestJudgements(t *testing.T) {
	found := objects(t)
	script := health(t)
	for _, name := range slices.Sorted(maps.Keys(found)) {
		want, known := judgements[name]
		if !known {
			t.Errorf("testdata/%s.yaml: nobody says how it should be judged", name)
			continue
		}
		delete(judgements, name)
		object := found[name]
		for library, compute := range map[string]func(*unstructured.Unstructured) (string, string, error){"kstatus": original, "Flux": fluxes} {
			got, why, err := compute(object)
			if err != nil || got != want.kstatus {
				t.Errorf("%s: %s says %s (%s), want %s: %v", name, library, got, why, want.kstatus, err)
			}
		}
		got, says := run(t, script, object)
		if got != want.argo || !strings.Contains(says, want.says) {
			t.Errorf("%s: Argo CD says %s (%s), want %s with %q", name, got, says, want.argo, want.says)
		}
		if says == "" {
			t.Errorf("%s: Argo CD says %s and not why", name, got)
		}
	}
	for name := range judgements {
		t.Errorf("there is no testdata/%s.yaml", name)
	}
}

func original(object *unstructured.Unstructured) (string, string, error) {
	result, err := status.Compute(object)
	if err != nil {
		return "", "", err
	}
	return result.Status.String(), result.Message, nil
}

func fluxes(object *unstructured.Unstructured) (string, string, error) {
	result, err := flux.Compute(object)
	if err != nil {
		return "", "", err
	}
	return result.Status.String(), result.Message, nil
}

// TestAStatusThatIsNotThere: an object of an API server that knows an older definition, which fills in no status.
func TestAStatusThatIsNotThere(t *testing.T) {
	object := objects(t)["broker-new"]
	if object == nil {
		t.Fatal("no broker")
	}
	delete(object.Object, "status")
	if got, says := run(t, health(t), object); got != "Progressing" {
		t.Errorf("Argo CD says %s (%s)", got, says)
	}
}

// health is the script that the page tells people to give to Argo CD, for all of our kinds.
func health(t *testing.T) string {
	t.Helper()
	for _, object := range shown(t, page) {
		if object.GetKind() != "ConfigMap" || object.GetName() != "argocd-cm" {
			continue
		}
		text, _, err := unstructured.NestedString(object.Object, "data", "resource.customizations")
		if err != nil {
			t.Fatal(err)
		}
		var rules map[string]map[string]string
		if err := yaml.UnmarshalStrict([]byte(text), &rules); err != nil {
			t.Fatal(err)
		}
		script := rules["mqtt-operator.io/*"]["health.lua"]
		if script == "" || len(rules) != 1 {
			t.Fatalf("%s: the ConfigMap has rules for %v", page, slices.Collect(maps.Keys(rules)))
		}
		return script
	}
	t.Fatalf("%s shows no argocd-cm", page)
	return ""
}

// run does what Argo CD does: the libraries that it opens and no others, the object as obj, a table as the answer.
func run(t *testing.T, script string, object *unstructured.Unstructured) (health, message string) {
	t.Helper()
	l := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer l.Close()
	for name, open := range map[string]lua.LGFunction{lua.LoadLibName: lua.OpenPackage, lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable} {
		if err := l.CallByParam(lua.P{Fn: l.NewFunction(open), Protect: true}, lua.LString(name)); err != nil {
			t.Fatal(err)
		}
	}
	text, err := json.Marshal(object.Object)
	if err != nil {
		t.Fatal(err)
	}
	var plain any
	if err := json.Unmarshal(text, &plain); err != nil {
		t.Fatal(err)
	}
	l.SetGlobal("obj", value(l, plain))
	if err := l.DoString(script); err != nil {
		t.Fatal(err)
	}
	table, ok := l.Get(-1).(*lua.LTable)
	if !ok {
		t.Fatalf("the script answers %s, and no table", l.Get(-1))
	}
	return lua.LVAsString(table.RawGetString("status")), lua.LVAsString(table.RawGetString("message"))
}

// value is what Lua sees of a decoded JSON value.
func value(l *lua.LState, plain any) lua.LValue {
	switch plain := plain.(type) {
	case bool:
		return lua.LBool(plain)
	case float64:
		return lua.LNumber(plain)
	case string:
		return lua.LString(plain)
	case []any:
		list := l.CreateTable(len(plain), 0)
		for _, item := range plain {
			list.Append(value(l, item))
		}
		return list
	case map[string]any:
		table := l.CreateTable(0, len(plain))
		for name, item := range plain {
			table.RawSetString(name, value(l, item))
		}
		return table
	default:
		return lua.LNil
	}
}
