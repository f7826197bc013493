// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
)

// secret stands in every place of good that must never be printed.
const secret = "5ecre7"

func pair(t testing.TB) KeyPair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return KeyPair{
		Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		PrivateKey:  string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})),
	}
}

func good(t testing.TB) *Config {
	t.Helper()
	return &Config{
		Broker: Broker{
			Format: Format, Name: "factory/mq", Revision: 7,
			Listeners: []Listener{
				{Name: "mqtt", Protocol: TCP, Address: ":1883", Anonymous: &Anonymous{ACL: []acl.Rule{{Effect: "allow", Actions: []acl.Action{"subscribe"}, Filter: "news/#"}}}},
				{Name: "mqtts", Protocol: TLS, Address: ":8883", TLS: &ListenerTLS{Pair: "mqtts", MinVersion: "1.2"}},
			},
			Limits: DefaultLimits(), Logging: DefaultLogging(),
		},
		Pairs: map[string]KeyPair{"mqtts": pair(t)},
		Users: []User{
			{Username: "bob", Verifiers: []string{"$sha256$" + secret}, ACL: []acl.Rule{}},
			{Username: "alice", Verifiers: []string{"$sha256$" + secret}, ACL: []acl.Rule{{Effect: "allow", Actions: []acl.Action{"publish"}, Filter: "factory/%u/#"}}},
		},
	}
}

func mustRender(t testing.TB, cfg *Config, shards int) Bundle {
	t.Helper()
	bundle, err := Render(cfg, shards)
	if err != nil {
		t.Fatal(err)
	}
	return bundle
}

func TestWhatIsRenderedParses(t *testing.T) {
	for _, shards := range []int{1, 2, 16} {
		cfg := good(t)
		bundle := mustRender(t, cfg, shards)
		parsed, err := Parse(bundle)
		if err != nil {
			t.Fatalf("%d shards: %v", shards, err)
		}
		if len(parsed.Users) != len(cfg.Users) || parsed.Revision != 7 || parsed.Listeners[1].TLS.Pair != "mqtts" {
			t.Errorf("%d shards: parsed %+v", shards, parsed)
		}
		slices.Reverse(cfg.Users)
		if !mustRender(t, cfg, shards).Equal(bundle) {
			t.Errorf("%d shards: the order in which users come must not change a byte", shards)
		}
	}
}

