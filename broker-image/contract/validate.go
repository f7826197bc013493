// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
)

const (
	maxNameLength     = 15
	maxUsernameLength = 128
	minPacketSize     = 256
	// MaxPacketSize is the greatest MQTT packet: a remaining length of 268,435,455 bytes and its header [MQTT-2.1.4].
	MaxPacketSize = 268_435_460

	maxConnections    = 10_000_000
	maxRate           = 1_000_000
	maxQueuedMessages = 10_000_000
	maxTopicLevels    = 1024
	maxSubscriptions  = 1_000_000
	// minBytes is the least that a bound in bytes may be.
	minBytes = 64 << 10
	// minBytesRate lets a packet of the smallest kind through each second.
	minBytesRate = 1024
	// maxListed bounds origins and networks, each of which costs every connection a look.
	maxListed       = 32
	maxPathLength   = 256
	maxOriginLength = 256
	// maxSocketPath is what fits the address of a socket on every system, with the zero byte behind it.
	maxSocketPath = 103
	// pathPunctuation is what may stand in a URL's path unescaped beside letters and digits (RFC 3986, section 3.3).
	pathPunctuation = "-._~!$&'()*+,;=:@/"
)

// fault is a problem of one field before its file and line are known.
type fault struct{ file, field, problem string }

// Validate reports every fault of cfg as joined [Error] values without lines. The operator asks it before it writes.
func (cfg *Config) Validate() error { return validate(cfg, nil) }

// validate adds lines where the text is known.
func validate(cfg *Config, bundle Bundle) error {
	v := &validator{}
	v.broker(cfg)
	v.authentication(&cfg.Authentication)
	v.pairs(cfg)
	v.trust(cfg)
	v.policies(cfg)
	v.users(cfg)
	errs := make([]error, 0, len(v.faults))
	for _, f := range v.faults {
		located := &Error{File: f.file, Field: f.field, Problem: f.problem}
		if content, found := bundle[f.file]; found {
			if seen, err := scan(content, nil); err == nil {
				located.Line = seen.line(content, f.field)
			}
		}
		errs = append(errs, located)
	}
	return errors.Join(errs...)
}

type validator struct{ faults []fault }

// maxFaults keeps the message readable when every one of ten thousand users is wrong in the same way.
const maxFaults = 10

func (v *validator) add(file, field, problem string, args ...any) {
	if len(v.faults) < maxFaults {
		v.faults = append(v.faults, fault{file, field, fmt.Sprintf(problem, args...)})
	}
}

func (v *validator) broker(cfg *Config) {
	if cfg.Format != Format {
		v.add(BrokerFile, "format", "is %q, this broker reads %q", cfg.Format, Format)
	}
	if cfg.Revision < 1 {
		v.add(BrokerFile, "revision", "must be at least 1")
	}
	names, addresses := map[string]bool{}, map[string]bool{}
	for i := range cfg.Listeners {
		l, field := &cfg.Listeners[i], fmt.Sprintf("listeners[%d]", i)
		if !isLabel(l.Name) {
			v.add(BrokerFile, field+".name", "%q is no name: lower-case letters, digits and '-', at most %d", l.Name, maxNameLength)
		}
		if names[l.Name] {
			v.add(BrokerFile, field+".name", "%q is taken by another listener", l.Name)
		}
		names[l.Name] = true
		v.listener(field, l, addresses, cfg)
	}
	v.limits(&cfg.Limits)
	if sync := cfg.Persistence.Sync; !slices.Contains([]string{"", SyncAlways, SyncInterval}, sync) {
		v.add(BrokerFile, "persistence.sync", "%q is neither always nor interval", sync)
	}
	v.within("drain.disconnectRate", int64(cfg.Drain.Resolved().DisconnectRate), 1, maxRate, fmt.Sprintf("without it %d holds", DefaultDisconnectRate))
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, cfg.Logging.Level) {
		v.add(BrokerFile, "logging.level", "%q is none of debug, info, warn, error", cfg.Logging.Level)
	}
	if !slices.Contains([]string{"text", "json"}, cfg.Logging.Format) {
		v.add(BrokerFile, "logging.format", "%q is none of text, json", cfg.Logging.Format)
	}
}

