// SPDX-License-Identifier: Apache-2.0

package token

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/x509roots/fallback/bundle"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/broker-image/listen/listentest"
	"github.com/mqtt-operator/mqtt-operator/test/mint"
)

// patience is generous because tests share their machine; nothing waits for it unless it fails.
const patience = 30 * time.Second

// eventually waits for a fact.
func eventually(t *testing.T, reason string, fact func() bool) {
	t.Helper()

	for deadline := time.Now().Add(patience); !fact(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(reason)
		}
	}
}

// office is an issuer that answers what it is told to.
type office struct {
	*httptest.Server

	asked  atomic.Int64
	answer atomic.Pointer[http.HandlerFunc]
}

func newOffice(t *testing.T, answer http.HandlerFunc) *office {
	t.Helper()

	o := &office{}
	o.answer.Store(&answer)
	o.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.asked.Add(1)
		(*o.answer.Load())(w, r)
	}))
	o.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	t.Cleanup(o.Close)

	return o
}

func (o *office) says(answer http.HandlerFunc) { o.answer.Store(&answer) }

func (o *office) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(o.Certificate())

	return pool
}

func text(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(s)) }
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func (o *office) keeper(t *testing.T, k KeeperOptions) *Keeper {
	t.Helper()

	k.Roots = o.roots()
	keeper := NewKeeper(k)
	t.Cleanup(keeper.Close)

	return keeper
}

func parsed(t *testing.T, k *mint.Key) *Token {
	t.Helper()

	token, err := Parse([]byte(k.Token(claims(nil), nil)))
	if err != nil {
		t.Fatal(err)
	}

	return token
}

// TestAnswersThatBringNoKeys: each is counted and told without the address, and asked for again.
func TestAnswersThatBringNoKeys(t *testing.T) {
	const secret = "s3cret"

	good := mint.Set(mint.NewKey(t, "k1", "ES256"))
	plain := httptest.NewServer(text(good))
	t.Cleanup(plain.Close)

	slow := make(chan struct{})
	t.Cleanup(func() { close(slow) })

	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"gone":         {status(http.StatusNotFound), "not 200 OK but 404"},
		"failing":      {status(http.StatusInternalServerError), "not 200 OK but 500"},
		"nothing":      {text(""), "no JSON Web Key Set"},
		"garbage":      {text("<html>please log in " + secret), "no JSON Web Key Set"},
		"no keys":      {text(`{"keys":[]}`), "holds no key"},
		"a shared key": {text(`{"keys":[{"kty":"oct","k":"` + secret + `"}]}`), "holds no key"},
		"huge":         {text(good + strings.Repeat(" ", contract.MaxJWKSBytes)), "longer than"},
		"without an end": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(bytes.Repeat([]byte(" "), 1<<16)); err != nil {
					return
				}
			}
		}, "longer than"},
		"slow": {func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-slow:
			case <-r.Context().Done():
			}
		}, "no whole answer within"},
		"slow in the middle": {func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte(`{"keys":[`))
			_ = http.NewResponseController(w).Flush()
			select {
			case <-slow:
			case <-r.Context().Done():
			}
		}, "no whole answer within"},
		"cut off":             {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
		"redirected to http":  {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, plain.URL, http.StatusFound) }, "redirected to an address"},
		"redirected in rings": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) }, "redirected to an address"},
	} {
		t.Run(name, func(t *testing.T) {
			log := &book{}
			o := newOffice(t, c.answer)
			k := o.keeper(t, KeeperOptions{Dir: t.TempDir(), Log: log.logger(), retry: time.Millisecond, patience: time.Second})
			s := k.Open(issuerName, o.URL+"/?token="+secret, "")

			eventually(t, "it must be asked again", func() bool { return s.Status().Failures > 1 })

			st := s.Status()
			if !strings.Contains(st.Error, c.want) || st.Keys != 0 || !st.Fetched.IsZero() || s.Keys() != nil {
				t.Errorf("got %+v, want %q", st, c.want)
			}

			if strings.Contains(st.Error+log.String(), secret) || !strings.Contains(log.String(), "could not be fetched") {
				t.Errorf("%s\n%s", st.Error, log)
			}

			if left, _ := filepath.Glob(filepath.Join(k.options.Dir, "*")); len(left) > 0 {
				t.Errorf("that must not be kept: %v", left)
			}

			o.says(text(good))
			eventually(t, "it must get over it", func() bool { return s.Status().Keys == 1 && s.Status().Error == "" })
		})
	}
}