func TestParseNamesFileLineAndField(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		file   string
		edit   func(string) string
		want   string
	}{
		"unknown field": {
			reason: "a misspelt field that is ignored is a setting that silently does not hold",
			file:   BrokerFile, edit: replace(`"maxPacketSize": 1048576`, `"maxPacketsize": 1048576`),
			want: `broker.json:37: limits.maxPacketsize: unknown field`,
		},
		"duplicate key": {
			reason: "encoding/json would take the last in silence",
			file:   BrokerFile, edit: replace(`"revision": 7,`, "\"revision\": 7,\n \"revision\": 8,"),
			want: `broker.json:5: revision: the key stands here twice`,
		},
		"wrong type":      {file: BrokerFile, edit: replace(`"revision": 7`, `"revision": "7"`), want: `broker.json:4: revision: a string does not fit here`},
		"negative":        {file: BrokerFile, edit: replace(`"receiveMaximum": 1024`, `"receiveMaximum": -1`), want: `limits.receiveMaximum: a number -1 does not fit here`},
		"zero":            {file: BrokerFile, edit: replace(`"receiveMaximum": 1024`, `"receiveMaximum": 0`), want: `limits.receiveMaximum: must be at least 1`},
		"cut off":         {file: BrokerFile, edit: func(s string) string { return s[:len(s)/2] }, want: `the text ends too early`},
		"text behind":     {file: BrokerFile, edit: func(s string) string { return s + "{}" }, want: `text after the closing brace`},
		"no JSON":         {file: BrokerFile, edit: func(string) string { return "listeners:\n" }, want: `broker.json:1: invalid character 'l'`},
		"other format":    {file: BrokerFile, edit: replace("broker-config/v1", "broker-config/v9"), want: `format: is "mqtt-operator.io/broker-config/v9"`},
		"unknown kind":    {file: BrokerFile, edit: replace(`"protocol": "tcp"`, `"protocol": "quic"`), want: `listeners[0].protocol: "quic" is none of tcp, tls, ws, wss, unix`},
		"port twice":      {file: BrokerFile, edit: replace(":8883", ":1883"), want: `listeners[1].address: :1883 is taken by another listener`},
		"name twice":      {file: BrokerFile, edit: replace(`"name": "mqtts"`, `"name": "mqtt"`), want: `listeners[1].name: "mqtt" is taken`},
		"the broker's":    {file: BrokerFile, edit: replace(":8883", ":9443"), want: `listeners[1].address: ports 9440 to 9449 are the broker's own`},
		"no such pair":    {file: BrokerFile, edit: replace(`"pair": "mqtts"`, `"pair": "other"`), want: `listeners[1].tls.pair: tls.json holds no pair "other"`},
		"bad filter":      {file: BrokerFile, edit: replace("news/#", "news/#/x"), want: `listeners[0].anonymous.acl[0]: filter`},
		"part outside":    {file: BrokerFile, edit: replace(`"tls.json"`, `"../tls.json"`), want: `parts: "../tls.json" is no part of a bundle`},
		"too deep":        {file: BrokerFile, edit: func(string) string { return strings.Repeat(`[`, 100) }, want: `nested too deeply`},
		"user with a dot": {file: "users-0.json", edit: replace(`"username": "bob"`, `"username": "bob\u0007"`), want: `users-0.json:19: users[1].username: holds the control character U+0007`},
		"user twice":      {file: "users-0.json", edit: replace(`"username": "bob"`, `"username": "alice"`), want: `users[1].username: "alice" stands here twice`},
		"user's rule":     {file: "users-0.json", edit: replace("factory/%u/#", "factory/x%u/#"), want: `users-0.json:9: users[0].acl[0]: filter`},
		"not a pair":      {file: TLSFile, edit: replace("BEGIN PRIVATE KEY", "BEGIN PRIVATE KEX"), want: `tls.json:3: pairs.mqtts: certificate and key are no pair`},
	} {
		t.Run(name, func(t *testing.T) {
			bundle := mustRender(t, good(t), 1)
			content := string(bundle[tc.file])
			edited := tc.edit(content)
			if edited == content {
				t.Fatal("the case changes nothing")
			}
			if tc.file != BrokerFile {
				broker := strings.ReplaceAll(string(bundle[BrokerFile]), DigestOf(bundle[tc.file]), DigestOf([]byte(edited)))
				bundle[BrokerFile] = []byte(broker)
			}
			bundle[tc.file] = []byte(edited)
			_, err := Parse(bundle)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got  %v\nwant %s\n%s", err, tc.want, tc.reason)
			}
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("the error shows a verifier: %v", err)
			}
		})
	}
}

func replace(from, to string) func(string) string {
	return func(s string) string { return strings.Replace(s, from, to, 1) }
}

func TestHalfAnUpdateIsNotAnError(t *testing.T) {
	before, after := mustRender(t, good(t), 1), good(t)
	after.Users = after.Users[:1]
	mixed := mustRender(t, after, 1)
	mixed[UsersFile(0)] = before[UsersFile(0)]
	if _, err := Parse(mixed); !errors.Is(err, ErrInconsistent) {
		t.Errorf("got %v: a directory that the kubelet is half way through must be told apart from a wrong one", err)
	}
}

