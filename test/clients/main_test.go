// SPDX-License-Identifier: Apache-2.0

package clients

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
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// patience is how long a fact is waited for. It is only ever used up by a test that fails.
const patience = 30 * time.Second

// The brokers that all stories share, each started by the first that needs it. A story keeps to its own topics.
var (
	plain     = shared("--listen", "127.0.0.1:0")
	webSocket = shared("--listen", "127.0.0.1:0", "--ws-listen", "127.0.0.1:0")
	secure    = shared("--listen", "127.0.0.1:0", "--ws-listen", "127.0.0.1:0", "--tls-cert", serverCert, "--tls-key", serverKey)
)

// Words in the arguments that stand for files of the run.
const (
	serverCert = "{tls.crt}"
	serverKey  = "{tls.key}"
)

var (
	// binary is the broker.
	binary string
	// room is the run's own directory; it holds ca.crt, other-ca.crt, tls.crt and tls.key.
	room string
	// ends stop what was started for all.
	ends struct {
		sync.Mutex
		list []func()
	}
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
	room, err = os.MkdirTemp("", "clients")
	if err != nil {
		return 0, err
	}

	defer func() { err = errors.Join(err, os.RemoveAll(room)) }()

	if err := certificates(room); err != nil {
		return 0, err
	}

	binary = os.Getenv("MQTT_BROKER")
	if binary == "" {
		binary = filepath.Join(room, "mqtt-broker")
		build := exec.CommandContext(context.Background(), "go", "build", "-o", binary, "../../broker-image/cmd/mqtt-broker")

		if out, err := build.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("the broker cannot be built: %w\n%s", err, out)
		}
	}

	defer func() {
		for _, end := range ends.list {
			end()
		}
	}()

	return m.Run(), nil
}

// broker is one process.
type broker struct {
	// tcp and ws are where it listens; with certificates they speak TLS.
	tcp, ws string
	// end stops it as an administrator does, kill as a power cut does.
	end, kill func()
}

func (b *broker) host() string { host, _, _ := net.SplitHostPort(b.tcp); return host }
func (b *broker) port() string { _, port, _ := net.SplitHostPort(b.tcp); return port }

// shared gives the same broker to all who call what it returns.
func shared(args ...string) func(t *testing.T) *broker {
	get := sync.OnceValues(func() (*broker, error) {
		b, err := start(args...)
		if err == nil {
			ends.Lock()
			defer ends.Unlock()

			ends.list = append(ends.list, b.end)
		}

		return b, err
	})

	return func(t *testing.T) *broker {
		t.Helper()

		b, err := get()
		if err != nil {
			t.Fatal(err)
		}

		return b
	}
}

var listening = regexp.MustCompile(`^Listener "[^"]*" is open on (\S+)\.$`)

// start gives a broker that listens.
func start(args ...string) (*broker, error) {
	wanted := 1

	args = append([]string{"dev"}, args...)
	for i, a := range args {
		switch a {
		case serverCert, serverKey:
			args[i] = filepath.Join(room, strings.Trim(a, "{}"))
		case "--ws-listen":
			wanted = 2
		}
	}

	var log safeBuffer

	command := exec.CommandContext(context.Background(), binary, args...)
	command.Stderr = &log

	out, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}

	if err := command.Start(); err != nil {
		return nil, err
	}

	addresses := make(chan string, 8)
	gone := make(chan struct{})

	go func() {
		defer close(gone)

		for lines := bufio.NewScanner(out); lines.Scan(); {
			if at := listening.FindStringSubmatch(lines.Text()); at != nil {
				addresses <- at[1]
			}
		}

		_ = command.Wait()
	}()

	stop := func(with os.Signal) {
		_ = command.Process.Signal(with)

		select {
		case <-gone:
		case <-time.After(patience):
			_ = command.Process.Kill()
			<-gone
		}
	}
	b := &broker{end: func() { stop(syscall.SIGTERM) }, kill: func() { stop(syscall.SIGKILL) }}

	deadline := time.After(patience)

	for _, address := range []*string{&b.tcp, &b.ws}[:wanted] {
		select {
		case *address = <-addresses:
		case <-gone:
			return nil, fmt.Errorf("mqtt-broker %s ended at once:\n%s", strings.Join(args, " "), log.String())
		case <-deadline:
			b.kill()

			return nil, fmt.Errorf("mqtt-broker %s does not listen:\n%s", strings.Join(args, " "), log.String())
		}
	}

	return b, nil
}

