// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

func nats() *Peer {
	return &Peer{
		Name: "nats", Title: "NATS server",
		Settings: "MQTT listener with JetStream, which it needs, in files; `max_ack_pending: 20000` (a session may have 65,535 for all its subscriptions), `default_max_consumers: -1`; for durable sessions `sync_interval: always`",
		prepare: func(ctx context.Context, k *Kit) (string, error) {
			_, err := k.build(ctx, "nats-server", "hack/peers/nats", "github.com/nats-io/nats-server/v2")
			return "v2.15.2", err
		},
		command: func(k *Kit, dir string, port int, task Task) ([]string, []string, error) {
			sync := ""
			if task.Durable {
				sync = ", sync_interval: always"
			}
			path, err := write(dir, "nats.conf", fmt.Sprintf(`server_name: bench
listen: 127.0.0.1:-1
max_connections: 1000000
jetstream { store_dir: %q%s, limits { default_max_consumers: -1 } }
mqtt { listen: 127.0.0.1:%d, max_ack_pending: 20000 }
`, filepath.Join(dir, "store"), sync, port))
			return []string{k.path("nats-server"), "-c", path}, nil, err
		},
		unable: func(task Task) string {
			if task.Version == 5 {
				return "has no MQTT 5"
			}
			return ""
		},
		slow: slowStart,
	}
}

func mochi() *Peer {
	return &Peer{
		Name: "mochi", Title: "mochi, as it comes",
		Settings: "the library's server with a TCP listener and the hook that allows everything; inflight limit lifted, no storage hook",
		prepare: func(ctx context.Context, k *Kit) (string, error) {
			_, err := k.build(ctx, "mochi", "hack/peers/mochi", ".")
			return "v2.7.9", err
		},
		command: func(k *Kit, _ string, port int, _ Task) ([]string, []string, error) {
			return []string{k.path("mochi"), loopback(port)}, nil, nil
		},
		note: func(task Task) string {
			if task.Durable {
				return "in memory only: its storage hooks write after the acknowledgement"
			}
			return ""
		},
	}
}

func aedes() *Peer {
	dir := func(k *Kit) string { return k.path("aedes") }
	return &Peer{
		Name: "aedes", Title: "Aedes",
		Settings: "on Node.js, one process, memory persistence; `concurrency` and queue limit lifted",
		prepare: func(ctx context.Context, k *Kit) (string, error) {
			node, err := exec.LookPath("node")
			if err != nil {
				return "", errors.New("it needs Node.js (node and npm), version 20 or newer")
			}
			if err := os.MkdirAll(dir(k), 0o755); err != nil { //nolint:gosec // programs, no secrets
				return "", err
			}
			for _, name := range []string{"package.json", "package-lock.json", "run.mjs"} {
				if err := copyFile(filepath.Join(dir(k), name), filepath.Join(k.Root, "hack", "peers", "aedes", name)); err != nil {
					return "", err
				}
			}
			if _, err := os.Stat(filepath.Join(dir(k), "node_modules", "aedes")); err != nil {
				if _, err := run(ctx, dir(k), nil, "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"); err != nil {
					return "", err
				}
			}
			version, err := run(ctx, dir(k), nil, node, "--version")
			return "1.2.0, Node.js " + strings.TrimSpace(version), err
		},
		command: func(k *Kit, _ string, port int, _ Task) ([]string, []string, error) {
			return []string{"node", filepath.Join(dir(k), "run.mjs"), strconv.Itoa(port)}, nil, nil
		},
		unable: func(task Task) string {
			if task.Version == 5 {
				return "has no MQTT 5"
			}
			return ""
		},
		note: func(task Task) string {
			if task.Durable {
				return "in memory only"
			}
			return ""
		},
	}
}
