// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/auth"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/broker-image/listen"
)

// state is a configuration made ready for use. It never changes after compile.
type state struct {
	config *contract.Config
	limits limits
	users  map[string]*user
	doors  []*door
	// issuers are those whose tokens are believed; accounts are the users of each ServiceAccount.
	issuers  []*issuer
	accounts map[string][]string
	byName   map[string]*door
}

type limits = contract.Limits

// user is one identity. What did not change between two configurations keeps its pointers.
type user struct {
	name      string
	verifiers []*auth.Verifier
	policy    *acl.Policy
	source    contract.User
}

// door is one listener's settings.
type door struct {
	contract.Listener
	tls       *tls.Config
	leaf      []byte
	pair      contract.KeyPair
	anonymous *acl.Policy
	trusted   []netip.Prefix
}

// socket names the socket that the door needs. Doors keep their socket while this stays the same.
func (d *door) socket() string {
	if _, port, err := net.SplitHostPort(d.Address); err == nil && port == "0" {
		return d.Name + " " + d.Address // each gets a port of its own
	}

	return d.network() + " " + d.Address
}

func (d *door) network() string {
	if d.Protocol == contract.Unix {
		return "unix"
	}

	return "tcp"
}

func (d *door) settings(l *limits) listen.Settings {
	s := listen.Settings{Name: d.Name, TLS: d.tls, MaxConnections: d.MaxConnections}

	if d.Protocol == contract.WS || d.Protocol == contract.WSS {
		s.WebSocket = &listen.WebSocket{ReadLimit: int64(l.MaxPacketSize)}
		if d.WebSocket != nil {
			s.WebSocket.Path, s.WebSocket.AllowedOrigins = d.WebSocket.Path, d.WebSocket.AllowedOrigins
		}
	}

	if d.ProxyProtocol != nil {
		s.Proxy = &listen.Proxy{Required: d.ProxyProtocol.Mode != "optional", Trusted: d.trusted}
	}

	if d.ConnectRate != nil {
		s.ConnectRate = &listen.Rate{PerSecond: d.ConnectRate.PerSecond, Burst: d.ConnectRate.Burst}
	}

	return s
}

// compile makes a configuration ready. before may be nil.
func compile(config *contract.Config, before *state) (*state, error) {
	s := &state{config: config, limits: config.Limits.Resolved(), users: make(map[string]*user, len(config.Users)), byName: map[string]*door{}}

	for i := range config.Users {
		u, err := compileUser(&config.Users[i], before)
		if err != nil {
			return nil, err
		}

		s.users[u.name] = u
	}

	for i := range config.Listeners {
		d, err := compileDoor(&config.Listeners[i], config.Pairs, before)
		if err != nil {
			return nil, fmt.Errorf("listeners[%d] %q: %w", i, config.Listeners[i].Name, err)
		}

		s.doors = append(s.doors, d)
		s.byName[d.Name] = d
	}

	s.compileTokens(config, before)

	return s, nil
}

func compileUser(source *contract.User, before *state) (*user, error) {
	if old := before.user(source.Username); old != nil && reflect.DeepEqual(old.source, *source) {
		return old, nil
	}

	u := &user{name: source.Username, source: *source}

	for i, text := range source.Verifiers {
		v, err := auth.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("user %q: verifiers[%d]: %w", source.Username, i, err)
		}

		u.verifiers = append(u.verifiers, v)
	}

	if old := before.user(source.Username); old != nil && reflect.DeepEqual(old.source.ACL, source.ACL) {
		u.policy = old.policy

		return u, nil
	}

	policy, err := acl.Compile(source.ACL)
	if err != nil {
		return nil, fmt.Errorf("user %q: acl%w", source.Username, err)
	}

	u.policy = policy

	return u, nil
}

func compileDoor(source *contract.Listener, pairs map[string]contract.KeyPair, before *state) (*door, error) {
	d := &door{Listener: *source}
	old := before.door(source.Name)

	if source.Anonymous != nil {
		policy, err := acl.Compile(source.Anonymous.ACL)
		if err != nil {
			return nil, fmt.Errorf("anonymous.acl%w", err)
		}

		d.anonymous = policy
		if old != nil && old.Anonymous != nil && reflect.DeepEqual(old.Anonymous, source.Anonymous) {
			d.anonymous = old.anonymous
		}
	}

	if source.ProxyProtocol != nil {
		for _, text := range source.ProxyProtocol.TrustedCIDRs {
			network, err := netip.ParsePrefix(text)
			if err != nil {
				return nil, fmt.Errorf("proxyProtocol.trustedCIDRs: %q is no network like 10.0.0.0/8", text)
			}

			d.trusted = append(d.trusted, network)
		}
	}

	if source.Protocol != contract.TLS && source.Protocol != contract.WSS {
		return d, nil
	}

	if source.TLS == nil {
		return nil, errors.New("tls: is missing")
	}

	d.pair = pairs[source.TLS.Pair]
	if old != nil && old.tls != nil && old.pair == d.pair && old.TLS.MinVersion == source.TLS.MinVersion {
		d.tls, d.leaf = old.tls, old.leaf

		return d, nil
	}

	certificate, err := tls.X509KeyPair([]byte(d.pair.Certificate), []byte(d.pair.PrivateKey))
	if err != nil {
		return nil, fmt.Errorf("tls.pair %q: %w", source.TLS.Pair, err)
	}

	if d.tls, err = listen.TLSConfig(&certificate, source.TLS.MinVersion); err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}

	d.leaf = certificate.Certificate[0]

	return d, nil
}

func (s *state) user(name string) *user {
	if s == nil {
		return nil
	}

	return s.users[name]
}

func (s *state) door(name string) *door {
	if s == nil {
		return nil
	}

	return s.byName[name]
}

// policy is the rules that hold for an identity; nil, which denies everything, if it does not exist any more.
func (s *state) policy(username, listener string) *acl.Policy {
	if username == "" {
		if d := s.door(listener); d != nil {
			return d.anonymous
		}

		return nil
	}

	if u := s.users[username]; u != nil {
		return u.policy
	}

	return nil
}

// verdict says what a new configuration means for a connection that is open.
type verdict int

const (
	stays verdict = iota
	unauthorized
	administrative
)

// judge tells whether an identity that came in under an older configuration may stay, and the reason if not.
func (s *state) judge(door *contract.Listener, who *identity) (verdict, string) {
	now := s.door(door.Name)

	switch {
	case now == nil:
		return administrative, "the listener is gone"
	case now.Protocol != door.Protocol || now.Address != door.Address:
		return administrative, "the listener has changed"
	case who.probe:
		return stays, ""
	case who.token != nil:
		return s.judgeToken(&now.Listener, who)
	case who.username == "" && now.Anonymous == nil:
		return unauthorized, "the listener no longer lets anonymous clients in"
	case who.username == "", who.vouched:
		return stays, ""
	}

	u := s.users[who.username]

	switch {
	case u == nil:
		return unauthorized, "the user is gone"
	case !slices.ContainsFunc(u.verifiers, func(v *auth.Verifier) bool { return v.Text() == who.verifier }):
		return administrative, "the password has changed"
	}

	return stays, ""
}

// Check says whether Apply could take the configuration, as far as that can be said without opening a socket.
func Check(config *contract.Config) error {
	_, err := compile(config, nil)

	return err
}
