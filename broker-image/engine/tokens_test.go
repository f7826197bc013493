// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/broker-image/listen/listentest"
	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
	"github.com/mqtt-operator/mqtt-operator/test/mint"
)

const (
	issuer1, issuer2 = "https://one.example", "https://two.example"
	theCluster       = "https://kubernetes.default.svc"
	pAuthData        = 0x16
)

// mints sign for the issuers of a tokenConfig.
type mints struct{ one, two, cluster *mint.Key }

// tokenConfig has two issuers and the cluster: the first gives rules along.
func tokenConfig(t testing.TB) (*contract.Config, mints) {
	t.Helper()

	m := mints{mint.NewKey(t, "k1", "ES256"), mint.NewKey(t, "k2", "ES256"), mint.NewKey(t, "k3", "ES256")}
	config := baseConfig(
		contract.User{Username: "anna", JWT: contract.AnyIssuer, ACL: []acl.Rule{deny("a/no"), allow("a/#")}},
		contract.User{Username: "otto", JWT: issuer2, ACL: []acl.Rule{allow("#")}},
		person(t, "paula", allow("#")),
		contract.User{Username: "press", ServiceAccount: "factory/press", ACL: []acl.Rule{allow("#")}},
		contract.User{Username: "left", ServiceAccount: "factory/twins", ACL: []acl.Rule{allow("left/#")}},
		contract.User{Username: "right", ServiceAccount: "factory/twins", ACL: []acl.Rule{allow("right/#")}},
		contract.User{Username: "gone", JWT: contract.AnyIssuer, Suspended: true, ACL: []acl.Rule{allow("#")}},
	)
	config.Authentication = contract.Authentication{
		JWT: []contract.TokenIssuer{
			{Issuer: issuer1, Audiences: []string{"mqtt"}, JWKS: mint.Set(m.one), ACLClaim: "acl"},
			{Issuer: issuer2, Audiences: []string{"mqtt", "more"}, JWKS: mint.Set(m.two), UsernameClaim: "name"},
		},
		ServiceAccounts: &contract.TokenIssuer{Issuer: theCluster, Audiences: []string{"mqtt"}, JWKS: mint.Set(m.cluster)},
	}

	return config, m
}

func (m mints) anna(life time.Duration) string {
	return m.one.Token(mint.Claims(issuer1, "mqtt", "anna", life), nil)
}

func (m mints) of2(name string, life time.Duration) string {
	claims := mint.Claims(issuer2, "mqtt", "x", life)
	claims["name"] = name

	return m.two.Token(claims, nil)
}

// claim is a token with rules of its own.
func (m mints) claim(name string, life time.Duration, rules ...acl.Rule) string {
	claims := mint.Claims(issuer1, "mqtt", name, life)
	claims["acl"] = rules

	return m.one.Token(claims, nil)
}

func (m mints) account(subject string) string {
	return m.cluster.Token(mint.Claims(theCluster, "mqtt", "system:serviceaccount:"+subject, time.Hour), nil)
}

// long frames properties of any length.
func long(parts ...[]byte) []byte {
	all := bytes.Join(parts, nil)

	return append(binary.AppendUvarint(nil, uint64(len(all))), all...)
}

func authProps(method, data string) []byte {
	return bytes.Join([][]byte{{pAuthMethod}, text(method), {pAuthData}, text(data)}, nil)
}

// enhanced begins an enhanced authentication, whose properties are too long for login.
func (h *house) enhanced(id, user, method, data string) (*peer, packet) {
	h.t.Helper()

	flags := byte(2)
	if user != "" {
		flags |= 128
	}

	body := append(text("MQTT"), 5, flags, 0, 0)
	body = append(append(body, long(authProps(method, data), u32prop(pExpiry, 3600))...), text(id)...)

	if user != "" {
		body = append(body, text(user)...)
	}

	p := newPeer(h.t, h.dial("tcp"), 5)
	p.send(packet{kind: tConnect, body: body})

	ack := p.expect(tConnack)

	return p, ack
}

func again(method, data string) packet {
	return packet{kind: tAuth, body: append([]byte{wire.ReAuthenticate}, long(authProps(method, data))...)}
}

