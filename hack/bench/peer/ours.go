// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"context"
	"os"
	"path/filepath"
	"strings"
)

// config lifts every limit that a scenario could meet.
const config = `{
 "format": "mqtt-operator.io/broker-config/v1", "name": "bench", "revision": 1, "parts": {},
 "listeners": [{
  "name": "bench", "protocol": "tcp", "address": "ADDRESS",
  "anonymous": {"acl": [{"effect": "allow", "actions": ["publish", "subscribe"], "filter": "#"}]}
 }],
 "limits": {
  "maxPacketSize": 1048576, "receiveMaximum": 1024, "topicAliasMaximum": 32, "maxSessionExpiry": 4294967295,
  "maxQueuedMessages": 10000000, "maxQueuedBytes": 68719476736, "maxTopicLevels": 128, "maxSubscriptions": 1000000,
  "maxRetainedMessages": 10000000, "maxRetainedBytes": 68719476736
 },
 "persistence": {"sync": "always"},
 "logging": {"level": "warn", "format": "text"}
}
`

func ours() *Peer {
	return &Peer{
		Name: "ours", Title: "mqtt-broker (this repository)",
		Settings: "as shipped, always with a data directory and `sync: always`; queue and retained limits lifted; anonymous, under one access rule",
		prepare: func(ctx context.Context, k *Kit) (string, error) {
			if k.Binary == "" {
				path, err := k.build(ctx, "mqtt-broker", ".", "./broker-image/cmd/mqtt-broker")
				if err != nil {
					return "", err
				}
				k.Binary = path
			}
			revision, err := run(ctx, k.Root, nil, "git", "describe", "--always", "--dirty", "--tags")
			if err != nil {
				revision = "unknown revision"
			}
			return strings.TrimSpace(revision), nil
		},
		command: func(k *Kit, dir string, port int, _ Task) ([]string, []string, error) {
			settings := filepath.Join(dir, "config")
			if err := os.MkdirAll(settings, 0o700); err != nil {
				return nil, nil, err
			}
			data := filepath.Join(dir, "data")
			if err := os.MkdirAll(data, 0o700); err != nil {
				return nil, nil, err
			}
			_, err := write(settings, "broker.json", strings.ReplaceAll(config, "ADDRESS", loopback(port)))
			return []string{k.Binary, "dev", "--config", settings, "--data", data}, nil, err
		},
		slow: slowStart,
	}
}

func relay() *Peer {
	return &Peer{
		Name: "relay", Title: "relay (no broker)",
		Settings: "the generator's own loop handing messages on, with nothing else; it shows the ceiling of the generator and of the machine",
		prepare:  func(context.Context, *Kit) (string, error) { return "part of the bench", nil },
		command: func(k *Kit, _ string, port int, _ Task) ([]string, []string, error) {
			return []string{k.Self, "relay", "-listen", loopback(port)}, nil, nil
		},
		unable: func(task Task) string {
			if task.Durable {
				return "stores nothing"
			}
			return ""
		},
	}
}
