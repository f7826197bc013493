// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/auth"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

// member is a user with verifiers that were made from its name as a password.
func member(t testing.TB, name string, kinds ...string) contract.User {
	t.Helper()

	u := contract.User{Username: name, ACL: []acl.Rule{allow("#")}}

	for _, kind := range kinds {
		var text string

		var err error

		switch kind {
		case "argon2id":
			text, err = auth.NewArgon2id([]byte(name), []byte("somesalt"))
		case "sha256":
			text, err = auth.NewSHA256([]byte(name), []byte("somesalt"))
		case "scram":
			text, err = auth.NewSCRAM([]byte(name), []byte("somesalt"), auth.MinIterations)
		default:
			text = kind
		}

		if err != nil {
			t.Fatal(err)
		}

		u.Verifiers = append(u.Verifiers, text)
	}

	return u
}

// scramPeer is a client that proves itself by SCRAM-SHA-256.
type scramPeer struct {
	*peer

	first, all string
	salted     []byte
}

func scramProps(data string) []byte {
	return append(append([]byte{pAuthMethod}, text(methodSCRAM)...), append([]byte{0x16}, text(data)...)...)
}

// authData is what a packet with properties holds as authentication data.
func authData(t testing.TB, properties []byte) string {
	t.Helper()

	i := bytes.IndexByte(properties, 0x16)
	for ; i >= 0 && i+3 <= len(properties); i++ {
		if n := int(binary.BigEndian.Uint16(properties[i+1:])); properties[i] == 0x16 && i+3+n <= len(properties) {
			return string(properties[i+3 : i+3+n])
		}
	}

	t.Fatalf("no authentication data in % x", properties)

	return ""
}

// knockSCRAM sends CONNECT.
func (h *house) knockSCRAM(from, name string) *scramPeer {
	h.t.Helper()

	p := &scramPeer{first: "n=" + name + ",r=" + randomText()}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}

	conn, err := dialer.Dial("tcp", h.address("tcp"))
	if err != nil {
		h.t.Fatal(err)
	}

	h.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))

	p.peer = newPeer(h.t, conn, 5)
	p.send(login{version: 5, id: "scram-" + randomText()[:8], props: scramProps("n,," + p.first)}.packet())

	return p
}

// prove answers a challenge with a password.
func (p *scramPeer) prove(challenge packet, password string) {
	p.t.Helper()

	if challenge.kind != tAuth || challenge.body[0] != wire.ContinueAuthentication {
		p.t.Fatalf("got % x instead of a challenge", challenge.body)
	}

	text := authData(p.t, challenge.body)
	fields := strings.Split(text, ",")
	salt, _ := base64.StdEncoding.DecodeString(fields[1][2:])
	iterations, _ := strconv.Atoi(fields[2][2:])
	p.salted, _ = pbkdf2.Key(sha256.New, password, salt, iterations, 32)

	without := "c=biws," + fields[0]
	p.all = p.first + "," + text + "," + without
	key := mac(p.salted, "Client Key")
	stored := sha256.Sum256(key)

	for i, b := range mac(stored[:], p.all) {
		key[i] ^= b
	}

	p.send(authPacket(wire.ContinueAuthentication, methodSCRAM, without+",p="+base64.StdEncoding.EncodeToString(key)))
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))

	return h.Sum(nil)
}

func (p *scramPeer) signature() string {
	return "v=" + base64.StdEncoding.EncodeToString(mac(mac(p.salted, "Server Key"), p.all))
}

// hear waits for any packet.
func (p *scramPeer) hear() packet {
	p.t.Helper()

	pk, err := p.receive()
	if err != nil {
		p.t.Fatal(err)
	}

	return pk
}

// loginSCRAM gives the code of CONNACK.
func (h *house) loginSCRAM(from, name, password string) (*scramPeer, byte) {
	h.t.Helper()

	p := h.knockSCRAM(from, name)
	answer := p.hear()

	if answer.kind == tAuth {
		p.prove(answer, password)

		answer = p.hear()
	}

	if answer.kind != tConnack {
		h.t.Fatalf("got %x instead of CONNACK", answer.kind)
	}

	if answer.body[1] == 0 {
		if got := authData(h.t, answer.body); got != p.signature() {
			h.t.Errorf("CONNACK holds %q: the client cannot know that this is its broker", got)
		}
	}

	return p, answer.body[1]
}

