// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
)

// Bounds of a bridge's configuration.
const (
	MaxBridgeRoutes    = 64
	MaxBridgeEndpoints = 8
	// MaxBridgeInflight is the greatest Receive Maximum [MQTT-3.1.2.11.3].
	MaxBridgeInflight = 65535

	maxRouteName          = 32
	maxClientIDPrefix     = 64
	clientIDPunctuation   = "-_.:"
	minKeepAlive          = 5
	maxKeepAlive          = 64800
	maxCredential         = 65535
	maxBridgeNameBytes    = 253*2 + 1
	bridgeFilterOfShare   = "$share/"
	endpointSchemesToRead = "mqtt://, mqtts://, ws:// or wss://"
)

// ParseBridge reads a bridge's configuration strictly and validates it. Its errors are [Error] values, joined when there
// are several. What could be read is returned beside the faults.
func ParseBridge(text []byte) (*Bridge, error) {
	b := &Bridge{}
	if err := decode(BridgeFile, text, b); err != nil {
		return nil, err
	}
	err := b.validate(text)
	return b, err
}

// RenderBridge writes b as the content of bridge.json. The result depends on b alone.
func RenderBridge(b *Bridge) ([]byte, error) {
	written := *b
	if written.Routes == nil {
		written.Routes = []BridgeRoute{}
	}
	text, err := json.MarshalIndent(&written, "", " ")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", BridgeFile, err)
	}
	if len(text) > MaxShardBytes {
		return nil, fmt.Errorf("%w: %s would have %d bytes, %d fit a Secret", ErrTooLarge, BridgeFile, len(text), MaxShardBytes)
	}
	return append(text, '\n'), nil
}

// NextBridge renders b after prior. Where nothing differs, the result is prior itself, revision and all; otherwise the
// revision is one above the greatest of prior's and floor. A prior that cannot be read counts as none, which is why
// floor is needed: it holds what else is known to have been used (status, the pods' answers). b.Revision is ignored.
func NextBridge(b *Bridge, prior []byte, floor int64) ([]byte, int64, error) {
	before := Bridge{}
	if err := decode(BridgeFile, prior, &before); err != nil {
		before.Revision = 0
	}
	next := *b
	if before.Revision > 0 && before.Revision >= floor {
		next.Revision = before.Revision
		text, err := RenderBridge(&next)
		if err != nil {
			return nil, 0, err
		}
		if bytes.Equal(text, prior) {
			return prior, before.Revision, nil
		}
	}
	next.Revision = max(before.Revision, floor, 0) + 1
	text, err := RenderBridge(&next)
	return text, next.Revision, err
}

// BridgeRevision is the revision that the text of a bridge's configuration names.
func BridgeRevision(text []byte) (int64, error) {
	b := Bridge{}
	err := decode(BridgeFile, text, &b)
	return b.Revision, err
}

// Validate reports every fault of b as joined [Error] values without lines. The operator asks it before it writes.
func (b *Bridge) Validate() error { return b.validate(nil) }

// validate adds lines where the text is known.
func (b *Bridge) validate(text []byte) error {
	v := &validator{}
	v.bridge(b)
	var seen places
	if text != nil {
		seen, _ = scan(text, nil)
	}
	errs := make([]error, 0, len(v.faults))
	for _, f := range v.faults {
		errs = append(errs, &Error{File: f.file, Field: f.field, Problem: f.problem, Line: seen.line(text, f.field)})
	}
	return errors.Join(errs...)
}

func (v *validator) bridge(b *Bridge) {
	if b.Format != BridgeFormat {
		v.add(BridgeFile, "format", "is %q, this bridge reads %q", b.Format, BridgeFormat)
	}
	if b.Name == "" || len(b.Name) > maxBridgeNameBytes || !utf8.ValidString(b.Name) || strings.ContainsFunc(b.Name, unicode.IsControl) {
		v.add(BridgeFile, "name", "%q is no name; write namespace/name", b.Name)
	}
	if b.Revision < 1 {
		v.add(BridgeFile, "revision", "must be at least 1")
	}
	v.bridgeEnd("local", &b.Local)
	v.bridgeEnd("remote", &b.Remote)
	v.bounded(BridgeFile, "inflight", int64(b.Inflight), 1, MaxBridgeInflight, "100 is a good start")
	if len(b.Routes) > MaxBridgeRoutes {
		v.add(BridgeFile, "routes", "has %d routes; at most %d are allowed, so divide them among several bridges", len(b.Routes), MaxBridgeRoutes)
	}
	names := map[string]bool{}
	for i := range b.Routes {
		r, field := &b.Routes[i], fmt.Sprintf("routes[%d]", i)
		if !isRouteName(r.Name) {
			v.add(BridgeFile, field+".name", "%q is no name: lower-case letters, digits and '-', at most %d", r.Name, maxRouteName)
		}
		if names[r.Name] {
			v.add(BridgeFile, field+".name", "%q is taken by another route", r.Name)
		}
		names[r.Name] = true
		v.route(field, r)
	}
	if len(v.faults) == 0 { // what cannot be read cannot be followed
		if first, second, found := b.Loop(); found {
			v.add(BridgeFile, "routes", "%s", LoopProblem(first, second))
		}
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, b.Logging.Level) {
		v.add(BridgeFile, "logging.level", "%q is none of debug, info, warn, error", b.Logging.Level)
	}
	if !slices.Contains([]string{"text", "json"}, b.Logging.Format) {
		v.add(BridgeFile, "logging.format", "%q is none of text, json", b.Logging.Format)
	}
}

func (v *validator) bridgeEnd(field string, e *BridgeEnd) {
	if n := len(e.Endpoints); n < 1 || n > MaxBridgeEndpoints {
		v.add(BridgeFile, field+".endpoints", "has %d entries; name 1 to %d", n, MaxBridgeEndpoints)
	}
	for i, endpoint := range e.Endpoints {
		if problem := EndpointProblem(endpoint); problem != "" {
			v.add(BridgeFile, fmt.Sprintf("%s.endpoints[%d]", field, i), "%s", problem)
		}
	}
	if e.Version != 4 && e.Version != 5 {
		v.add(BridgeFile, field+".version", "%d is neither 5 nor 4 (3.1.1)", e.Version)
	}
	if len(e.ClientIDPrefix) > maxClientIDPrefix || !isOf(e.ClientIDPrefix, clientIDPunctuation) {
		v.add(BridgeFile, field+".clientIDPrefix", "%q is no prefix: letters, digits and %s, 1 to %d", e.ClientIDPrefix, clientIDPunctuation, maxClientIDPrefix)
	}
	for _, c := range []struct{ name, value string }{{"username", e.Username}, {"password", e.Password}} {
		if len(c.value) > maxCredential {
			v.add(BridgeFile, field+"."+c.name, "has %d bytes; MQTT carries %d at most", len(c.value), maxCredential)
		}
	}
	if !utf8.ValidString(e.Username) || strings.ContainsRune(e.Username, 0) {
		v.add(BridgeFile, field+".username", "is not UTF-8 without the null character [MQTT-1.5.4-1]")
	}
	if e.Version == 4 && e.Username == "" && e.Password != "" {
		v.add(BridgeFile, field+".username", "is missing: MQTT 3.1.1 carries no password without one [MQTT-3.1.2-22]")
	}
	if e.CAs != "" {
		if err := eachPEM(e.CAs, "CERTIFICATE", "cas", parsesAsCertificate); err != nil {
			v.add(BridgeFile, field+".cas", "%v", err)
		} else if strings.TrimSpace(e.CAs) == "" {
			v.add(BridgeFile, field+".cas", "holds no certificate; leave it out to trust the system's authorities")
		}
	}
	if e.Pair.Certificate != "" || e.Pair.PrivateKey != "" {
		if _, err := tls.X509KeyPair([]byte(e.Pair.Certificate), []byte(e.Pair.PrivateKey)); err != nil {
			v.add(BridgeFile, field+".pair", "certificate and key are no pair: %v", err)
		}
	}
	v.bounded(BridgeFile, field+".keepAliveSeconds", int64(e.KeepAliveSeconds), minKeepAlive, maxKeepAlive, "60 is usual")
}

func parsesAsCertificate(der []byte) error {
	_, err := x509.ParseCertificate(der)
	return err
}

// EndpointProblem says what is wrong with the address of a broker, or nothing.
func EndpointProblem(endpoint string) string {
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || u.Hostname() == "":
		return fmt.Sprintf("%q is no address such as mqtts://broker.example.com:8883", redacted(endpoint))
	case u.User != nil:
		return "holds a username; write username and password in their own fields"
	case !slices.Contains([]string{"mqtt", "mqtts", "ws", "wss"}, u.Scheme):
		return fmt.Sprintf("%q begins with none of %s", endpoint, endpointSchemesToRead)
	case u.Fragment != "":
		return fmt.Sprintf("%q holds a fragment, which no broker sees; remove what follows the #", endpoint)
	case (u.Scheme == "mqtt" || u.Scheme == "mqtts") && (strings.Trim(u.Path, "/") != "" || u.RawQuery != ""):
		return fmt.Sprintf("%q has a path, which MQTT over TCP knows nothing of; is it meant to be ws:// or wss://?", endpoint)
	case u.Port() == "" && strings.HasSuffix(u.Host, ":"):
		return fmt.Sprintf("%q has a colon and no port behind it", endpoint)
	case u.Port() != "":
		if n, err := strconv.ParseUint(u.Port(), 10, 16); err != nil || n == 0 {
			return fmt.Sprintf("%q is no port from 1 to 65535", u.Port())
		}
	}
	return ""
}

// redacted keeps what stands before an @, which may be a password, out of messages.
func redacted(endpoint string) string {
	scheme, rest, _ := strings.Cut(endpoint, "://")
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		return scheme + "://…" + rest[at:]
	}
	return endpoint
}

func (v *validator) route(field string, r *BridgeRoute) {
	if r.Direction != In && r.Direction != Out && r.Direction != Both {
		v.add(BridgeFile, field+".direction", "%q is none of in, out, both", r.Direction)
	}
	if r.MaxQoS > 2 {
		v.add(BridgeFile, field+".maxQoS", "%d is not 0, 1 or 2", r.MaxQoS)
	}
	if strings.ContainsAny(r.Share, "+#/\x00") || !utf8.ValidString(r.Share) {
		v.add(BridgeFile, field+".share", "%q is not the name of a share group: it must not hold +, # or / [MQTT-4.8.2-1]", r.Share)
	}
	before := len(v.faults)
	if _, _, shared := acl.SplitShare(r.Filter); shared {
		v.add(BridgeFile, field+".filter", "%q names a share group; write it in share", r.Filter)
	} else if err := acl.ValidateFilter(r.Filter); err != nil {
		v.add(BridgeFile, field+".filter", "%v", err)
	}
	for _, p := range []struct{ name, prefix string }{{"localPrefix", r.LocalPrefix}, {"remotePrefix", r.RemotePrefix}} {
		name, prefix := p.name, p.prefix
		if prefix == "" {
			continue
		}
		switch err := acl.ValidateTopic(prefix); {
		case err != nil:
			v.add(BridgeFile, field+"."+name, "%v", err)
		case strings.HasPrefix(prefix, bridgeFilterOfShare):
			v.add(BridgeFile, field+"."+name, "%q begins as a shared subscription does; write the group in share", prefix)
		case len(v.faults) == before:
			if err := acl.ValidateFilter(prefix + r.Filter); err != nil {
				v.add(BridgeFile, field+"."+name, "with the filter it makes %q: %v; end the prefix with /", prefix+r.Filter, err)
			}
		}
	}
	if len(v.faults) > before {
		return
	}
	// The local user is granted this filter; %u there would stand for a username.
	rule := acl.Rule{Effect: acl.Allow, Actions: []acl.Action{acl.Subscribe}, Filter: r.LocalFilter()}
	for level := range strings.SplitSeq(rule.Filter, "/") {
		if level == acl.TokenUsername || level == acl.TokenClientID || level == acl.TokenCommonName {
			v.add(BridgeFile, field+".filter", "%q has a meaning in access rules and cannot be a level of its own at the local end", level)
		}
	}
	if err := rule.Validate(); err != nil {
		v.add(BridgeFile, field+".filter", "%v", err)
	}
}

func isRouteName(name string) bool {
	if name == "" || len(name) > maxRouteName || name[0] == '-' || name[len(name)-1] == '-' {
		return false
	}
	return !strings.ContainsFunc(name, func(c rune) bool { return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' })
}
