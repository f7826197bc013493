// SPDX-License-Identifier: Apache-2.0

package bridges

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestRefusals is of peers that end a connection of 3.1.1 over a message that is too large for them, which is all that
// this version lets them say: the message is given up and counted, and all others arrive in their order.
func TestRefusals(t *testing.T) {
	if standIn {
		t.Skip("Mosquitto's bridge sends the message for ever")
	}

	const takes = 2000 // bytes

	for name, command := range map[string]func(t *testing.T, r *remote) []string{
		"mosquitto": func(t *testing.T, r *remote) []string {
			t.Helper()

			config := mosquittoConfig(r.dir, r.port, false) + fmt.Sprintf("max_packet_size %d\n", takes)

			return []string{mosquittoPath, "-c", file(t, r.dir, "mosquitto.conf", config)}
		},
		"nats": func(t *testing.T, r *remote) []string {
			t.Helper()

			config := file(t, r.dir, "nats.conf", fmt.Sprintf(`server_name: refuses
listen: 127.0.0.1:-1
max_payload: %d
jetstream { store_dir: %q }
mqtt { listen: %q }
`, takes, filepath.Join(r.dir, "store"), loopback(r.port)))

			return []string{filepath.Join(programs, "nats-server"), "-c", config}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			strict := peer{name: name, mqtt: []int{4}, qos: 1, command: func(t *testing.T, r *remote) ([]string, []string) {
				t.Helper()

				return command(t, r), nil
			}}
			r := strict.run(t, false)
			s := newSite(t, r.end(4), 1)

			var (
				mu   sync.Mutex
				came []string
			)

			sink, err := dial(t.Context(), r.end(4), options{id: "sink", receive: func(m message) {
				mu.Lock()
				defer mu.Unlock()

				came = append(came, string(m.payload))
			}})
			if err != nil {
				t.Fatal(err)
			}

			defer sink.close()

			if _, err := sink.subscribe(t.Context(), outRemote+"#", 1); err != nil {
				t.Fatal(err)
			}

			source, err := dial(t.Context(), s.local, options{id: "source"})
			if err != nil {
				t.Fatal(err)
			}

			defer source.close()

			say := func(topic string, payload []byte) {
				if err := source.publish(t.Context(), outLocal+topic, 1, false, payload); err != nil {
					t.Fatal(err)
				}
			}

			eventually(t, "the bridge works", func() bool {
				say("first", []byte("first"))
				mu.Lock()
				defer mu.Unlock()

				return len(came) > 0
			})

			var want []string

			for n := range 30 {
				text := fmt.Sprintf("%02d", n)
				want = append(want, text)

				say("small", []byte(text))

				if n%10 == 5 {
					say("large", bytes.Repeat([]byte("x"), 2*takes))
				}
			}

			numbers := func() (list []string) {
				mu.Lock()
				defer mu.Unlock()

				seen := map[string]bool{"first": true}

				for _, text := range came { // QoS 1 may come twice where a connection ended
					if !seen[text] {
						list = append(list, text)
					}

					seen[text] = true
				}

				return list
			}
			eventually(t, "all small ones arrive", func() bool { return len(numbers()) >= len(want) })

			if got := numbers(); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%v arrived, want %v", got, want)
			}

			eventually(t, "the large ones are counted", func() bool {
				return strings.Contains(metrics(s.health), `reason="ConnectionClosed",route="out"} 3`)
			})
		})
	}
}
