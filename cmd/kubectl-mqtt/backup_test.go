// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	agelib "filippo.io/age"
	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// keeps gives the broker a session that is away, with messages in its queue, and a retained message.
func (p *pod) keeps() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	device, _ := p.returning("press-7", nil)
	p.subscribes(device, "factory/#")
	if err := device.Disconnect(&paho.Disconnect{Properties: &paho.DisconnectProperties{}}); err != nil {
		p.t.Fatal(err)
	}
	other, _ := p.device(8, "press-8", "bob")
	for _, payload := range []string{"one", "two", marker} {
		if _, err := other.Publish(ctx, &paho.Publish{Topic: "factory/queued", QoS: 1, Payload: []byte(payload)}); err != nil {
			p.t.Fatal(err)
		}
	}
	if _, err := other.Publish(ctx, &paho.Publish{Topic: "factory/kept", QoS: 1, Retain: true, Payload: []byte("kept")}); err != nil {
		p.t.Fatal(err)
	}
}

// returning is a client whose session outlives its connection. What comes goes to got.
func (p *pod) returning(id string, got chan<- string) (device *paho.Client, present bool) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	conn := must(p.dials(ctx, client.ObjectKey{Namespace: "factory", Name: "mq-broker-0"}, plainPort))(p.t)
	p.t.Cleanup(func() { _ = conn.Close() })
	device = paho.NewClient(paho.ClientConfig{
		Conn: packets.NewThreadSafeConn(conn),
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(m paho.PublishReceived) (bool, error) {
			got <- m.Packet.Topic + " " + string(m.Packet.Payload)
			return true, nil
		}},
	})
	ack, err := device.Connect(ctx, &paho.Connect{
		ClientID: id, KeepAlive: 60, Username: "alice", UsernameFlag: true, Password: []byte("alice-password"), PasswordFlag: true,
		Properties: &paho.ConnectProperties{SessionExpiryInterval: new(uint32(3600))},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return device, ack.SessionPresent
}

var moment = regexp.MustCompile(`20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ`)

// atNoon is what is printed, with the moment of the test in the place of every other.
func atNoon(out, dir string) string {
	return strings.ReplaceAll(moment.ReplaceAllString(out, noon.Format(time.RFC3339)), dir+string(filepath.Separator), "")
}

func TestBackupAndRestore(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "mq.backup")
	p := runs(t, time.Now())
	p.keeps()
	code, out, errs := call(t, p.opens, "backup", "mq", "-o", file)
	if code != exitYes || errs != "note: the file is not encrypted, and holds topics, payloads and names of clients\n" {
		t.Errorf("%d %s", code, errs)
	}
	golden(t, "backup", atNoon(out, dir))
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if code, _, errs := call(t, p.opens, "backup", "mq", "-o", file); code != exitNo || !strings.Contains(errs, "mq.backup is there already") {
		t.Errorf("a second time: %d %s", code, errs)
	}

	other := runs(t, time.Now())
	code, out, errs = call(t, other.opens, "restore", file, "--broker", "mq", "--pod", "0")
	if code != exitYes || errs != "" {
		t.Errorf("%d %s", code, errs)
	}
	golden(t, "restore", atNoon(out, dir))
	got := make(chan string, 10)
	if _, present := other.returning("press-7", got); !present {
		t.Error("its session is not there")
	}
	for _, want := range []string{"one", "two", marker} {
		if m := <-got; m != "factory/queued "+want {
			t.Errorf("got %s, want %s", m, want)
		}
	}
	if m := <-got; m != "factory/kept kept" {
		t.Errorf("got %s", m)
	}

	// Now it has state.
	code, out, errs = call(t, other.opens, "restore", file)
	if code != exitNo || out != "" {
		t.Errorf("%d %s", code, out)
	}
	golden(t, "restore-refused", errs)
	if code, out, errs := call(t, other.opens, "restore", file, "--replace", "--stop-clocks"); code != exitYes || !strings.Contains(out, ": 1 session, ") {
		t.Errorf("%d %s%s", code, out, errs)
	}
}

func TestABackupOnStandardOutput(t *testing.T) {
	p := runs(t, time.Now())
	file := filepath.Join(t.TempDir(), "x")
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"backup", "-o", "-"}, streams{out: &out, err: &errs}, p.opens); code != exitYes || !strings.HasPrefix(errs.String(), "- holds broker factory/mq") {
		t.Errorf("%d %s", code, errs.String())
	}
	if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := call(t, p.opens, "restore", file); code != exitYes || !strings.HasSuffix(out, "Z: nothing\n") {
		t.Errorf("%d %s%s", code, out, errs)
	}
	if code := run(t.Context(), []string{"backup", "-o", "-"}, streams{out: &out, err: &errs, terminal: true}, p.opens); code != exitUsage {
		t.Errorf("on a terminal: %d", code)
	}
}