func TestTokenLogins(t *testing.T) {
	config, m := tokenConfig(t)
	config.Listeners = append(config.Listeners, contract.Listener{
		Name: "no", Protocol: contract.TCP, Address: "127.0.0.1:0", Methods: []contract.Method{contract.MethodPassword},
	})

	log := &logbook{}
	h := open(t, Options{Log: log.logger()}, config)
	other := mint.NewKey(t, "k1", "ES256")

	const bad = 0x86

	for name, c := range map[string]struct {
		reason      string
		user, token string
		code        byte
		counted     string // the reason in metrics
	}{
		"a token":                              {"", "anna", m.anna(time.Hour), 0, ""},
		"a token alone":                        {"the username is in it", "", m.anna(time.Hour), 0, ""},
		"a name that is not in it":             {"", "otto", m.anna(time.Hour), bad, "bad_token"},
		"of the issuer that the user names":    {"", "otto", m.of2("otto", time.Hour), 0, ""},
		"of another issuer than the user's":    {"", "otto", m.claim("otto", time.Hour, allow("#")), bad, "bad_token"},
		"of a user who has a password":         {"a user logs in only in the ways that it says", "paula", m.anna(time.Hour), bad, "bad_token"},
		"with the name of one with a password": {"rules of its own change nothing", "", m.claim("paula", time.Hour, allow("#")), bad, "bad_token"},
		"with the name of a ServiceAccount's":  {"", "", m.claim("press", time.Hour, allow("#")), bad, "bad_token"},
		"of nobody":                            {"", "", m.of2("nobody", time.Hour), bad, "unknown_user"},
		"of nobody, with rules":                {"aclClaim needs no user", "", m.claim("nobody", time.Hour, allow("#")), 0, ""},
		"of a suspended user":                  {"", "", m.of2("gone", time.Hour), bad, "bad_token"},
		"expired":                              {"", "", m.anna(-time.Second), bad, "expired_token"},
		"of an issuer that nobody knows":       {"", "", m.one.Token(mint.Claims("https://evil.example", "mqtt", "anna", time.Hour), nil), bad, "unknown_issuer"},
		"of one issuer in the name of another": {"", "", m.two.Token(mint.Claims(issuer1, "mqtt", "anna", time.Hour), nil), bad, "bad_token"},
		"with another's key":                   {"", "", other.Token(mint.Claims(issuer1, "mqtt", "anna", time.Hour), nil), bad, "bad_token"},
		"with an audience of another issuer's": {"", "", m.one.Token(mint.Claims(issuer1, "more", "anna", time.Hour), nil), bad, "bad_token"},
		"of a ServiceAccount":                  {"", "", m.account("factory:press"), 0, ""},
		"of a ServiceAccount, with its name":   {"", "press", m.account("factory:press"), 0, ""},
		"of another ServiceAccount":            {"", "press", m.account("factory:twins"), bad, "bad_token"},
		"of a ServiceAccount elsewhere":        {"", "", m.account("other:press"), bad, "unknown_user"},
		"of two users, one named":              {"", "right", m.account("factory:twins"), 0, ""},
		"of two users, none named":             {"", "", m.account("factory:twins"), bad, "bad_token"},
		"in the form of one":                   {"", "anna", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm5hIn0.x", bad, "bad_token"},
		"too long":                             {"", "", "eyJ" + strings.Repeat("a", contract.MaxTokenBytes) + ".b.c", bad, "bad_token"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, version := range []byte{5, 4} {
				if version == 4 && c.user == "" {
					continue // MQTT 3.1.1 has no password without a username [MQTT-3.1.2-22]
				}

				before := scrape(h)

				p, ack := h.knock(login{version: version, id: "c", user: c.user, password: c.token})

				want := c.code
				if version == 4 && want != 0 {
					want = 5
				}

				if ack.body[1] != want {
					t.Errorf("MQTT %d: CONNACK %#x, want %#x\n%s\n%s", version, ack.body[1], want, c.reason, log)
				}

				if c.counted != "" && counter(t, scrape(h), c.counted) != counter(t, before, c.counted)+1 {
					t.Errorf("it must be counted as %s", c.counted)
				}

				if want == 0 {
					p.bye()
				}

				p.expectClosed()

				if strings.Contains(log.String(), c.token) || len(c.token) > 40 && strings.Contains(log.String(), c.token[:40]) {
					t.Errorf("the log shows a token:\n%s", log)
				}
			}
		})
	}

	t.Run("where the listener takes none", func(t *testing.T) {
		p := newPeer(t, h.dial("no"), 5)
		p.send(login{version: 5, id: "c", user: "anna", password: m.anna(time.Hour)}.packet())

		if ack := p.expect(tConnack); ack.body[1] != bad {
			t.Errorf("CONNACK %#x: it is a password there, and a wrong one", ack.body[1])
		}
	})

	h.user("paula").alive() // a password beside tokens
}

