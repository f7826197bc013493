// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// pluginCommand is kubectl mqtt in the namespace of the story.
func (s *story) pluginCommand(ctx context.Context, args ...string) *exec.Cmd {
	s.Helper()
	plugin := os.Getenv("PLUGIN")
	if plugin == "" {
		s.Fatal("PLUGIN names the program kubectl-mqtt: start these tests with hack/e2e.sh")
	}
	return exec.CommandContext(ctx, plugin, append(args, "--namespace", s.namespace)...)
}

// mqtt runs kubectl mqtt to its end.
func (s *story) mqtt(args ...string) (out, complaints string, code int) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	command := s.pluginCommand(ctx, args...)
	var o, e bytes.Buffer
	command.Stdout, command.Stderr = &o, &e
	err := command.Run()
	if ended := (*exec.ExitError)(nil); err != nil && !errors.As(err, &ended) {
		s.Fatalf("kubectl mqtt %s: %v", strings.Join(args, " "), err)
	}
	return o.String(), e.String(), command.ProcessState.ExitCode()
}

// says runs kubectl mqtt, which must end well and say these words.
func (s *story) says(words string, args ...string) string {
	s.Helper()
	out, complaints, code := s.mqtt(args...)
	if code != 0 || !strings.Contains(out, words) {
		s.Fatalf("kubectl mqtt %s: exit code %d, want %q:\n%s%s", strings.Join(args, " "), code, words, out, complaints)
	}
	s.sayf("kubectl mqtt %s:\n%s", strings.Join(args, " "), out)
	return out
}

// goingOn is a kubectl mqtt that goes on.
type goingOn struct {
	s       *story
	command *exec.Cmd
	ended   chan error

	mu   sync.Mutex
	text bytes.Buffer
}

func (g *goingOn) Write(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.text.Write(b)
}

func (g *goingOn) said() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.text.String()
}

func (s *story) begins(args ...string) *goingOn {
	s.Helper()
	ctx, cancel := context.WithCancel(s.ctx)
	s.Cleanup(cancel)
	g := &goingOn{s: s, command: s.pluginCommand(ctx, args...), ended: make(chan error, 1)}
	g.command.Stdout, g.command.Stderr = g, g
	if err := g.command.Start(); err != nil {
		s.Fatal(err)
	}
	go func() { g.ended <- g.command.Wait() }()
	return g
}

func (g *goingOn) until(words string) {
	g.s.Helper()
	g.s.eventually(patience, fmt.Sprintf("%q is said", words), func() error {
		if said := g.said(); !strings.Contains(said, words) {
			return fmt.Errorf("said was: %s", said)
		}
		return nil
	})
}

// TestPlugin: what a person looks at and does with kubectl mqtt, through a real API server and a real kubelet.
func TestPlugin(t *testing.T) {
	t.Parallel()
	s := begin(t)
	broker := s.broker()
	s.user("anna", allow("talk/#"))
	press := s.connectAs("anna", session{clientID: "press-7"})
	s.mustSubscribe(press, "talk/press")

	s.eventually(patience, "status knows the client", func() error {
		out, complaints, code := s.mqtt("status", brokerName)
		if code != 0 || complaints != "" || !strings.Contains(out, "is healthy: ") || !strings.Contains(out, brokerName+"-broker-0   yes     ") || !strings.Contains(out, "Users: 1 accepted") {
			return fmt.Errorf("exit code %d: %s%s", code, out, complaints)
		}
		return nil
	})
	s.says("healthy", "status")
	s.says("CN="+s.namespace+"/"+brokerName+" clients", "cert", brokerName)
	s.says("press-7   anna   mqtts ", "clients", brokerName)

	s.sayf("messages go both ways through the API server")
	hears := s.begins("sub", "talk/+", "--as-user", "anna", "--count", "2", "--qos", "1")
	traces := s.begins("trace", "talk/#", "--for", "2m")
	hears.until("subscribed to talk/+ as anna")
	traces.until("from here on everything is seen")
	for _, qos := range []string{"0", "2"} {
		s.says("", "pub", "talk/press", "by QoS "+qos, "--as-user", "anna", "--qos", qos)
		s.hears(press, "talk/press", "by QoS "+qos)
	}
	if err := <-hears.ended; err != nil || !strings.Contains(hears.said(), "talk/press by QoS 0\ntalk/press by QoS 2\n") {
		t.Errorf("sub: %v\n%s", err, hears.said())
	}
	traces.until("published")
	traces.until("sent         press-7 topic=talk/press qos=1 size=8")
	if err := traces.command.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := <-traces.ended; err != nil {
		t.Errorf("trace after Ctrl-C: %v\n%s", err, traces.said())
	}
	if _, complaints, code := s.mqtt("pub", "secret", "x", "--as-user", "anna", "--qos", "1"); code != 1 || !strings.Contains(complaints, "not authorized (0x87)") {
		t.Errorf("who may not publish: exit code %d, %s", code, complaints)
	}
	out, _, code := s.mqtt("top", brokerName, "--interval", "1s", "-o", "json")
	rates := []struct {
		Seconds     float64 `json:"seconds"`
		Connections int     `json:"connections"`
	}{}
	if err := json.Unmarshal([]byte(out), &rates); code != 0 || err != nil || len(rates) != 1 || rates[0].Connections < 1 || rates[0].Seconds < 1 {
		t.Errorf("top: exit code %d, %v: %s", code, err, out)
	}

	s.says("client press-7 has been disconnected", "kick", "press-7")
	s.awaitEnd(press)
	if press.reason != administrativeAction {
		t.Errorf("who is sent away is told %#x", press.reason)
	}
	if out, _, code := s.mqtt("kick", "nobody"); code != 1 || !strings.Contains(out, "no client nobody") {
		t.Errorf("who is not there: exit code %d, %s", code, out)
	}

	file := filepath.Join(t.TempDir(), "bundle.tar.gz")
	s.says("look through it", "support-bundle", "-f", file)
	bundle := unpackBundle(t, file)
	for _, name := range []string{"INDEX", "status.txt", "configuration/mq.json", "metrics/mq-broker-0.txt", "logs/mq-broker-0-broker.txt", "objects/mqttbrokers/mq.yaml", "objects/secrets/anna-mqtt.yaml"} {
		if bundle[name] == "" {
			t.Errorf("the bundle has no %s", name)
		}
	}
	for _, leak := range s.leaksIn(bundle) {
		t.Error(leak + " of the bundle")
	}

	s.says("is to be restarted", "restart", brokerName)
	if err := s.get(broker); err != nil {
		t.Fatal(err)
	}
	if at, err := time.Parse(time.RFC3339, broker.Annotations["mqtt-operator.io/restart-at"]); err != nil || time.Since(at) > patience {
		t.Errorf("the annotation: %v, %v", broker.Annotations, err)
	}
}

// unpackBundle reads the files of a support bundle.
func unpackBundle(t *testing.T, file string) map[string]string {
	t.Helper()
	packed, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	zipped, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for archive := tar.NewReader(zipped); ; {
		head, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		_, name, _ := strings.Cut(head.Name, "/")
		files[name] = string(content)
	}
}
