// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/listen/listentest"
)

// authority is a CA with a revocation list that it has signed.
func authority(t testing.TB, name string) Trust {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte(name),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(7), RevocationTime: time.Now()}},
	}, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return Trust{
		Authorities:     string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		RevocationLists: string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list})),
	}
}

// logins is a configuration with every way to prove an identity.
func logins(t testing.TB) *Config {
	t.Helper()
	cfg := good(t)
	cfg.Listeners[1].TLS.ClientAuth, cfg.Listeners[1].TLS.Trust, cfg.Listeners[1].TLS.UsernameFrom = ClientAuthOptional, "mqtts", UsernameFromSAN
	cfg.Listeners[1].Methods = []Method{MethodCertificate, MethodJWT, MethodServiceAccount, MethodPassword}
	cfg.Trust = map[string]Trust{"mqtts": authority(t, "ca")}
	cfg.Authentication = Authentication{
		JWT: []TokenIssuer{
			{Issuer: "https://issuer.example", Audiences: []string{"mqtt"}, JWKS: `{"keys":[]}`, UsernameClaim: "email", ACLClaim: "mqtt"},
			{Issuer: "https://other.example", Audiences: []string{"a", "b"}, JWKSURL: "https://other.example/keys", Authorities: authority(t, "issuer").Authorities},
		},
		ServiceAccounts: &TokenIssuer{Issuer: "https://kubernetes.default.svc", Audiences: []string{"mqtt"}, JWKS: `{"keys":[]}`},
		PasswordCache:   PasswordCacheVolume,
	}
	cfg.Policies = map[string][]acl.Rule{"factory/readers": {{Effect: acl.Allow, Actions: []acl.Action{acl.Subscribe}, Filter: "a/#"}}}
	cfg.Users = append(cfg.Users, User{
		Username: "carol", Verifiers: []string{}, Certificate: &CertificateLogin{Pins: []string{strings.Repeat("ab", 32)}}, JWT: AnyIssuer,
		ServiceAccount: "factory/press", Suspended: true, ClientIDs: &ClientIDs{Prefix: "press-"},
		Quota: &Quota{Connections: 1, PublishRate: 2, BytesRate: 1024, QueuedMessages: 3, SessionExpiry: new(uint32(0))},
		ACL:   []acl.Rule{}, Policies: []string{"factory/readers"},
	})
	return cfg
}

func TestEveryLoginSurvives(t *testing.T) {
	cfg := logins(t)
	cfg.Persistence.Sync, cfg.Drain.DisconnectRate = SyncAlways, DefaultDisconnectRate
	for _, shards := range []int{1, 4} {
		bundle := mustRender(t, cfg, shards)
		parsed, err := Parse(bundle)
		if err != nil {
			t.Fatal(err)
		}
		parsed.Parts = nil
		if diff := cmp.Diff(cfg.Broker, parsed.Broker); diff != "" {
			t.Errorf("lost on the way:\n%s", diff)
		}
		if diff := cmp.Diff([]any{cfg.Trust, cfg.Policies}, []any{parsed.Trust, parsed.Policies}); diff != "" {
			t.Errorf("lost on the way:\n%s", diff)
		}
		for i := range parsed.Users {
			if u := &parsed.Users[i]; u.Username == "carol" && !cmp.Equal(*u, cfg.Users[2]) {
				t.Errorf("lost on the way:\n%s", cmp.Diff(cfg.Users[2], *u))
			}
		}
		again, revision, err := Next(cfg, bundle, 7)
		if err != nil || revision != 7 || !again.Equal(bundle) {
			t.Errorf("%d shards: nothing has changed, yet revision %d, %v", shards, revision, err)
		}
	}
}

func TestAnOlderBrokerLearnsOfNoLogin(t *testing.T) {
	bundle := mustRender(t, good(t), 1)
	for name, content := range bundle {
		for _, field := range []string{"authentication", "methods", "clientAuth", "trust", "polic", "pins", "suspended", "clientIDs", "quota", "jwt", "passwordCache"} {
			if name == PoliciesFile || strings.Contains(string(content), field) {
				t.Errorf("%s holds %s though nobody asks for it: an older broker would refuse the configuration", name, field)
			}
		}
	}
}

// TestABrokerBeforePrivateCAs: the field came after the others, and a broker without it goes on taking all else.
func TestABrokerBeforePrivateCAs(t *testing.T) {
	cfg := logins(t)
	for i := range cfg.Authentication.JWT {
		cfg.Authentication.JWT[i].Authorities = ""
	}
	if text := mustRender(t, cfg, 1)[BrokerFile]; strings.Contains(string(text), "authorities") {
		t.Errorf("%s holds authorities though no issuer has its own", BrokerFile)
	}
}

