// SPDX-License-Identifier: Apache-2.0

package token

import (
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/test/mint"
)

const (
	issuerName = "https://issuer.example"
	audience   = "mqtt"
	// marker stands in every claim whose value must not come out again.
	marker = "m4rker"
)

var (
	now      = time.Unix(1_800_000_000, 0)
	byName   = &Issuer{Audiences: []string{"other", audience}, UsernameClaim: "sub", ACLClaim: "acl"}
	accounts = &Issuer{Audiences: []string{audience}}
)

// claims are good at now; change says what is different, nil what is missing.
func claims(change map[string]any) map[string]any {
	c := map[string]any{
		"iss": issuerName, "aud": audience, "sub": "anna", "iat": now.Unix(), "exp": now.Unix() + 60, "jti": marker,
	}
	maps.Copy(c, change)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })

	return c
}

func judge(text string, issuer *Issuer, keys *Set) (*Identity, error) {
	t, err := Parse([]byte(text))
	if err != nil {
		return nil, err
	}

	return t.Verify(issuer, keys, now)
}

func mustKeys(t testing.TB, text string) *Set {
	t.Helper()

	s, err := ParseKeys([]byte(text))
	if err != nil {
		t.Fatal(err)
	}

	return s
}

func TestEveryAlgorithm(t *testing.T) {
	for _, alg := range []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"} {
		k := mint.NewKey(t, "k1", alg)

		id, err := judge(k.Token(claims(nil), nil), byName, mustKeys(t, mint.Set(mint.NewKey(t, "k0", "ES256"), k)))
		if err != nil || id.Username != "anna" || !id.Expires.Equal(now.Add(time.Minute)) || id.Policy != nil {
			t.Errorf("%s: got %+v, %v", alg, id, err)
		}
	}
}