var stories atomic.Int64

// own is a word that no other story has: for topics and client identifiers.
func own() string { return fmt.Sprintf("s%dx%d", os.Getpid(), stories.Add(1)) }

// need fails the test where a program is not installed.
func need(t *testing.T, program, debian string) {
	t.Helper()

	if _, err := exec.LookPath(program); err != nil {
		t.Fatalf("%s is missing: please install what Debian calls %s", program, debian)
	}
}

// call runs a program to its end and gives what it printed. It may take as long as patience.
func call(t *testing.T, stdin, program string, args ...string) string {
	t.Helper()

	out, err := try(t, stdin, program, args...)
	if err != nil {
		t.Fatal(err)
	}

	return out
}

func try(t *testing.T, stdin, program string, args ...string) (string, error) {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	var out, errs bytes.Buffer

	command := exec.CommandContext(ctx, program, args...)
	command.Stdin, command.Stdout, command.Stderr = strings.NewReader(stdin), &out, &errs
	command.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")

	if err := command.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w\n%s%s", program, strings.Join(args, " "), err, out.String(), errs.String())
	}

	return out.String(), nil
}

// process is a program that runs beside the story.
type process struct {
	t       *testing.T
	name    string
	lines   chan string
	command *exec.Cmd
	errs    safeBuffer
}

// beside starts a program that ends with the test at the latest. Its lines of output are waited for one by one.
func beside(t *testing.T, program string, args ...string) *process {
	t.Helper()

	p := &process{t: t, name: program + " " + strings.Join(args, " "), lines: make(chan string, 1<<16)}
	p.command = exec.CommandContext(t.Context(), program, args...)
	p.command.Stderr = &p.errs

	out, err := p.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}

	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}

	gone := make(chan struct{})

	go func() {
		defer close(gone)
		defer close(p.lines)

		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<22)

		for lines.Scan() {
			p.lines <- lines.Text()
		}

		_, _ = io.Copy(io.Discard, out)
		_ = p.command.Wait()
	}()

	t.Cleanup(func() {
		_ = p.command.Process.Kill()
		<-gone
	})

	return p
}

// line waits for the next line that begins so, and gives the rest of it.
func (p *process) line(prefix string) string {
	p.t.Helper()

	deadline := time.After(patience)

	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				p.t.Fatalf("%s ended without %q\n%s", p.name, prefix, p.errs.String())
			}

			if rest, found := strings.CutPrefix(line, prefix); found {
				return rest
			}
		case <-deadline:
			p.t.Fatalf("%s: no line begins with %q\n%s", p.name, prefix, p.errs.String())
		}
	}
}

// kill ends the program without a goodbye.
func (p *process) kill() { _ = p.command.Process.Kill() }

// safeBuffer may be read while a program still writes.
type safeBuffer struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()

	return b.all.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()

	return b.all.String()
}

// certificates writes a CA, a server's certificate signed by it, and a CA that signed nothing.
func certificates(dir string) error {
	ca, caKey, err := authority("the CA")
	if err != nil {
		return err
	}

	other, _, err := authority("another CA")
	if err != nil {
		return err
	}

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}

	leaf, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "broker"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, ca, &key.PublicKey, caKey)
	if err != nil {
		return err
	}

	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}

	for name, block := range map[string]*pem.Block{
		"ca.crt":       {Type: "CERTIFICATE", Bytes: ca.Raw},
		"other-ca.crt": {Type: "CERTIFICATE", Bytes: other.Raw},
		"tls.crt":      {Type: "CERTIFICATE", Bytes: leaf},
		"tls.key":      {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
	}

	return nil
}

func authority(name string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}

	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}

	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, nil, err
	}

	ca, err := x509.ParseCertificate(raw)

	return ca, key, err
}

// ca is the file with the CA that signed the brokers' certificate; otherCA signed nothing.
func ca() string      { return filepath.Join(room, "ca.crt") }
func otherCA() string { return filepath.Join(room, "other-ca.crt") }
