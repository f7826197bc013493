// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func socketPath(t *testing.T) string {
	t.Helper()

	// The name of a test is too long for the path of a socket.
	dir, err := os.MkdirTemp("", "") //nolint:usetesting // as said
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = os.RemoveAll(dir) })

	return filepath.Join(dir, "mqtt.sock")
}

func TestAUnixSocket(t *testing.T) {
	path := socketPath(t)
	l := start(t, "unix", path, Settings{}, Options{Handler: echo})
	l.Start()

	if err := echoes(dial(t, l)); err != nil {
		t.Fatal(err)
	}

	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}

	if d := cmp.Diff(os.ModeSocket|0o660, info.Mode()); d != "" {
		t.Errorf("mode: %s", d)
	}

	_ = l.Close()

	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the file must be gone: %v", err)
	}
}

func TestAUnixSocketInTheWay(t *testing.T) {
	cases := map[string]struct {
		reason string
		put    func(t *testing.T, path string)
		want   string // of the error; none: it is replaced
	}{
		"left behind": {
			"a broker that was killed cannot tidy up", func(t *testing.T, path string) {
				t.Helper()

				inner, err := net.Listen("unix", path)
				if err != nil {
					t.Fatal(err)
				}

				inner.(*net.UnixListener).SetUnlinkOnClose(false)
				_ = inner.Close()
			}, "",
		},
		"in use": {
			"two brokers would each get some of the clients", func(t *testing.T, path string) {
				t.Helper()

				start(t, "unix", path, Settings{}, Options{Handler: echo})
			}, "somebody else listens there",
		},
		"a file": {
			"it is somebody's", func(t *testing.T, path string) {
				t.Helper()

				if err := os.WriteFile(path, []byte("dear diary"), 0o600); err != nil {
					t.Fatal(err)
				}
			}, "no socket",
		},
	}

	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			path := socketPath(t)
			c.put(t, path)

			l, err := Bind("unix", path, Settings{}, Options{})

			switch {
			case err == nil:
				_ = l.Close()

				if c.want != "" {
					t.Error("must be refused: " + c.reason)
				}
			case c.want == "" || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path):
				t.Errorf("%s: %v", c.reason, err)
			}

			if _, err := os.Lstat(path); c.want != "" && err != nil {
				t.Error("what is not ours stays")
			}
		})
	}

	if _, err := Bind("unix", "/"+strings.Repeat("x", 200), Settings{}, Options{}); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("a path that is too long: %v", err)
	}
}

func TestCloseLeavesAnotherSocketAlone(t *testing.T) {
	path := socketPath(t)
	old := start(t, "unix", path, Settings{}, Options{Handler: echo})

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}

	fresh := start(t, "unix", path, Settings{}, Options{Handler: echo})
	fresh.Start()

	_ = old.Close()

	if err := echoes(dial(t, fresh)); err != nil {
		t.Error(err)
	}
}
