// SPDX-License-Identifier: Apache-2.0

package program

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

func written(t *testing.T, mutate func(*contract.Bridge)) string {
	t.Helper()

	end := contract.BridgeEnd{Endpoints: []string{"mqtt://127.0.0.1:1"}, Version: 5, ClientIDPrefix: "b-", Password: "hush-hush", KeepAliveSeconds: 60}
	b := &contract.Bridge{
		Format: contract.BridgeFormat, Name: "ns/b", Revision: 1, Local: end, Remote: end, Inflight: 100, Logging: contract.DefaultLogging(),
	}

	if mutate != nil {
		mutate(b)
	}

	text, err := contract.RenderBridge(b)
	if err != nil {
		t.Fatal(err)
	}

	path := filepath.Join(t.TempDir(), contract.BridgeFile)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}

	return path
}

func TestCommands(t *testing.T) {
	good, bad := written(t, nil), written(t, func(b *contract.Bridge) { b.Inflight = 0 })

	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"a good configuration":  {[]string{"--check-config", good}, 0, "revision 1\ndigest sha256:"},
		"its directory":         {[]string{"--check-config", filepath.Dir(good)}, 0, "revision 1"},
		"a bad one":             {[]string{"--check-config", bad}, 1, "inflight: 0 is not within"},
		"none":                  {[]string{"--check-config", "/nowhere"}, 1, "no such file"},
		"the version":           {[]string{"--version"}, 0, "mqtt-bridge "},
		"help":                  {[]string{"--help"}, 0, "moves messages"},
		"an unknown flag":       {[]string{"--x"}, 2, "not defined"},
		"something else":        {[]string{"x"}, 2, "is no flag"},
		"no admin certificates": {[]string{"--config", good, "--admin-tls", "/nowhere", "--health-listen", ""}, 1, "certificate of the admin endpoint"},
	} {
		var out bytes.Buffer

		if code := Run(t.Context(), "", c.args, &out, &out); code != c.code || !strings.Contains(out.String(), c.want) {
			t.Errorf("%s: exit %d, %q; want %d, %q", name, code, out.String(), c.code, c.want)
		}

		if strings.Contains(out.String(), "hush-hush") {
			t.Errorf("%s: a password stands in %q", name, out.String())
		}
	}
}

// lines is a log that may be read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()

	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()

	return l.text.String()
}

func TestItRunsAndTakesANewFile(t *testing.T) {
	path := written(t, nil)

	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	address := free.Addr().String()
	_ = free.Close()

	var log lines

	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan int)

	go func() {
		ended <- Run(ctx, "", []string{"--config", path, "--health-listen", address}, io.Discard, &log)
	}()

	get := func(path string) (int, string) {
		response, err := http.Get("http://" + address + path)
		if err != nil {
			return 0, ""
		}
		defer response.Body.Close()

		body, _ := io.ReadAll(response.Body)

		return response.StatusCode, string(body)
	}

	eventually(t, "it lives", func() bool { code, _ := get(contract.LivePath); return code == http.StatusOK })
	eventually(t, "it is not ready and says why", func() bool {
		code, body := get(contract.ReadyPath)

		return code == http.StatusServiceUnavailable && strings.Contains(body, "nobody listens there")
	})

	next := written(t, func(b *contract.Bridge) { b.Revision, b.Suspended = 2, true })
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}

	eventually(t, "the new file is taken", func() bool {
		code, body := get(contract.ReadyPath)
		return code == http.StatusOK && body == "suspended\n"
	})

	if _, body := get(contract.MetricsPath); !strings.Contains(body, "mqtt_bridge_config_revision 2") {
		t.Error("the metrics do not say revision 2")
	}

	stop()

	if code := <-ended; code != 0 {
		t.Errorf("exit %d", code)
	}

	if strings.Contains(log.String(), "hush-hush") {
		t.Error("a password stands in the log")
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()

	deadline, look := time.After(20*time.Second), time.NewTicker(20*time.Millisecond)
	defer look.Stop()

	for !is() {
		select {
		case <-look.C:
		case <-deadline:
			t.Fatalf("it never came about that %s", what)
		}
	}
}
