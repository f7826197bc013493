// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/auth"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/pki"
)

// stormHost is the name in the certificate of the storm's broker.
const stormHost = "storm.test"

// crowd are the clients of a storm and the broker that they know.
type crowd struct {
	*bench

	dir     string
	packets [][]byte
	plain   string
	tls     string
	health  string
	trust   *tls.Config
	process *process
}

// measureStorm lets many clients in at once: when the broker has just started and when it knows them, from before or since
// its start.
func (b *bench) measureStorm(ctx context.Context) error {
	hashes := []struct {
		name string
		hash func(password, salt []byte) (string, error)
		// kept: spec.authentication.passwordCache is Volume, and all have been in before the restart.
		kept, goal bool
	}{
		{name: "chosen passwords (argon2id)", hash: auth.NewArgon2id, goal: true},
		{name: "chosen passwords (argon2id), passwordCache: Volume", hash: auth.NewArgon2id, kept: true, goal: true},
		{name: "generated passwords (SHA-256)", hash: auth.NewSHA256},
	}
	result := table{
		title: fmt.Sprintf("%d clients at once", b.clients),
		note:  "From the first of them to the last CONNACK; a client that finds its connection closed comes again at once. The clients run on the same machine.",
		head:  []string{"clients", "the broker has just started", "again, it knows them", "the same over TLS, just started", "again", "tries too many"},
	}
	for _, h := range hashes {
		c, err := b.newCrowd(ctx, h.hash, h.kept)
		if err != nil {
			return err
		}
		if h.kept {
			if err := c.acquaint(ctx); err != nil {
				return err
			}
		}
		var took []time.Duration
		retries := int64(0)
		for _, overTLS := range []bool{false, true} {
			if err := c.restart(ctx); err != nil {
				return err
			}
			for range 2 { // cold, warm
				again, lasted, err := c.rush(ctx, overTLS)
				if err != nil {
					c.process.stop()
					return err
				}
				took, retries = append(took, lasted), retries+again
			}
		}
		c.process.stop()
		target, v := "", verdict("")
		if h.goal {
			target, v = "≤ 10 s", judge(max(took[0], took[1], took[2], took[3]) <= 10*time.Second)
		}
		start := "cold"
		if h.kept {
			start = "restarted"
		}
		b.report.row(fmt.Sprintf("%d clients with %s reconnect after a restart of the broker", b.clients, h.name), target,
			fmt.Sprintf("%[1]s %[2]s, warm %[3]s; over TLS %[1]s %[4]s, warm %[5]s", start, secondsOf(took[0]), secondsOf(took[1]), secondsOf(took[2]), secondsOf(took[3])), v)
		result.lines = append(result.lines, []string{h.name, secondsOf(took[0]), secondsOf(took[1]), secondsOf(took[2]), secondsOf(took[3]), strconv.FormatInt(retries, 10)})
	}
	b.report.tables = append(b.report.tables, result)
	return nil
}

// newCrowd writes a configuration in which every client has a user of its own.
func (b *bench) newCrowd(ctx context.Context, hash func(password, salt []byte) (string, error), kept bool) (*crowd, error) {
	c := &crowd{bench: b, packets: make([][]byte, b.clients)}
	var err error
	if c.dir, err = os.MkdirTemp(b.dir, "storm-"); err != nil {
		return nil, err
	}
	for _, place := range []*string{&c.plain, &c.tls, &c.health} {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		*place = address("127.0.0.1", port)
	}
	b.sayf("hashing %d passwords", b.clients)
	users := make([]contract.User, b.clients)
	err = each(ctx, b.clients, func(_ context.Context, i int) error {
		name, password := fmt.Sprintf("user-%05d", i), fmt.Appendf(nil, "password %d", i)
		verifier, err := hash(password, nil)
		c.packets[i] = connectPacket(name, name, password)
		users[i] = contract.User{Username: name, Verifiers: []string{verifier}, ACL: []acl.Rule{
			{Effect: acl.Allow, Actions: []acl.Action{acl.Publish, acl.Subscribe}, Filter: "devices/%u/#"},
		}}
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := c.configure(users, kept); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *crowd) configure(users []contract.User, kept bool) error {
	authentication := contract.Authentication{}
	if kept {
		authentication.PasswordCache = contract.PasswordCacheVolume
	}
	now := time.Now()
	ca, err := pki.NewCA("storm", now)
	if err != nil {
		return err
	}
	pair, err := pki.Issue(ca, pki.Request{CommonName: stormHost, DNSNames: []string{stormHost}, Server: true}, now)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.Certificate)
	c.trust = &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: stormHost}
	bundle, err := contract.Render(&contract.Config{
		Broker: contract.Broker{
			Format: contract.Format, Name: "bench/storm", Revision: 1, Limits: contract.DefaultLimits(), Logging: contract.DefaultLogging(),
			Authentication: authentication,
			Listeners: []contract.Listener{
				{Name: "mqtt", Protocol: contract.TCP, Address: c.plain},
				{Name: "mqtts", Protocol: contract.TLS, Address: c.tls, TLS: &contract.ListenerTLS{Pair: "mqtts", MinVersion: "1.3"}},
			},
		},
		Pairs: map[string]contract.KeyPair{"mqtts": {Certificate: string(pair.Certificate), PrivateKey: string(pair.Key)}},
		Users: users,
	}, contract.Shards(users, 1))
	if err != nil {
		return err
	}
	return writeFiles(c.dir, bundle)
}

// acquaint has a broker learn every password once. What it takes is what the row without a kept cache shows as cold.
func (c *crowd) acquaint(ctx context.Context) error {
	if err := c.restart(ctx); err != nil {
		return err
	}
	if _, _, err := c.rush(ctx, false); err != nil {
		c.process.stop()
		return err
	}
	return nil
}

// restart ends the broker, if there is one, and starts it.
func (c *crowd) restart(ctx context.Context) error {
	if c.process != nil {
		c.process.stop()
	}
	var err error
	c.process, err = c.spawn.start(c.dir, "broker", nil, c.broker, "serve", "--config-dir", c.dir, "--data", filepath.Join(c.dir, "data"), "--admin-listen", "", "--health-listen", c.health)
	if err != nil {
		return err
	}
	return c.process.ready(ctx, c.health)
}

// rush connects all clients at once, waits until the last is in, and closes all connections. again counts the tries that
// were not a client's first.
func (c *crowd) rush(ctx context.Context, overTLS bool) (again int64, took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	at, trust := c.plain, (*tls.Config)(nil)
	if overTLS {
		at, trust = c.tls, c.trust
	}
	var (
		tries atomic.Int64
		all   sync.WaitGroup
		conns = make([]net.Conn, len(c.packets))
		errs  = make([]error, len(c.packets))
		begin = make(chan struct{})
	)
	for i := range c.packets {
		all.Go(func() {
			<-begin
			errs[i] = until(ctx, time.Millisecond, func() error {
				tries.Add(1)
				conn, err := connect(ctx, nil, at, trust, c.packets[i])
				if err != nil {
					return notYet{fmt.Errorf("client %d: %w", i, err)}
				}
				conns[i] = conn
				return nil
			})
		})
	}
	start := time.Now()
	close(begin)
	all.Wait()
	took = time.Since(start)
	for i, conn := range conns {
		if errs[i] != nil {
			err = errs[i]
		}
		if conn != nil {
			conn.Close()
		}
	}
	c.sayf("%d clients within %s", len(c.packets), secondsOf(took))
	return tries.Load() - int64(len(c.packets)), took, err
}