// listener looks at everything of a listener but its name. Of one with an unknown protocol nothing else is said: what
// its other fields should be depends on what was meant.
func (v *validator) listener(field string, l *Listener, addresses map[string]bool, cfg *Config) {
	switch l.Protocol {
	case Unix:
		v.socket(field+".address", l.Address, addresses)
	case TCP, TLS, WS, WSS:
		v.address(field+".address", l.Address, addresses)
	default:
		v.add(BrokerFile, field+".protocol", "%q is none of tcp, tls, ws, wss, unix", l.Protocol)
		return
	}
	v.listenerTLS(field+".tls", l, cfg)
	v.methods(field+".methods", l.Methods)
	v.webSocket(field+".websocket", l)
	v.proxyProtocol(field+".proxyProtocol", l)
	v.within(field+".maxConnections", int64(l.MaxConnections), 0, maxConnections, "0 stands for no bound")
	if rate := l.ConnectRate; rate != nil {
		hint := "remove connectRate if there should be no bound"
		v.within(field+".connectRate.perSecond", int64(rate.PerSecond), 1, maxRate, hint)
		v.within(field+".connectRate.burst", int64(rate.Burst), 1, maxRate, hint)
	}
	if l.Anonymous != nil {
		v.rules(BrokerFile, field+".anonymous.acl", l.Anonymous.ACL)
	}
}

// socket checks the path of a socket in the file system. It has to be the shortest way to write it, so that two
// listeners of one path are seen.
func (v *validator) socket(field, address string, taken map[string]bool) {
	switch {
	case !path.IsAbs(address) || path.Clean(address) != address || address == "/" || strings.ContainsFunc(address, unicode.IsControl):
		v.add(BrokerFile, field, "%q is no absolute path of a socket, such as /run/mqtt-broker/mqtt.sock", address)
	case len(address) > maxSocketPath:
		v.add(BrokerFile, field, "has %d bytes; the system takes paths of sockets up to %d, so choose a shorter one", len(address), maxSocketPath)
	case taken[address]:
		v.add(BrokerFile, field, "%s is taken by another listener", address)
	}
	taken[address] = true
}

func (v *validator) address(field, address string, taken map[string]bool) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		v.add(BrokerFile, field, "%q is not host:port", address)
		return
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		v.add(BrokerFile, field, "%q is no port from 0 to 65535", port)
	}
	if number >= FirstReservedPort && number <= LastReservedPort {
		v.add(BrokerFile, field, "ports %d to %d are the broker's own; choose another", FirstReservedPort, LastReservedPort)
	}
	if taken[address] && number != 0 {
		v.add(BrokerFile, field, "%s is taken by another listener", address)
	}
	taken[address] = true
}

func (v *validator) listenerTLS(field string, l *Listener, cfg *Config) {
	if !l.Protocol.HasTLS() {
		if l.TLS != nil {
			v.add(BrokerFile, field, "a %s listener has no TLS; make the protocol tls or wss, or remove this", l.Protocol)
		}
		return
	}
	if l.TLS == nil {
		v.add(BrokerFile, field, "a %s listener needs it", l.Protocol)
		return
	}
	if _, found := cfg.Pairs[l.TLS.Pair]; !found {
		v.add(BrokerFile, field+".pair", "%s holds no pair %q", TLSFile, l.TLS.Pair)
	}
	if l.TLS.MinVersion != "1.2" && l.TLS.MinVersion != "1.3" {
		v.add(BrokerFile, field+".minVersion", "%q is neither 1.2 nor 1.3", l.TLS.MinVersion)
	}
	v.clientAuth(field, l.TLS, cfg.Trust)
}

func (v *validator) clientAuth(field string, l *ListenerTLS, trust map[string]Trust) {
	switch l.ClientAuth {
	case "":
		if l.Trust != "" || l.UsernameFrom != "" {
			v.add(BrokerFile, field+".clientAuth", "is missing: trust and usernameFrom are for listeners that ask for client certificates")
		}
		return
	case ClientAuthOptional, ClientAuthRequired:
	default:
		v.add(BrokerFile, field+".clientAuth", "%q is neither optional nor required", l.ClientAuth)
	}
	if _, found := trust[l.Trust]; !found {
		v.add(BrokerFile, field+".trust", "%s holds no trust %q", TLSFile, l.Trust)
	}
	if !slices.Contains([]string{"", UsernameFromCN, UsernameFromSAN}, l.UsernameFrom) {
		v.add(BrokerFile, field+".usernameFrom", "%q is neither cn nor san", l.UsernameFrom)
	}
}

