// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"sync/atomic"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/auth"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/broker-image/listen"
)

// state is a configuration made ready for use. It never changes after compile.
type state struct {
	name     string // namespace/name of the broker
	revision int64
	limits   limits
	users    map[string]*user
	lists    lists
	policies map[string]shared
	doors    []*door
	// issuers are those whose tokens are believed; accounts are the users of each ServiceAccount.
	issuers  []*issuer
	accounts map[string][]string
	byName   map[string]*door
	// changed are the users that are new, or not as they were under the configuration before.
	changed []*user
	// disconnectRate is how many clients per second are sent away at the end.
	disconnectRate int
}

type limits = contract.Limits

// user is one identity. What did not change between two configurations keeps its pointers.
type user struct {
	name      string
	verifiers []*auth.Verifier
	// policy is what holds: own, and behind it the shared ones that source names.
	policy *acl.Policy
	own    *list
	source contract.User
	// account outlives every change of the user.
	account *account
}

// shared is a list of rules that users name. It stands in memory once.
type shared struct {
	policy *acl.Policy
	source []acl.Rule
}

// door is one listener's settings.
type door struct {
	contract.Listener
	tls       *tls.Config
	leaf      []byte
	pair      contract.KeyPair
	trust     *listen.Trust // nil where no client certificate is asked for
	trustText contract.Trust
	// staleNoted: the log has said that one of its revocation lists is old. It is shared by all doors of this trust.
	staleNoted *atomic.Bool
	anonymous  *acl.Policy
	trusted    []netip.Prefix
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
	s := listen.Settings{Name: d.Name, TLS: d.tls, Trust: d.trust, MaxConnections: d.MaxConnections}

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

// compile makes a configuration ready. before may be nil. It keeps nothing of config but what it compares the next one
// with. guest is the certificate of the process's own probe; nil if there is none.
func compile(config *contract.Config, before *state, guest *x509.Certificate) (*state, error) {
	s := &state{
		name: config.Name, revision: config.Revision, limits: config.Limits.Resolved(), users: make(map[string]*user, len(config.Users)),
		lists: lists{}, policies: make(map[string]shared, len(config.Policies)), byName: map[string]*door{},
		disconnectRate: config.Drain.Resolved().DisconnectRate,
	}

	for _, name := range slices.Sorted(maps.Keys(config.Policies)) {
		p, err := compileShared(name, config.Policies[name], before)
		if err != nil {
			return nil, err
		}

		s.policies[name] = p
	}

	for i := range config.Users {
		u, err := s.compileUser(&config.Users[i], before)
		if err != nil {
			return nil, err
		}

		s.users[u.name] = u
	}

	for i := range config.Listeners {
		d, err := compileDoor(&config.Listeners[i], config, before, guest)
		if err != nil {
			return nil, fmt.Errorf("listeners[%d] %q: %w", i, config.Listeners[i].Name, err)
		}

		s.doors = append(s.doors, d)
		s.byName[d.Name] = d
	}

	s.compileTokens(config, before)

	return s, nil
}

func compileShared(name string, source []acl.Rule, before *state) (shared, error) {
	if before != nil {
		if old, found := before.policies[name]; found && slices.EqualFunc(old.source, source, sameRule) {
			return old, nil
		}
	}

	policy, err := acl.Compile(source)
	if err != nil {
		return shared{}, fmt.Errorf("policy %q: %w", name, err)
	}

	return shared{policy, source}, nil
}

// compileUser needs the policies of s.
func (s *state) compileUser(source *contract.User, before *state) (*user, error) {
	old := before.user(source.Username)
	if old != nil && sameUser(&old.source, source) && s.sharesAs(before, source) {
		s.lists.keep(old.own)

		return old, nil
	}

	u := &user{name: source.Username, source: *source}
	s.changed = append(s.changed, u)

	if old != nil {
		u.account = old.account
	} else {
		u.account = &account{}
	}

	for i, text := range source.Verifiers {
		v, err := auth.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("user %q: verifiers[%d]: %w", source.Username, i, err)
		}

		u.verifiers = append(u.verifiers, v)
	}

	own, err := s.lists.of(source.ACL, before.rules())
	if err != nil {
		return nil, fmt.Errorf("user %q: acl%w", source.Username, err)
	}

	u.own, u.source.ACL = own, own.source

	if old != nil && old.own == own && slices.Equal(old.source.Policies, source.Policies) && s.sharesAs(before, source) {
		u.policy = old.policy

		return u, nil
	}

	return u, s.join(u)
}