func TestAnIssuerThatNobodyVouchesFor(t *testing.T) {
	o := newOffice(t, text(mint.Set(mint.NewKey(t, "k1", "ES256"))))
	k := NewKeeper(KeeperOptions{Roots: x509.NewCertPool(), retry: time.Millisecond})
	t.Cleanup(k.Close)

	s := k.Open(issuerName, o.URL, "")
	eventually(t, "it must be refused", func() bool { return s.Status().Failures > 0 })

	if st := s.Status(); !strings.Contains(st.Error, "certificate") || o.asked.Load() != 0 {
		t.Errorf("got %+v", st)
	}
}

// TestAnIssuerWithAPrivateCA: its own CAs alone vouch for it, and what came on the word of one is not taken for another's.
func TestAnIssuerWithAPrivateCA(t *testing.T) {
	key := mint.NewKey(t, "k1", "ES256")
	o := newOffice(t, text(mint.Set(key)))
	theirs := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: o.Certificate().Raw}))
	others := listentest.NewAuthority(t, "others").PEM()
	dir := t.TempDir()

	k := NewKeeper(KeeperOptions{Dir: dir, Roots: x509.NewCertPool(), retry: time.Millisecond})
	t.Cleanup(k.Close)

	s := k.Open(issuerName, o.URL, theirs)
	if !s.KeysFor(parsed(t, key)).Knows(parsed(t, key)) {
		t.Fatalf("the CA of the configuration must be believed: %+v", s.Status())
	}

	if k.Open(issuerName, o.URL, others+theirs) == s || k.Open(issuerName, o.URL, "") == s {
		t.Error("with other authorities it is another source")
	}

	eventually(t, "it is kept on disk", func() bool {
		_, err := os.Stat(s.path())

		return err == nil
	})
	k.Close()

	before := o.asked.Load()

	for name, c := range map[string]struct {
		reason      string
		authorities string
		keys        int
	}{
		"the same":        {"the issuer may be out while the broker begins", theirs, 1},
		"another CA":      {"what the old one vouched for is not on the new one's word", others, 0},
		"the public ones": {"they never vouched for it", "", 0},
		"no certificate":  {"nobody vouches, not the public ones in their place", "\n", 0},
	} {
		t.Run(name, func(t *testing.T) {
			// A keeper that believes the office, so that falling back on its roots would show.
			k := o.keeper(t, KeeperOptions{Dir: dir, retry: time.Millisecond})

			s := k.Open(issuerName, o.URL, c.authorities)
			if got := s.Keys().Len(); got != c.keys {
				t.Errorf("%d keys at once, want %d: %s", got, c.keys, c.reason)
			}

			if c.keys == 0 && c.authorities != "" {
				eventually(t, "the issuer must be refused", func() bool { return s.Status().Failures > 0 })

				if st := s.Status(); st.Keys != 0 || !strings.Contains(st.Error, "certificate") {
					t.Errorf("%s: %+v", c.reason, st)
				}

				if o.asked.Load() != before {
					t.Error("it was asked for keys, though nobody vouches for it")
				}
			}
		})
	}
}

// TestBuiltInRoots: the broker's image holds no CA but these.
func TestBuiltInRoots(t *testing.T) {
	n := 0
	for range bundle.Roots() {
		n++
	}

	if n < 100 || builtInRoots().Equal(x509.NewCertPool()) || publicRoots().Equal(x509.NewCertPool()) {
		t.Errorf("there are %d", n)
	}
}