// TestABrokerBeforePasswordCache: a configuration that keeps nothing over a restart says nothing of it, tokens or not.
func TestABrokerBeforePasswordCache(t *testing.T) {
	cfg := logins(t)
	cfg.Authentication.PasswordCache = ""
	if text := mustRender(t, cfg, 1)[BrokerFile]; strings.Contains(string(text), "passwordCache") {
		t.Errorf("%s holds passwordCache though nobody asks for it", BrokerFile)
	}
}

func TestLoginsOutOfBounds(t *testing.T) {
	other := authority(t, "other")
	for name, tc := range map[string]struct {
		reason string
		edit   func(*Config)
		want   string
	}{
		"unknown method":      {edit: func(c *Config) { c.Listeners[1].Methods[0] = "cert" }, want: `listeners[1].methods[0]: "cert" is none of password, certificate, jwt, serviceAccount`},
		"method twice":        {edit: func(c *Config) { c.Listeners[1].Methods[0] = MethodJWT }, want: `listeners[1].methods[1]: "jwt" stands here twice`},
		"client auth":         {edit: func(c *Config) { c.Listeners[1].TLS.ClientAuth = "maybe" }, want: `listeners[1].tls.clientAuth: "maybe" is neither optional nor required`},
		"trust for nobody":    {edit: func(c *Config) { c.Listeners[1].TLS.ClientAuth = "" }, want: `listeners[1].tls.clientAuth: is missing`},
		"no such trust":       {edit: func(c *Config) { c.Listeners[1].TLS.Trust = "x" }, want: `listeners[1].tls.trust: tls.json holds no trust "x"`},
		"username from":       {edit: func(c *Config) { c.Listeners[1].TLS.UsernameFrom = "dn" }, want: `listeners[1].tls.usernameFrom: "dn" is neither cn nor san`},
		"no authority":        {edit: func(c *Config) { c.Trust["mqtts"] = Trust{} }, want: `trust.mqtts: authorities: holds no certificate`},
		"a leaf as authority": {reason: "x509 would trust it as a root all the same", edit: func(c *Config) { c.Trust["mqtts"] = Trust{Authorities: c.Pairs["mqtts"].Certificate} }, want: `may sign no others: it is no CA`},
		"text among PEM":      {edit: func(c *Config) { c.Trust["mqtts"] = Trust{Authorities: c.Trust["mqtts"].Authorities + "x"} }, want: `text that is not PEM`},
		"a key among PEM":     {edit: func(c *Config) { c.Trust["mqtts"] = Trust{Authorities: c.Pairs["mqtts"].PrivateKey} }, want: `block 0 is "PRIVATE KEY", want "CERTIFICATE"`},
		"another's list": {reason: "who can write a list must not be able to lock everybody out, nor believe that somebody is locked out who is not", edit: func(c *Config) {
			c.Trust["mqtts"] = Trust{Authorities: c.Trust["mqtts"].Authorities, RevocationLists: other.RevocationLists}
		}, want: `was signed by none of the authorities`},
		"a delta list": {reason: "it may take back what another list says", edit: func(c *Config) {
			ca := listentest.NewAuthority(t, "ca")
			c.Trust["mqtts"] = Trust{Authorities: ca.PEM(), RevocationLists: ca.SignList(&x509.RevocationList{
				NextUpdate: time.Now().Add(time.Hour), ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}}},
			})}
		}, want: `is a delta or an indirect one; give the authority's own complete list`},
		"an indirect list": {reason: "its entries are about certificates of others", edit: func(c *Config) {
			ca := listentest.NewAuthority(t, "ca")
			c.Trust["mqtts"] = Trust{Authorities: ca.PEM(), RevocationLists: ca.SignList(&x509.RevocationList{
				NextUpdate: time.Now().Add(time.Hour), RevokedCertificateEntries: []x509.RevocationListEntry{{
					SerialNumber: big.NewInt(1), RevocationTime: time.Now(),
					ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 29}, Critical: true, Value: []byte{48, 0}}},
				}},
			})}
		}, want: `is a delta or an indirect one`},
		"trust too large":       {edit: func(c *Config) { c.Trust["mqtts"] = Trust{Authorities: strings.Repeat("\n", MaxTrustBytes+1)} }, want: `at most 262144 each are allowed`},
		"password cache":        {edit: func(c *Config) { c.Authentication.PasswordCache = "memory" }, want: `authentication.passwordCache: "memory" is not volume`},
		"issuer twice":          {edit: func(c *Config) { c.Authentication.JWT[1].Issuer = c.Authentication.JWT[0].Issuer }, want: `authentication.jwt[1].issuer: "https://issuer.example" stands here twice`},
		"no audience":           {reason: "a token for another service must not open", edit: func(c *Config) { c.Authentication.JWT[0].Audiences = nil }, want: `authentication.jwt[0].audiences: name at least one audience`},
		"empty audience":        {edit: func(c *Config) { c.Authentication.JWT[0].Audiences = []string{"a", ""} }, want: `authentication.jwt[0].audiences`},
		"any issuer":            {edit: func(c *Config) { c.Authentication.JWT[0].Issuer = AnyIssuer }, want: `authentication.jwt[0].issuer: "*" is no issuer`},
		"no keys":               {edit: func(c *Config) { c.Authentication.JWT[0].JWKS = "" }, want: `authentication.jwt[0]: needs exactly one of jwks and jwksURL`},
		"keys twice":            {edit: func(c *Config) { c.Authentication.JWT[0].JWKSURL = "https://x" }, want: `authentication.jwt[0]: needs exactly one of`},
		"keys too large":        {edit: func(c *Config) { c.Authentication.JWT[0].JWKS = strings.Repeat(" ", MaxJWKSBytes+1) }, want: `authentication.jwt[0].jwks: has 65537 bytes`},
		"plain http":            {reason: "who can change the answer can let anybody in", edit: func(c *Config) { c.Authentication.JWT[1].JWKSURL = "http://x/keys" }, want: `authentication.jwt[1].jwksURL: is no https address`},
		"secret in a URL":       {edit: func(c *Config) { c.Authentication.JWT[1].JWKSURL = "https://u:" + secret + "@x/keys" }, want: `authentication.jwt[1].jwksURL: is no https address`},
		"roots for nothing":     {edit: func(c *Config) { c.Authentication.JWT[0].Authorities = c.Authentication.JWT[1].Authorities }, want: `authentication.jwt[0].authorities: has no place here without jwksURL`},
		"roots too large":       {edit: func(c *Config) { c.Authentication.JWT[1].Authorities += strings.Repeat("\n", MaxAuthoritiesBytes) }, want: `authentication.jwt[1].authorities: has`},
		"roots that are none":   {reason: "who vouches for the keys must be said", edit: func(c *Config) { c.Authentication.JWT[1].Authorities = "\n" }, want: `authentication.jwt[1]: authorities: holds no certificate`},
		"roots with a key":      {edit: func(c *Config) { c.Authentication.JWT[1].Authorities = c.Pairs["mqtts"].PrivateKey }, want: `authentication.jwt[1]: authorities: block 0 is "PRIVATE KEY"`},
		"roots that are a leaf": {reason: "it would vouch for nobody", edit: func(c *Config) { c.Authentication.JWT[1].Authorities = c.Pairs["mqtts"].Certificate }, want: `it is no CA`},
		"claims of an SA":       {edit: func(c *Config) { c.Authentication.ServiceAccounts.ACLClaim = "x" }, want: `authentication.serviceAccounts: usernameClaim and aclClaim have no place here`},
		"no such policy":        {edit: func(c *Config) { c.Users[2].Policies[0] = "x" }, want: `users[2].policies[0]: policies.json holds no policy "x"`},
		"policy's rule":         {edit: func(c *Config) { c.Policies["factory/readers"][0].Filter = "#/a" }, want: `policies.json:4: policies.factory/readers[0]: filter`},
		"no pin":                {edit: func(c *Config) { c.Users[2].Certificate.Pins[0] = "abcd" }, want: `users[2].certificate.pins[0]: is no SHA-256 sum`},
		"no account":            {edit: func(c *Config) { c.Users[2].ServiceAccount = "press" }, want: `users[2].serviceAccount: "press" is not namespace/name`},
		"ids both ways":         {edit: func(c *Config) { c.Users[2].ClientIDs.Exact = []string{"a"} }, want: `users[2].clientIDs: needs exactly one of exact and prefix`},
		"ids no way":            {edit: func(c *Config) { c.Users[2].ClientIDs.Prefix = "" }, want: `users[2].clientIDs: needs exactly one of`},
		"connections":           {edit: func(c *Config) { c.Users[2].Quota.Connections = -1 }, want: `users[2].quota.connections: -1 is not within 0 to 1000000`},
		"bytes":                 {edit: func(c *Config) { c.Users[2].Quota.BytesRate = 1023 }, want: `users[2].quota.bytesRate: 1023 is less than 1024`},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := logins(t)
			if err := cfg.Validate(); err != nil {
				t.Fatal(err)
			}
			tc.edit(cfg)
			_, err := Parse(mustRender(t, cfg, 1))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got  %v\nwant %s\n%s", err, tc.want, tc.reason)
			}
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

func TestClientIDs(t *testing.T) {
	for name, tc := range map[string]struct {
		ids  *ClientIDs
		id   string
		want bool
	}{
		"no bounds":    {id: "x", want: true},
		"one of them":  {ids: &ClientIDs{Exact: []string{"a", "b"}}, id: "b", want: true},
		"none of them": {ids: &ClientIDs{Exact: []string{"a", "b"}}, id: "ab"},
		"prefix":       {ids: &ClientIDs{Prefix: "a-"}, id: "a-1", want: true},
		"not quite":    {ids: &ClientIDs{Prefix: "a-"}, id: "a"},
	} {
		if tc.ids.Allow(tc.id) != tc.want {
			t.Errorf("%s: want %t", name, tc.want)
		}
	}
}