func counter(t *testing.T, scraped, reason string) (n int) {
	t.Helper()

	_, rest, ok := strings.Cut(scraped, `mqtt_broker_auth_failures_total{reason="`+reason+`"} `)
	if _, err := fmt.Sscan(rest, &n); err != nil || !ok {
		t.Fatalf("no counter %s: %v", reason, err)
	}

	return n
}

func TestEnhancedTokenLogins(t *testing.T) {
	config, m := tokenConfig(t)
	h := open(t, Options{}, config)

	for name, c := range map[string]struct {
		user, method, data string
		code               byte
	}{
		"a token":                          {"", "OAUTH2-JWT", m.anna(time.Hour), 0},
		"a token and its name":             {"anna", "OAUTH2-JWT", m.anna(time.Hour), 0},
		"a token and another name":         {"otto", "OAUTH2-JWT", m.anna(time.Hour), 0x87},
		"a ServiceAccount":                 {"", "K8S-SAT", m.account("factory:press"), 0},
		"a ServiceAccount as something":    {"", "OAUTH2-JWT", m.account("factory:press"), 0x87},
		"something as a ServiceAccount":    {"", "K8S-SAT", m.anna(time.Hour), 0x87},
		"nothing":                          {"", "OAUTH2-JWT", "", 0x87},
		"garbage":                          {"", "OAUTH2-JWT", "garbage", 0x87},
		"a method that is written another": {"", "oauth2-jwt", m.anna(time.Hour), 0x8C},
	} {
		t.Run(name, func(t *testing.T) {
			p, ack := h.enhanced(name, c.user, c.method, c.data)
			if ack.body[1] != c.code {
				t.Fatalf("CONNACK %#x, want %#x", ack.body[1], c.code)
			}

			if c.code != 0 {
				p.expectClosed()

				return
			}

			if !bytes.Contains(ack.body, []byte(c.method)) {
				t.Errorf("CONNACK % x must name the method [MQTT-4.12.0-5]", ack.body)
			}

			p.alive()
			p.bye()
		})
	}

	h.mustApply(func(c *contract.Config) { c.Authentication.ServiceAccounts = nil })

	if _, ack := h.enhanced("c", "", "K8S-SAT", m.account("factory:press")); ack.body[1] != 0x8C {
		t.Errorf("a method that the broker does not offer: CONNACK %#x, want 0x8C [MQTT-4.12.0-1]", ack.body[1])
	}

	h.mustApply(func(c *contract.Config) { c.Listeners[0].Methods = []contract.Method{contract.MethodPassword} })

	if _, ack := h.enhanced("c", "", "OAUTH2-JWT", m.anna(time.Hour)); ack.body[1] != 0x8C {
		t.Errorf("a method that the listener does not offer: CONNACK %#x, want 0x8C", ack.body[1])
	}
}

