// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// target is a broker under test. Its doors:
//
//	open     anyone may do anything, over TCP
//	ws       as open, over WebSocket, path /mqtt; the same broker as open
//	guarded  nobody may come in; the same broker as open
//	ruled    anyone may come in, but neither publish nor subscribe below "denied/"; the same broker as open
//	limited  a broker with narrow limits: packets of 2048 bytes, 4 in flight, 2 topic aliases, keep-alive of 2 seconds
type target struct {
	name  string
	nonce string
	doors map[string]string
	stop  func()
}

// What the limited door allows, and what the open one does.
const (
	limitedPacket    = 2048
	limitedReceive   = 4
	limitedAlias     = 2
	limitedKeepAlive = 2
	openReceive      = 20
	openAlias        = 10
	deniedTopic      = "denied/"
)

// choose finds the target that the environment asks for.
func choose(ctx context.Context) (*target, error) {
	switch address := os.Getenv("MQTT_TARGET"); address {
	case "":
		return startOurs(ctx)
	case "mosquitto":
		return startMosquitto(ctx)
	default:
		t := &target{
			name: address, nonce: fmt.Sprintf("x%d", time.Now().Unix()%100000), doors: map[string]string{"open": address}, stop: func() {},
		}

		for _, door := range []string{"ws", "guarded", "ruled", "limited"} {
			t.doors[door] = os.Getenv("MQTT_TARGET_" + strings.ToUpper(door))
		}

		return t, nil
	}
}

// freeDoors finds loopback addresses that nobody listens on.
func freeDoors() (map[string]string, error) {
	doors := map[string]string{}

	var held []net.Listener

	defer func() {
		for _, l := range held {
			_ = l.Close()
		}
	}()

	for _, door := range []string{"open", "ws", "guarded", "ruled", "limited"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}

		held = append(held, l)
		doors[door] = l.Addr().String()
	}

	return doors, nil
}

// startOurs builds our broker and runs it twice: once with wide and once with narrow limits.
func startOurs(ctx context.Context) (*target, error) {
	dir, err := os.MkdirTemp("", "conformance")
	if err != nil {
		return nil, err
	}

	doors, err := freeDoors()
	if err != nil {
		return nil, err
	}

	program := filepath.Join(dir, "mqtt-broker")

	build := exec.CommandContext(ctx, "go", "build", "-o", program, "../../broker-image/cmd/mqtt-broker")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("build: %w: %s", err, out), os.RemoveAll(dir))
	}

	all := []acl.Rule{
		{Effect: acl.Allow, Actions: []acl.Action{acl.Publish, acl.Subscribe}, Filter: "#"},
		{Effect: acl.Allow, Actions: []acl.Action{acl.Publish, acl.Subscribe}, Filter: "$test/#"},
	}
	most := append([]acl.Rule{{Effect: acl.Deny, Actions: []acl.Action{acl.Publish, acl.Subscribe}, Filter: deniedTopic + "#"}}, all...)

	wide := contract.DefaultLimits()
	wide.ReceiveMaximum, wide.TopicAliasMaximum = openReceive, openAlias

	narrow := contract.DefaultLimits()
	narrow.ReceiveMaximum, narrow.TopicAliasMaximum = limitedReceive, limitedAlias
	narrow.MaxPacketSize, narrow.ServerKeepAlive = limitedPacket, limitedKeepAlive

	configs := map[string]contract.Broker{
		"wide": {Limits: wide, Listeners: []contract.Listener{
			{Name: "open", Protocol: contract.TCP, Address: doors["open"], Anonymous: &contract.Anonymous{ACL: all}},
			{Name: "ws", Protocol: contract.WS, Address: doors["ws"], Anonymous: &contract.Anonymous{ACL: all}},
			{Name: "guarded", Protocol: contract.TCP, Address: doors["guarded"]},
			{Name: "ruled", Protocol: contract.TCP, Address: doors["ruled"], Anonymous: &contract.Anonymous{ACL: most}},
		}},
		"narrow": {Limits: narrow, Listeners: []contract.Listener{
			{Name: "limited", Protocol: contract.TCP, Address: doors["limited"], Anonymous: &contract.Anonymous{ACL: all}},
		}},
	}

	var commands []*exec.Cmd

	for name, broker := range configs {
		broker.Format, broker.Name, broker.Revision = contract.Format, "conformance/"+name, 1
		broker.Logging = contract.Logging{Level: "error", Format: "text"}

		bundle, err := contract.Render(&contract.Config{Broker: broker}, 1)
		if err != nil {
			return nil, err
		}

		config := filepath.Join(dir, name)
		if err := os.Mkdir(config, 0o700); err != nil {
			return nil, err
		}

		for file, content := range bundle {
			if err := os.WriteFile(filepath.Join(config, file), content, 0o600); err != nil {
				return nil, err
			}
		}

		commands = append(commands, exec.CommandContext(ctx, program, "dev", "--config", config))
	}

	return run(&target{name: "ours", doors: doors}, dir, commands...)
}

