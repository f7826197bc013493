// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestNewLayout(t *testing.T) {
	for _, name := range []string{"dev", "a", "e2e-1", strings.Repeat("a", 20)} {
		layout, err := NewLayout(name)
		if err != nil {
			t.Errorf("NewLayout(%q): %v", name, err)
		}
		// The longest address a unix socket may have.
		if socket := layout.ContainerdSocket(); len(socket) > 107 {
			t.Errorf("socket path of %d bytes: %s", len(socket), socket)
		}
	}
	for _, name := range []string{"", "..", "a/b", "-a", "a-", "A", strings.Repeat("a", 21)} {
		if _, err := NewLayout(name); err == nil {
			t.Errorf("NewLayout(%q) has no error: the name becomes a path and a host name", name)
		}
	}
}

func testPlan(t *testing.T) Plan {
	t.Helper()
	return Plan{
		Layout:      Layout{Name: "test", Dir: t.TempDir()},
		Plugins:     "/usr/lib/cni",
		Snapshotter: "overlayfs",
	}
}

func TestEveryFileThatIsNamedIsWritten(t *testing.T) {
	p := testPlan(t)
	c, n := p.controlPlane(), p.node()
	if err := c.writeFiles([]Node{n}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := n.writeFiles(); err != nil {
		t.Fatal(err)
	}
	corefile := []byte(c.corefile())
	if err := os.WriteFile(c.config("Corefile"), corefile, 0o644); err != nil {
		t.Fatal(err)
	}

	var texts []string
	services := append(c.controllers(), n.agents()...)
	for _, service := range append(services, c.etcd(), c.apiserver(), c.dns(), n.runtime()) {
		texts = append(texts, service.Argv...)
	}
	configs, err := filepath.Glob(p.config("*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range configs {
		if content, err := os.ReadFile(file); err == nil {
			texts = append(texts, strings.Fields(string(content))...)
		}
	}
	found := 0
	for _, text := range texts {
		at := strings.Index(text, p.Dir+"/")
		if at < 0 || strings.Contains(text, "/executables/") {
			continue
		}
		path := strings.TrimRight(text[at:], `",`)
		found++
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%q names a file that nobody writes: %v", text, err)
		}
	}
	if found < 30 {
		t.Errorf("only %d paths checked", found)
	}
}

func TestKubeconfigIsComplete(t *testing.T) {
	p := testPlan(t)
	if err := p.controlPlane().writeFiles([]Node{p.node()}, time.Now()); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(p.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(p.Kubeconfig()); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v: it holds the administrator's key", info.Mode())
	}
	var config struct {
		Current  string `json:"current-context"`
		Clusters []struct {
			Cluster struct {
				Server string
			}
		}
		Users []struct {
			User struct {
				Cert string `json:"client-certificate-data"`
				Key  string `json:"client-key-data"`
			}
		}
	}
	if err := json.Unmarshal(content, &config); err != nil {
		t.Fatal(err)
	}
	if config.Current != "devcluster-test" || config.Clusters[0].Cluster.Server != "https://10.90.0.1:6443" {
		t.Errorf("kubeconfig %+v", config)
	}
	cert, certErr := base64.StdEncoding.DecodeString(config.Users[0].User.Cert)
	key, keyErr := base64.StdEncoding.DecodeString(config.Users[0].User.Key)
	if certErr != nil || keyErr != nil {
		t.Fatal(certErr, keyErr)
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		t.Error(err)
	}
}

func TestNodesDoNotMeet(t *testing.T) {
	p := testPlan(t)
	first, second := p.node(), p.node()
	second.Index = 1
	if first.NodeName() == second.NodeName() || IPv4.address(0).Equal(IPv4.address(1)) || IPv4.podRange(0) == IPv4.podRange(1) || IPv6.address(0).Equal(IPv6.address(1)) || IPv6.podRange(0) == IPv6.podRange(1) {
		t.Error("two nodes share a name, an address or their pods' addresses")
	}
	for i, u := range first.users() {
		if u.file == second.users()[i].file {
			t.Errorf("two nodes share the file %s", u.file)
		}
	}
}

func TestExecEnv(t *testing.T) {
	got := execEnv([]string{"PATH=/bin", "HOME=/root", "https_proxy=http://proxy", "HTTP_PROXY=x", "KUBECONFIG=/other", "A=b=c"},
		map[string]string{"KUBECONFIG": "/ours"}, "/tools", "/more")
	want := []string{"A=b=c", "HOME=/root", "KUBECONFIG=/ours", "PATH=/tools:/more:/bin"}
	if !slices.Equal(got, want) {
		t.Errorf("execEnv() = %q, want %q: the cluster's settings win, and a proxy can not be reached", got, want)
	}
}

func TestVolumes(t *testing.T) {
	v := &volumes{node: "test-0", dir: "/volumes"}
	waiting := func(change func(*claim)) claim {
		var pvc claim
		pvc.Metadata.UID = "1"
		pvc.Metadata.Annotations = map[string]string{provisionerAnnotation: provisioner, selectedNodeAnnotation: "test-0"}
		change(&pvc)
		return pvc
	}
	late, immediate := class{BindingMode: "WaitForFirstConsumer"}, class{BindingMode: "Immediate"}
	wanted := map[string]struct {
		reason string
		claim  claim
		class  class
		want   bool
	}{
		"of a pod on this node": {claim: waiting(func(*claim) {}), class: late, want: true},
		"of a pod on another node": {
			reason: "each node makes its own volumes",
			claim:  waiting(func(c *claim) { c.Metadata.Annotations[selectedNodeAnnotation] = "test-1" }), class: late,
		},
		"of no pod yet": {
			reason: "the scheduler decides first",
			claim:  waiting(func(c *claim) { delete(c.Metadata.Annotations, selectedNodeAnnotation) }), class: late,
		},
		"of no pod, at once": {
			reason: "an immediate class does not wait for a pod",
			claim:  waiting(func(c *claim) { delete(c.Metadata.Annotations, selectedNodeAnnotation) }), class: immediate, want: true,
		},
		"of another provisioner": {
			claim: waiting(func(c *claim) { c.Metadata.Annotations[provisionerAnnotation] = "other" }), class: immediate,
		},
		"bound": {claim: waiting(func(c *claim) { c.Spec.VolumeName = "pv" }), class: late},
		"being deleted": {
			claim: waiting(func(c *claim) { c.Metadata.DeletionTimestamp = "2026-01-01T00:00:00Z" }), class: late,
		},
		"for a block device": {
			reason: "a directory is none", claim: waiting(func(c *claim) { c.Spec.VolumeMode = "Block" }), class: late,
		},
	}
	for name, tc := range wanted {
		t.Run("claim "+name, func(t *testing.T) {
			if got := v.wanted(tc.claim, tc.class); got != tc.want {
				t.Errorf("wanted() = %t, want %t: %s", got, tc.want, tc.reason)
			}
		})
	}

	released := func(change func(*volume)) volume {
		var pv volume
		pv.Metadata.Name = "pvc-1"
		pv.Metadata.Annotations = map[string]string{provisionedByAnnotation: provisioner}
		pv.Spec.Local.Path = "/volumes/pvc-1"
		pv.Spec.Reclaim = "Delete"
		pv.Status.Phase = "Released"
		change(&pv)
		return pv
	}
	expired := map[string]struct {
		reason string
		volume volume
		want   bool
	}{
		"without its claim": {volume: released(func(*volume) {}), want: true},
		"to be kept":        {volume: released(func(pv *volume) { pv.Spec.Reclaim = "Retain" })},
		"in use":            {volume: released(func(pv *volume) { pv.Status.Phase = "Bound" })},
		"made by hand":      {volume: released(func(pv *volume) { pv.Metadata.Annotations = nil })},
		"with a path elsewhere": {
			reason: "whoever may write volumes must not make us delete any directory",
			volume: released(func(pv *volume) { pv.Spec.Local.Path = "/etc" }),
		},
	}
	for name, tc := range expired {
		t.Run("volume "+name, func(t *testing.T) {
			if got := v.expired(tc.volume); got != tc.want {
				t.Errorf("expired() = %t, want %t: %s", got, tc.want, tc.reason)
			}
		})
	}
}

func TestLockStartsOverWhenTheDirectoryIsGone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	say := func(string) {}
	unlock, err := lock(t.Context(), dir, say)
	if err != nil {
		t.Fatal(err)
	}
	if held, err := tryLock(dir); held != nil || err != nil {
		t.Fatalf("second lock: %v, %v, want none", held, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	again, err := lock(t.Context(), dir, say)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	if held, err := tryLock(dir); held != nil || err != nil {
		t.Errorf("the new directory's lock went with the old one's: %v, %v", held, err)
	}
	again()
}
