// SPDX-License-Identifier: Apache-2.0

package build

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

func TestVersion(t *testing.T) {
	cases := map[string]struct {
		reason string
		goMod  string
		want   string
	}{
		"in a block": {
			reason: "go mod tidy writes requirements in a block",
			goMod:  "module x\n\nrequire (\n\tk8s.io/api v0.1.0\n\tk8s.io/kubernetes v1.2.3\n)\n",
			want:   "v1.2.3",
		},
		"alone": {
			reason: "a single requirement has no block",
			goMod:  "require k8s.io/kubernetes v1.2.3 // indirect\n",
			want:   "v1.2.3",
		},
		"replaced only": {
			reason: "a replacement is not what the component asks for",
			goMod:  "replace (\n\tk8s.io/kubernetes => ../kubernetes\n)\n",
			want:   "",
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := Kubernetes.Version([]byte(tc.goMod)); got != tc.want {
				t.Errorf("Version() = %q, want %q: %s", got, tc.want, tc.reason)
			}
		})
	}
}

func TestDigest(t *testing.T) {
	sources := func(change func(fstest.MapFS)) fs.FS {
		files := fstest.MapFS{
			"main.go": {Data: []byte("package main")},
			"go.mod":  {Data: []byte("module x")},
			"go.sum":  {Data: []byte("")},
		}
		if change != nil {
			change(files)
		}
		return files
	}
	digest := func(c Component, toolchain string, files fs.FS) string {
		t.Helper()
		d, err := c.digest(toolchain, files)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	base := digest(Etcd, "go1", sources(nil))

	stamped := Etcd
	stamped.Stamp = []string{"main.version"}
	cases := map[string]struct {
		reason string
		got    string
		same   bool
	}{
		"nothing": {"equal input must find the cached build", digest(Etcd, "go1", sources(nil)), true},
		"a test": {"tests are not in the executable", digest(Etcd, "go1", sources(func(f fstest.MapFS) {
			f["main_test.go"] = &fstest.MapFile{Data: []byte("package main")}
		})), true},
		"the toolchain": {"another compiler makes another executable", digest(Etcd, "go2", sources(nil)), false},
		"a pin": {"another go.mod is another version", digest(Etcd, "go1", sources(func(f fstest.MapFS) {
			f["go.mod"].Data = []byte("module y")
		})), false},
		"a source": {"another main.go is another program", digest(Etcd, "go1", sources(func(f fstest.MapFS) {
			f["main.go"].Data = []byte("package main // changed")
		})), false},
		"a file's name": {"content that moves is a change", digest(Etcd, "go1", sources(func(f fstest.MapFS) {
			f["other.go"] = f["main.go"]
			delete(f, "main.go")
		})), false},
		"the recipe": {"flags change the executable", digest(stamped, "go1", sources(nil)), false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if same := tc.got == base; same != tc.same {
				t.Errorf("same digest: %t, want %t: %s", same, tc.same, tc.reason)
			}
		})
	}
	if _, err := Etcd.digest("go1", fstest.MapFS{}); err == nil {
		t.Error("a component without sources has a digest: a wrong folder would go unnoticed")
	}
}

func TestEveryComponentHasSourcesAndAVersion(t *testing.T) {
	root, err := SourceRoot(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range All {
		dir := filepath.Join(root, c.Dir)
		if _, err := c.digest("go", os.DirFS(dir)); err != nil {
			t.Errorf("component %s: %v", c.Name, err)
		}
		if c.Module == "" {
			continue
		}
		goMod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		if c.Version(goMod) == "" {
			t.Errorf("component %s: go.mod does not require %s", c.Name, c.Module)
		}
	}
}

func TestSourceRoot(t *testing.T) {
	checkout := t.TempDir()
	root := filepath.Join(checkout, "hack", "devcluster")
	deep := filepath.Join(checkout, "api", "v1")
	for _, dir := range []string{filepath.Join(root, "components", "kubernetes"), deep} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "components/kubernetes/go.mod"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{checkout, deep, root, filepath.Join(root, "components")} {
		if got, err := SourceRoot(from); err != nil || got != root {
			t.Errorf("SourceRoot(%s) = %s, %v, want %s", from, got, err, root)
		}
	}
	if _, err := SourceRoot(t.TempDir()); err == nil || !strings.Contains(err.Error(), "DEVCLUSTER_SOURCE") {
		t.Errorf("outside a checkout: %v: want to hear what to set", err)
	}
}

func TestCacheRoot(t *testing.T) {
	cases := map[string]struct {
		env  map[string]string
		want string
	}{
		"own variable first": {map[string]string{"MQTT_OPERATOR_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"},
		"then XDG":           {map[string]string{"XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/mqtt-operator"},
		"then home":          {map[string]string{"HOME": "/c"}, "/c/.cache/mqtt-operator"},
		"or nowhere":         {nil, ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := CacheRoot(func(key string) string { return tc.env[key] })
			if got != tc.want || (err != nil) != (tc.want == "") {
				t.Errorf("CacheRoot() = %q, %v, want %q", got, err, tc.want)
			}
		})
	}
}

func TestInstallIsAllOrNothing(t *testing.T) {
	b := Builder{Cache: t.TempDir(), Out: os.Stderr}
	if _, err := b.install("thing-1", func(string) error { return os.ErrInvalid }); err == nil {
		t.Fatal("a failed fill gave no error")
	}
	if entries, _ := os.ReadDir(b.Cache); len(entries) > 0 {
		t.Fatalf("a failed fill left %v", entries)
	}
	fills := 0
	for range 2 {
		dir, err := b.install("thing-1", func(dir string) error {
			fills++
			return os.WriteFile(filepath.Join(dir, "file"), nil, 0o644)
		})
		if err != nil {
			t.Fatal(err)
		}
		if !exists(filepath.Join(dir, "file")) {
			t.Fatalf("%s is not filled", dir)
		}
	}
	if fills != 1 {
		t.Errorf("filled %d times: what is in the cache must not be made again", fills)
	}
}
