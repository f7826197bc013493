// SPDX-License-Identifier: Apache-2.0

package chart_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"sigs.k8s.io/yaml"
)

const (
	root  = "../.."
	chart = root + "/charts/mqtt-operator"
)

// object is one manifest, as text and by its name.
type object struct {
	Kind     string `json:"kind"`
	Metadata struct {
		Name        string            `json:"name"`
		Namespace   string            `json:"namespace"`
		Labels      map[string]string `json:"labels"`
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
	text string
}

func (o object) String() string { return o.Kind + " " + o.Metadata.Namespace + "/" + o.Metadata.Name }

// manifests are objects in the order in which they were written.
type manifests []object

// named returns the objects of a kind whose name ends with suffix.
func (m manifests) named(kind, suffix string) manifests {
	var found manifests
	for _, o := range m {
		if o.Kind == kind && strings.HasSuffix(o.Metadata.Name, suffix) {
			found = append(found, o)
		}
	}
	return found
}

// as decodes a manifest and refuses fields that T does not have.
func as[T any](t *testing.T, o object) T {
	t.Helper()
	var decoded T
	if err := yaml.UnmarshalStrict([]byte(o.text), &decoded); err != nil {
		t.Fatalf("%s: %v", o, err)
	}
	return decoded
}

// one decodes the only object of a kind with that suffix.
func one[T any](t *testing.T, m manifests, kind, suffix string) T {
	t.Helper()
	found := m.named(kind, suffix)
	if len(found) != 1 {
		t.Fatalf("found %d of kind %s named …%s, want one: %v", len(found), kind, suffix, found)
	}
	return as[T](t, found[0])
}

// pinned is the path of the Helm that hack/helm.sh runs; asked for once, because compiling it takes minutes at first.
var pinned = sync.OnceValues(func() (string, error) {
	path, err := exec.Command("go", "-C", root+"/hack/tools/helm", "tool", "-n", "helm").Output()
	return strings.TrimSpace(string(path)), err
})

// helm runs the pinned Helm.
func helm(ctx context.Context, args ...string) (string, error) {
	path, err := pinned()
	if err != nil {
		return "", fmt.Errorf("helm cannot be built: %w", err)
	}
	var out, problem bytes.Buffer
	command := exec.CommandContext(ctx, path, args...)
	command.Stdout, command.Stderr = &out, &problem
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("helm %s: %w: %s", args[0], err, problem.String())
	}
	return out.String(), nil
}

// render returns what release "mo" in namespace "home" is made of, without what helm test makes; each value is what
// --set-json takes.
func render(t *testing.T, values ...string) manifests {
	t.Helper()
	return renderAs(t, "mo", "home", values...)
}

func renderAs(t *testing.T, release, namespace string, values ...string) manifests {
	t.Helper()
	return template(t, release, namespace, append([]string{"--skip-tests"}, values...)...)
}

// template runs helm template; what begins with -- is a flag of it, else a value.
func template(t *testing.T, release, namespace string, values ...string) manifests {
	t.Helper()
	args := []string{"template", release, chart, "--namespace", namespace}
	for _, value := range values {
		if strings.HasPrefix(value, "--") {
			args = append(args, value)
			continue
		}
		args = append(args, "--set-json", value)
	}
	text, err := helm(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, text)
}

var separator = regexp.MustCompile(`(?m)^---\s*$`)

func parse(t *testing.T, text string) manifests {
	t.Helper()
	var parsed manifests
	for _, document := range separator.Split(text, -1) {
		o := object{text: document}
		if err := yaml.Unmarshal([]byte(document), &o); err != nil {
			t.Fatalf("%v in:\n%s", err, document)
		}
		if o.Kind != "" {
			parsed = append(parsed, o)
		}
	}
	return parsed
}

// files reads every manifest that the pattern names, relative to the root of the repository.
func files(t *testing.T, pattern string) manifests {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(root, pattern))
	if err != nil || len(paths) == 0 {
		t.Fatalf("%s: %v, found %d files", pattern, err, len(paths))
	}
	var found manifests
	for _, path := range paths {
		found = append(found, parse(t, read(t, path))...)
	}
	return found
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
