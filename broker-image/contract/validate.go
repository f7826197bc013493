// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
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
)

// fault is a problem of one field before its file and line are known.
type fault struct{ file, field, problem string }

// Validate reports every fault of cfg as joined [Error] values without lines. The operator asks it before it writes.
func (cfg *Config) Validate() error { return validate(cfg, nil) }

// validate adds lines where the text is known.
func validate(cfg *Config, bundle Bundle) error {
	v := &validator{}
	v.broker(cfg)
	v.pairs(cfg)
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
		v.address(field+".address", l.Address, addresses)
		v.listenerTLS(field, l, cfg.Pairs)
		if l.Anonymous != nil {
			v.rules(BrokerFile, field+".anonymous.acl", l.Anonymous.ACL)
		}
	}
	v.limits(&cfg.Limits)
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, cfg.Logging.Level) {
		v.add(BrokerFile, "logging.level", "%q is none of debug, info, warn, error", cfg.Logging.Level)
	}
	if !slices.Contains([]string{"text", "json"}, cfg.Logging.Format) {
		v.add(BrokerFile, "logging.format", "%q is none of text, json", cfg.Logging.Format)
	}
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

func (v *validator) listenerTLS(field string, l *Listener, pairs map[string]KeyPair) {
	switch l.Protocol {
	case TCP:
		if l.TLS != nil {
			v.add(BrokerFile, field+".tls", "a tcp listener has no TLS; make the protocol tls or remove this")
		}
	case TLS:
		if l.TLS == nil {
			v.add(BrokerFile, field+".tls", "a tls listener needs it")
			return
		}
		if _, found := pairs[l.TLS.Pair]; !found {
			v.add(BrokerFile, field+".tls.pair", "%s holds no pair %q", TLSFile, l.TLS.Pair)
		}
		if l.TLS.MinVersion != "1.2" && l.TLS.MinVersion != "1.3" {
			v.add(BrokerFile, field+".tls.minVersion", "%q is neither 1.2 nor 1.3", l.TLS.MinVersion)
		}
	default:
		v.add(BrokerFile, field+".protocol", "%q is neither tcp nor tls", l.Protocol)
	}
}

func (v *validator) limits(l *Limits) {
	if l.MaxPacketSize < minPacketSize || l.MaxPacketSize > MaxPacketSize {
		v.add(BrokerFile, "limits.maxPacketSize", "%d is not within %d to %d bytes", l.MaxPacketSize, minPacketSize, MaxPacketSize)
	}
	if l.ReceiveMaximum == 0 {
		v.add(BrokerFile, "limits.receiveMaximum", "must be at least 1 [MQTT-3.2.2-24]")
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
	shards := 0
	for name := range cfg.Parts {
		if name != TLSFile {
			shards++
		}
	}
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
