// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// TestBesideMosquitto measures this bridge and Mosquitto's own on the same path, in turns. It runs with BRIDGE_BENCH=1
// on a quiet machine.
func TestBesideMosquitto(t *testing.T) {
	if os.Getenv("BRIDGE_BENCH") == "" {
		t.Skip("BRIDGE_BENCH is not set")
	}

	dir := t.TempDir()
	build(t, dir, "mqtt-broker")
	build(t, dir, "mqtt-bridge")

	for _, remote := range []string{"ours", "mosquitto"} {
		rates, lates := map[string][]float64{}, map[string][]float64{}

		for round := range 3 {
			for _, kind := range []string{"mqtt-bridge", "mosquitto"} {
				rate, late, rss := measure(t, dir, kind, remote)
				t.Logf("round %d ours -> %s by %-11s: %8.0f msg/s, added p99 at 1000/s %6.2f ms, RSS %.1f MiB", round, remote, kind, rate, late, rss)
				rates[kind], lates[kind] = append(rates[kind], rate), append(lates[kind], late)
			}
		}

		middle := func(v []float64) float64 { slices.Sort(v); return v[len(v)/2] }
		t.Logf("ours -> %s: rate %.2f times, p99 %.2f times", remote,
			middle(rates["mqtt-bridge"])/middle(rates["mosquitto"]), middle(lates["mqtt-bridge"])/middle(lates["mosquitto"]))
	}
}

func build(t testing.TB, dir, name string) string {
	t.Helper()

	path := filepath.Join(dir, name)
	if out, err := exec.Command("go", "build", "-o", path, "../cmd/"+name).CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}

	return path
}

func freePort(t testing.TB) int {
	t.Helper()

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()

	return l.Addr().(*net.TCPAddr).Port
}

func spawn(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()

	cmd := exec.Command(name, args...)
	if os.Getenv("BRIDGE_LOG") != "" {
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	}

	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	return cmd
}

func end1(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

func listens(t testing.TB, port int) {
	t.Helper()
	eventually(t, fmt.Sprintf("port %d is open", port), func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err == nil {
			_ = c.Close()
		}

		return err == nil
	})
}

func rssOf(cmd *exec.Cmd) float64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	for line := range strings.SplitSeq(string(text), "\n") {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmHWM:" {
			n, _ := strconv.ParseFloat(f[1], 64)

			return n / 1024
		}
	}

	return 0
}

func mosquittoConf(t testing.TB, dir, text string) string {
	t.Helper()

	path := filepath.Join(dir, fmt.Sprintf("m%d.conf", time.Now().UnixNano()))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}

	return path
}

// measure gives messages per second, the 99th percentile of what the bridge adds in milliseconds, and the memory of the
// bridge in MiB.
func measure(t *testing.T, dir, kind, remote string) (rate, late, rss float64) {
	t.Helper()

	local, far, middle := freePort(t), freePort(t), freePort(t)

	var processes []*exec.Cmd

	defer func() {
		for _, p := range processes {
			end1(p)
		}
	}()

	start := func(name string, args ...string) *exec.Cmd {
		p := spawn(t, name, args...)
		processes = append(processes, p)

		return p
	}

	address := func(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

	start(filepath.Join(dir, "mqtt-broker"), "dev", "--listen", address(local))

	plain := func(port int) string {
		return fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 1000\n", port)
	}

	if remote == "ours" {
		start(filepath.Join(dir, "mqtt-broker"), "dev", "--listen", address(far))
	} else {
		start("mosquitto", "-c", mosquittoConf(t, dir, plain(far)))
	}

	listens(t, local)
	listens(t, far)

	var bridge *exec.Cmd

	if kind == "mosquitto" {
		var text strings.Builder

		text.WriteString(plain(middle))

		for name, port := range map[string]int{"a": local, "b": far} {
			way := map[string]string{"a": "in", "b": "out"}[name]
			_, _ = fmt.Fprintf(&text, "connection %s\naddress %s\ntopic # %s 1\nremote_clientid %s\nbridge_protocol_version mqttv50\nbridge_max_packet_size 0\ntry_private false\nnotifications false\ncleansession false\n", name, address(port), way, name)
		}

		bridge = start("mosquitto", "-c", mosquittoConf(t, dir, text.String()))

		listens(t, middle)
	} else {
		cfg := config("mqtt://"+address(local), "mqtt://"+address(far), route1("all", contract.Out, "#"))
		cfg.Inflight = 1000 // as Mosquitto's
		if n, _ := strconv.Atoi(os.Getenv("BRIDGE_INFLIGHT")); n > 0 {
			cfg.Inflight = n
		}

		text, err := contract.RenderBridge(cfg)
		if err != nil {
			t.Fatal(err)
		}

		path := filepath.Join(dir, "bridge.json")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}

		bridge = start(filepath.Join(dir, "mqtt-bridge"), "--config", path, "--health-listen", "")
	}

	source := newTap(t, "mqtt://"+address(local), 5, "publisher", true)
	sink := newTap(t, "mqtt://"+address(far), 5, "subscriber", true)
	sink.silent = true

	var came atomic.Int64

	room := make(chan struct{}, 1)

	delays := make([]time.Duration, 0, 10000)
	timed := false
	sink.seen = func(m *inbound) {
		if timed && len(m.payload) >= 8 {
			delays = append(delays, time.Duration(time.Now().UnixNano()-int64(binary.BigEndian.Uint64(m.payload))))
		}

		came.Add(1)

		select {
		case room <- struct{}{}:
		default:
		}
	}
	// The subscriber is there to count; with QoS 1 it would be the subscriber that Mosquitto spends its time on.
	sink.subscribe("bench/#", 0)
	eventually(t, "the bridge brings something", func() bool {
		source.say("bench/first", "hello", 1)
		source.settle()

		return came.Load() > 0
	})

	// Throughput.
	const n = 100_000

	payload := bytes.Repeat([]byte("x"), 64)

	settled := int64(-1)
	eventually(t, "nothing more comes", func() bool {
		now := came.Load()
		is := now == settled
		settled = now

		return is
	})

	before := came.Load()
	began := time.Now()

	for i := range n {
		for int64(i)-(came.Load()-before) > 4000 { // no queue overflows
			<-room
		}

		source.publish(&entry{topic: "bench/load", payload: payload, outQoS: 1})
	}

	source.settle()
	eventually(t, "all has come", func() bool { return came.Load()-before >= n })

	rate = n / time.Since(began).Seconds()

	// Latency.
	sink.mu.Lock()
	timed = true
	sink.mu.Unlock()

	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()

	for range 5000 {
		<-ticker.C

		stamped := binary.BigEndian.AppendUint64(nil, uint64(time.Now().UnixNano()))
		source.publish(&entry{topic: "bench/late", payload: append(stamped, payload...), outQoS: 1})
	}

	source.settle()
	eventually(t, "all has come", func() bool { return came.Load()-before >= n+5000 })
	sink.mu.Lock()
	defer sink.mu.Unlock()
	slices.Sort(delays)

	return rate, float64(delays[len(delays)*99/100].Microseconds()) / 1000, rssOf(bridge)
}