func encoded(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

// list is a JSON array of n equal elements.
func list(n int, element string) json.RawMessage {
	return json.RawMessage("[" + strings.TrimSuffix(strings.Repeat(element+",", n), ",") + "]")
}

func TestTokensThatAreRefused(t *testing.T) {
	k, ec := mint.NewKey(t, "k1", "RS256"), mint.NewKey(t, "k2", "ES256")
	stranger := mint.NewKey(t, "k1", "RS256")
	keys := mustKeys(t, mint.Set(k, ec))
	good := k.Token(claims(nil), nil)
	parts := strings.Split(good, ".")
	header := `{"alg":"RS256","kid":"k1"}`

	// What an attacker has of the issuer: its public key, in the forms in which libraries took it for a secret.
	forged := func(secret []byte) string {
		text := encoded(`{"alg":"HS256","kid":"k1"}`) + "." + parts[1]
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(text))

		return text + "." + encoded(string(mac.Sum(nil)))
	}

	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}

	asPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	modulus := k.Public().(*rsa.PublicKey).N.Bytes()

	with := func(change map[string]any) string { return k.Token(claims(change), nil) }
	rule := `{"effect":"allow","actions":["publish"],"filter":"a/` + marker + `"}`

	for name, c := range map[string]struct {
		reason string
		token  string
		want   error
	}{
		"another audience":              {"it was given for another service", with(map[string]any{"aud": marker}), ErrAudience},
		"other audiences":               {"", with(map[string]any{"aud": []string{marker, "MQTT"}}), ErrAudience},
		"no audience":                   {"any service could have got it", with(map[string]any{"aud": nil}), ErrAudience},
		"an audience that is no text":   {"", with(map[string]any{"aud": 1}), ErrAudience},
		"no issuer":                     {"", with(map[string]any{"iss": nil}), ErrIssuer},
		"an issuer that is no text":     {"", with(map[string]any{"iss": []string{issuerName}}), ErrIssuer},
		"a key of somebody else":        {"it has the kid of the right one", stranger.Token(claims(nil), nil), ErrSignature},
		"a kid that is not known":       {"", k.Token(claims(nil), map[string]any{"kid": marker}), ErrKey},
		"a kid that is no text":         {"", k.Token(claims(nil), map[string]any{"kid": 1}), ErrKey},
		"an empty kid":                  {"", k.Token(claims(nil), map[string]any{"kid": ""}), ErrKey},
		"no kid, and another's key":     {"every key that fits is tried, and none does", stranger.Token(claims(nil), map[string]any{"kid": nil}), ErrSignature},
		"the kid of another kind":       {"the token must not choose how a key is used", k.Token(claims(nil), map[string]any{"kid": "k2"}), ErrKey},
		"ES256 with an RSA key":         {"alg confusion", k.Token(claims(nil), map[string]any{"alg": "ES256"}), ErrKey},
		"another hash than the key's":   {"the key says what it is for", k.Token(claims(nil), map[string]any{"alg": "RS512"}), ErrKey},
		"alg none":                      {"", encoded(`{"alg":"none"}`) + "." + parts[1] + ".", ErrForm},
		"alg none with a signature":     {"", encoded(`{"alg":"none"}`) + "." + parts[1] + "." + parts[2], ErrAlgorithm},
		"alg nOnE":                      {"", encoded(`{"alg":"nOnE"}`) + "." + parts[1] + "." + parts[2], ErrAlgorithm},
		"no alg":                        {"", encoded(`{"kid":"k1"}`) + "." + parts[1] + "." + parts[2], ErrAlgorithm},
		"an alg that is no text":        {"", encoded(`{"alg":["RS256"]}`) + "." + parts[1] + "." + parts[2], ErrAlgorithm},
		"the public key as a secret":    {"alg confusion", forged(asPEM), ErrAlgorithm},
		"its DER as a secret":           {"alg confusion", forged(der), ErrAlgorithm},
		"its modulus as a secret":       {"alg confusion", forged(modulus), ErrAlgorithm},
		"a key in the header":           {"who brings his own key proves nothing", stranger.Token(claims(nil), map[string]any{"jwk": stranger.JWK()}), ErrSignature},
		"an address in the header":      {"", stranger.Token(claims(nil), map[string]any{"jku": "https://" + marker, "x5u": "https://" + marker}), ErrSignature},
		"crit":                          {"what must be understood is not", k.Token(claims(nil), map[string]any{"crit": []string{"exp"}, "exp": 1}), ErrCritical},
		"a payload that is not encoded": {"RFC 7797", k.Token(claims(nil), map[string]any{"b64": false}), ErrCritical},
		"a payload that is packed":      {"", k.Token(claims(nil), map[string]any{"zip": "DEF"}), ErrCritical},
		"a token in a token":            {"", k.Sign(header, good), ErrNested},
		"a token in a token, announced": {"", k.Token(claims(nil), map[string]any{"cty": "JWT"}), ErrNested},
		"a token for logging out":       {"", k.Token(claims(nil), map[string]any{"typ": "logout+jwt"}), ErrType},
		"a type that is no text":        {"", k.Token(claims(nil), map[string]any{"typ": 1}), ErrType},
		"expired":                       {"", with(map[string]any{"exp": now.Unix() - 1}), ErrExpired},
		"expiring now":                  {"there is no leeway at the end", with(map[string]any{"exp": now.Unix()}), ErrExpired},
		"not valid yet":                 {"", with(map[string]any{"nbf": now.Unix() + 31}), ErrNotYet},
		"issued in the future":          {"", with(map[string]any{"iat": now.Unix() + 31}), ErrNotYet},
		"no exp":                        {"it would be good for ever", with(map[string]any{"exp": nil}), ErrNoExpiry},
		"exp null":                      {"", with(map[string]any{"exp": json.RawMessage("null")}), ErrTime},
		"exp as text":                   {"", with(map[string]any{"exp": strconv.FormatInt(now.Unix()+60, 10)}), ErrTime},
		"exp beyond all numbers":        {"", with(map[string]any{"exp": json.RawMessage("1e400")}), ErrTime},
		"exp beyond all years":          {"", with(map[string]any{"exp": json.RawMessage("1e15")}), ErrTime},
		"exp before all years":          {"", with(map[string]any{"exp": -1}), ErrTime},
		"nbf as text":                   {"", with(map[string]any{"nbf": "now"}), ErrTime},
		"too long":                      {"", with(map[string]any{"pad": strings.Repeat(marker, contract.MaxTokenBytes/len(marker))}), ErrTooLong},
		"deeply nested claims":          {"", with(map[string]any{"deep": json.RawMessage(strings.Repeat("[", 5000) + strings.Repeat("]", 5000))}), ErrJSON},
		"claims one level too deep":     {"", with(map[string]any{"deep": json.RawMessage(strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth))}), ErrJSON},
		"a deeply nested header":        {"", k.Token(claims(nil), map[string]any{"deep": json.RawMessage(strings.Repeat("[", 5000) + strings.Repeat("]", 5000))}), ErrJSON},
		"a claim that stands twice":     {"two readers would read two names", k.Sign(header, `{"iss":"https://issuer.example","sub":"anna","sub":"otto"}`), ErrJSON},
		"twice, written otherwise":      {"", k.Sign(header, `{"iss":"https://issuer.example","sub":"anna","s\u0075b":"otto"}`), ErrJSON},
		"twice, further down":           {"", k.Sign(header, `{"iss":"https://issuer.example","x":[{"a":1,"a":2}]}`), ErrJSON},
		"a header that stands twice":    {"", k.Sign(`{"alg":"RS256","alg":"none"}`, `{}`), ErrJSON},
		"something behind the claims":   {"", k.Sign(header, `{"iss":"https://issuer.example"} {}`), ErrJSON},
		"claims that are a list":        {"", k.Sign(header, `[]`), ErrJSON},
		"claims that are null":          {"", k.Sign(header, `null`), ErrJSON},
		"claims that break off":         {"", k.Sign(header, `{"iss":"https://issuer.ex`), ErrJSON},
		"no claims":                     {"", k.Sign(header, ``), ErrJSON},
		"claims that are not UTF-8":     {"", k.Sign(header, "{\"iss\":\"\xff\"}"), ErrJSON},
		"nothing":                       {"", "", ErrForm},
		"two parts":                     {"", parts[0] + "." + parts[1], ErrForm},
		"five parts":                    {"an encrypted token (JWE)", good + ".a.b", ErrForm},
		"no signature":                  {"", parts[0] + "." + parts[1] + ".", ErrForm},
		"half a signature":              {"", parts[0] + "." + parts[1] + "." + parts[2][:40], ErrSignature},
		"other claims under it":         {"", parts[0] + "." + encoded(`{"iss":"https://issuer.example","sub":"otto"}`) + "." + parts[2], ErrSignature},
		"padding":                       {"", parts[0] + "." + parts[1] + "." + parts[2] + "==", ErrForm},
		"a line break":                  {"", parts[0] + "." + parts[1] + "." + parts[2] + "\n", ErrForm},
		"another alphabet":              {"", parts[0] + "." + parts[1] + "+/." + parts[2], ErrForm},
		"no username":                   {"", with(map[string]any{"sub": nil}), ErrUsername},
		"a username that is a number":   {"", with(map[string]any{"sub": 7}), ErrUsername},
		"a username with a wildcard":    {"it would stand in topics", with(map[string]any{"sub": marker + "/#"}), ErrUsername},
		"a username of the broker's":    {"", with(map[string]any{"sub": "$probe"}), ErrUsername},
		"a username that is too long":   {"", with(map[string]any{"sub": strings.Repeat("a", 129)}), ErrUsername},
		"half a character":              {"two names would be one", with(map[string]any{"sub": json.RawMessage(`"a\ud800"`)}), ErrUsername},
		"rules that are text":           {"", with(map[string]any{"acl": "allow " + marker}), ErrRules},
		"rules that are null":           {"", with(map[string]any{"acl": json.RawMessage("null")}), ErrRules},
		"a rule that is none":           {"", with(map[string]any{"acl": []map[string]any{{"effect": marker}}}), ErrRules},
		"a rule with more in it":        {"what is not understood may narrow", with(map[string]any{"acl": []map[string]any{{"effect": "allow", "actions": []string{"publish"}, "filter": "a", "until": marker}}}), ErrRules},
		"a rule with a bad filter":      {"", with(map[string]any{"acl": json.RawMessage("[" + strings.ReplaceAll(rule, "a/", "#/") + "]")}), ErrRules},
	} {
		t.Run(name, func(t *testing.T) {
			id, err := judge(c.token, byName, keys)
			if id != nil || !errors.Is(err, c.want) {
				t.Errorf("got  %+v, %v\nwant %v\n%s", id, err, c.want, c.reason)
			}

			if err != nil && strings.Contains(err.Error(), marker) {
				t.Errorf("the error shows what is in the token: %v", err)
			}
		})
	}

	if _, err := judge(good, byName, keys); err != nil {
		t.Errorf("the token that all others were made of must be good: %v", err)
	}

	if _, err := judge(good, byName, nil); !errors.Is(err, ErrKeys) {
		t.Errorf("without keys: %v", err)
	}
}