// rules are the lists of rules in use; nil before the first configuration.
func (s *state) rules() lists {
	if s == nil {
		return nil
	}

	return s.lists
}

// join puts the rules of a user together.
func (s *state) join(u *user) error {
	u.policy = u.own.policy

	if len(u.source.Policies) == 0 {
		return nil
	}

	parts := make([]*acl.Policy, 1, 1+len(u.source.Policies))
	parts[0] = u.own.policy

	for i, name := range u.source.Policies {
		p, found := s.policies[name]
		if !found {
			return fmt.Errorf("user %q: policies[%d]: there is no policy %q", u.name, i, name)
		}

		parts = append(parts, p.policy)
	}

	u.policy = acl.Join(parts...)

	return nil
}

// sharesAs tells whether the policies that a user names are as they were.
func (s *state) sharesAs(before *state, u *contract.User) bool {
	for _, name := range u.Policies {
		now, found := s.policies[name]
		if !found || now.policy != before.policies[name].policy {
			return false
		}
	}

	return true
}

func compileDoor(source *contract.Listener, config *contract.Config, before *state, guest *x509.Certificate) (*door, error) {
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

	if err := d.secure(config, old, guest); err != nil {
		return nil, err
	}

	return d, nil
}

// secure prepares TLS.
func (d *door) secure(config *contract.Config, old *door, guest *x509.Certificate) error {
	source := d.TLS
	d.pair = config.Pairs[source.Pair]

	if source.ClientAuth != "" {
		d.trustText = config.Trust[source.Trust]
	}

	if old != nil && old.tls != nil && old.pair == d.pair && old.trustText == d.trustText &&
		old.TLS.MinVersion == source.MinVersion && old.TLS.ClientAuth == source.ClientAuth {
		d.tls, d.leaf, d.trust, d.staleNoted = old.tls, old.leaf, old.trust, old.staleNoted

		return nil
	}

	certificate, err := tls.X509KeyPair([]byte(d.pair.Certificate), []byte(d.pair.PrivateKey))
	if err != nil {
		return fmt.Errorf("tls.pair %q: %w", source.Pair, err)
	}

	if d.tls, err = listen.TLSConfig(&certificate, source.MinVersion); err != nil {
		return fmt.Errorf("tls: %w", err)
	}

	d.leaf = certificate.Certificate[0]

	if source.ClientAuth == "" {
		return nil
	}

	authorities, lists, err := d.trustText.Parse()
	if err != nil {
		return fmt.Errorf("tls.trust %q: %w", source.Trust, err)
	}

	if d.trust, err = listen.NewTrust(authorities, lists); err != nil {
		return fmt.Errorf("tls.trust %q: %w", source.Trust, err)
	}

	d.staleNoted = &atomic.Bool{}

	if guest != nil {
		d.trust.Guest(guest)
	}

	d.trust.Demand(d.tls, source.ClientAuth == contract.ClientAuthRequired)

	return nil
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

// takes tells whether a listener takes a method.
func (s *state) takes(listener string, m contract.Method) bool {
	d := s.door(listener)

	return d != nil && d.Takes(m)
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
	}

	if kind, why := now.judgePeer(who); kind != stays {
		return kind, why
	}

	if who.token != nil {
		if kind, why := s.judgeToken(&now.Listener, who); kind != stays {
			return kind, why
		}

		return s.users[who.username].judgeCertificate(now, who)
	}

	if who.username == "" {
		if now.Anonymous == nil {
			return unauthorized, "the listener no longer lets anonymous clients in"
		}

		return stays, ""
	}

	u := s.users[who.username]

	switch {
	case u != nil && u.source.Suspended:
		return administrative, "the user is suspended"
	case u == nil && !who.vouched:
		return unauthorized, "the user is gone"
	}

	if kind, why := u.judgeCertificate(now, who); kind != stays {
		return kind, why
	}

	switch {
	case who.verifier == "":
	case !now.Takes(contract.MethodPassword):
		return administrative, "the listener takes no passwords"
	case !slices.ContainsFunc(u.verifiers, func(v *auth.Verifier) bool { return v.Text() == who.verifier }):
		return administrative, "the password has changed"
	}

	return stays, ""
}

// Check says whether Apply could take the configuration, as far as that can be said without opening a socket.
func Check(config *contract.Config) error {
	_, err := compile(config, nil, nil)

	return err
}
