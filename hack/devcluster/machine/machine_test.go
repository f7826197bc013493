// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestParseStat(t *testing.T) {
	rest := " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20"
	cases := map[string]struct {
		reason string
		line   string
		want   uint64
		fails  bool
	}{
		"plain":            {line: "7 (etcd)" + rest, want: 4242},
		"a name of tricks": {reason: "a program may call itself anything", line: "7 (a) S 1 (b))" + rest, want: 4242},
		"too short":        {reason: "a cut line must not give start time zero", line: "7 (etcd) S 1 2", fails: true},
		"no name":          {line: "7 etcd", fails: true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			state, started, err := parseStat([]byte(tc.line))
			if (err != nil) != tc.fails {
				t.Fatalf("error %v, want one: %t: %s", err, tc.fails, tc.reason)
			}
			if err == nil && (state != 'S' || started != tc.want) {
				t.Errorf("parseStat() = %c, %d, want S, %d: %s", state, started, tc.want, tc.reason)
			}
		})
	}
}

func TestIdentity(t *testing.T) {
	sleeper := exec.Command("sleep", "600")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = sleeper.Wait(); close(ended) }()
	identity, err := Identify(sleeper.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if !identity.Alive() {
		t.Error("a running process is not alive")
	}

	reused := identity
	reused.Started--
	if reused.Alive() {
		t.Error("a process with the same id but another start is taken for it: down would kill a stranger")
	}
	rebooted := identity
	rebooted.Boot = "another"
	if rebooted.Alive() {
		t.Error("a process of an earlier boot is taken for a running one")
	}
	if (Identity{}).Alive() {
		t.Error("no process at all is alive")
	}
	// Killing a stranger by a stale record would end the sleeper here.
	if err := reused.Kill(t.Context()); err != nil || !identity.Alive() {
		t.Errorf("kill by a stale record: %v, the stranger lives: %t", err, identity.Alive())
	}

	if err := identity.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-ended
	if identity.Alive() {
		t.Error("a killed process is alive")
	}
}

const (
	mountsV1 = `22 1 254:0 / / rw shared:1 - ext4 /dev/vda rw
30 22 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup rw
34 22 0:28 / /mnt/with\040space rw - cgroup cgroup rw,memory
`
	mountsV2 = `22 1 254:0 / / rw shared:1 - ext4 /dev/vda rw
30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate
`
)

func TestHierarchies(t *testing.T) {
	cases := map[string]struct {
		reason    string
		mountinfo string
		want      []hierarchy
	}{
		"version 1": {
			reason:    "every hierarchy once, though one is mounted twice",
			mountinfo: mountsV1,
			want: []hierarchy{
				{"/sys/fs/cgroup/cpu,cpuacct", false}, {"/sys/fs/cgroup/memory", false}, {"/sys/fs/cgroup/unified", true},
			},
		},
		"version 2": {mountinfo: mountsV2, want: []hierarchy{{"/sys/fs/cgroup", true}}},
		"none":      {mountinfo: "22 1 254:0 / / rw - ext4 /dev/vda rw\n"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := hierarchies(tc.mountinfo); !reflect.DeepEqual(got, tc.want) {
				t.Errorf("hierarchies() = %v, want %v: %s", got, tc.want, tc.reason)
			}
		})
	}
}

func TestParseMountsUnescapes(t *testing.T) {
	mounts := parseMounts(mountsV1)
	if got := mounts[len(mounts)-1].point; got != "/mnt/with space" {
		t.Errorf("mount point %q", got)
	}
}

func TestDelegatePassesEveryController(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "cgroup.controllers"), []byte("cpu memory pids\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := delegate(dir); err != nil {
		t.Fatal(err)
	}
	// A plain file keeps the last write only; that it is a controller with a plus is what can be seen.
	if got, _ := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control")); string(got) != "+pids" {
		t.Errorf("wrote %q last, want +pids", got)
	}
}

func TestInheritCPUs(t *testing.T) {
	parent := t.TempDir()
	child := filepath.Join(parent, "child")
	for file, content := range map[string]string{
		"cpuset.cpus": "0-3\n", "cpuset.mems": "0\n", "child/cpuset.cpus": "\n", "child/cpuset.mems": "1\n",
	} {
		if err := os.MkdirAll(child, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(parent, file), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := inheritCPUs(parent, child); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"cpuset.cpus": "0-3", "cpuset.mems": "1"} {
		got, _ := os.ReadFile(filepath.Join(child, file))
		if strings.TrimSpace(string(got)) != want {
			t.Errorf("%s = %q, want %q: empty is filled, a choice is kept", file, got, want)
		}
	}
	if err := inheritCPUs(t.TempDir(), t.TempDir()); err != nil {
		t.Errorf("a hierarchy without cpusets: %v", err)
	}
}

func TestRecordSurvivesTheTrip(t *testing.T) {
	dir := t.TempDir()
	want := record{
		First: Identity{PID: 7, Started: 9, Boot: "b"},
		Spec:  Spec{Name: "n", Dir: dir, Executables: map[string]string{"a": "/b"}},
	}
	if err := writeRecord(dir, want); err != nil {
		t.Fatal(err)
	}
	if got, err := readRecord(dir); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("readRecord() = %v, %v, want %v", got, err, want)
	}
	if Alive(dir) || Alive(t.TempDir()) {
		t.Error("a machine that never ran is alive")
	}
	if err := os.WriteFile(filepath.Join(dir, recordFile), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Stop(t.Context(), dir); err == nil {
		t.Error("an unreadable record stops without error: the machine might still run")
	}
}
