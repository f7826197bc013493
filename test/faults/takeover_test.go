// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

// TestTakeover lets 50 connections come with one client identifier at once. One is left, it has the session, and
// everything that was acknowledged comes.
func TestTakeover(t *testing.T) {
	const (
		crowd    = 50
		messages = 500
	)

	for name, tc := range map[string]struct{ data bool }{
		"sessions on disk":   {true},
		"sessions in memory": {false},
	} {
		t.Run(name, func(t *testing.T) {
			s := setup{config: plain(t, nil), metrics: true}
			if tc.data {
				s.data = t.TempDir()
			}

			b := start(t, s)
			at := b.at["tcp"]
			one := who{id: "one", keep: true}

			c := join(t, at, one)
			if err := c.subscribe("for/one", 1); err != nil {
				t.Fatal(err)
			}

			var (
				all     sync.WaitGroup
				problem sync.Map
				clients [crowd]*client
				seen    [messages]bool
				mu      sync.Mutex
				alive   int
			)

			// Nobody reads for now, so nothing is acknowledged.
			for i := range crowd {
				all.Go(func() {
					c, err := dial(at, one)
					if err != nil {
						// Taken over before CONNACK was out.
						if !strings.Contains(err.Error(), "EOF") && !strings.Contains(err.Error(), "reset") && !strings.Contains(err.Error(), "type 14") {
							problem.Store(i, err.Error())
						}

						return
					}

					if !c.resumed {
						problem.Store(i, "no session")
					}

					clients[i] = c
				})
			}

			all.Go(func() {
				pub, err := dial(at, who{id: "pub", clean: true})
				if err != nil {
					problem.Store("pub", err.Error())

					return
				}
				defer pub.close()

				for i := range messages {
					if code, err := pub.publish("for/one", strconv.Itoa(i), wire.PublishHeader{QoS: 1, PacketID: 1}); err != nil || code != 0 {
						problem.Store("pub", fmt.Sprintf("message %d: %#x, %v", i, code, err))

						return
					}
				}
			})
			all.Wait()

			problem.Range(func(k, v any) bool { t.Errorf("%v: %v", k, v); return true })

			eventually(t, "one connection is left", func() (bool, string) {
				n := b.value(t, "connections")

				return n == 1, fmt.Sprintf("%v connections", n)
			})

			// Those that were thrown out come to an end of their stream; the one that is left gets everything.
			for _, c := range clients {
				if c == nil {
					continue
				}

				all.Go(func() {
					defer c.close()

					if left := listen(c, &mu, seen[:]); left {
						mu.Lock()
						alive++
						mu.Unlock()
					}
				})
			}

			all.Wait()

			if alive != 1 {
				t.Errorf("%d connections got everything to the end, wanted 1", alive)
			}

			for i, ok := range seen {
				if !ok {
					t.Errorf("message %d is lost", i)
				}
			}
		})
	}
}

// listen reads until the last message, which is the sign that it is the one that is left, or until the end.
func listen(c *client, mu *sync.Mutex, seen []bool) (left bool) {
	for {
		p, err := c.read(patience)
		if err != nil || wire.Type(p[0]) == wire.TypeDisconnect {
			return false
		}

		var m wire.Publish
		if wire.Type(p[0]) != wire.TypePublish || wire.ParsePublish(p, c.v(), &m) != nil {
			continue
		}

		i, err := strconv.Atoi(string(m.Payload))
		if err != nil || i >= len(seen) {
			return false
		}

		mu.Lock()
		seen[i] = true
		mu.Unlock()

		if c.obey(p) != nil {
			return false
		}

		if i == len(seen)-1 {
			return true
		}
	}
}