func TestRevisionMovesOnlyWithContent(t *testing.T) {
	cfg := good(t)
	first, revision, err := Next(cfg, nil, 0)
	if err != nil || revision != 1 {
		t.Fatalf("revision %d, %v", revision, err)
	}
	again, revision, err := Next(cfg, first, 1)
	if err != nil || revision != 1 || !again.Equal(first) {
		t.Errorf("revision %d, %v: nothing changed, so nothing may be written", revision, err)
	}
	cfg.Users = cfg.Users[:1]
	second, revision, err := Next(cfg, first, 1)
	if err != nil || revision != 2 {
		t.Errorf("revision %d, %v: a change is one step", revision, err)
	}
	if _, revision, _ = Next(cfg, nil, 41); revision != 42 {
		t.Errorf("revision %d: a lost Secret must not send the revision back below what a pod runs", revision)
	}
	if _, revision, _ = Next(cfg, second, 41); revision != 42 {
		t.Errorf("revision %d: a Secret restored from a backup must not hide behind what a pod runs", revision)
	}
}

func TestOneUserMovesOneShard(t *testing.T) {
	cfg := good(t)
	cfg.Users = nil
	for i := range 4000 {
		cfg.Users = append(cfg.Users, User{Username: fmt.Sprintf("device-%d", i), Verifiers: []string{strings.Repeat("v", 300)}, ACL: []acl.Rule{}})
	}
	before, _, err := Next(cfg, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Users[17].Verifiers = []string{"changed"}
	after, _, err := Next(cfg, before, 0)
	if err != nil {
		t.Fatal(err)
	}
	var changed []string
	for name := range after {
		if !bytes.Equal(before[name], after[name]) {
			changed = append(changed, name)
		}
	}
	slices.Sort(changed)
	if want := []string{BrokerFile, UsersFile(Shard("device-17", len(before)-2))}; !slices.Equal(changed, want) {
		t.Errorf("changed %v, want %v of %v", changed, want, before)
	}
	cfg.Users = cfg.Users[:10]
	fewer, _, err := Next(cfg, after, 0)
	if err != nil || len(fewer) != len(after) {
		t.Errorf("%d files after %d: shards only grow", len(fewer), len(after))
	}
}

func TestHoldsUser(t *testing.T) {
	cfg := good(t)
	shard := mustRender(t, cfg, 1)[UsersFile(0)]
	for i := range cfg.Users {
		if !HoldsUser(shard, &cfg.Users[i]) {
			t.Errorf("%s is there", cfg.Users[i].Username)
		}
		other := cfg.Users[i]
		other.Verifiers = []string{"another"}
		if HoldsUser(shard, &other) {
			t.Errorf("%s has another verifier", other.Username)
		}
	}
	if HoldsUser(shard, &User{Username: "ali"}) {
		t.Error("nobody has that name")
	}
}

func TestTooLargeIsSaid(t *testing.T) {
	cfg := good(t)
	cfg.Users = []User{{Username: "x", Verifiers: []string{strings.Repeat("v", MaxShardBytes)}}}
	if _, _, err := Next(cfg, nil, 0); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
}

func TestNothingPrintsASecret(t *testing.T) {
	cfg := good(t)
	key := strings.Split(cfg.Pairs["mqtts"].PrivateKey, "\n")[1]
	for _, text := range []string{fmt.Sprint(cfg), fmt.Sprintf("%+v %#v", cfg, cfg), fmt.Sprintf("%v %#v", mustRender(t, cfg, 1), mustRender(t, cfg, 1))} {
		if strings.Contains(text, secret) || strings.Contains(text, key) {
			t.Errorf("printed a secret: %s", text)
		}
	}
}

func TestReadDirTakesWhatBelongs(t *testing.T) {
	dir := t.TempDir()
	want := mustRender(t, good(t), 2)
	for name, content := range want {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, stray := range []string{"..data", "users-16.json", "users-01.json", "notes.txt"} {
		if err := os.WriteFile(filepath.Join(dir, stray), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := ReadDir(dir)
	if err != nil || !got.Equal(want) {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := ReadDir(t.TempDir()); err == nil {
		t.Error("an empty directory is no configuration")
	}
}

// older is a bundle of an operator from before the fields that may be absent.
const older = `{
 "format": "mqtt-operator.io/broker-config/v1", "name": "factory/mq", "revision": 7, "parts": {},
 "listeners": [{"name": "mqtt", "protocol": "tcp", "address": ":1883"}],
 "limits": {"maxPacketSize": 2048, "receiveMaximum": 3, "topicAliasMaximum": 0, "maxSessionExpiry": 60},
 "logging": {"level": "info", "format": "json"}
}`

func TestABundleOfAnOlderOperator(t *testing.T) {
	cfg, err := Parse(Bundle{BrokerFile: []byte(older)})
	if err != nil {
		t.Fatalf("operators are upgraded after brokers too: %v", err)
	}
	want := DefaultLimits()
	want.MaxPacketSize, want.ReceiveMaximum, want.TopicAliasMaximum, want.MaxSessionExpiry = 2048, 3, 0, 60
	if diff := cmp.Diff(want, cfg.Limits); diff != "" {
		t.Errorf("what is not said is the default, and what is said holds, zero too:\n%s", diff)
	}
	if cfg.Persistence.Sync != SyncAlways {
		t.Errorf("sync is %q: an operator that says nothing wants the safe way", cfg.Persistence.Sync)
	}
}

func TestABrokerOfAnOlderReleaseIsToldNothingNew(t *testing.T) {
	cfg := good(t)
	cfg.Persistence.Sync, cfg.Drain.DisconnectRate = SyncAlways, DefaultDisconnectRate
	text := string(mustRender(t, cfg, 1)[BrokerFile])
	for _, field := range []string{"persistence", "maxQueued", "maxTopicLevels", "maxSubscriptions", "publishRate", "serverKeepAlive", "maxRetained", "websocket", "proxyProtocol", "maxConnections", "connectRate", "drain"} {
		if strings.Contains(text, field) {
			t.Errorf("%s is rendered though it is the default: an older broker, which refuses unknown fields, would take no configuration any more", field)
		}
	}
	cfg.Limits.MaxTopicLevels, cfg.Persistence.Sync, cfg.Drain.DisconnectRate = 7, SyncInterval, 5
	if parsed, err := Parse(mustRender(t, cfg, 1)); err != nil || parsed.Limits.MaxTopicLevels != 7 || parsed.Persistence.Sync != SyncInterval || parsed.Drain.DisconnectRate != 5 {
		t.Errorf("what is no default must be said: %+v, %v", parsed.Limits, err)
	}
}

// every is a configuration in which each field that may be absent is present.
func every(t testing.TB) *Config {
	t.Helper()
	cfg := good(t)
	cfg.Listeners = append(cfg.Listeners,
		Listener{Name: "ws", Protocol: WS, Address: ":8080", ConnectRate: &Rate{PerSecond: 1, Burst: 1_000_000}},
		Listener{
			Name: "wss", Protocol: WSS, Address: ":8443", TLS: &ListenerTLS{Pair: "mqtts", MinVersion: "1.3"}, MaxConnections: 10_000_000,
			WebSocket:     &WebSocket{Path: "/a~b", AllowedOrigins: []string{"https://example.com", "http://[::1]:8080", "app.x-1://localhost"}},
			ProxyProtocol: &ProxyProtocol{Mode: ProxyOptional, TrustedCIDRs: []string{"10.0.0.0/8", "fd00::/8"}},
		},
		Listener{Name: "unix", Protocol: Unix, Address: "/run/mqtt.sock", ProxyProtocol: &ProxyProtocol{Mode: ProxyRequired}},
	)
	cfg.Limits = Limits{
		MaxPacketSize: 256, ReceiveMaximum: 1, MaxQueuedMessages: 1, MaxQueuedBytes: 65536, MaxTopicLevels: 1024, MaxSubscriptions: 1_000_000,
		PublishRate: 1_000_000, ServerKeepAlive: 65535, MaxRetainedMessages: 1, MaxRetainedBytes: 65536,
	}
	cfg.Persistence.Sync, cfg.Drain.DisconnectRate = SyncInterval, 1_000_000
	return cfg
}

func TestEveryFieldSurvives(t *testing.T) {
	cfg := every(t)
	parsed, err := Parse(mustRender(t, cfg, 1))
	if err != nil {
		t.Fatal(err)
	}
	parsed.Parts = nil
	if diff := cmp.Diff(cfg.Broker, parsed.Broker); diff != "" {
		t.Errorf("lost on the way:\n%s", diff)
	}
	if got := []string{cfg.Listeners[2].Endpoint().Path, cfg.Listeners[3].Endpoint().Path}; got[0] != "/mqtt" || got[1] != "/a~b" {
		t.Errorf("paths %v", got)
	}
}

func TestFieldsOutOfBounds(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		edit   func(*Config)
		want   string
	}{
		"queued messages below":  {edit: func(c *Config) { c.Limits.MaxQueuedMessages = -1 }, want: "broker.json:83: limits.maxQueuedMessages: -1 is not within 1 to 10000000; without it 10000 holds"},
		"queued messages above":  {edit: func(c *Config) { c.Limits.MaxQueuedMessages = 10_000_001 }, want: "limits.maxQueuedMessages: 10000001 is not"},
		"queued bytes below":     {edit: func(c *Config) { c.Limits.MaxQueuedBytes = 65535 }, want: "limits.maxQueuedBytes: 65535 is less than 65536, the least that is allowed; without it 67108864 holds"},
		"topic levels above":     {edit: func(c *Config) { c.Limits.MaxTopicLevels = 1025 }, want: "limits.maxTopicLevels: 1025 is not within 1 to 1024"},
		"subscriptions above":    {edit: func(c *Config) { c.Limits.MaxSubscriptions = 1_000_001 }, want: "limits.maxSubscriptions: 1000001 is not within 1 to 1000000"},
		"retained messages":      {edit: func(c *Config) { c.Limits.MaxRetainedMessages = -7 }, want: "limits.maxRetainedMessages: -7 is less than 1"},
		"retained bytes":         {edit: func(c *Config) { c.Limits.MaxRetainedBytes = 1 }, want: "limits.maxRetainedBytes: 1 is less than 65536"},
		"publish rate below":     {edit: func(c *Config) { c.Limits.PublishRate = -1 }, want: "limits.publishRate: -1 is not within 0 to 1000000; 0 stands for no bound"},
		"publish rate above":     {edit: func(c *Config) { c.Limits.PublishRate = 1_000_001 }, want: "limits.publishRate: 1000001 is not"},
		"sync":                   {edit: func(c *Config) { c.Persistence.Sync = "never" }, want: `persistence.sync: "never" is neither always nor interval`},
		"disconnects below":      {edit: func(c *Config) { c.Drain.DisconnectRate = -1 }, want: "drain.disconnectRate: -1 is not within 1 to 1000000; without it 1000 holds"},
		"disconnects above":      {edit: func(c *Config) { c.Drain.DisconnectRate = 1_000_001 }, want: "drain.disconnectRate: 1000001 is not"},
		"connections below":      {edit: func(c *Config) { c.Listeners[0].MaxConnections = -1 }, want: "listeners[0].maxConnections: -1 is not within 0 to 10000000"},
		"connections above":      {edit: func(c *Config) { c.Listeners[0].MaxConnections = 10_000_001 }, want: "listeners[0].maxConnections: 10000001 is not"},
		"no connects per second": {edit: func(c *Config) { c.Listeners[2].ConnectRate.PerSecond = 0 }, want: "listeners[2].connectRate.perSecond: 0 is not within 1 to 1000000; remove connectRate if there should be no bound"},
		"no burst":               {reason: "a bucket without room lets nobody in", edit: func(c *Config) { c.Listeners[2].ConnectRate.Burst = 0 }, want: "listeners[2].connectRate.burst: 0 is not within 1 to 1000000"},
		"ws with a pair":         {edit: func(c *Config) { c.Listeners[2].TLS = c.Listeners[1].TLS }, want: "listeners[2].tls: a ws listener has no TLS; make the protocol tls or wss, or remove this"},
		"wss without a pair":     {edit: func(c *Config) { c.Listeners[3].TLS = nil }, want: "listeners[3].tls: a wss listener needs it"},
		"wss with no such pair":  {edit: func(c *Config) { c.Listeners[3].TLS.Pair = "other" }, want: `listeners[3].tls.pair: tls.json holds no pair "other"`},
		"unix with a pair":       {edit: func(c *Config) { c.Listeners[4].TLS = c.Listeners[1].TLS }, want: "listeners[4].tls: a unix listener has no TLS"},
		"HTTP over tls":          {edit: func(c *Config) { c.Listeners[1].WebSocket = &WebSocket{} }, want: "listeners[1].websocket: a tls listener speaks no HTTP; make the protocol ws or wss"},
		"path without a slash":   {edit: func(c *Config) { c.Listeners[3].WebSocket.Path = "mqtt" }, want: `listeners[3].websocket.path: "mqtt" is no path: begin with /`},
		"path with an escape":    {reason: "the server sees the path unescaped, so that it would never match", edit: func(c *Config) { c.Listeners[3].WebSocket.Path = "/a%2Fb" }, want: "listeners[3].websocket.path"},
		"path too long":          {edit: func(c *Config) { c.Listeners[3].WebSocket.Path = "/" + strings.Repeat("a", 256) }, want: "listeners[3].websocket.path"},
		"origin as a pattern":    {reason: "a value that matches nothing would look like one that lets in all", edit: func(c *Config) { c.Listeners[3].WebSocket.AllowedOrigins[1] = "*" }, want: `listeners[3].websocket.allowedOrigins[1]: "*" is no origin`},
		"origin with a path":     {edit: func(c *Config) { c.Listeners[3].WebSocket.AllowedOrigins[0] = "https://example.com/" }, want: "listeners[3].websocket.allowedOrigins[0]"},
		"too many origins":       {edit: func(c *Config) { c.Listeners[3].WebSocket.AllowedOrigins = make([]string, 33) }, want: "listeners[3].websocket.allowedOrigins: has 33 entries; at most 32 are allowed"},
		"proxy without a mode":   {edit: func(c *Config) { c.Listeners[3].ProxyProtocol.Mode = "" }, want: `listeners[3].proxyProtocol.mode: "" is neither required nor optional`},
		"proxy trusts nobody":    {edit: func(c *Config) { c.Listeners[3].ProxyProtocol.TrustedCIDRs = nil }, want: "listeners[3].proxyProtocol.trustedCIDRs: has 0 entries; name 1 to 32 networks"},
		"proxy trusts a host":    {edit: func(c *Config) { c.Listeners[3].ProxyProtocol.TrustedCIDRs[1] = "10.0.0.1" }, want: `listeners[3].proxyProtocol.trustedCIDRs[1]: "10.0.0.1" is no network`},
		"proxy trusts 4 in 6":    {edit: func(c *Config) { c.Listeners[3].ProxyProtocol.TrustedCIDRs[1] = "::ffff:10.0.0.0/104" }, want: "listeners[3].proxyProtocol.trustedCIDRs[1]"},
		"networks of a socket":   {edit: func(c *Config) { c.Listeners[4].ProxyProtocol = c.Listeners[3].ProxyProtocol }, want: "listeners[4].proxyProtocol.trustedCIDRs: the peers of a unix listener have no address, and all are trusted; remove this"},
		"socket at a port":       {edit: func(c *Config) { c.Listeners[4].Address = ":1884" }, want: `listeners[4].address: ":1884" is no absolute path of a socket, such as /run/mqtt-broker/mqtt.sock`},
		"socket by a detour":     {edit: func(c *Config) { c.Listeners[4].Address = "/run/../run/mqtt.sock" }, want: "listeners[4].address"},
		"socket's path too long": {edit: func(c *Config) { c.Listeners[4].Address = "/" + strings.Repeat("a", 103) }, want: "listeners[4].address: has 104 bytes; the system takes paths of sockets up to 103"},
		"two of one socket": {edit: func(c *Config) {
			c.Listeners = append(c.Listeners, Listener{Name: "again", Protocol: Unix, Address: "/run/mqtt.sock"})
		}, want: "listeners[5].address: /run/mqtt.sock is taken by another listener"},
		"a path at a port": {edit: func(c *Config) { c.Listeners[2].Address = "/run/mqtt.sock" }, want: `listeners[2].address: "/run/mqtt.sock" is not host:port`},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := every(t)
			if err := cfg.Validate(); err != nil {
				t.Fatal(err)
			}
			tc.edit(cfg)
			_, err := Parse(mustRender(t, cfg, 1))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got  %v\nwant %s\n%s", err, tc.want, tc.reason)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	bundle := mustRender(f, good(f), 1)
	f.Add(bundle[BrokerFile], bundle[UsersFile(0)])
	whole := mustRender(f, every(f), 1)
	f.Add(whole[BrokerFile], whole[UsersFile(0)])
	f.Add([]byte(older), bundle[UsersFile(0)])
	f.Add([]byte(`{"parts":{"users-0.json":""}}`), []byte(`{"users":[{"username":"\u0000"}]}`))
	f.Fuzz(func(t *testing.T, broker, users []byte) {
		cfg, err := Parse(Bundle{BrokerFile: broker, UsersFile(0): users, TLSFile: bundle[TLSFile]})
		if err != nil {
			return
		}
		again, err := Render(cfg, max(1, len(cfg.Parts)-1))
		if err != nil {
			return
		}
		if _, err := Parse(again); err != nil {
			t.Errorf("what parsed once must parse again: %v", err)
		}
	})
}

// TestUsersAreWrittenLikeTheRest compares a file of users with what encoding/json makes of the whole.
func TestUsersAreWrittenLikeTheRest(t *testing.T) {
	cfg := every(t)
	for i := range 40 {
		cfg.Users = append(cfg.Users, User{Username: fmt.Sprintf("<&>-%d-\u2028-\"é", 40-i), ACL: []acl.Rule{}})
	}
	for _, shards := range []int{1, 2, 16} {
		bundle := mustRender(t, cfg, shards)
		for n := range shards {
			part := usersPart{Users: []User{}}
			for _, user := range cfg.Users {
				if Shard(user.Username, shards) == n {
					part.Users = append(part.Users, user)
				}
			}
			slices.SortFunc(part.Users, func(a, b User) int { return strings.Compare(a.Username, b.Username) })
			want, err := json.MarshalIndent(part, "", " ")
			if err != nil {
				t.Fatal(err)
			}
			if got := bundle[UsersFile(n)]; string(got) != string(want)+"\n" {
				t.Errorf("%s of %d shards is\n%s\nnot\n%s", UsersFile(n), shards, got, want)
			}
		}
	}
}

// TestNextKeepsWhatIsTheSame: who asks again and again is not to hold the same text twice.
func TestNextKeepsWhatIsTheSame(t *testing.T) {
	cfg := good(t)
	for i := range 2000 {
		cfg.Users = append(cfg.Users, User{Username: fmt.Sprintf("device-%d", i), Verifiers: []string{strings.Repeat("v", 900)}, ACL: []acl.Rule{}})
	}
	before, _, err := Next(cfg, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Users[17].Suspended = true
	after, _, err := Next(cfg, before, 0)
	if err != nil {
		t.Fatal(err)
	}
	changed := UsersFile(Shard(cfg.Users[17].Username, len(before)-2))
	for name := range after {
		if !isUsersFile(name) || name == changed {
			continue
		}
		if &before[name][0] != &after[name][0] {
			t.Errorf("%s is a copy", name)
		}
	}
}