func TestRulesOfTokens(t *testing.T) {
	config, m := tokenConfig(t)
	h := open(t, Options{}, config)

	p := h.login(login{version: 5, id: "c", password: m.claim("anna", time.Hour, allow("a/no"), allow("b/%u")), willTopic: "b/anna"})
	for topic, want := range map[string]byte{"a/1": 0, "b/anna": 0, "b/otto": 0x87, "a/no": 0x87} {
		if got := p.published(topic, "", false); got != want {
			t.Errorf("%s is answered %#x, want %#x: the user's rules come first, then those of the token", topic, got, want)
		}
	}

	if got := p.subscribe(1, "b/anna"); !bytes.Equal(got, []byte{1}) {
		t.Errorf("SUBACK % x", got)
	}

	// A change of the configuration leaves them as they are, or narrows them.
	h.mustApply(func(c *contract.Config) { c.Users[0].ACL = []acl.Rule{deny("b/#"), allow("a/#")} })

	if got := p.published("b/anna", "", false); got != 0x87 {
		t.Errorf("what the user denies no token opens: %#x", got)
	}

	p.nothing("and the subscription is gone")

	// Without a user the token's rules are all there is.
	q := h.login(login{version: 5, id: "d", password: m.claim("nobody", time.Hour, allow("x/%u"))})
	h.mustApply(func(c *contract.Config) { c.Limits.MaxTopicLevels = 10 })

	for topic, want := range map[string]byte{"x/nobody": 0, "a/1": 0x87} {
		if got := q.published(topic, "", false); got != want {
			t.Errorf("%s is answered %#x, want %#x", topic, got, want)
		}
	}
}

// TestTheEndOfAToken is the expiry of a live connection, for both versions of MQTT and however the token came.
func TestTheEndOfAToken(t *testing.T) {
	config, m := tokenConfig(t)
	h := open(t, Options{}, config)

	const life = 1500 * time.Millisecond

	began := time.Now()
	v5 := h.login(login{version: 5, id: "five", user: "anna", password: m.anna(life)})
	v3 := h.login(login{version: 4, id: "three", user: "anna", password: m.anna(life), keepAlive: 3600})
	stays := h.login(login{version: 5, id: "stays", password: m.anna(time.Hour), keepAlive: 3600})
	enhanced, ack := h.enhanced("enhanced", "", "OAUTH2-JWT", m.anna(life))

	if ack.body[1] != 0 {
		t.Fatalf("CONNACK % x", ack.body)
	}

	for name, c := range map[string]struct {
		p    *peer
		want int
	}{"MQTT 5": {v5, 0x87}, "MQTT 3.1.1": {v3, -1}, "enhanced": {enhanced, 0x87}} {
		if got := c.p.expectClosed(); got != c.want {
			t.Errorf("%s: DISCONNECT %#x, want %#x", name, got, c.want)
		}
	}

	if took := time.Since(began); took < life-100*time.Millisecond {
		t.Errorf("they were cut off after %v already", took)
	}

	stays.alive()
}

// TestWhatExpiryLeaves: the session is the user's, and so is what waits in it.
func TestWhatExpiryLeaves(t *testing.T) {
	config, m := tokenConfig(t)

	for name, token := range map[string]func(time.Duration) string{
		"a user":            m.anna,
		"a bearer of rules": func(d time.Duration) string { return m.claim("nobody", d, allow("a/#")) },
	} {
		t.Run(name, func(t *testing.T) {
			options := Options{DataDir: t.TempDir()}
			h := open(t, options, config)
			keep := u32prop(pExpiry, 3600)

			p := h.login(login{version: 5, id: "c", password: token(time.Second), props: keep})

			if got := p.subscribe(1, "a/1"); !bytes.Equal(got, []byte{1}) {
				t.Fatalf("SUBACK % x", got)
			}

			p.expectClosed()

			writer := h.user("paula")
			writer.published("a/1", "before", false)

			// A new configuration must not make the session forget that it may have this.
			h.mustApply(func(c *contract.Config) { c.Limits.MaxTopicLevels = 10 })
			writer.published("a/1", "after", false)
			h.close()

			h = open(t, options, config)
			h.user("paula").published("a/1", "restarted", false)

			p, ack := h.knock(login{id: "c", password: token(time.Hour), props: keep, resume: true})
			if ack.body[0] != 1 || ack.body[1] != 0 {
				t.Fatalf("CONNACK % x, want the session", ack.body)
			}

			for _, want := range []string{"before", "after", "restarted"} {
				if got := p.message(); got.payload != want {
					t.Errorf("got %q, want %q", got.payload, want)
				}
			}

			p.bye()

			q, ack := h.knock(login{id: "c", user: "paula", password: "paula", props: keep, resume: true})
			if ack.body[1] != 0x85 {
				t.Errorf("CONNACK % x: the session is not another user's", ack.body)
			}

			q.expectClosed()
		})
	}
}

func TestTokensRenewed(t *testing.T) {
	config, m := tokenConfig(t)
	h := open(t, Options{}, config)

	ids := 0
	in := func(data string) *peer {
		ids++
		p, ack := h.enhanced(fmt.Sprint("c", ids), "", "OAUTH2-JWT", data)
		if ack.body[1] != 0 {
			t.Fatalf("CONNACK % x", ack.body)
		}

		return p
	}

	t.Run("a fresh one in time", func(t *testing.T) {
		const life = time.Second

		began := time.Now()
		p := in(m.anna(life))
		p.send(again("OAUTH2-JWT", m.anna(time.Hour)))

		if auth := p.expect(tAuth); len(auth.body) > 0 && auth.body[0] != wire.Success || !bytes.Contains(auth.body, []byte("OAUTH2-JWT")) {
			t.Fatalf("AUTH % x", auth.body)
		}

		// Only that the moment has passed at which the old one would have ended it shows anything.
		for time.Since(began) < life+500*time.Millisecond {
			p.alive()
		}
	})

	t.Run("a shorter one", func(t *testing.T) {
		p := in(m.anna(time.Hour))
		p.send(again("OAUTH2-JWT", m.anna(time.Second)))
		p.expect(tAuth)

		if got := p.expectClosed(); got != 0x87 {
			t.Errorf("DISCONNECT %#x: the new token's end is what counts", got)
		}
	})

	t.Run("other rules", func(t *testing.T) {
		p := in(m.claim("nobody", time.Hour, allow("a/#"), allow("b")))
		if got := p.subscribe(1, "a/1", "b"); !bytes.Equal(got, []byte{1, 1}) {
			t.Fatalf("SUBACK % x", got)
		}

		p.send(again("OAUTH2-JWT", m.claim("nobody", time.Hour, allow("b"), allow("c"))))
		p.expect(tAuth)

		for topic, want := range map[string]byte{"a/1": 0x87, "c": 0} {
			if got := p.published(topic, "", false); got != want {
				t.Errorf("%s is answered %#x, want %#x", topic, got, want)
			}
		}

		writer := h.user("paula")
		writer.published("a/1", "", false)
		writer.published("b", "", false)

		if got := p.message(); got.topic != "b" {
			t.Errorf("got %q: a subscription that the new token does not grant must go", got.topic)
		}

		p.bye()
	})

	t.Run("what comes behind it waits", func(*testing.T) {
		p := in(m.anna(time.Hour))

		var all []byte
		for range 20 {
			all = append(all, again("OAUTH2-JWT", m.anna(time.Hour)).encode()...)
		}

		p.sendRaw(append(all, packet{kind: tPingreq}.encode()...))

		for range 20 {
			p.expect(tAuth)
		}

		p.expect(tPingresp)
	})

	for name, c := range map[string]struct {
		say  packet
		want int
	}{
		"another user":           {again("OAUTH2-JWT", m.of2("otto", time.Hour)), 0x87},
		"an expired one":         {again("OAUTH2-JWT", m.anna(-time.Second)), 0x87},
		"garbage":                {again("OAUTH2-JWT", "garbage"), 0x87},
		"nothing":                {again("OAUTH2-JWT", ""), 0x87},
		"another method":         {again("K8S-SAT", m.account("factory:press")), 0x8C},
		"going on with what was": {packet{kind: tAuth, body: append([]byte{wire.ContinueAuthentication}, long(authProps("OAUTH2-JWT", m.anna(time.Hour)))...)}, 0x82},
	} {
		t.Run(name, func(t *testing.T) {
			p := in(m.anna(time.Hour))
			p.send(c.say)

			if got := p.expectClosed(); got != c.want {
				t.Errorf("DISCONNECT %#x, want %#x", got, c.want)
			}
		})
	}

	t.Run("after a password", func(t *testing.T) {
		p := h.login(login{version: 5, id: "c", password: m.anna(time.Hour)})
		p.send(again("OAUTH2-JWT", m.anna(time.Hour)))

		if got := p.expectClosed(); got != 0x82 {
			t.Errorf("DISCONNECT %#x, want 0x82: CONNECT named no method [MQTT-4.12.0-6]", got)
		}
	})
}