func TestSCRAM(t *testing.T) {
	log := &logbook{}
	h := open(t, Options{Log: log.logger(), DataDir: t.TempDir()},
		baseConfig(member(t, "anna", "scram", "argon2id"), member(t, "otto", "sha256"), member(t, "emil", "scram")))

	p, code := h.loginSCRAM("127.0.0.1", "anna", "anna")
	if code != 0 {
		t.Fatalf("CONNACK %#x", code)
	}

	p.subscribe(1, "a")

	if !strings.Contains(log.String(), `user=anna listener=tcp`) || !strings.Contains(log.String(), "method=SCRAM-SHA-256") {
		t.Errorf("the log must say who came, and how:\n%s", log)
	}

	for name, c := range map[string][2]string{
		"a wrong password": {"anna", "otto"}, "nobody": {"nobody", "nobody"}, "no verifier for it": {"otto", "otto"},
		"the probe": {h.ProbeCredential().Username, h.ProbeCredential().Password},
	} {
		if _, code := h.loginSCRAM("127.0.0.2", c[0], c[1]); code != wire.NotAuthorized {
			t.Errorf("%s: CONNACK %#x", name, code)
		}
	}

	if !strings.Contains(log.String(), `user=nobody listener=tcp`) {
		t.Errorf("the log must say who was refused:\n%s", log)
	}

	// The plain password of somebody who has nothing else.
	if _, ack := h.knock(login{id: "emil", user: "emil", password: "emil"}); ack.body[1] != 0 {
		t.Errorf("CONNACK %#x", ack.body[1])
	}

	t.Run("again", func(t *testing.T) {
		p.first = "n=anna,r=another"
		p.send(authPacket(wire.ReAuthenticate, methodSCRAM, "n,,"+p.first))
		p.prove(p.expect(tAuth), "anna")

		if answer := p.expect(tAuth); answer.body[0] != wire.Success || authData(t, answer.body) != p.signature() {
			t.Errorf("AUTH % x", answer.body)
		}

		p.alive()

		wrong, _ := h.loginSCRAM("127.0.0.1", "anna", "anna")
		wrong.first = "n=anna,r=another"
		wrong.send(authPacket(wire.ReAuthenticate, methodSCRAM, "n,,"+wrong.first))
		wrong.prove(wrong.expect(tAuth), "emil")

		if got := wrong.expectClosed(); got != int(wire.NotAuthorized) {
			t.Errorf("DISCONNECT %#x", got)
		}

		other, _ := h.loginSCRAM("127.0.0.1", "anna", "anna")
		other.first = "n=emil,r=another"
		other.send(authPacket(wire.ReAuthenticate, methodSCRAM, "n,,"+other.first))
		other.prove(other.expect(tAuth), "emil")

		if got := other.expectClosed(); got != int(wire.NotAuthorized) {
			t.Errorf("who has become somebody else: DISCONNECT %#x", got)
		}
	})

	t.Run("another method and broken messages", func(t *testing.T) {
		for data, want := range map[string]byte{
			"": wire.NotAuthorized, "p=tls-exporter,,n=anna,r=x": wire.NotAuthorized, "n,a=emil,n=anna,r=x": wire.NotAuthorized,
		} {
			p := newPeer(t, h.dial("tcp"), 5)
			p.send(login{version: 5, id: "x", props: scramProps(data)}.packet())

			if ack := p.expect(tConnack); ack.body[1] != want {
				t.Errorf("%q: CONNACK %#x", data, ack.body[1])
			}
		}

		for _, method := range []string{"SCRAM-SHA-1", "SCRAM-SHA-256-PLUS", "scram-sha-256", "GS2-KRB5"} {
			p := newPeer(t, h.dial("tcp"), 5)
			p.send(login{version: 5, id: "x", props: append([]byte{pAuthMethod}, text(method)...)}.packet())

			if ack := p.expect(tConnack); ack.body[1] != wire.BadAuthenticationMethod {
				t.Errorf("%q: CONNACK %#x", method, ack.body[1])
			}
		}
	})

	t.Run("the verifier is gone", func(t *testing.T) {
		h.mustApply(func(c *contract.Config) { c.Users[0] = member(t, "anna", "argon2id") })

		if got := p.expectClosed(); got != int(wire.AdministrativeAction) {
			t.Errorf("DISCONNECT %#x", got)
		}
	})

	t.Run("the listener takes no passwords", func(t *testing.T) {
		h.mustApply(func(c *contract.Config) { c.Listeners[0].Methods = []contract.Method{contract.MethodJWT} })

		p := h.knockSCRAM("127.0.0.1", "emil")
		if ack := p.expect(tConnack); ack.body[1] != wire.BadAuthenticationMethod {
			t.Errorf("CONNACK %#x", ack.body[1])
		}
	})
}