func TestTokensThatAreTaken(t *testing.T) {
	k := mint.NewKey(t, "k1", "ES256")
	keys := mustKeys(t, mint.Set(mint.NewKey(t, "k0", "ES256"), k))
	rule := acl.Rule{Effect: acl.Allow, Actions: []acl.Action{acl.Publish}, Filter: "a/%u/#"}

	for name, c := range map[string]struct {
		reason string
		change map[string]any
		header map[string]any
		rules  int // -1: no rules at all
	}{
		"one of several audiences":   {"", map[string]any{"aud": []string{"x", audience}}, nil, -1},
		"no kid":                     {"every key of its kind is tried", nil, map[string]any{"kid": nil}, -1},
		"no typ":                     {"Kubernetes writes none", nil, map[string]any{"typ": nil}, -1},
		"an access token of OAuth":   {"RFC 9068", nil, map[string]any{"typ": "application/at+JWT"}, -1},
		"a clock that is behind":     {"30 s of leeway", map[string]any{"nbf": now.Unix() + 30, "iat": now.Unix() + 30}, nil, -1},
		"a fraction of a second":     {"", map[string]any{"exp": float64(now.Unix()) + 0.5}, nil, -1},
		"no iat":                     {"only exp must be there", map[string]any{"iat": nil}, nil, -1},
		"rules":                      {"", map[string]any{"acl": []acl.Rule{rule, rule}}, nil, 2},
		"as many rules as go in":     {"", map[string]any{"acl": list(200, `{"effect":"deny","actions":["publish"],"filter":"a"}`)}, nil, 200},
		"no rules at all":            {"a list with nothing in it grants nothing", map[string]any{"acl": []acl.Rule{}}, nil, 0},
		"certificates beside it":     {"they are not asked", nil, map[string]any{"x5t": "x"}, -1},
		"an address nobody looks at": {"XSUAA writes it into every token", nil, map[string]any{"jku": "https://x"}, -1},
		"claims as deep as may be":   {"", map[string]any{"deep": json.RawMessage(strings.Repeat("[", maxDepth-1) + strings.Repeat("]", maxDepth-1))}, nil, -1},
	} {
		t.Run(name, func(t *testing.T) {
			id, err := judge(k.Token(claims(c.change), c.header), byName, keys)
			if err != nil {
				t.Fatalf("%v\n%s", err, c.reason)
			}

			if (id.Policy == nil) != (c.rules < 0) || id.Policy.Len() != max(0, c.rules) {
				t.Errorf("%d rules, want %d", id.Policy.Len(), c.rules)
			}

			if !keys.Holds(id.Key) || mustKeys(t, mint.Set(mint.NewKey(t, "k1", "ES256"))).Holds(id.Key) {
				t.Error("the key that signed it is not told")
			}
		})
	}
}