func TestApplyAndTokens(t *testing.T) {
	second := mint.NewKey(t, "k9", "ES256")

	for name, c := range map[string]struct {
		reason string
		change func(*contract.Config)
		anna   int // the reason in DISCONNECT; 0 if the client stays
		nobody int
	}{
		"the issuer is removed":         {"", func(c *contract.Config) { c.Authentication.JWT = c.Authentication.JWT[1:] }, 0x87, 0x87},
		"the other issuer is removed":   {"", func(c *contract.Config) { c.Authentication.JWT = c.Authentication.JWT[:1] }, 0, 0},
		"the audience is another":       {"", func(c *contract.Config) { c.Authentication.JWT[0].Audiences = []string{"new"} }, 0x87, 0x87},
		"there is one more audience":    {"", func(c *contract.Config) { c.Authentication.JWT[0].Audiences = []string{"new", "mqtt"} }, 0, 0},
		"the username is another claim": {"", func(c *contract.Config) { c.Authentication.JWT[0].UsernameClaim = "email" }, 0x87, 0x87},
		"rules are in another claim":    {"those of before are nobody's word", func(c *contract.Config) { c.Authentication.JWT[0].ACLClaim = "rules" }, 0, 0x87},
		"rules are in no claim":         {"", func(c *contract.Config) { c.Authentication.JWT[0].ACLClaim = "" }, 0, 0x87},
		"the key is another":            {"a rotation must cut off nobody at once", func(c *contract.Config) { c.Authentication.JWT[0].JWKS = mint.Set(second) }, 0, 0},
		"there are no keys any more":    {"", func(c *contract.Config) { c.Authentication.JWT[0].JWKS = `{"keys":[]}` }, 0, 0},
		"the keys are garbage":          {"the rest of the configuration holds", func(c *contract.Config) { c.Authentication.JWT[0].JWKS = `<html>` }, 0, 0},
		"the listener takes none":       {"", func(c *contract.Config) { c.Listeners[0].Methods = []contract.Method{contract.MethodPassword} }, 0x87, 0x87},
		"the user is removed":           {"the token brings no rules", func(c *contract.Config) { c.Users = c.Users[1:] }, 0x87, 0},
		"the user has a password now":   {"", func(c *contract.Config) { c.Users[0].JWT = "" }, 0x87, 0},
		"the user has another issuer":   {"", func(c *contract.Config) { c.Users[0].JWT = issuer2 }, 0x87, 0},
		"the user is suspended":         {"", func(c *contract.Config) { c.Users[0].Suspended = true }, 0x87, 0},
		"there is a user of the name": {"it does not say jwt", func(c *contract.Config) {
			c.Users = append(c.Users, contract.User{Username: "nobody", ACL: []acl.Rule{allow("#")}})
		}, 0, 0x87},
		"there is a user who says jwt": {"", func(c *contract.Config) {
			c.Users = append(c.Users, contract.User{Username: "nobody", JWT: issuer1})
		}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			config, m := tokenConfig(t)
			h := open(t, Options{}, config)
			anna := h.login(login{version: 5, id: "a", password: m.anna(time.Hour)})
			nobody := h.login(login{version: 5, id: "n", password: m.claim("nobody", time.Hour, allow("x"))})
			press := h.login(login{version: 5, id: "p", password: m.account("factory:press")})

			h.mustApply(func(next *contract.Config) {
				next.Authentication.JWT = append([]contract.TokenIssuer(nil), next.Authentication.JWT...)
				c.change(next)
			})

			for who, x := range map[string]struct {
				p    *peer
				want int
			}{"anna": {anna, c.anna}, "nobody": {nobody, c.nobody}} {
				if x.want == 0 {
					x.p.nothing(who + " must not notice. " + c.reason)
				} else if got := x.p.expectClosed(); got != x.want {
					t.Errorf("%s: DISCONNECT %#x, want %#x\n%s", who, got, x.want, c.reason)
				}
			}

			if !strings.Contains(name, "listener") {
				press.nothing("not this client's business")
			}
		})
	}

	for name, change := range map[string]func(*contract.Config){
		"the cluster is not believed any more": func(c *contract.Config) { c.Authentication.ServiceAccounts = nil },
		"it is another ServiceAccount":         func(c *contract.Config) { c.Users[3].ServiceAccount = "factory/other" },
		"the user is removed":                  func(c *contract.Config) { c.Users = c.Users[:3] },
	} {
		t.Run(name, func(t *testing.T) {
			config, m := tokenConfig(t)
			h := open(t, Options{}, config)
			press := h.login(login{version: 5, id: "p", password: m.account("factory:press")})
			h.mustApply(change)

			if got := press.expectClosed(); got != 0x87 {
				t.Errorf("DISCONNECT %#x, want 0x87", got)
			}
		})
	}
}

