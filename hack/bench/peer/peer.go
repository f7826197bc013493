// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/mqtt-operator/mqtt-operator/hack/bench/wire"
)

// Task is what a broker is wanted for, as far as brokers differ in it.
type Task struct {
	Version byte // of MQTT
	QoS     byte
	Durable bool // what is stored should be on disk before it is acknowledged, as far as the broker can
}

// Peer is one broker.
type Peer struct {
	Name, Title string
	// Settings say how it is started, for the report.
	Settings string
	// Only is set for a peer that takes part in scenarios of durable sessions alone.
	Only bool

	prepare func(ctx context.Context, k *Kit) (version string, err error)
	command func(k *Kit, dir string, port int, task Task) (argv, env []string, err error)
	// unable says why a task cannot be done; a note says how it is done differently.
	unable  func(task Task) string
	note    func(task Task) string
	slow    time.Duration // how long it may take to start
	version string
}

// Kit is what peers are made with.
type Kit struct {
	Root   string // of the repository
	Cache  string // for programs
	Binary string // of our broker, if it is not to be built
	Bridge string // our bridge, if it is not to be built
	Self   string // this program
	Say    func(format string, args ...any)

	lock *os.File
}

// NewKit finds the repository from the working directory, and the cache.
func NewKit(progress io.Writer) (*Kit, error) {
	k := &Kit{Say: func(format string, args ...any) { _, _ = fmt.Fprintf(progress, format+"\n", args...) }}
	dir, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	for ; ; dir = filepath.Dir(dir) {
		text, _ := os.ReadFile(filepath.Join(dir, "go.mod"))
		if strings.HasPrefix(string(text), "module github.com/mqtt-operator/mqtt-operator\n") {
			break
		}
		if dir == filepath.Dir(dir) {
			return nil, errors.New("run this inside the repository")
		}
	}
	k.Root = dir
	cache := os.Getenv("MQTT_OPERATOR_CACHE")
	if cache == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return nil, err
		}
		cache = filepath.Join(base, "mqtt-operator")
	}
	k.Cache = filepath.Join(cache, "bench")
	if err := os.MkdirAll(k.Cache, 0o755); err != nil { //nolint:gosec // programs, no secrets
		return nil, err
	}
	k.Self, err = os.Executable()
	return k, err
}

// Lock keeps a second bench away: both would measure each other. It holds until the program ends, and clears away what an
// earlier one left when it was killed.
func (k *Kit) Lock() error {
	lock, err := os.OpenFile(k.path("lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return errors.Join(errors.New("another bench runs on this machine, and both would be wrong; -anyway runs nevertheless"), lock.Close())
	}
	k.lock = lock
	left, _ := filepath.Glob(k.path("run-*"))
	for _, dir := range left {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}

// Unlock lets another bench run.
func (k *Kit) Unlock() { _ = k.lock.Close() }

// build compiles a Go program of a module into the cache, without C, as images are built.
func (k *Kit) build(ctx context.Context, name, module, pkg string) (string, error) {
	path := k.path(name)
	_, err := run(ctx, filepath.Join(k.Root, module), []string{"CGO_ENABLED=0"}, "go", "build", "-trimpath", "-o", path, pkg)
	return path, err
}

func (k *Kit) path(name string) string { return filepath.Join(k.Cache, name) }

// All are the brokers in the order of the report.
func All() []*Peer {
	return []*Peer{ours(), mosquitto(), mosquittoDisk(), nats(), mochi(), aedes(), rabbitmq(), relay()}
}

// Find picks peers by name.
func Find(names []string) ([]*Peer, error) {
	all := All()
	var picked []*Peer
	for _, name := range names {
		at := slices.IndexFunc(all, func(p *Peer) bool { return p.Name == name })
		if at < 0 {
			return nil, fmt.Errorf("there is no broker %q; there are %s", name, strings.Join(Names(), ", "))
		}
		picked = append(picked, all[at])
	}
	return picked, nil
}

// Names are all names.
func Names() []string {
	var names []string
	for _, p := range All() {
		names = append(names, p.Name)
	}
	return names
}

// Prepare installs or builds the broker.
func (p *Peer) Prepare(ctx context.Context, k *Kit) error {
	version, err := p.prepare(ctx, k)
	if err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	p.version = version
	return nil
}

// Version is known after Prepare.
func (p *Peer) Version() string { return p.version }

// Unable says why the broker cannot do a task, or nothing.
func (p *Peer) Unable(task Task) string {
	if p.unable == nil {
		return ""
	}
	return p.unable(task)
}

// Note says what is different when it does a task, or nothing.
func (p *Peer) Note(task Task) string {
	if p.note == nil {
		return ""
	}
	return p.note(task)
}

// Start runs the broker with its data in dir, and waits until it welcomes a client. A broker that is started again in the
// same directory finds what it has stored.
func (p *Peer) Start(ctx context.Context, k *Kit, dir string, task Task) (*Process, error) {
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	argv, env, err := p.command(k, dir, port, task)
	if err != nil {
		return nil, err
	}
	process, err := startProcess(dir, argv, env)
	if err != nil {
		return nil, err
	}
	process.Address = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(port)) //nolint:gosec // a port
	patience := 20 * time.Second
	if p.slow > 0 {
		patience = p.slow
	}
	if err := process.await(ctx, patience, task.Version); err != nil {
		process.Kill()
		return nil, fmt.Errorf("%s does not start: %w", p.Name, err)
	}
	return process, nil
}

// await asks until a CONNECT is answered.
func (p *Process) await(ctx context.Context, patience time.Duration, version byte) error {
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		err := p.greet(ctx, version)
		if err == nil {
			return nil
		}
		if dead := p.Alive(); dead != nil {
			return dead
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Now().After(end) {
			return fmt.Errorf("%w; its log ends with:\n%s", err, p.Tail())
		}
	}
}

func (p *Process) greet(ctx context.Context, version byte) error {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", p.Address.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := conn.Write(wire.AppendConnect(nil, wire.ConnectOptions{Version: version, ClientID: "greet", KeepAlive: 60})); err != nil {
		return err
	}
	buf := make([]byte, 512)
	for have := 0; ; {
		n, err := conn.Read(buf[have:])
		if err != nil {
			return err
		}
		have += n
		packet, n, err := wire.Split(buf[:have])
		if err != nil {
			return err
		}
		if n > 0 {
			_, err = wire.CheckConnack(packet)
			_, _ = conn.Write(wire.AppendEmpty(nil, wire.Disconnect))
			return err
		}
	}
}

// freePort finds a port below those that outgoing connections take.
func freePort(ctx context.Context) (int, error) {
	for range 100 {
		port := 20_000 + int(time.Now().UnixNano()/1000%10_000)
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.New("no free port from 20000 to 29999")
}

// write puts a text file into a directory.
func write(dir, name, text string) (string, error) {
	path := filepath.Join(dir, name)
	return path, os.WriteFile(path, []byte(text), 0o600)
}