// startMosquitto runs the Mosquitto that is installed, with the same doors and settings.
func startMosquitto(ctx context.Context) (*target, error) {
	dir, err := os.MkdirTemp("", "conformance")
	if err != nil {
		return nil, err
	}

	doors, err := freeDoors()
	if err != nil {
		return nil, err
	}

	// Mosquitto gives up root, and must then still be able to read its rules.
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}

	rules := filepath.Join(dir, "rules")

	files := map[string]string{
		"rules": "topic deny " + deniedTopic + "#\ntopic readwrite #\n",
		"wide.conf": strings.Join([]string{
			"per_listener_settings true", "log_type error", "set_tcp_nodelay true",
			fmt.Sprintf("max_inflight_messages %d", openReceive),
			"listener " + port(doors["open"]) + " 127.0.0.1", "allow_anonymous true", fmt.Sprintf("max_topic_alias %d", openAlias),
			"listener " + port(doors["ws"]) + " 127.0.0.1", "protocol websockets", "allow_anonymous true",
			"listener " + port(doors["guarded"]) + " 127.0.0.1", "allow_anonymous false",
			"listener " + port(doors["ruled"]) + " 127.0.0.1", "allow_anonymous true", "acl_file " + rules, "",
		}, "\n"),
		"narrow.conf": strings.Join([]string{
			"log_type error", "set_tcp_nodelay true", fmt.Sprintf("max_inflight_messages %d", limitedReceive),
			fmt.Sprintf("max_packet_size %d", limitedPacket), "max_keepalive 10", // the least that it takes
			"listener " + port(doors["limited"]) + " 127.0.0.1", "allow_anonymous true",
			fmt.Sprintf("max_topic_alias %d", limitedAlias), "",
		}, "\n"),
	}

	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return nil, err
		}
	}

	var commands []*exec.Cmd

	for _, name := range []string{"wide.conf", "narrow.conf"} {
		commands = append(commands, exec.CommandContext(ctx, "mosquitto", "-c", filepath.Join(dir, name)))
	}

	return run(&target{name: "mosquitto", doors: doors}, dir, commands...)
}

func port(address string) string {
	_, p, _ := net.SplitHostPort(address)

	return p
}

// run starts the programs and waits until each door opens.
func run(t *target, dir string, commands ...*exec.Cmd) (*target, error) {
	var (
		logs    bytes.Buffer
		started []*exec.Cmd
	)

	t.stop = sync.OnceFunc(func() {
		for _, c := range started {
			_ = c.Process.Signal(syscall.SIGTERM)
			_ = c.Wait()
		}

		_ = os.RemoveAll(dir)
	})

	for _, c := range commands {
		c.Stderr = &locked{to: &logs}

		if err := c.Start(); err != nil {
			t.stop()

			return nil, err
		}

		started = append(started, c)
	}

	for door, address := range t.doors {
		if err := open(address); err != nil {
			t.stop()

			return nil, fmt.Errorf("door %s: %w: %s", door, err, logs.String())
		}
	}

	return t, nil
}

func open(address string) error {
	var last error

	for end := time.Now().Add(2 * patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			return conn.Close()
		}

		last = err
	}

	return last
}

// locked keeps two programs from writing at once.
type locked struct {
	mu sync.Mutex
	to *bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()

	return l.to.Write(p)
}
