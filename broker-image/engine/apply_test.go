// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/auth"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// promise is how soon a change of users must be felt. The tests measure it where the machine is not the limit.
const promise = time.Second

func TestApplyDisconnectsWhomItMust(t *testing.T) {
	newVerifier, err := auth.NewSHA256([]byte("new"), nil)
	if err != nil {
		t.Fatal(err)
	}

	cases := map[string]struct {
		reason string
		change func(c *contract.Config)
		v5     int // the reason in DISCONNECT; 0 if the client stays
	}{
		"a user that is removed": {
			reason: "revoked", v5: 0x87,
			change: func(c *contract.Config) { c.Users = c.Users[1:] },
		},
		"a password that is replaced": {
			reason: "the old one may be in wrong hands", v5: 0x98,
			change: func(c *contract.Config) { c.Users[0].Verifiers = []string{newVerifier} },
		},
		"a password that gets a companion": {
			reason: "a rotation must disturb nobody",
			change: func(c *contract.Config) {
				c.Users[0].Verifiers = append([]string{newVerifier}, c.Users[0].Verifiers...)
			},
		},
		"rules that change": {
			reason: "rules are narrowed without a disconnect",
			change: func(c *contract.Config) { c.Users[0].ACL = []acl.Rule{allow("b")} },
		},
		"another user": {
			reason: "not this client's business",
			change: func(c *contract.Config) { c.Users = append(c.Users, person(t, "new", allow("#"))) },
		},
		"limits": {
			reason: "they hold for the next packet",
			change: func(c *contract.Config) { c.Limits.MaxPacketSize = 2048 },
		},
		"a listener that is removed": {
			reason: "the door is closed", v5: 0x98,
			change: func(c *contract.Config) { c.Listeners[0].Name = "other" },
		},
		"another listener": {
			reason: "not this client's business",
			change: func(c *contract.Config) {
				c.Listeners = append(c.Listeners, contract.Listener{Name: "more", Protocol: contract.TCP, Address: "127.0.0.1:0"})
			},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h := open(t, Options{}, baseConfig(person(t, "anna", allow("#")), person(t, "otto", allow("#"))))
			v5, v3, other := h.user("anna"), h.user3("anna"), h.user("otto")
			v5.alive()

			start := time.Now()

			h.mustApply(c.change)

			if c.v5 == 0 {
				v5.nothing(c.reason)
				v3.nothing(c.reason)
				other.nothing(c.reason)

				return
			}

			if got := v5.expectClosed(); got != c.v5 {
				t.Errorf("%s: DISCONNECT %#x, want %#x", c.reason, got, c.v5)
			}

			v3.expectClosed()

			if took := time.Since(start); took > promise {
				t.Logf("it took %v; the promise is %v, on a machine that does nothing else", took, promise)
			}

			if !strings.Contains(name, "listener") {
				other.nothing("the others must not notice")
			}
		})
	}
}

func TestASilentClientIsCutOffToo(t *testing.T) {
	h := open(t, Options{}, baseConfig(person(t, "anna", allow("#"))))
	h.user("anna") // reads nothing any more
	h.mustApply(func(c *contract.Config) { c.Users = nil })
	eventually(t, "a client that does not read must be cut off", func() bool { return h.Status().Connections == 0 })
}

func TestListenersComeAndGo(t *testing.T) {
	h := open(t, Options{}, baseConfig(person(t, "anna", allow("#"))))
	anna := h.user("anna")
	before := h.address("tcp")

	h.mustApply(func(c *contract.Config) {
		c.Pairs = map[string]contract.KeyPair{"one": keyPair(t, 1)}
		c.Listeners = append(c.Listeners, contract.Listener{
			Name: "tls", Protocol: contract.TLS, Address: "127.0.0.1:0", TLS: &contract.ListenerTLS{Pair: "one", MinVersion: "1.3"},
		})
	})

	serial := func(c *tls.Conn) int64 { return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64() }

	secured := h.secure("tls")
	p := newPeer(t, secured, 5)
	p.send(login{version: 5, id: "s", user: "anna", password: "anna"}.packet())
	p.expect(tConnack)

	at := h.address("tls")

	h.mustApply(func(c *contract.Config) { c.Pairs["one"] = keyPair(t, 2) })

	if got := serial(h.secure("tls")); got != 2 || h.address("tls") != at {
		t.Errorf("certificate %d at %s, want 2 at %s", got, h.address("tls"), at)
	}

	p.nothing("a new certificate must not touch open connections")
	anna.nothing("another listener must not touch this one")

	h.mustApply(func(c *contract.Config) { c.Listeners = c.Listeners[:1] })

	if got := p.expectClosed(); got != 0x98 {
		t.Errorf("DISCONNECT %#x, want 0x98", got)
	}

	if conn, err := net.Dial("tcp", at); err == nil {
		_ = conn.Close()
		t.Error("a listener that is removed must not accept")
	}

	anna.nothing("the first listener must not notice")

	if h.address("tcp") != before {
		t.Error("a listener that does not change keeps its socket")
	}
}

func TestApplyIsAllOrNothing(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()

	pair := keyPair(t, 1)
	mixed := contract.KeyPair{Certificate: pair.Certificate, PrivateKey: keyPair(t, 2).PrivateKey}

	cases := map[string]struct {
		change func(c *contract.Config)
		want   string
	}{
		"an address that is taken": {
			func(c *contract.Config) {
				c.Listeners = append(c.Listeners,
					contract.Listener{Name: "ok", Protocol: contract.TCP, Address: "127.0.0.1:0"},
					contract.Listener{Name: "bad", Protocol: contract.TCP, Address: taken.Addr().String()})
			}, `listener "bad": address ` + taken.Addr().String(),
		},
		"a key that does not fit": {
			func(c *contract.Config) {
				c.Pairs = map[string]contract.KeyPair{"p": mixed}
				c.Listeners = append(c.Listeners, contract.Listener{
					Name: "tls", Protocol: contract.TLS, Address: "127.0.0.1:0", TLS: &contract.ListenerTLS{Pair: "p", MinVersion: "1.3"},
				})
			}, `listeners[1] "tls": tls.pair "p"`,
		},
		"a verifier that is none": {
			func(c *contract.Config) { c.Users[1].Verifiers = []string{"hunter2"} }, `user "otto": verifiers[0]: `,
		},
		"a rule that is none": {
			func(c *contract.Config) { c.Users[1].ACL = []acl.Rule{allow("ok"), allow("a/#/b")} }, `user "otto": acl[1].filter: `,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h := open(t, Options{}, baseConfig(person(t, "anna", allow("#")), person(t, "otto", allow("#"))))
			anna := h.user("anna")

			err := h.apply(func(config *contract.Config) {
				config.Users[0] = person(t, "anna") // would narrow anna, if it were applied
				c.change(config)
			})
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Fatalf("got %v, want an error that begins with %s", err, c.want)
			}

			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error must hold no secret: %v", err)
			}

			if code := anna.published("a", "", false); code != 0 {
				t.Errorf("the old rules must hold, got %#x", code)
			}

			if n := len(h.Status().Listeners); n != 1 {
				t.Errorf("%d listeners, want 1", n)
			}

			h.user("otto")
		})
	}
}

func TestAConfigurationThatComesDuringConnect(t *testing.T) {
	h := open(t, Options{}, baseConfig(person(t, "anna", allow("#"))))

	// What join does for a client that was let in under an older configuration.
	p := h.user("anna")
	p.alive()

	m := h.allMembers()[0]
	next := *h.state.Load()
	next.users = map[string]*user{}
	h.state.Store(&next)
	r := h.borrow()
	h.examine(r, m, h.state.Load())
	h.giveBack(r)

	if got := p.expectClosed(); got != 0x87 {
		t.Errorf("DISCONNECT %#x, want 0x87", got)
	}
}

func TestShutdown(t *testing.T) {
	h := open(t, Options{DataDir: t.TempDir()}, baseConfig(person(t, "anna", allow("#"))))
	v5, v3 := h.user("anna"), h.user3("anna")
	half := h.dial("tcp")

	v5.alive()
	v3.alive()
	eventually(t, "the half-open connection must be known", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()

		return len(h.members) == 3
	})

	address := h.address("tcp")
	h.close()

	if got := v5.expectClosed(); got != 0x8B {
		t.Errorf("DISCONNECT %#x, want 0x8B", got)
	}

	v3.expectClosed()

	if _, err := half.Read(make([]byte, 1)); err == nil {
		t.Error("a half-open connection must not hold up the end")
	}

	if conn, err := net.Dial("tcp", address); err == nil {
		_ = conn.Close()
		t.Error("the listener must be closed")
	}

	if err := h.Apply(h.config); err != ErrStopped { //nolint:errorlint // exact on purpose
		t.Errorf("Apply after the end: %v", err)
	}
}

func TestProbe(t *testing.T) {
	h := open(t, Options{DataDir: t.TempDir()}, baseConfig())

	if _, err := h.Targets(); err != nil {
		t.Fatal(err)
	}

	c := h.ProbeCredential()
	p := h.login(login{version: 4, user: c.Username, password: c.Password})
	p.alive()

	if s := h.Status(); s.Connections != 0 || s.Sessions != 0 {
		t.Errorf("a probe must not be counted: %+v", s)
	}

	if got := p.subscribe(0, "#"); got[0] != 0x80 {
		t.Errorf("a probe may do nothing, got %#x", got[0])
	}

	if _, ack := h.knock(login{user: c.Username, password: "guess"}); ack.body[1] != 0x86 {
		t.Errorf("CONNACK %#x", ack.body[1])
	}
}