func TestTooManyRules(t *testing.T) {
	for n, want := range map[int]error{MaxRules: nil, MaxRules + 1: ErrRules} {
		o := object{"acl": list(n, `{"effect":"deny","actions":["publish"],"filter":"a"}`)}
		if _, err := o.policy("acl"); !errors.Is(err, want) {
			t.Errorf("%d rules: %v, want %v", n, err, want)
		}
	}
}

func TestServiceAccounts(t *testing.T) {
	k := mint.NewKey(t, "", "RS256")
	keys := mustKeys(t, mint.Set(k))

	for subject, want := range map[string]string{
		"system:serviceaccount:factory:press":   "factory/press",
		"system:serviceaccount:factory:":        "",
		"system:serviceaccount::press":          "",
		"system:serviceaccount:factory":         "",
		"system:serviceaccount:factory:press:x": "",
		"system:serviceaccount:fac/tory:press":  "",
		"system:node:press":                     "",
		"press":                                 "",
	} {
		id, err := judge(k.Token(claims(map[string]any{"sub": subject, "acl": marker}), map[string]any{"typ": nil}), accounts, keys)
		if want == "" && !errors.Is(err, ErrAccount) || want != "" && (err != nil || id.Account != want || id.Username != "") {
			t.Errorf("%q: %+v, %v", subject, id, err)
		}
	}
}

