// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestEveryPeerSaysWhatItIs(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range All() {
		if p.Name == "" || p.Title == "" || p.Settings == "" || seen[p.Name] {
			t.Errorf("peer %+v lacks something or is there twice", p)
		}
		seen[p.Name] = true
	}
	if _, err := Find([]string{"ours", "nobody"}); err == nil {
		t.Error("an unknown name is an error")
	}
}

func TestNoProcessStays(t *testing.T) {
	cases := map[string]struct {
		reason, script string
		end            func(p *Process)
	}{
		"one that ends when it is asked to": {"the usual case", "exec sleep 60", func(p *Process) { p.Stop(20 * time.Second) }},
		"one that does not listen":          {"patience ends", "trap '' TERM; while :; do sleep 1; done", func(p *Process) { p.Stop(50 * time.Millisecond) }},
		"one that leaves a child":           {"the whole group is ended", "sleep 60 & echo $! > child; exit 0", func(p *Process) { <-p.done }},
		"one that is killed with its child": {"the whole group is ended", "sleep 60 & echo $! > child; wait", func(p *Process) {
			for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
				if text, _ := os.ReadFile(p.Dir + "/child"); len(text) > 0 {
					break
				}
			}
			p.Kill()
		}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			p, err := startProcess(t.TempDir(), []string{"/bin/sh", "-c", c.script}, nil)
			if err != nil {
				t.Fatal(err)
			}
			c.end(p)
			if p.Alive() == nil {
				t.Errorf("%s: it lives", c.reason)
			}
			for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
				if alive := members(t, p.Pid); len(alive) == 0 {
					break
				} else if time.Now().After(end) {
					t.Fatalf("%s: these are left: %v", c.reason, alive)
				}
			}
			p.Stop(time.Second) // once more does nothing
		})
	}
}

// members of a process group that are no zombies: who is to wait for those is not ours.
func members(t *testing.T, group int) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, entry := range entries {
		text, err := os.ReadFile("/proc/" + entry.Name() + "/stat")
		if err != nil {
			continue
		}
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if len(fields) > 2 && fields[0] != "Z" && fields[2] == strconv.Itoa(group) {
			found = append(found, entry.Name())
		}
	}
	return found
}

func TestLogTailBeginsWithTheCrash(t *testing.T) {
	p := &Process{log: t.TempDir() + "/log"}
	text := strings.Repeat("fine\n", 50) + "panic: oh\n\ngoroutine 1\n" + strings.Repeat("frame\n", 50)
	if err := os.WriteFile(p.log, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := p.Tail(); !strings.HasPrefix(got, "panic: oh\n") || strings.Count(got, "\n") > 15 {
		t.Errorf("got %q", got)
	}
}

func TestOurConfigurationIsOneListenerOnLoopback(t *testing.T) {
	dir := t.TempDir()
	argv, _, err := ours().command(&Kit{Binary: "broker"}, dir, 20001, Task{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(dir + "/config/broker.json")
	if err != nil || !strings.Contains(string(text), `"127.0.0.1:20001"`) || strings.Contains(string(text), "ADDRESS") {
		t.Errorf("%v: %s", err, text)
	}
	if got := strings.Join(argv, " "); got != "broker dev --config "+dir+"/config --data "+dir+"/data" {
		t.Errorf("got %s", got)
	}
}

func TestOneBenchAtATime(t *testing.T) {
	cache := t.TempDir()
	left := cache + "/run-1"
	if err := os.Mkdir(left, 0o700); err != nil {
		t.Fatal(err)
	}
	first, second := &Kit{Cache: cache}, &Kit{Cache: cache}
	if err := first.Lock(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); err == nil {
		t.Error("what an earlier one left is still there")
	}
	if second.Lock() == nil {
		t.Error("two at once measure each other")
	}
	first.Unlock()
	if err := second.Lock(); err != nil {
		t.Errorf("the first has ended: %v", err)
	}
}