// TestTheSaltOfNobodyOutlivesTheProcess: else whoever asks before and after a restart knows which names exist.
func TestTheSaltOfNobodyOutlivesTheProcess(t *testing.T) {
	dir := t.TempDir()
	salts := make([]string, 0, 2)

	for range 2 {
		h := open(t, Options{DataDir: dir}, baseConfig(member(t, "anna", "scram")))
		challenge := authData(t, h.knockSCRAM("127.0.0.1", "nobody").expect(tAuth).body)
		_, parameters, _ := strings.Cut(challenge, ",")
		salts = append(salts, parameters)

		h.close()
	}

	if salts[0] != salts[1] {
		t.Errorf("%q is another than %q", salts[1], salts[0])
	}

	if info, err := os.Stat(filepath.Join(dir, seedFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

// from connects from an address of the loopback network and gives the code of CONNACK.
func (h *house) from(address, name, password string) (byte, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}, Timeout: patience}

	conn, err := dialer.Dial("tcp", h.address("tcp"))
	if err != nil {
		return 0, err
	}
	defer conn.Close()

	_ = conn.SetDeadline(time.Now().Add(patience))

	l := login{version: 5, id: "id-" + randomText()[:12], user: name, password: password}
	if _, err := conn.Write(l.packet().encode()); err != nil {
		return 0, err
	}

	ack := make([]byte, 4)
	if _, err := conn.Read(ack); err != nil {
		return 0, err
	}

	return ack[3], nil
}

func (h *house) mustBe(want byte, address, name, password, reason string) {
	h.t.Helper()

	if got, err := h.from(address, name, password); err != nil || got != want {
		h.t.Errorf("%s: CONNACK %#x, %v", reason, got, err)
	}
}

// fails counts failures as if they had happened.
func (h *house) fails(name, address string, n int) {
	for range n {
		h.guard.Wrong(name, auth.SourceOf(netip.MustParseAddr(address)), false, time.Now())
	}
}

// TestLockout: who guesses has to wait, and nobody else.
func TestLockout(t *testing.T) {
	log := &logbook{}
	h := open(t, Options{Log: log.logger()}, baseConfig(member(t, "anna", "argon2id", "scram"), member(t, "otto", "sha256")))

	for _, name := range []string{"anna", "otto", "nobody"} {
		for range 5 {
			h.mustBe(wire.BadUserNameOrPassword, "127.0.0.2", name, "wrong", "a wrong password")
		}

		h.fails(name, "127.0.0.2", 4) // a delay that this test can rely on

		before := strings.Count(log.String(), "locked out")
		h.mustBe(wire.BadUserNameOrPassword, "127.0.0.2", name, name, "locked out, which looks like a wrong password")

		if strings.Count(log.String(), "locked out") != before+1 {
			t.Errorf("the log does not say that %s is locked out:\n%s", name, log)
		}
	}

	if !strings.Contains(scrape(h), `mqtt_broker_auth_failures_total{reason="too_many_attempts"} 3`) {
		t.Error("it must be counted")
	}

	if _, code := h.loginSCRAM("127.0.0.2", "anna", "anna"); code != wire.NotAuthorized {
		t.Errorf("another way to prove the password must be locked, too: CONNACK %#x", code)
	}

	h.mustBe(0, "127.0.0.3", "anna", "anna", "the owner comes from elsewhere")
	h.mustBe(0, "127.0.0.3", "otto", "otto", "the owner comes from elsewhere")

	// SCRAM counts alike.
	for range 5 {
		h.loginSCRAM("127.0.0.4", "anna", "wrong")
	}

	h.fails("anna", "127.0.0.4", 1)
	h.mustBe(wire.BadUserNameOrPassword, "127.0.0.4", "anna", "anna", "failures by SCRAM")

	eventually(t, "a delay ends", func() bool {
		code, err := h.from("127.0.0.4", "anna", "anna")

		return err == nil && code == 0
	})
}

// TestAThousandGuessesAtOnceAreCounted: the first is still being checked when the last comes.
func TestAThousandGuessesAtOnceAreCounted(t *testing.T) {
	h := open(t, Options{}, baseConfig(member(t, "anna", "argon2id")))
	h.mustBe(0, "127.0.0.1", "anna", "anna", "now it is remembered")

	var wg sync.WaitGroup

	for i := range 200 {
		wg.Go(func() { _, _ = h.from("127.0.0.2", "anna", fmt.Sprint("guess ", i)) })
	}

	wg.Wait()

	var checked, locked int

	for line := range strings.Lines(scrape(h)) {
		_, _ = fmt.Sscanf(line, `mqtt_broker_auth_failures_total{reason="wrong_password"} %d`, &checked)
		_, _ = fmt.Sscanf(line, `mqtt_broker_auth_failures_total{reason="too_many_attempts"} %d`, &locked)
	}

	if checked > 16 || checked+locked != 200 {
		t.Errorf("%d guesses were looked at and %d were not", checked, locked)
	}
}

// TestOneGuessAtATimeIsCompared: what is remembered tells a right guess at once, so nothing is compared with it while the
// attempt before is not counted.
func TestOneGuessAtATimeIsCompared(t *testing.T) {
	h := open(t, Options{}, baseConfig(member(t, "anna", "argon2id")))
	h.mustBe(0, "127.0.0.1", "anna", "anna", "now it is remembered")

	release := make(chan struct{})

	var busy sync.WaitGroup

	for range runtime.GOMAXPROCS(0) {
		busy.Add(1)
		h.queue.Add(auth.Job{Rank: func() auth.Rank { return auth.Known }, Run: func() {
			busy.Done()
			<-release
		}})
	}

	busy.Wait()

	from := auth.SourceOf(netip.MustParseAddr("127.0.0.1"))
	h.guard.Start("anna", from)

	var wg sync.WaitGroup

	wg.Go(func() { h.mustBe(0, "127.0.0.1", "anna", "anna", "its turn has come") })
	eventually(t, "it must wait for its turn", func() bool { return h.queue.Len() == 1 })
	h.guard.Drop("anna", from)
	close(release)
	wg.Wait()
}

// TestTheOwnerGetsInWhileOthersGuess is the attack on the owner: from many addresses, without pause, at the same name.
func TestTheOwnerGetsInWhileOthersGuess(t *testing.T) {
	h := open(t, Options{}, baseConfig(member(t, "anna", "argon2id")))

	var stop atomic.Bool

	var wg sync.WaitGroup

	var guesses atomic.Int64

	for i := range 24 {
		wg.Go(func() {
			for n := 0; !stop.Load(); n++ {
				if _, err := h.from(fmt.Sprintf("127.1.%d.%d", i, n%2+1), "anna", fmt.Sprint("guess ", i, n)); err == nil {
					guesses.Add(1)
				}
			}
		})
	}

	eventually(t, "the attack must be under way", func() bool { return guesses.Load() > 20 })

	// The first time nobody knows the owner, and then it is remembered.
	for range 3 {
		start := time.Now()
		h.mustBe(0, "127.0.0.1", "anna", "anna", "the owner, while others guess")
		t.Logf("the owner was let in after %v", time.Since(start))
	}

	h.mustBe(0, "127.0.0.9", "anna", "anna", "the owner from a new address")

	stop.Store(true)
	wg.Wait()
	t.Logf("%d guesses", guesses.Load())
}

// TestWhoHasGoneCostsNothing: whoever hangs up while the password waits is not looked at.
func TestWhoHasGoneCostsNothing(t *testing.T) {
	h := open(t, Options{}, baseConfig(member(t, "anna", "argon2id")))

	for i := range 50 {
		conn := h.dial("tcp")
		if _, err := conn.Write(login{version: 5, id: strconv.Itoa(i), user: "name" + strconv.Itoa(i), password: "x"}.packet().encode()); err != nil {
			t.Fatal(err)
		}

		_ = conn.Close()
	}

	eventually(t, "nothing may wait for ever", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()

		return len(h.members) == 0 && h.queue.Len() == 0
	})
	h.mustBe(0, "127.0.0.1", "anna", "anna", "anna")
}

// TestNoRoomForAnotherPassword: who does not get a turn is told that it is not the password.
func TestNoRoomForAnotherPassword(t *testing.T) {
	e, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}

	e.queue = auth.NewQueue(1, 0)
	h := &house{t: t, Engine: e}

	t.Cleanup(h.close)

	if err := e.Apply(baseConfig(member(t, "anna", "argon2id"))); err != nil {
		t.Fatal(err)
	}

	for version, want := range map[byte]byte{5: wire.ServerBusy, 4: 3} {
		p := newPeer(t, h.dial("tcp"), version)
		p.send(login{version: version, id: "x", user: "anna", password: "anna"}.packet())

		if ack := p.expect(tConnack); ack.body[1] != want {
			t.Errorf("CONNACK %#x, want %#x", ack.body[1], want)
		}
	}

	if !h.guard.Ask("anna", auth.Source{}, time.Now()).Clear {
		t.Error("nothing is under way")
	}
}