func TestKeySets(t *testing.T) {
	rsaKey, ecKey := mint.NewKey(t, "r", "RS256").JWK(), mint.NewKey(t, "e", "ES256").JWK()
	with := func(key map[string]any, change map[string]any) string {
		other := maps.Clone(key)
		maps.Copy(other, change)
		maps.DeleteFunc(other, func(_ string, v any) bool { return v == nil })

		text, err := json.Marshal(other)
		if err != nil {
			t.Fatal(err)
		}

		return string(text)
	}
	of := func(keys ...string) string { return `{"keys":[` + strings.Join(keys, ",") + `]}` }
	plain := with(rsaKey, nil)

	for name, c := range map[string]struct {
		reason string
		text   string
		keys   int
		want   error
	}{
		"two":                         {"", of(plain, with(ecKey, nil)), 2, nil},
		"empty":                       {"", of(), 0, ErrSetEmpty},
		"nothing":                     {"", "", 0, ErrSetForm},
		"garbage":                     {"a proxy's login page", "<html>" + marker, 0, ErrSetForm},
		"no keys in it":               {"the discovery document instead of the set", `{"jwks_uri":"https://` + marker + `"}`, 0, ErrSetForm},
		"keys null":                   {"", `{"keys":null}`, 0, ErrSetForm},
		"keys that are an object":     {"", `{"keys":{}}`, 0, ErrSetForm},
		"a list":                      {"", "[" + plain + "]", 0, ErrSetForm},
		"keys that stand twice":       {"", `{"keys":[],"keys":[` + plain + `]}`, 0, ErrSetForm},
		"huge":                        {"", of(plain) + strings.Repeat(" ", contract.MaxJWKSBytes), 0, ErrSetTooLong},
		"a symmetric key":             {"who checks with it could sign with it", of(`{"kty":"oct","k":"` + marker + `","alg":"HS256"}`), 0, ErrSetEmpty},
		"a symmetric key among them":  {"", of(`{"kty":"oct","k":"`+marker+`"}`, plain), 1, nil},
		"a private key":               {"it is none of ours, and nobody's secret any more", of(with(rsaKey, map[string]any{"d": marker})), 0, ErrSetEmpty},
		"a key for encryption":        {"", of(with(rsaKey, map[string]any{"use": "enc"}), plain), 1, nil},
		"a key for other operations":  {"", of(with(rsaKey, map[string]any{"use": nil, "key_ops": []string{"encrypt"}}), plain), 1, nil},
		"a key to verify":             {"", of(with(rsaKey, map[string]any{"use": nil, "alg": nil, "key_ops": []string{"verify"}})), 1, nil},
		"a kind that nobody knows":    {"RFC 7517, section 5", of(`{"kty":"new","x":"a"}`, plain), 1, nil},
		"a curve that nobody knows":   {"", of(with(ecKey, map[string]any{"crv": "secp256k1"}), plain), 1, nil},
		"a point beside the curve":    {"", of(with(ecKey, map[string]any{"y": ecKey["x"]}), plain), 1, nil},
		"a short RSA key":             {"", of(with(rsaKey, map[string]any{"n": encoded(strings.Repeat("\xff", 128))})), 0, ErrSetEmpty},
		"a very long RSA key":         {"each check would cost too much", of(with(rsaKey, map[string]any{"n": encoded(strings.Repeat("\xff", 2048))})), 0, ErrSetEmpty},
		"an even exponent":            {"", of(with(rsaKey, map[string]any{"e": encoded("\x02")})), 0, ErrSetEmpty},
		"a certificate that is none":  {"only the key counts", of(with(rsaKey, map[string]any{"x5c": []string{marker}})), 1, nil},
		"something that is no object": {"", of("1", "null", `"x"`, plain), 1, nil},
		"a kid that is no text":       {"", of(with(rsaKey, map[string]any{"kid": 1}), plain), 1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := ParseKeys([]byte(c.text))
			if s.Len() != c.keys || !errors.Is(err, c.want) {
				t.Errorf("%d keys, %v; want %d, %v\n%s", s.Len(), err, c.keys, c.want, c.reason)
			}

			if err != nil && strings.Contains(err.Error(), marker) {
				t.Errorf("the error shows what is in the set: %v", err)
			}
		})
	}
}

