// SPDX-License-Identifier: Apache-2.0

//go:build live

package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mqtt-operator/mqtt-operator/hack/devcluster/cluster"
	"github.com/mqtt-operator/mqtt-operator/hack/devcluster/image"
	"github.com/mqtt-operator/mqtt-operator/hack/devcluster/machine"
)

// patience is for a computer that is busy with builds; when all is quiet the whole test takes under a minute.
const patience = "--timeout=5m"

const probeImage = "localhost/devcluster/probe:live"

// node is the command line under test, with a node's name.
type node struct {
	t       *testing.T
	program string
	layout  cluster.Layout
}

func newNode(t *testing.T, name string) node {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("a node needs root: run this test as root")
	}
	layout, err := cluster.NewLayout(name)
	if err != nil {
		t.Fatal(err)
	}
	n := node{t: t, program: filepath.Join(t.TempDir(), "devcluster"), layout: layout}
	goBuild(t, n.program, ".")
	t.Cleanup(func() {
		if t.Failed() {
			n.try("exec", "--", "kubectl", "describe", "pods,pvc,pv", "--all-namespaces")
		}
		n.try("down")
	})
	return n
}

func goBuild(t *testing.T, output, pkg string) {
	t.Helper()
	cmd := exec.Command("go", "build", "-trimpath", "-o", output, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", pkg, err, text)
	}
}

// try runs a command of the program and returns what it prints, with all of it in the test's log.
func (n node) try(args ...string) (string, error) {
	n.t.Helper()
	cmd := exec.Command(n.program, append([]string{"--name", n.layout.Name}, args...)...)
	text, err := cmd.CombinedOutput()
	n.t.Logf("devcluster %s: %v\n%s", strings.Join(args, " "), err, text)
	return string(text), err
}

func (n node) must(args ...string) string {
	n.t.Helper()
	text, err := n.try(args...)
	if err != nil {
		n.t.Fatalf("devcluster %s: %v\n%s", strings.Join(args, " "), err, text)
	}
	return text
}

func (n node) kubectl(args ...string) string {
	n.t.Helper()
	return n.must(append([]string{"exec", "--", "kubectl"}, args...)...)
}