func (v *validator) methods(field string, methods []Method) {
	for i, m := range methods {
		switch {
		case !slices.Contains(Methods(), m):
			v.add(BrokerFile, fmt.Sprintf("%s[%d]", field, i), "%q is none of password, certificate, jwt, serviceAccount", m)
		case slices.Contains(methods[:i], m):
			v.add(BrokerFile, fmt.Sprintf("%s[%d]", field, i), "%q stands here twice", m)
		}
	}
}

func (v *validator) authentication(a *Authentication) {
	if a.PasswordCache != "" && a.PasswordCache != PasswordCacheVolume {
		v.add(BrokerFile, "authentication.passwordCache", "%q is not %s; leave it out to keep nothing", a.PasswordCache, PasswordCacheVolume)
	}
	if len(a.JWT) > MaxIssuers {
		v.add(BrokerFile, "authentication.jwt", "has %d issuers; at most %d are allowed", len(a.JWT), MaxIssuers)
	}
	taken := map[string]bool{}
	for i := range a.JWT {
		field := fmt.Sprintf("authentication.jwt[%d]", i)
		v.issuer(field, &a.JWT[i])
		if taken[a.JWT[i].Issuer] {
			v.add(BrokerFile, field+".issuer", "%q stands here twice", a.JWT[i].Issuer)
		}
		taken[a.JWT[i].Issuer] = true
	}
	if s := a.ServiceAccounts; s != nil {
		v.issuer("authentication.serviceAccounts", s)
		if s.UsernameClaim != "" || s.ACLClaim != "" {
			v.add(BrokerFile, "authentication.serviceAccounts", "usernameClaim and aclClaim have no place here: the users say which ServiceAccount they are")
		}
	}
}

func (v *validator) issuer(field string, t *TokenIssuer) {
	if t.Issuer == "" || t.Issuer == AnyIssuer {
		v.add(BrokerFile, field+".issuer", "%q is no issuer; write the value of the iss claim", t.Issuer)
	}
	if len(t.Audiences) == 0 || slices.Contains(t.Audiences, "") {
		v.add(BrokerFile, field+".audiences", "name at least one audience, none of them empty: without one any token of the issuer would open")
	}
	switch {
	case (t.JWKS == "") == (t.JWKSURL == ""):
		v.add(BrokerFile, field, "needs exactly one of jwks and jwksURL")
	case len(t.JWKS) > MaxJWKSBytes:
		v.add(BrokerFile, field+".jwks", "has %d bytes; at most %d are allowed", len(t.JWKS), MaxJWKSBytes)
	case t.JWKSURL != "":
		if u, err := url.Parse(t.JWKSURL); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
			v.add(BrokerFile, field+".jwksURL", "is no https address without a username")
		}
	}
	switch _, err := ParseAuthorities(t.Authorities); {
	case t.Authorities == "":
	case t.JWKSURL == "":
		v.add(BrokerFile, field+".authorities", "has no place here without jwksURL: nothing is fetched")
	case len(t.Authorities) > MaxAuthoritiesBytes:
		v.add(BrokerFile, field+".authorities", "has %d bytes; at most %d are allowed", len(t.Authorities), MaxAuthoritiesBytes)
	case err != nil:
		v.add(BrokerFile, field, "%v", err)
	}
}

func (v *validator) trust(cfg *Config) {
	for _, name := range slices.Sorted(maps.Keys(cfg.Trust)) {
		t, field := cfg.Trust[name], "trust."+name
		if len(t.Authorities) > MaxTrustBytes || len(t.RevocationLists) > MaxTrustBytes {
			v.add(TLSFile, field, "authorities have %d bytes, revocation lists %d; at most %d each are allowed", len(t.Authorities), len(t.RevocationLists), MaxTrustBytes)
			continue
		}
		if _, _, err := t.Parse(); err != nil {
			v.add(TLSFile, field, "%v", err)
		}
	}
}

