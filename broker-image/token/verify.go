// SPDX-License-Identifier: Apache-2.0

package token

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// What is wrong with a token whose form is right.
var (
	ErrKeys      = errors.New("the issuer's keys are not known yet: they could not be had so far")
	ErrKey       = errors.New("the issuer has no key of the token's kid and algorithm")
	ErrSignature = errors.New("the token's signature is wrong")
	ErrNoExpiry  = errors.New("the token has no exp, without which it would be good for ever")
	ErrExpired   = errors.New("the token has expired")
	ErrNotYet    = errors.New("the token is not valid yet: look at nbf, iat and the clocks")
	ErrTime      = errors.New("the token's exp, nbf or iat is no number of seconds since 1970")
	ErrAudience  = errors.New("the token is for another audience")
	ErrUsername  = errors.New("the token's username claim is missing, or no username: 1 to 128 bytes without + # / and control characters")
	ErrAccount   = errors.New("the token is not that of a ServiceAccount: sub must be system:serviceaccount:NAMESPACE:NAME")
	ErrRules     = errors.New("the token's ACL claim is no list of at most 256 rules, each as in an MQTTUser")
)

const (
	// Leeway is how far the clocks of an issuer and of the broker may be apart, for nbf and iat. There is none for exp.
	Leeway = 30 * time.Second
	// MaxRules bounds the ACL claim of one token.
	MaxRules = 256

	maxAudiences = 64
	// maxSeconds is the year 9999, the last that is written with four digits.
	maxSeconds    = 253402300799
	accountPrefix = "system:serviceaccount:"
)

// Issuer says what a token of one issuer must be like.
type Issuer struct {
	// Audiences are those of which a token must carry one.
	Audiences []string
	// UsernameClaim holds the username. Empty: the token is that of a Kubernetes ServiceAccount, whose name is in sub.
	UsernameClaim string
	// ACLClaim holds rules, if the token has it; empty: none are looked for.
	ACLClaim string
}

// Identity is what a token that holds says of its bearer.
type Identity struct {
	// Username is empty for a ServiceAccount.
	Username string
	// Account is namespace/name of a ServiceAccount, or empty.
	Account string
	// Audiences are all that the token carries.
	Audiences []string
	// Policy is made of the rules of the ACL claim; nil: the token has none.
	Policy *acl.Policy
	// Expires is when the token ends.
	Expires time.Time
	// Key is the key that has signed it.
	Key Print
}

// Verify believes a token or says why not: first its signature, then the audience, the time, the name, the rules. That
// the token is of this issuer is the caller's to see, by [Token.Issuer].
func (t *Token) Verify(issuer *Issuer, keys *Set, now time.Time) (*Identity, error) {
	id := &Identity{}

	var err error
	if id.Key, err = t.checkSignature(keys); err != nil {
		return nil, err
	}

	if id.Audiences = t.claims.audiences(); !Accepts(issuer.Audiences, id.Audiences) {
		return nil, ErrAudience
	}

	if id.Expires, err = t.claims.checkTimes(now); err != nil {
		return nil, err
	}

	if issuer.UsernameClaim == "" {
		id.Account, err = t.claims.account()
	} else {
		id.Username, err = t.claims.username(issuer.UsernameClaim)
	}

	if err != nil {
		return nil, err
	}

	if issuer.ACLClaim != "" {
		id.Policy, err = t.claims.policy(issuer.ACLClaim)
	}

	if err != nil {
		return nil, err
	}

	return id, nil
}

// Accepts tells whether one of the audiences of a token is one that is taken.
func Accepts(taken, carried []string) bool {
	return slices.ContainsFunc(carried, func(a string) bool { return slices.Contains(taken, a) })
}

func (t *Token) checkSignature(keys *Set) (Print, error) {
	if keys.Len() == 0 {
		return Print{}, ErrKeys
	}

	candidates := keys.candidates(t)
	if len(candidates) == 0 {
		return Print{}, ErrKey
	}

	for _, k := range candidates {
		// What was signed must be what was read.
		if payload, err := t.signed.Verify(k.public); err == nil && bytes.Equal(payload, t.payload) {
			return k.sum, nil
		}
	}

	return Print{}, ErrSignature
}

// audiences are one string or a list of them (RFC 7519, section 4.1.3); anything else is none.
func (o object) audiences() []string {
	if one, ok := o.text("aud"); ok {
		return []string{one}
	}

	var many []string
	if json.Unmarshal(o["aud"], &many) != nil || len(many) > maxAudiences {
		return nil
	}

	return many
}

func (o object) checkTimes(now time.Time) (expires time.Time, err error) {
	expires, there, err := o.time("exp")

	switch {
	case err != nil:
		return expires, err
	case !there:
		return expires, ErrNoExpiry
	case !now.Before(expires):
		return expires, ErrExpired
	}

	for _, name := range []string{"nbf", "iat"} {
		begins, there, err := o.time(name)

		switch {
		case err != nil:
			return expires, err
		case there && begins.After(now.Add(Leeway)):
			return expires, ErrNotYet
		}
	}

	return expires, nil
}

// time is a NumericDate: seconds since 1970, maybe with a fraction.
func (o object) time(name string) (t time.Time, there bool, err error) {
	raw, there := o[name]
	if !there {
		return t, false, nil
	}

	seconds, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || !(seconds >= 0 && seconds <= maxSeconds) {
		return t, true, ErrTime
	}

	whole, part := math.Modf(seconds)

	return time.Unix(int64(whole), int64(part*float64(time.Second))), true, nil
}

func (o object) username(claim string) (string, error) {
	name, ok := o.text(claim)
	// The replacement character stands where a JSON string held half a character: two such names would be one.
	if !ok || contract.UsernameProblem(name) != "" || strings.ContainsRune(name, utf8.RuneError) {
		return "", ErrUsername
	}

	return name, nil
}

func (o object) account() (string, error) {
	subject, _ := o.text("sub")
	rest, ok := strings.CutPrefix(subject, accountPrefix)
	namespace, name, found := strings.Cut(rest, ":")

	if !ok || !found || namespace == "" || name == "" || strings.ContainsAny(rest, "/") || strings.Contains(name, ":") {
		return "", ErrAccount
	}

	return namespace + "/" + name, nil
}

func (o object) policy(claim string) (*acl.Policy, error) {
	raw, there := o[claim]
	if !there {
		return nil, nil
	}

	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()

	var rules []acl.Rule
	if decoder.Decode(&rules) != nil || rules == nil || len(rules) > MaxRules {
		return nil, ErrRules
	}

	policy, err := acl.Compile(rules)
	if err != nil {
		return nil, ErrRules
	}

	return policy, nil
}