// TestLife is one node from up to down, with what a workload asks of it in between.
func TestLife(t *testing.T) {
	n := newNode(t, "live-"+strconv.Itoa(os.Getpid()))
	before := traces(t, n.layout.Name)

	n.must("up")
	if text := n.must("up"); !strings.Contains(text, "already up") {
		t.Errorf("second up said %q: a node that is up must be left alone", text)
	}

	// An image from a program, without a container engine.
	probe := filepath.Join(t.TempDir(), "probe")
	goBuild(t, probe, "./testdata/probe")
	file, err := image.Executable(probe)
	if err != nil {
		t.Fatal(err)
	}
	archive := probe + ".tar"
	err = image.Image{
		Files:      map[string]image.File{"/probe": file},
		Entrypoint: []string{"/probe"},
		User:       "1000:1000",
	}.Write(archive, probeImage)
	if err != nil {
		t.Fatal(err)
	}
	n.must("load", archive)

	n.kubectl("apply", "--filename=testdata/pods.yaml")
	n.kubectl("wait", "--namespace=live", "--for=condition=Ready", "pod/server", patience)
	n.kubectl("wait", "--namespace=live", "--for=jsonpath={.status.phase}=Succeeded", "pod/client", patience)

	service := strings.TrimSpace(n.kubectl("get", "service", "server", "--namespace=live", "--output=jsonpath={.spec.clusterIP}"))
	want := "server.live.svc.cluster.local at [" + service + "] says hello"
	if got := n.kubectl("logs", "--namespace=live", "client"); !strings.Contains(got, want) {
		t.Errorf("the client pod wrote %q, want %q: a name must resolve to the Service, and the Service reach the pod", got, want)
	}
	if got := n.kubectl("exec", "--namespace=live", "server", "--", "/probe", "ask", "server.live.svc.cluster.local"); !strings.Contains(got, "says hello") {
		t.Errorf("the server asked itself through its Service and heard %q", got)
	}
	if got := n.must("exec", "--", probe, "ask", "server.live"); !strings.Contains(got, want[len("server.live.svc.cluster.local"):]) {
		t.Errorf("a command from the host heard %q: it must resolve cluster names and reach Services", got)
	}
	for _, outside := range []string{"192.0.2.1:80", "example.com:80"} {
		if text, err := n.try("exec", "--", "kubectl", "exec", "--namespace=live", "server", "--", "/probe", "dial", outside); err == nil {
			t.Errorf("a pod reached %s (%q): nothing may leave the node", outside, text)
		}
	}
	text, err := n.try("exec", "--", "kubectl", "run", "root", "--namespace=live", "--image="+probeImage)
	if err == nil || !strings.Contains(text, "violates PodSecurity") {
		t.Errorf("a pod without restrictions got %q: the namespace's Pod Security level must refuse it", text)
	}

	n.kubectl("patch", "pvc", "data", "--namespace=live", "--patch={\"spec\":{\"resources\":{\"requests\":{\"storage\":\"2Gi\"}}}}")
	n.kubectl("wait", "--namespace=live", "--for=jsonpath={.status.capacity.storage}=2Gi", "pvc/data", patience)
	n.kubectl("delete", "pod,pvc", "--all", "--namespace=live", patience)
	n.kubectl("wait", "--for=delete", "pv", "--all", patience)
	volumes, err := os.ReadDir(machine.HostPath(n.layout.Dir, "/var/lib/volumes"))
	if err != nil || len(volumes) > 0 {
		t.Errorf("directories of deleted volumes: %v, %v", volumes, err)
	}

	// A node that died: its directory and its record are there, its processes are not.
	members := n.members()
	if len(members) < 8 {
		t.Errorf("only %d processes in the node's cgroup", len(members))
	}
	first, _, err := machine.Running(n.layout.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	n.allGone(members)
	if text, err := n.try("status"); err == nil {
		t.Errorf("status of a dead node: %q: want a failure", text)
	}
	if text := n.must("up"); !strings.Contains(text, "cleaning up") {
		t.Errorf("up after a crash said %q: the leftovers must be removed first", text)
	}
	n.kubectl("apply", "--filename=testdata/pods.yaml")
	n.must("load", archive)
	n.kubectl("wait", "--namespace=live", "--for=condition=Ready", "pod/server", patience)

	members = n.members()
	inside := namespaces(members)
	if len(inside) < 5 {
		t.Errorf("the node has only the namespaces %v of its own", inside)
	}
	during := traces(t, n.layout.Name)
	if slices.Equal(before, during) {
		t.Error("a running node shows no trace: the comparison looks in the wrong places")
	}
	n.must("down")
	n.allGone(members)
	for _, trace := range traces(t, n.layout.Name) {
		if !slices.Contains(before, trace) {
			t.Errorf("left behind: %s", trace)
		}
	}
	for _, process := range leftIn(inside) {
		t.Errorf("left behind: a process in the node's namespace: %s", process)
	}
}

// TestInterruptedUp kills the command in the middle of its work: the half-started node must not live on.
func TestInterruptedUp(t *testing.T) {
	n := newNode(t, "halfway-"+strconv.Itoa(os.Getpid()%100000))
	n.must("build")
	cmd := exec.Command(n.program, "--name", n.layout.Name, "up")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the API server is being started", func() error {
		_, err := os.Stat(n.layout.Log("kube-apiserver"))
		return err
	})
	members := n.members()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	n.allGone(members)
	n.must("down")
}

// TestSideBySide has two nodes up at once, which share no name, no port and no file.
func TestSideBySide(t *testing.T) {
	a, b := newNode(t, "left-"+strconv.Itoa(os.Getpid())), newNode(t, "right-"+strconv.Itoa(os.Getpid()))
	a.must("up")
	b.must("up")
	a.must("status")
	b.must("status")
	a.must("down")
	if text := b.kubectl("get", "--raw=/readyz"); text != "ok" {
		t.Errorf("after the other node's end: %q", text)
	}
}

// members are the processes of the node, of its pods and of its containers: all that were ever put into its cgroup.
func (n node) members() []machine.Identity {
	n.t.Helper()
	var members []machine.Identity
	seen := map[int]bool{}
	for _, file := range cgroupFiles(n.t, n.layout.Name) {
		content, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for _, field := range strings.Fields(string(content)) {
			pid, err := strconv.Atoi(field)
			if err != nil || seen[pid] {
				continue
			}
			seen[pid] = true
			if identity, err := machine.Identify(pid); err == nil {
				members = append(members, identity)
			}
		}
	}
	return members
}

func (n node) allGone(members []machine.Identity) {
	n.t.Helper()
	eventually(n.t, "the node's processes end", func() error {
		for _, m := range members {
			if m.Alive() {
				return fmt.Errorf("process %d is alive", m.PID)
			}
		}
		return nil
	})
}

func cgroupFiles(t *testing.T, name string) []string {
	t.Helper()
	var files []string
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && strings.Contains(path, "/"+machine.CgroupRoot+"/"+name+"/") && entry.Name() == "cgroup.procs" {
			files = append(files, path)
		}
		return nil
	})
	return files
}

// traces lists what a node could leave on this computer: mounts, cgroups, network links, settings, and files where the
// node's programs write by default. Others may be at work meanwhile, on nodes of their own too, so only places are looked
// at that nobody else has business in.
func traces(t *testing.T, name string) []string {
	t.Helper()
	var found []string
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		found = append(found, "mount "+strings.Fields(line)[4])
	}
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, entry fs.DirEntry, err error) error {
		_, below, others := strings.Cut(path, "/"+machine.CgroupRoot)
		if err == nil && entry.IsDir() && (!others || strings.HasPrefix(below, "/"+name)) {
			found = append(found, "cgroup "+path)
		}
		return nil
	})
	for _, path := range []string{
		"/sys/class/net/*", "/run/netns/*", "/run/containerd/*", "/run/cni/*", "/run/runc/*", "/run/xtables.lock", "/run/nri",
		"/var/lib/kubelet", "/var/lib/cni", "/var/lib/containerd", "/var/lib/etcd", "/var/lib/volumes", "/var/log/pods",
		"/var/log/containers", "/etc/cni/*", "/etc/nri", "/etc/cdi", "/etc/kubernetes", "/opt/cni", "/opt/containerd", "/opt/nri",
		"/usr/libexec/kubernetes", filepath.Join(cluster.Base, name),
	} {
		files, _ := filepath.Glob(path)
		for _, file := range files {
			found = append(found, "file "+file)
		}
	}
	for _, setting := range []string{"vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "net/ipv4/ip_forward"} {
		value, _ := os.ReadFile("/proc/sys/" + setting)
		found = append(found, "setting "+setting+"="+string(bytes.TrimSpace(value)))
	}
	return found
}

// namespaces are those that the node's processes have and this test has not.
func namespaces(members []machine.Identity) map[string]bool {
	found := map[string]bool{}
	for _, m := range members {
		for _, kind := range []string{"net", "mnt", "pid", "uts", "ipc"} {
			own, _ := os.Readlink("/proc/self/ns/" + kind)
			if namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", m.PID, kind)); err == nil && namespace != own {
				found[namespace] = true
			}
		}
	}
	return found
}

// leftIn are the processes that still run in one of the namespaces. One that has ended and waits for its parent to
// notice holds nothing any more.
func leftIn(gone map[string]bool) []string {
	var left []string
	links, _ := filepath.Glob("/proc/[0-9]*/ns/*")
	for _, link := range links {
		namespace, err := os.Readlink(link)
		if err != nil || !gone[namespace] {
			continue
		}
		pid, _ := strconv.Atoi(strings.Split(link, "/")[2])
		if identity, err := machine.Identify(pid); err == nil && identity.Alive() {
			left = append(left, link)
		}
	}
	return left
}

// eventually asks until there is no error; the deadline is far off, since it is only met when something is broken.
func eventually(t *testing.T, what string, ask func() error) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited for: %s: %v", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