func TestAnEncryptedBackup(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key, stranger := must(agelib.GenerateX25519Identity())(t), must(agelib.GenerateX25519Identity())(t)
	identity, wrong := write("key", key.String()+"\n"), write("wrong", stranger.String())
	word, empty := write("word", "open sesame\nand more"), write("empty", "\n")
	sealed, worded := filepath.Join(dir, "sealed"), filepath.Join(dir, "worded")
	p := runs(t, time.Now())
	p.keeps()
	for file, args := range map[string][]string{
		sealed: {"--encrypt-to", key.Recipient().String(), "--encrypt-to", must(agelib.GenerateX25519Identity())(t).Recipient().String()},
		worded: {"--passphrase-file", word},
	} {
		if code, out, errs := call(t, p.opens, append([]string{"backup", "-o", file}, args...)...); code != exitYes || errs != "" {
			t.Fatalf("%d %s%s", code, out, errs)
		}
		text := must(os.ReadFile(file))(t)
		if !bytes.HasPrefix(text, []byte(ageLine)) || bytes.Contains(text, []byte("factory/queued")) {
			t.Errorf("%s is not encrypted", file)
		}
		for n := 0; n < len(text); n += 37 {
			changed := bytes.Clone(text)
			changed[n] ^= 4
			for name, text := range map[string][]byte{"cut": text[:n], "changed": changed} {
				if len(ageLine) > n {
					continue // then it is no encrypted file, but no snapshot either
				}
				if code, out, errs := call(t, p.opens, "restore", write(name, string(text)), "--identity", identity); code != exitNo || out != "" {
					t.Fatalf("%s at %d: %d %s%s", name, n, code, out, errs)
				}
			}
			if file == worded {
				break // the work that a passphrase makes is done each time
			}
		}
	}
	for name, tc := range map[string]struct {
		args []string
		code int
		errs string
	}{
		"no key":               {[]string{"restore", sealed}, exitUsage, sealed + ": the file is encrypted: say --identity or --passphrase-file"},
		"another key":          {[]string{"restore", sealed, "--identity", wrong}, exitNo, "none of these keys opens the file"},
		"a passphrase":         {[]string{"restore", sealed, "--passphrase-file", word}, exitNo, "none of these keys opens the file"},
		"no identity":          {[]string{"restore", sealed, "--identity", word}, exitNo, "holds no identity of age"},
		"an empty passphrase":  {[]string{"restore", worded, "--passphrase-file", empty}, exitNo, "the passphrase, is empty"},
		"no such passphrase":   {[]string{"restore", worded, "--passphrase-file", filepath.Join(dir, "none")}, exitNo, "no such file"},
		"no recipient":         {[]string{"backup", "-o", filepath.Join(dir, "x"), "--encrypt-to", "bob"}, exitUsage, "--encrypt-to bob is no recipient of age"},
		"both":                 {[]string{"backup", "-o", filepath.Join(dir, "x"), "--encrypt-to", key.Recipient().String(), "--passphrase-file", word}, exitUsage, "exclude one another"},
		"a broker that is not": {[]string{"restore", sealed, "--identity", identity}, exitNo, "the broker has state of its own"},
		"the right key":        {[]string{"restore", sealed, "--identity", wrong, "--identity", identity, "--replace"}, exitYes, ""},
		"the right passphrase": {[]string{"restore", worded, "--passphrase-file", word, "--replace"}, exitYes, ""},
	} {
		if code, out, errs := call(t, p.opens, tc.args...); code != tc.code || !strings.Contains(errs, tc.errs) || strings.Contains(errs, key.String()) {
			t.Errorf("%s: %d %s%s", name, code, out, errs)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "x*")); len(left) > 0 {
		t.Errorf("%v stays behind", left)
	}
}

func TestWhatIsNoBackupIsRefused(t *testing.T) {
	dir := t.TempDir()
	p := runs(t, time.Now())
	file := filepath.Join(dir, "mq.backup")
	if code, _, errs := call(t, p.opens, "backup", "-o", file); code != exitYes {
		t.Fatal(errs)
	}
	whole := must(os.ReadFile(file))(t)
	changed := bytes.Clone(whole)
	changed[len(changed)-40] ^= 1
	for name, tc := range map[string]struct {
		text []byte
		errs string
	}{
		"empty": {nil, "the snapshot is damaged: it ends at byte 0, before its end: it was cut off"}, "cut": {whole[:len(whole)-1], "it was cut off"},
		"changed": {changed, "the snapshot is damaged: at byte"}, "longer": {append(bytes.Clone(whole), 'x'), "something follows its end"},
		"another": {[]byte("mosquitto db"), "not a snapshot that this release can read"},
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, tc.text, 0o600); err != nil {
			t.Fatal(err)
		}
		if code, out, errs := call(t, p.opens, "restore", path); code != exitNo || out != "" || !strings.Contains(errs, path+": ") || !strings.Contains(errs, tc.errs) {
			t.Errorf("%s: %d %s%s", name, code, out, errs)
		}
	}
	for args, want := range map[string]struct {
		code int
		errs string
	}{
		"backup mq":                    {exitUsage, "say where to with -o FILE"},
		"backup mq -o x --pod 7":       {exitUnknown, "no pod 7 of broker factory/mq runs; there are: mq-broker-0"},
		"backup mq -o " + dir + "/n/x": {exitUnknown, "no such file"},
		"restore":                      {exitUsage, "accepts 1 arg"},
		"restore " + dir + "/none":     {exitNo, "no such file"},
	} {
		if code, out, errs := call(t, p.opens, strings.Fields(args)...); code != want.code || out != "" || !strings.Contains(errs, want.errs) {
			t.Errorf("%s: %d %s%s", args, code, out, errs)
		}
	}
}

// TestHowFarItIsIsSaid: on standard error, now and then.
func TestHowFarItIsIsSaid(t *testing.T) {
	p := runs(t, time.Now())
	p.keeps()
	at := time.Now()
	p.site.now = func() time.Time { // each look at the clock takes long
		at = at.Add(sayEvery)
		return at
	}
	file := filepath.Join(t.TempDir(), "x")
	if code, _, errs := call(t, p.opens, "backup", "-o", file); code != exitYes || !strings.Contains(errs, "B saved so far\n") {
		t.Errorf("%d %s", code, errs)
	}
	if code, _, errs := call(t, p.opens, "restore", file, "--replace"); code != exitYes || !strings.Contains(errs, "B checked so far\n") || !strings.Contains(errs, "B sent so far\n") {
		t.Errorf("%d %s", code, errs)
	}
}