// TestAKeyThatIsGone: its tokens open nothing any more, and what they have opened is bounded.
func TestAKeyThatIsGone(t *testing.T) {
	config, m := tokenConfig(t)
	h := open(t, Options{}, config)
	p := h.login(login{version: 5, id: "a", password: m.anna(24 * time.Hour)})
	soon := h.login(login{version: 5, id: "b", password: m.anna(time.Minute)})

	until := func(id string) time.Duration {
		for _, c := range h.allMembers() {
			if c.subject.ClientID == id {
				return c.member.Load().lapses(time.Now())
			}
		}

		t.Fatalf("no client %q", id)

		return 0
	}
	keys := func(text string) {
		h.mustApply(func(c *contract.Config) {
			c.Authentication.JWT = append([]contract.TokenIssuer(nil), c.Authentication.JWT...)
			c.Authentication.JWT[0].JWKS = text
		})
	}

	keys(mint.Set(mint.NewKey(t, "k9", "ES256")))

	first := until("a")
	if first > keyGrace || first < keyGrace/2-time.Minute {
		t.Errorf("the connection lasts %v, want at most %v", first, keyGrace)
	}

	if got := until("b"); got > time.Minute {
		t.Errorf("the token's own end comes first: %v", got)
	}

	if _, ack := h.knock(login{id: "c", password: m.anna(time.Hour)}); ack.body[1] != 0x86 {
		t.Errorf("CONNACK %#x", ack.body[1])
	}

	keys(mint.Set(mint.NewKey(t, "k9", "ES256"), mint.NewKey(t, "k10", "ES256")))

	if got := until("a"); got > first {
		t.Errorf("another change must not give more time: %v", got)
	}

	keys(mint.Set(m.one))

	if got := until("a"); got < 23*time.Hour {
		t.Errorf("the key is back: %v", got)
	}

	p.alive()
	soon.alive()
}

// TestKeysThatAreFetched is an issuer behind an address: failing at first, then answering, then failing again, and gone for good.
func TestKeysThatAreFetched(t *testing.T) {
	config, m := tokenConfig(t)
	second := mint.NewKey(t, "k9", "ES256")

	var answer atomic.Pointer[string]

	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if text := answer.Load(); text != nil {
			_, _ = w.Write([]byte(*text))
		} else {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	t.Cleanup(server.Close)

	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())

	options := Options{KeyRoots: roots, DataDir: t.TempDir()}
	config.Authentication.JWT[0].JWKS, config.Authentication.JWT[0].JWKSURL = "", server.URL
	h := open(t, options, config)

	eventually(t, "the failure is counted", func() bool {
		return strings.Contains(scrape(h), `mqtt_broker_jwks_fetch_failures_total{issuer="`+issuer1+`"} 1`)
	})

	if _, ack := h.knock(login{id: "c", password: m.anna(time.Hour)}); ack.body[1] != 0x88 {
		t.Errorf("CONNACK %#x, want 0x88: it is not the client's fault, and it may come again", ack.body[1])
	}

	h.close()

	set := mint.Set(m.one)
	answer.Store(&set)

	h = open(t, options, config)
	h.login(login{version: 5, id: "c", password: m.anna(time.Hour)}).bye()

	if got := scrape(h); !strings.Contains(got, `mqtt_broker_jwks_keys{issuer="`+issuer1+`"} 1`) {
		t.Error("the keys are counted")
	}

	eventually(t, "they are kept", func() bool {
		left, _ := filepath.Glob(filepath.Join(options.DataDir, keysDir, "*.json"))

		return len(left) == 1
	})
	h.close()
	answer.Store(nil)

	h = open(t, options, config)
	live := h.login(login{version: 5, id: "c", password: m.anna(time.Hour)})

	// The issuer is gone, and the keys come into the configuration.
	h.mustApply(func(c *contract.Config) {
		c.Authentication.JWT = append([]contract.TokenIssuer(nil), c.Authentication.JWT...)
		c.Authentication.JWT[0].JWKS, c.Authentication.JWT[0].JWKSURL = mint.Set(m.one, second), ""
	})
	live.alive()
	h.login(login{version: 5, id: "d", password: second.Token(mint.Claims(issuer1, "mqtt", "anna", time.Hour), nil)}).bye()

	eventually(t, "what nobody names any more is not kept", func() bool {
		left, _ := filepath.Glob(filepath.Join(options.DataDir, keysDir, "*.json"))

		return len(left) == 0
	})
}

// TestKeysBehindAPrivateCA: a configuration names the CA of an issuer, changes it, and names the right one again.
func TestKeysBehindAPrivateCA(t *testing.T) {
	config, m := tokenConfig(t)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(mint.Set(m.one))) }))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	t.Cleanup(server.Close)

	right := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	wrong := listentest.NewAuthority(t, "others").PEM()

	config.Authentication.JWT[0].JWKS, config.Authentication.JWT[0].JWKSURL = "", server.URL
	config.Authentication.JWT[0].Authorities = right
	h := open(t, Options{DataDir: t.TempDir()}, config)
	live := h.login(login{version: 5, id: "c", password: m.anna(time.Hour)})

	vouches := func(authorities string) {
		h.mustApply(func(c *contract.Config) {
			c.Authentication.JWT = append([]contract.TokenIssuer(nil), c.Authentication.JWT...)
			c.Authentication.JWT[0].Authorities = authorities
		})
	}

	vouches(wrong)

	if _, ack := h.knock(login{id: "d", password: m.anna(time.Hour)}); ack.body[1] != 0x88 {
		t.Errorf("CONNACK %#x, want 0x88: nobody vouches for the keys", ack.body[1])
	}

	live.alive() // its token was checked when somebody did, and nothing is known against its key

	vouches(right)
	h.login(login{version: 5, id: "d", password: m.anna(time.Hour)}).bye()
	live.alive()
}

// TestAWillOfAToken: the will's rights are those that its client had.
func TestAWillOfAToken(t *testing.T) {
	config, m := tokenConfig(t)
	h := open(t, Options{}, config)

	reader := h.user("paula")
	reader.subscribe(0, "x/#")

	p := h.login(login{version: 5, id: "c", password: m.claim("nobody", time.Hour, allow("x/1")), willTopic: "x/1", willText: "gone"})
	_ = p.Close()

	if got := reader.message(); got.payload != "gone" {
		t.Errorf("got %+v", got)
	}

	if _, ack := h.knock(login{id: "d", password: m.claim("nobody", time.Hour, allow("x/1")), willTopic: "x/2", willText: "gone"}); ack.body[1] != 0x87 {
		t.Errorf("CONNACK %#x: the token's rules hold for wills, too", ack.body[1])
	}
}

// TestTokensThatPanic: a fault in a library costs one client.
func TestTokensThatPanic(t *testing.T) {
	_, m := tokenConfig(t)

	e, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}

	e.state.Store(&state{issuers: []*issuer{nil}})

	if v := e.rule("tcp", []byte(m.anna(time.Hour)), "", tokenMethods()); v.err == nil || e.Metrics().Shared.Panics.Load() != 1 {
		t.Errorf("got %+v", v)
	}
}
