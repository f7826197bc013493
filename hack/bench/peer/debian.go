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
	"time"
)

// slowStart is how long brokers may take that read a store first.
const slowStart = 2 * time.Minute

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// installed makes sure of a Debian package, and that its service does not run because of us.
func (k *Kit) installed(ctx context.Context, pkg, file string) (version string, err error) {
	if _, err := os.Stat(file); err != nil {
		if err := k.install(ctx, pkg); err != nil {
			return "", fmt.Errorf("%s is missing: %w", file, err)
		}
	}
	version, err = run(ctx, "/", nil, "dpkg-query", "--show", "--showformat=${Version}", pkg)
	if err != nil {
		return "unknown version", nil //nolint:nilerr // not Debian, but the program is there
	}
	return "Debian " + strings.TrimSpace(version), nil
}

func (k *Kit) install(ctx context.Context, pkg string) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("run as root: apt-get install --no-install-recommends %s", pkg)
	}
	k.Say("installing the Debian package %s", pkg)
	apt := func(args ...string) error {
		_, err := run(ctx, "/", []string{"DEBIAN_FRONTEND=noninteractive"}, append([]string{"apt-get", "--quiet"}, args...)...)
		return err
	}
	install := []string{"install", "--yes", "--no-install-recommends", pkg}
	if apt(install...) != nil { // the likely reason is an old package list
		if err := errors.Join(apt("update"), apt(install...)); err != nil {
			return err
		}
	}
	if _, err := exec.LookPath("systemctl"); err == nil {
		// Fails where systemd does not run, and then there is no service either.
		_, _ = run(ctx, "/", nil, "systemctl", "disable", "--now", pkg)
	}
	return nil
}

const mosquittoPath = "/usr/sbin/mosquitto"

func mosquittoConfig(port int, more string) string {
	return fmt.Sprintf(`listener %d 127.0.0.1
allow_anonymous true
set_tcp_nodelay true
max_queued_messages 0
max_queued_bytes 0
max_inflight_messages 0
max_inflight_bytes 0
user root
log_dest stderr
log_type error
log_type warning
%s`, port, more)
}

func mosquitto() *Peer {
	return &Peer{
		Name: "mosquitto", Title: "Mosquitto",
		Settings: "`persistence false`, `set_tcp_nodelay true`, `max_queued_messages 0`, `max_inflight_messages 0`, `allow_anonymous true`",
		prepare: func(ctx context.Context, k *Kit) (string, error) {
			return k.installed(ctx, "mosquitto", mosquittoPath)
		},
		command: func(_ *Kit, dir string, port int, _ Task) ([]string, []string, error) {
			path, err := write(dir, "mosquitto.conf", mosquittoConfig(port, "persistence false\n"))
			return []string{mosquittoPath, "-c", path}, nil, err
		},
		note: func(task Task) string {
			if task.Durable {
				return "in memory only: persistence is off"
			}
			return ""
		},
	}
}

func mosquittoDisk() *Peer {
	p := mosquitto()
	p.Name, p.Title, p.Only = "mosquitto-disk", "Mosquitto, persistent", true
	p.Settings = "as Mosquitto, but `persistence true`, `autosave_on_changes true`, `autosave_interval 1`: the whole store is written again after each change, without fsync"
	p.command = func(_ *Kit, dir string, port int, _ Task) ([]string, []string, error) {
		more := fmt.Sprintf("persistence true\npersistence_location %s/\nautosave_on_changes true\nautosave_interval 1\n", dir)
		path, err := write(dir, "mosquitto.conf", mosquittoConfig(port, more))
		return []string{mosquittoPath, "-c", path}, nil, err
	}
	p.note = func(task Task) string {
		if task.Durable {
			return "written to disk, not synced"
		}
		return ""
	}
	p.slow = slowStart
	return p
}

const rabbitmqPath = "/usr/lib/rabbitmq/bin/rabbitmq-server"

func rabbitmq() *Peer {
	return &Peer{
		Name: "rabbitmq", Title: "RabbitMQ",
		Settings: "plugin `rabbitmq_mqtt` alone, `mqtt.prefetch = 65535`, `mqtt.tcp_listen_options.nodelay = true`, no memory watermark below 80 %; own node, not a service",
		prepare: func(ctx context.Context, k *Kit) (string, error) {
			return k.installed(ctx, "rabbitmq-server", rabbitmqPath)
		},
		command: func(_ *Kit, dir string, port int, _ Task) ([]string, []string, error) {
			settings := fmt.Sprintf(`listeners.tcp = none
mqtt.listeners.tcp.default = 127.0.0.1:%d
mqtt.allow_anonymous = true
mqtt.prefetch = 65535
mqtt.tcp_listen_options.nodelay = true
mqtt.tcp_listen_options.backlog = 4096
vm_memory_high_watermark.relative = 0.8
disk_free_limit.absolute = 50MB
log.file = false
log.console = true
log.console.level = warning
`, port)
			_, err1 := write(dir, "rabbitmq.conf", settings)
			_, err2 := write(dir, "enabled_plugins", "[rabbitmq_mqtt].\n")
			// The cookie lets nodes speak with each other; this one speaks with none.
			cookie := filepath.Join(dir, ".erlang.cookie")
			var err3 error
			if _, err := os.Stat(cookie); err != nil {
				err3 = os.WriteFile(cookie, []byte("bench"), 0o400)
			}
			env := []string{
				"HOME=" + dir, "RABBITMQ_BASE=" + dir, "RABBITMQ_NODENAME=bench" + strconv.Itoa(port) + "@localhost",
				"RABBITMQ_MNESIA_BASE=" + filepath.Join(dir, "mnesia"), "RABBITMQ_LOG_BASE=" + dir,
				"RABBITMQ_CONFIG_FILE=" + filepath.Join(dir, "rabbitmq"), "RABBITMQ_ENABLED_PLUGINS_FILE=" + filepath.Join(dir, "enabled_plugins"),
				"RABBITMQ_CONF_ENV_FILE=/dev/null", "RABBITMQ_PID_FILE=" + filepath.Join(dir, "pid"),
				// Without this a shell stands between us and the node, and the node would outlive a kill.
				"RUNNING_UNDER_SYSTEMD=true",
				"ERL_EPMD_PORT=" + strconv.Itoa(port-10_000), "ERL_EPMD_ADDRESS=127.0.0.1", "RABBITMQ_DIST_PORT=" + strconv.Itoa(port+10_000),
			}
			// A node starts the daemon that maps names to ports, and the daemon would outlive it. So there is one already, as
			// the node's child, on a port of its own, which is killed when its parent ends.
			script := fmt.Sprintf("setpriv --pdeathsig KILL epmd -port %d & exec %s", port-10_000, rabbitmqPath)
			return []string{"/bin/sh", "-c", script}, env, errors.Join(err1, err2, err3)
		},
		unable: func(task Task) string {
			switch {
			case task.Version == 5:
				return "version 3.10 has no MQTT 5"
			case task.QoS == 2:
				return "downgrades QoS 2 to 1"
			default:
				return ""
			}
		},
		note: func(task Task) string {
			if task.Durable {
				return "durable queue: confirmed after it is on disk"
			}
			return ""
		},
		slow: slowStart,
	}
}