// Parse gives the authorities and the revocation lists. It fails when one cannot be read, when there is no authority, or
// when a list was signed by none of them.
func (t *Trust) Parse() ([]*x509.Certificate, []*x509.RevocationList, error) {
	authorities, err := ParseAuthorities(t.Authorities)
	if err != nil {
		return nil, nil, err
	}
	var lists []*x509.RevocationList
	err = eachPEM(t.RevocationLists, "X509 CRL", "revocationLists", func(der []byte) error {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(authorities, func(c *x509.Certificate) bool {
			return bytes.Equal(c.RawSubject, list.RawIssuer) && list.CheckSignatureFrom(c) == nil
		}) {
			return fmt.Errorf("the list of %q was signed by none of the authorities", list.Issuer)
		}
		if !isWhole(list) {
			return fmt.Errorf("the list of %q is a delta or an indirect one; give the authority's own complete list", list.Issuer)
		}
		lists = append(lists, list)
		return nil
	})
	return authorities, lists, err
}

// ParseAuthorities reads CA certificates, PEM. It fails when one cannot be read or is no CA, or when there is none.
func ParseAuthorities(text string) ([]*x509.Certificate, error) {
	var authorities []*x509.Certificate
	err := eachPEM(text, "CERTIFICATE", "authorities", func(der []byte) error {
		c, err := x509.ParseCertificate(der)
		if err == nil && !c.IsCA {
			err = fmt.Errorf("the certificate of %q may sign no others: it is no CA", c.Subject)
		}
		authorities = append(authorities, c)
		return err
	})
	if err == nil && len(authorities) == 0 {
		err = errors.New("authorities: holds no certificate")
	}
	if err != nil {
		return nil, err
	}
	return authorities, nil
}

// isWhole says whether a list stands for itself (RFC 5280, sections 5.2.4 and 5.3.3): a delta may take back what another
// list says, and the entries of an indirect one are about certificates of other issuers.
func isWhole(list *x509.RevocationList) bool {
	isDelta := func(e pkix.Extension) bool { return e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 27}) }
	isForeign := func(e pkix.Extension) bool { return e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 29}) }
	return !slices.ContainsFunc(list.Extensions, isDelta) && !slices.ContainsFunc(list.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool {
		return slices.ContainsFunc(e.Extensions, isForeign)
	})
}

func eachPEM(text, typ, field string, take func(der []byte) error) error {
	rest := []byte(text)
	for i := 0; ; i++ {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			if len(bytes.TrimSpace(rest)) > 0 {
				return fmt.Errorf("%s: there is text that is not PEM", field)
			}
			return nil
		}
		if block.Type != typ {
			return fmt.Errorf("%s: block %d is %q, want %q", field, i, block.Type, typ)
		}
		if err := take(block.Bytes); err != nil {
			return fmt.Errorf("%s: block %d: %w", field, i, err)
		}
	}
}

func (v *validator) policies(cfg *Config) {
	for _, name := range slices.Sorted(maps.Keys(cfg.Policies)) {
		v.rules(PoliciesFile, "policies."+name, cfg.Policies[name])
	}
}

func (v *validator) webSocket(field string, l *Listener) {
	if l.WebSocket == nil {
		return
	}
	if !l.Protocol.IsWebSocket() {
		v.add(BrokerFile, field, "a %s listener speaks no HTTP; make the protocol ws or wss, or remove this", l.Protocol)
		return
	}
	if p := l.WebSocket.Path; p != "" && (len(p) > maxPathLength || !isURLPath(p)) {
		v.add(BrokerFile, field+".path", "%q is no path: begin with / and use letters, digits and %s, at most %d", p, pathPunctuation, maxPathLength)
	}
	if n := len(l.WebSocket.AllowedOrigins); n > maxListed {
		v.add(BrokerFile, field+".allowedOrigins", "has %d entries; at most %d are allowed", n, maxListed)
	}
	for i, origin := range l.WebSocket.AllowedOrigins {
		if !isOrigin(origin) {
			v.add(BrokerFile, fmt.Sprintf("%s.allowedOrigins[%d]", field, i), "%q is no origin: write it as a browser does, such as https://example.com or https://example.com:8443", origin)
		}
	}
}

