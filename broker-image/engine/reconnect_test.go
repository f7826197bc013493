// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/auth"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

// crowd is how many clients come back at once.
const crowd = 2000

// people are users with one password, and a verifier of the same kind each. Nothing is shared between them, as what is
// remembered is told apart by the name.
func people(t testing.TB, n int, password string, makeOne func(password, salt []byte) (string, error)) []contract.User {
	t.Helper()

	text, err := makeOne([]byte(password), []byte("saltsaltsaltsalt"))
	if err != nil {
		t.Fatal(err)
	}

	users := make([]contract.User, 0, n)
	for i := range n {
		users = append(users, contract.User{
			Username: fmt.Sprintf("device-%05d", i), Verifiers: []string{strings.Clone(text)}, ACL: []acl.Rule{allow("a/%u/#")},
		})
	}

	return users
}

// rush connects everybody at once and gives how long it took until the last was in. It keeps nobody.
func (h *house) rush(b testing.TB, users []contract.User, password string) time.Duration {
	b.Helper()

	address := h.address("tcp")
	results := make(chan error, len(users))
	start := time.Now()

	for i := range users {
		go func() {
			// As clients do: who is not let in comes again.
			var err error
			for range 10 {
				if err = enterAs(address, users[i].Username, password); err == nil {
					break
				}
			}

			results <- err
		}()
	}

	for range users {
		if err := <-results; err != nil {
			b.Error(err)
		}
	}

	return time.Since(start)
}

func enterAs(address, name, password string) error {
	conn, err := net.DialTimeout("tcp", address, time.Minute)
	if err != nil {
		return err
	}
	defer conn.Close()

	_ = conn.SetDeadline(time.Now().Add(2 * time.Minute))

	if _, err := conn.Write(login{version: 5, id: name, user: name, password: password}.packet().encode()); err != nil {
		return err
	}

	ack := make([]byte, 4)
	if _, err := conn.Read(ack); err != nil {
		return err
	}

	if ack[3] != wire.Success {
		return fmt.Errorf("CONNACK %#x", ack[3])
	}

	return nil
}

// BenchmarkReconnect is 2,000 clients with a password each that come back at once after the broker has begun anew, and
// once more when it knows them. It prints the seconds until the last was in.
func BenchmarkReconnect(b *testing.B) {
	const password = "a password that somebody chose"

	for name, makeOne := range map[string]func(password, salt []byte) (string, error){
		"chosen": auth.NewArgon2id, "generated": auth.NewSHA256,
	} {
		b.Run(name, func(b *testing.B) {
			users := people(b, crowd, password, makeOne)

			var cold, warm time.Duration

			for b.Loop() {
				h := open(b, Options{}, baseConfig(users...))
				cold += h.rush(b, users, password)
				warm += h.rush(b, users, password)

				h.close()
			}

			b.ReportMetric(0, "ns/op")
			b.ReportMetric(cold.Seconds()/float64(b.N), "s/cold")
			b.ReportMetric(warm.Seconds()/float64(b.N), "s/remembered")
		})
	}
}

// heap is how many bytes are in use.
func heap() int64 {
	var m runtime.MemStats

	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)

	return int64(m.HeapAlloc)
}

// TestMemoryOfAUser: 10,000 users, as they come from a configuration, cost at most 2 KiB each. A user here has two
// verifiers and the rules of the manual's example.
func TestMemoryOfAUser(t *testing.T) {
	const count, most = 10_000, 2048

	users := people(t, count, "x", auth.NewSHA256)

	scram, err := auth.NewSCRAM([]byte("x"), []byte("saltsaltsaltsalt"), auth.MinIterations)
	if err != nil {
		t.Fatal(err)
	}

	for i := range users {
		users[i].Verifiers = append(users[i].Verifiers, scram)
		users[i].ACL = []acl.Rule{
			only(acl.Publish, "factory/"+users[i].Username+"/#"), only(acl.Subscribe, "factory/"+users[i].Username+"/orders"),
			allow("devices/%u/%c/#"), deny("$SYS/#"),
		}
	}

	bundle, err := contract.Render(baseConfig(users...), 16)
	if err != nil {
		t.Fatal(err)
	}

	users = nil
	before := heap()

	config, err := contract.Parse(bundle)
	if err != nil {
		t.Fatal(err)
	}

	s, err := compile(config, nil, nil)
	if err != nil {
		t.Fatal(err)
	}

	config = nil
	each := (heap() - before) / count

	t.Logf("%d bytes each", each)

	if each > most {
		t.Errorf("a user takes up %d bytes, at most %d are allowed", each, most)
	}

	runtime.KeepAlive(s)
	runtime.KeepAlive(bundle)
	runtime.KeepAlive(users)
	runtime.KeepAlive(config)
}