func TestLooks(t *testing.T) {
	for text, want := range map[string]bool{"eyJh.e.s": true, "": false, "eyJh": false, "a.b.c": false, "eyJh.b.c.d.e": false} {
		if Looks([]byte(text)) != want {
			t.Errorf("%q: want %t", text, want)
		}
	}
}

// FuzzToken: whatever comes, a token is refused or means what it says.
func FuzzToken(f *testing.F) {
	k := mint.NewKey(f, "k1", "ES256")
	keys := mustKeys(f, mint.Set(k))

	f.Add(k.Token(claims(nil), nil))
	f.Add(k.Token(claims(map[string]any{"acl": []acl.Rule{}}), map[string]any{"kid": nil}))
	f.Add(encoded(`{"alg":"none"}`) + "." + encoded(`{"iss":"a"}`) + ".")
	f.Add("eyJ.eyJ.eyJ")
	f.Add("..")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := Parse([]byte(text))
		if err != nil {
			return
		}

		if id, err := token.Verify(byName, keys, now); err == nil && (id.Username == "" || strings.Count(text, ".") != 2) {
			t.Errorf("%q is taken as %+v", text, id)
		}
	})
}

// FuzzClaims signs whatever comes, as a careless issuer would.
func FuzzClaims(f *testing.F) {
	k := mint.NewKey(f, "k1", "EdDSA")
	keys := mustKeys(f, mint.Set(k))

	for _, change := range []map[string]any{nil, {"aud": []string{audience}}, {"acl": list(3, "{}")}, {"exp": 1e300}, {"nbf": -1.5}} {
		text, err := json.Marshal(claims(change))
		if err != nil {
			f.Fatal(err)
		}

		f.Add(`{"alg":"EdDSA","kid":"k1"}`, string(text))
	}

	f.Fuzz(func(t *testing.T, header, payload string) {
		id, err := judge(k.Sign(header, payload), byName, keys)
		if err != nil {
			return
		}

		var plain map[string]any
		if err := json.Unmarshal([]byte(payload), &plain); err != nil {
			t.Fatalf("%q is taken, and is no JSON: %v", payload, err)
		}

		if plain["sub"] != id.Username || contract.UsernameProblem(id.Username) != "" || !id.Expires.After(now) {
			t.Errorf("%q is taken as %+v", payload, id)
		}
	})
}

// FuzzKeys: whatever an issuer answers, no key comes of it that is not public.
func FuzzKeys(f *testing.F) {
	f.Add(mint.Set(mint.NewKey(f, "a", "RS256"), mint.NewKey(f, "b", "ES512"), mint.NewKey(f, "c", "EdDSA")))
	f.Add(`{"keys":[{"kty":"oct","k":"AAAA"}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseKeys([]byte(text))
		if (err == nil) != (s.Len() > 0) {
			t.Errorf("%d keys and %v", s.Len(), err)
		}

		for i := range s.Len() {
			if !strong(s.keys[i].public) {
				t.Errorf("%q gives %T", text, s.keys[i].public)
			}
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	for _, alg := range []string{"ES256", "RS256", "EdDSA"} {
		b.Run(alg, func(b *testing.B) {
			k := mint.NewKey(b, "k1", alg)
			keys := mustKeys(b, mint.Set(k))
			text := k.Token(claims(nil), nil)

			b.ReportAllocs()

			for b.Loop() {
				if _, err := judge(text, byName, keys); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