func (v *validator) proxyProtocol(field string, l *Listener) {
	proxy := l.ProxyProtocol
	if proxy == nil {
		return
	}
	if proxy.Mode != ProxyRequired && proxy.Mode != ProxyOptional {
		v.add(BrokerFile, field+".mode", "%q is neither required nor optional", proxy.Mode)
	}
	switch n := len(proxy.TrustedCIDRs); {
	case l.Protocol == Unix && n > 0:
		v.add(BrokerFile, field+".trustedCIDRs", "the peers of a unix listener have no address, and all are trusted; remove this")
	case l.Protocol != Unix && (n == 0 || n > maxListed):
		v.add(BrokerFile, field+".trustedCIDRs", "has %d entries; name 1 to %d networks whose headers are believed", n, maxListed)
	}
	for i, cidr := range proxy.TrustedCIDRs {
		// An IPv4 network written as IPv6 would match nobody.
		if prefix, err := netip.ParsePrefix(cidr); err != nil || prefix.Addr().Is4In6() {
			v.add(BrokerFile, fmt.Sprintf("%s.trustedCIDRs[%d]", field, i), "%q is no network, such as 10.0.0.0/8 or fd00::/8", cidr)
		}
	}
}

func (v *validator) limits(l *Limits) {
	if l.MaxPacketSize < minPacketSize || l.MaxPacketSize > MaxPacketSize {
		v.add(BrokerFile, "limits.maxPacketSize", "%d is not within %d to %d bytes", l.MaxPacketSize, minPacketSize, MaxPacketSize)
	}
	if l.ReceiveMaximum == 0 {
		v.add(BrokerFile, "limits.receiveMaximum", "must be at least 1 [MQTT-3.2.2-24]")
	}
	r, d := l.Resolved(), DefaultLimits()
	for _, bound := range []struct {
		field                      string
		value, least, most, normal int64
	}{
		{"limits.maxQueuedMessages", int64(r.MaxQueuedMessages), 1, maxQueuedMessages, int64(d.MaxQueuedMessages)},
		{"limits.maxQueuedBytes", r.MaxQueuedBytes, minBytes, math.MaxInt64, d.MaxQueuedBytes},
		{"limits.maxTopicLevels", int64(r.MaxTopicLevels), 1, maxTopicLevels, int64(d.MaxTopicLevels)},
		{"limits.maxSubscriptions", int64(r.MaxSubscriptions), 1, maxSubscriptions, int64(d.MaxSubscriptions)},
		{"limits.maxRetainedMessages", int64(r.MaxRetainedMessages), 1, math.MaxInt64, int64(d.MaxRetainedMessages)},
		{"limits.maxRetainedBytes", r.MaxRetainedBytes, minBytes, math.MaxInt64, d.MaxRetainedBytes},
	} {
		v.within(bound.field, bound.value, bound.least, bound.most, fmt.Sprintf("without it %d holds", bound.normal))
	}
	v.within("limits.publishRate", int64(l.PublishRate), 0, maxRate, "0 stands for no bound")
}

// within refuses a number of broker.json outside of its bounds; hint says what else there is.
func (v *validator) within(field string, value, least, most int64, hint string) {
	v.bounded(BrokerFile, field, value, least, most, hint)
}

func (v *validator) bounded(file, field string, value, least, most int64, hint string) {
	switch {
	case value >= least && value <= most:
	case most == math.MaxInt64:
		v.add(file, field, "%d is less than %d, the least that is allowed; %s", value, least, hint)
	default:
		v.add(file, field, "%d is not within %d to %d; %s", value, least, most, hint)
	}
}

func (v *validator) pairs(cfg *Config) {
	for _, name := range slices.Sorted(maps.Keys(cfg.Pairs)) {
		pair := cfg.Pairs[name]
		if _, err := tls.X509KeyPair([]byte(pair.Certificate), []byte(pair.PrivateKey)); err != nil {
			v.add(TLSFile, "pairs."+name, "certificate and key are no pair: %v", err)
		}
	}
}

func (v *validator) users(cfg *Config) {
	shards := usersFiles(cfg.Parts)
	places := make([]int, max(1, shards))
	taken := make(map[string]bool, len(cfg.Users))
	for i := range cfg.Users {
		user, shard := &cfg.Users[i], 0
		if shards > 0 {
			shard = Shard(user.Username, shards)
		}
		file, field := UsersFile(shard), fmt.Sprintf("users[%d]", places[shard])
		places[shard]++
		if problem := UsernameProblem(user.Username); problem != "" {
			v.add(file, field+".username", "%s", problem)
		}
		if taken[user.Username] {
			v.add(file, field+".username", "%q stands here twice", user.Username)
		}
		taken[user.Username] = true
		v.rules(file, field+".acl", user.ACL)
		v.user(file, field, user, cfg)
	}
}

// user looks at everything of a user but its name, its verifiers and its own rules.
func (v *validator) user(file, field string, u *User, cfg *Config) {
	for i, name := range u.Policies {
		if _, found := cfg.Policies[name]; !found {
			v.add(file, fmt.Sprintf("%s.policies[%d]", field, i), "%s holds no policy %q", PoliciesFile, name)
		}
	}
	if u.Certificate != nil {
		for i, pin := range u.Certificate.Pins {
			if sum, err := hex.DecodeString(pin); err != nil || len(sum) != sha256.Size {
				v.add(file, fmt.Sprintf("%s.certificate.pins[%d]", field, i), "is no SHA-256 sum in hexadecimal")
			}
		}
	}
	if namespace, name, found := strings.Cut(u.ServiceAccount, "/"); u.ServiceAccount != "" && (!found || namespace == "" || name == "" || strings.Contains(name, "/")) {
		v.add(file, field+".serviceAccount", "%q is not namespace/name", u.ServiceAccount)
	}
	if c := u.ClientIDs; c != nil && (len(c.Exact) == 0) == (c.Prefix == "") {
		v.add(file, field+".clientIDs", "needs exactly one of exact and prefix")
	}
	if q := u.Quota; q != nil {
		hint := "0 stands for no bound"
		v.bounded(file, field+".quota.connections", int64(q.Connections), 0, maxRate, hint)
		v.bounded(file, field+".quota.publishRate", int64(q.PublishRate), 0, maxRate, hint)
		v.bounded(file, field+".quota.queuedMessages", int64(q.QueuedMessages), 0, maxQueuedMessages, hint)
		if q.BytesRate != 0 {
			v.bounded(file, field+".quota.bytesRate", q.BytesRate, minBytesRate, math.MaxInt64, hint)
		}
	}
}

func (v *validator) rules(file, field string, rules []acl.Rule) {
	for i := range rules {
		if err := rules[i].Validate(); err != nil {
			v.add(file, fmt.Sprintf("%s[%d]", field, i), "%v", err)
		}
	}
}

// UsernameProblem says what is wrong with a username, or nothing. The wildcards and the separator of MQTT topics are
// refused because a rule may put the username into a topic as one level (%u).
func UsernameProblem(username string) string {
	switch {
	case username == "":
		return "is empty; give 1 to 128 bytes"
	case len(username) > maxUsernameLength:
		return fmt.Sprintf("has %d bytes; at most %d are allowed", len(username), maxUsernameLength)
	case !utf8.ValidString(username):
		return "is not UTF-8 [MQTT-1.5.4-1]"
	case username[0] == '$':
		return "begins with $, which names and topics of the broker's own do; choose another"
	}
	for _, r := range username {
		switch {
		case unicode.IsControl(r):
			return fmt.Sprintf("holds the control character %U; remove it", r)
		case r == '+' || r == '#' || r == '/':
			return fmt.Sprintf("holds %q, which has a meaning in topics; choose another character", r)
		}
	}
	return ""
}

// isURLPath keeps to what reads the same escaped and unescaped.
func isURLPath(p string) bool {
	return p[0] == '/' && isOf(p, pathPunctuation)
}

// isOrigin takes what a browser may send: a scheme, a host and perhaps a port. A pattern is none.
func isOrigin(origin string) bool {
	scheme, host, found := strings.Cut(origin, "://")
	return found && len(origin) <= maxOriginLength && isOf(scheme, "+.-") && isOf(host, "-._~:[]")
}

// isOf says whether text is letters, digits and punctuation, and not empty.
func isOf(text, punctuation string) bool {
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool { return !isAlphanumeric(r) && !strings.ContainsRune(punctuation, r) })
}

func isAlphanumeric(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}

func isLabel(name string) bool {
	if name == "" || len(name) > maxNameLength || name[0] == '-' || name[len(name)-1] == '-' {
		return false
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}