// TestAnOutageAndARestart: what was fetched once is used on, by the next process too.
func TestAnOutageAndARestart(t *testing.T) {
	key := mint.NewKey(t, "k1", "ES256")
	o := newOffice(t, text(mint.Set(key)))
	dir := t.TempDir()

	if err := os.WriteFile(filepath.Join(dir, "half.1"+halfSuffix), nil, 0o600); err != nil {
		t.Fatal(err)
	}

	k := o.keeper(t, KeeperOptions{Dir: dir, refresh: 10 * time.Millisecond, retry: time.Millisecond})
	s := k.Open(issuerName, o.URL, "")

	if !s.KeysFor(parsed(t, key)).Knows(parsed(t, key)) {
		t.Fatal("the first client waits for the first fetch")
	}

	fetched := s.Status().Fetched
	eventually(t, "it must be refreshed", func() bool { return s.Status().Fetched.After(fetched) })

	o.says(status(http.StatusServiceUnavailable))
	eventually(t, "the outage must be noticed", func() bool { return s.Status().Failures > 0 })

	if st := s.Status(); st.Keys != 1 || st.Fetched.IsZero() {
		t.Errorf("an outage must not cost the keys: %+v", st)
	}

	k.Close()

	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}

	if info, err := os.Stat(files[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}

	for name, c := range map[string]struct {
		damage func([]byte) []byte
		keys   int
	}{
		"as it was":    {func(b []byte) []byte { return b }, 1},
		"broken off":   {func(b []byte) []byte { return b[:len(b)/2] }, 0},
		"of another":   {func(b []byte) []byte { return bytes.Replace(b, []byte(issuerName), []byte("https://other.example"), 1) }, 0},
		"nothing left": {func([]byte) []byte { return nil }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(files[0])
			if err != nil {
				t.Fatal(err)
			}

			again := t.TempDir()
			if err := os.WriteFile(filepath.Join(again, filepath.Base(files[0])), c.damage(text), 0o600); err != nil {
				t.Fatal(err)
			}

			s := o.keeper(t, KeeperOptions{Dir: again}).Open(issuerName, o.URL, "")
			if s.Keys().Len() != c.keys || s.Status().Fetched.IsZero() != (c.keys == 0) {
				t.Errorf("got %+v", s.Status())
			}
		})
	}
}

// TestAKeyThatIsNew: a kid that nobody knows has the set fetched at once, and not more often than is decent.
func TestAKeyThatIsNew(t *testing.T) {
	first, second, third := mint.NewKey(t, "k1", "ES256"), mint.NewKey(t, "k2", "ES256"), mint.NewKey(t, "k3", "ES256")
	changed := make(chan struct{}, 10)
	o := newOffice(t, text(mint.Set(first)))
	s := o.keeper(t, KeeperOptions{gap: time.Nanosecond, Changed: func() { changed <- struct{}{} }}).Open(issuerName, o.URL, "")

	if s.KeysFor(parsed(t, first)).Len() != 1 {
		t.Fatal("there should be a key")
	}

	<-changed
	o.says(text(mint.Set(first, second)))

	var clients sync.WaitGroup
	for range 50 {
		clients.Go(func() {
			if !s.KeysFor(parsed(t, second)).Knows(parsed(t, second)) {
				t.Error("whoever comes with a new key waits until it is fetched")
			}
		})
	}

	clients.Wait()
	<-changed

	before := o.asked.Load()

	s.keeper.options.gap = time.Hour
	for range 50 {
		if s.KeysFor(parsed(t, third)).Knows(parsed(t, third)) {
			t.Error("nobody has this key")
		}
	}

	if asked := o.asked.Load(); asked != before {
		t.Errorf("invented keys had the issuer asked %d times", asked-before)
	}
}

func TestSourcesComeAndGo(t *testing.T) {
	o := newOffice(t, text(mint.Set(mint.NewKey(t, "k1", "ES256"))))
	dir := t.TempDir()
	k := o.keeper(t, KeeperOptions{Dir: dir, refresh: time.Millisecond})
	one, two := k.Open("one", o.URL, ""), k.Open("two", o.URL, "")

	if k.Open("one", o.URL, "") != one {
		t.Error("the same issuer at the same address is one source")
	}

	files := func() int {
		all, _ := filepath.Glob(filepath.Join(dir, "*"+setSuffix))

		return len(all)
	}

	eventually(t, "both are kept", func() bool { return files() == 2 })
	k.Keep([]*Source{two})
	<-one.life.Done()
	eventually(t, "what nobody names any more must go", func() bool {
		k.Keep([]*Source{two})

		return files() == 1
	})

	if two.life.Err() != nil {
		t.Error("the other must stay")
	}
}

// book collects what is logged.
type book struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *book) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()

	return b.buf.Write(p)
}

func (b *book) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()

	return b.buf.String()
}

func (b *book) logger() *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }
