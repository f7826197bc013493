// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

const (
	// patience is how long a fact is waited for. It is only ever used up by a test that fails.
	patience = 30 * time.Second
	program  = "../../broker-image/cmd/mqtt-broker"
	metric   = "mqtt_broker_"
)

var (
	// executable is the broker.
	executable string
	// room is the run's own directory.
	room string
	// long: the form of "make soak".
	long = os.Getenv("FAULTS") == "long"
)

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)

		code = 1
	}

	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	room, err = os.MkdirTemp("", "faults")
	if err != nil {
		return 0, err
	}

	defer func() { err = errors.Join(err, os.RemoveAll(room)) }()

	executable = os.Getenv("MQTT_BROKER")
	if executable == "" {
		executable = filepath.Join(room, "mqtt-broker")
		if err := build(executable); err != nil {
			return 0, err
		}
	}

	return m.Run(), nil
}

func build(to string, flags ...string) error {
	args := append([]string{"build", "-o", to}, flags...)

	out, err := exec.CommandContext(context.Background(), "go", append(args, program)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("the broker cannot be built: %w\n%s", err, out)
	}

	return nil
}

// broker is one process.
type broker struct {
	process *os.Process
	// at is where each listener is, by its name.
	at      map[string]string
	metrics string
	gone    chan struct{}
	log     *safeBuffer
}

// setup is what a broker is started with.
type setup struct {
	binary  string // empty: the broker as it is
	data    string
	config  string
	metrics bool
	// files bounds the descriptors; 0 leaves them as they are.
	files     int
	listeners int // how many to wait for; 0 means one
}

// plain is the configuration of these tests: one listener that asks for nothing, and limits that a test may change.
func plain(t testing.TB, change func(*contract.Config)) string {
	t.Helper()

	c := &contract.Config{Broker: contract.Broker{
		Format: contract.Format, Name: "faults", Revision: 1,
		Listeners: []contract.Listener{{
			Name: "tcp", Protocol: contract.TCP, Address: "127.0.0.1:0", Anonymous: everything(),
		}},
		Limits: contract.DefaultLimits(), Persistence: contract.Persistence{}.Resolved(), Logging: contract.DefaultLogging(),
	}}
	c.Limits.MaxQueuedMessages = 1_000_000

	if change != nil {
		change(c)
	}

	bundle, err := contract.Render(c, 1)
	if err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()

	for name, content := range bundle {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	return dir
}

func everything() *contract.Anonymous {
	return &contract.Anonymous{ACL: []acl.Rule{
		{Effect: acl.Allow, Actions: []acl.Action{acl.Publish, acl.Subscribe}, Filter: "#"},
		{Effect: acl.Allow, Actions: []acl.Action{acl.Subscribe}, Filter: "$SYS/#"},
	}}
}

// start gives a broker that listens. It ends with the test at the latest.
func start(t testing.TB, s setup) *broker {
	t.Helper()

	b, err := begin(s)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(b.kill)

	return b
}

var listening = regexp.MustCompile(`^Listener "([^"]*)" is open on (\S+)\.$`)

func begin(s setup) (*broker, error) {
	if s.binary == "" {
		s.binary = executable
	}

	args := []string{"dev", "--config", s.config}
	if s.data != "" {
		args = append(args, "--data", s.data)
	}

	b := &broker{at: map[string]string{}, gone: make(chan struct{}), log: new(safeBuffer)}

	if s.metrics {
		port, err := freePort()
		if err != nil {
			return nil, err
		}

		b.metrics = fmt.Sprintf("127.0.0.1:%d", port)
		args = append(args, "--metrics-listen", b.metrics)
	}

	command := exec.CommandContext(context.Background(), s.binary, args...)

	if s.files > 0 {
		// The shell becomes the broker, so the process is the broker's.
		command = exec.CommandContext(context.Background(), "/bin/sh",
			append([]string{"-c", fmt.Sprintf(`ulimit -n %d; exec "$0" "$@"`, s.files), s.binary}, args...)...)
	}

	command.Stderr = b.log

	out, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}

	if err := command.Start(); err != nil {
		return nil, err
	}

	b.process = command.Process
	found := make(chan [2]string, 16)

	go func() {
		defer close(b.gone)

		for lines := bufio.NewScanner(out); lines.Scan(); {
			if at := listening.FindStringSubmatch(lines.Text()); at != nil {
				found <- [2]string{at[1], at[2]}
			}
		}

		_, _ = io.Copy(io.Discard, out)
		_ = command.Wait()
	}()

	deadline := time.After(patience)

	for range max(1, s.listeners) {
		select {
		case at := <-found:
			b.at[at[0]] = at[1]
		case <-b.gone:
			return nil, &endedError{b.log.String()}
		case <-deadline:
			b.kill()

			return nil, fmt.Errorf("the broker does not listen:\n%s", b.log.String())
		}
	}

	return b, nil
}

// endedError says that the broker did not want to start.
type endedError struct{ log string }

func (e *endedError) Error() string { return "the broker ended at once:\n" + e.log }

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()

	addr, _ := l.Addr().(*net.TCPAddr)

	return addr.Port, nil
}

// kill ends the broker as a power cut does, end as an administrator does.
func (b *broker) kill() { b.stop(syscall.SIGKILL) }
func (b *broker) end()  { b.stop(syscall.SIGTERM) }

func (b *broker) stop(with syscall.Signal) {
	_ = b.process.Signal(with)

	select {
	case <-b.gone:
	case <-time.After(patience):
		_ = b.process.Kill()
		<-b.gone
	}
}

// read asks the broker's metrics. Samples of one name are added up.
func (b *broker) read() (map[string]float64, error) {
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}

	answer, err := client.Get("http://" + b.metrics + contract.MetricsPath)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()

	all := map[string]float64{}

	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		line := lines.Text()

		at := strings.LastIndexByte(line, ' ')
		if at < 0 || strings.HasPrefix(line, "#") {
			continue
		}

		v, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			return nil, err
		}

		all[line[:at]] += v

		if name, _, labels := strings.Cut(line[:at], "{"); labels {
			all[name] += v
		}
	}

	return all, lines.Err()
}

// value is one metric, without the prefix that the broker's own have.
func (b *broker) value(t testing.TB, name string) float64 {
	t.Helper()

	all, err := b.read()
	if err != nil {
		t.Fatal(err)
	}

	v, ok := all[metric+name]
	if !ok {
		if v, ok = all[name]; !ok {
			t.Fatalf("there is no metric %s", name)
		}
	}

	return v
}

// resident is the memory that the process holds, in bytes.
func (b *broker) resident(t testing.TB) int64 {
	t.Helper()

	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.process.Pid))
	if err != nil {
		t.Fatal(err)
	}

	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}

			return n << 10
		}
	}

	t.Fatal("the process has no VmRSS")

	return 0
}

// eventually waits for a fact. What is tells why not.
func eventually(t testing.TB, what string, fact func() (bool, string)) {
	t.Helper()

	within(t, patience, what, fact)
}

func within(t testing.TB, limit time.Duration, what string, fact func() (bool, string)) {
	t.Helper()

	why := ""

	for deadline := time.Now().Add(limit); time.Now().Before(deadline); {
		var ok bool
		if ok, why = fact(); ok {
			return
		}

		pause := time.NewTimer(20 * time.Millisecond)
		<-pause.C
	}

	t.Fatalf("%s: not within %s: %s", what, limit, why)
}

// safeBuffer may be read while a program still writes. It keeps the beginning.
type safeBuffer struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()

	if b.all.Len() < 1<<20 {
		b.all.Write(p)
	}

	return len(p), nil
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()

	return b.all.String()
}

// keyPair is a certificate for 127.0.0.1 that nobody trusts but who asks for nothing else.
func keyPair(t testing.TB) contract.KeyPair {
	t.Helper()

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}

	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "broker"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}

	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}

	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}

	return contract.KeyPair{
		Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})),
		PrivateKey:  string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
	}
}
