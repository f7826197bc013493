// SPDX-License-Identifier: Apache-2.0

package token

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/x509roots/fallback/bundle"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

const (
	// refreshEvery is how often a set is fetched while all is well, a tenth more or less.
	refreshEvery = 15 * time.Minute
	// leastGap lies between two fetches, whoever asks: a token with an invented kid must not make us knock at an
	// issuer's door all the time.
	leastGap = 30 * time.Second
	// firstRetry doubles with each failure up to refreshEvery.
	firstRetry = 5 * time.Second
	// fetchPatience bounds one fetch, redirects and body included; askPatience is how long a client is kept waiting for
	// one.
	fetchPatience = 10 * time.Second
	askPatience   = 5 * time.Second

	maxRedirects   = 3
	maxHeaderBytes = 64 << 10
	maxErrorText   = 200
	setSuffix      = ".json"
	halfSuffix     = ".new"
)

var (
	errRedirect = errors.New("redirected to an address that is not https, or more than 3 times")
	errStatus   = errors.New("the answer is not 200 OK")
	errSlow     = fmt.Errorf("no whole answer within %v", fetchPatience)
)

// KeeperOptions are what a Keeper needs for its life; zero values have defaults.
type KeeperOptions struct {
	// Dir is where sets are kept over a restart, each in a file of mode 0600; it is made when it is needed. Empty keeps
	// none.
	Dir string
	// Roots are the CAs that are believed; nil: those of the system or, where it has none, as in the broker's image, those
	// of Mozilla's list as it was when this was built.
	Roots *x509.CertPool
	// Log is told what becomes of fetches; nil discards.
	Log *slog.Logger
	// Changed is called when a set has other keys than before, on a goroutine of the Keeper's; nil: nobody is.
	Changed func()

	refresh, gap, retry, patience time.Duration // for tests
}

// Keeper has a Source for each address that keys are fetched from. Its methods are safe for concurrent use.
type Keeper struct {
	options KeeperOptions
	client  func() *http.Client
	life    context.Context //nolint:containedctx // that of the sources
	end     context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	sources map[string]*Source
}

// NewKeeper begins nothing before the first Open.
func NewKeeper(o KeeperOptions) *Keeper {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}

	for field, fallback := range map[*time.Duration]time.Duration{
		&o.refresh: refreshEvery, &o.gap: leastGap, &o.retry: firstRetry, &o.patience: fetchPatience,
	} {
		if *field == 0 {
			*field = fallback
		}
	}

	k := &Keeper{options: o, sources: map[string]*Source{}}
	k.life, k.end = context.WithCancel(context.Background())
	k.client = sync.OnceValue(func() *http.Client { return k.newClient(o.Roots) })

	// What a process that was killed has left half written. Nobody writes yet.
	if left, err := filepath.Glob(filepath.Join(o.Dir, "*"+halfSuffix)); err == nil && o.Dir != "" {
		for _, file := range left {
			_ = os.Remove(file)
		}
	}

	return k
}

// newClient believes these CAs; nil: the public ones.
func (k *Keeper) newClient(roots *x509.CertPool) *http.Client {
	if roots == nil {
		roots = publicRoots()
	}

	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			MaxResponseHeaderBytes: maxHeaderBytes,
			DisableCompression:     true,
			DisableKeepAlives:      true,
			ForceAttemptHTTP2:      true,
		},
		CheckRedirect: func(next *http.Request, before []*http.Request) error {
			if next.URL.Scheme != "https" || next.URL.User != nil || len(before) > maxRedirects {
				return errRedirect
			}

			return nil
		},
	}
}

// publicRoots are the CAs of the system, or those that were built in. It is asked when the first set is fetched, so that
// they cost nobody else any memory.
func publicRoots() *x509.CertPool {
	pool, err := x509.SystemCertPool()
	if err == nil && !pool.Equal(x509.NewCertPool()) {
		return pool
	}

	return builtInRoots()
}

func builtInRoots() *x509.CertPool {
	pool := x509.NewCertPool()

	for root := range bundle.Roots() {
		certificate, err := x509.ParseCertificate(root.Certificate)

		switch {
		case err != nil: // one less
		case root.Constraint == nil:
			pool.AddCert(certificate)
		default:
			pool.AddCertWithConstraint(certificate, root.Constraint)
		}
	}

	return pool
}

// Open is the source of an issuer's keys at an https address. The first call for all three begins to fetch, and may find
// the set that an earlier process has left; it never waits for the network.
//
// Authorities are CA certificates, PEM, that alone vouch for the address; empty: those of the Keeper's do. Keys that came
// on the word of one CA are not those of another: with other authorities it is another source, which has to fetch. Text
// that holds no certificate vouches for nobody.
func (k *Keeper) Open(issuer, address, authorities string) *Source {
	k.mu.Lock()
	defer k.mu.Unlock()

	name := sourceName(issuer, address, authorities)
	if s := k.sources[name]; s != nil {
		return s
	}

	s := &Source{keeper: k, issuer: issuer, address: address, name: name, client: k.client, wake: make(chan struct{}, 1)}

	if authorities != "" {
		s.client = sync.OnceValue(func() *http.Client {
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM([]byte(authorities)) // the configuration was checked before

			return k.newClient(roots)
		})
	}

	s.life, s.end = context.WithCancel(k.life)
	s.restore()

	s.round = make(chan struct{}) // the first fetch
	s.wake <- struct{}{}

	k.sources[name] = s

	k.running.Go(s.run)

	return s
}

// Keep ends every source that is not among these, and forgets what it has left.
func (k *Keeper) Keep(wanted []*Source) {
	k.mu.Lock()
	defer k.mu.Unlock()

	for name, s := range k.sources {
		if !slices.Contains(wanted, s) {
			s.end()
			delete(k.sources, name)
		}
	}

	if k.options.Dir == "" {
		return
	}

	left, err := filepath.Glob(filepath.Join(k.options.Dir, "*"+setSuffix))
	if err != nil {
		return
	}

	for _, file := range left {
		if k.sources[strings.TrimSuffix(filepath.Base(file), setSuffix)] == nil {
			_ = os.Remove(file)
		}
	}
}

// Close ends all sources and waits for them. What they have left on disk stays.
func (k *Keeper) Close() {
	k.end()
	k.running.Wait()
}

// Status is what there is to know about one source.
type Status struct {
	// Issuer is whose keys they are.
	Issuer string
	// Keys is how many can be used now.
	Keys int
	// Fetched is when they came, maybe to an earlier process; zero: never.
	Fetched time.Time
	// Failures counts fetches that brought nothing, since the start.
	Failures int64
	// Error says what was wrong with the last fetch; empty: nothing.
	Error string
}

// Source is one address that keys are fetched from.
type Source struct {
	keeper                *Keeper
	issuer, address, name string
	life                  context.Context //nolint:containedctx // ends with the source
	end                   context.CancelFunc
	client                func() *http.Client
	wake                  chan struct{}
	set                   atomic.Pointer[Set]

	mu       sync.Mutex
	fetched  time.Time
	tried    time.Time
	failures int64
	inRow    int // failures since the last success
	fault    string
	round    chan struct{} // closed when the fetch that is asked for is over; nil: none is
}

// Status never waits.
func (s *Source) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()

	return Status{Issuer: s.issuer, Keys: s.set.Load().Len(), Fetched: s.fetched, Failures: s.failures, Error: s.fault}
}

// Keys is the set as it is; nil before there was one.
func (s *Source) Keys() *Set { return s.set.Load() }

// KeysFor is the set for a token. If no key fits, one fetch is asked for and waited for, 5 s at most: the issuer may
// have a new key. That happens every 30 s at most, whatever comes.
func (s *Source) KeysFor(t *Token) *Set {
	if now := s.set.Load(); now.Knows(t) {
		return now
	}

	if over := s.ask(); over != nil {
		patience := time.NewTimer(askPatience)
		defer patience.Stop()

		select {
		case <-over:
		case <-patience.C:
		case <-s.life.Done():
		}
	}

	return s.set.Load()
}

// ask has the set fetched, unless that was just tried. The channel is closed when the fetch is over.
func (s *Source) ask() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.round != nil {
		return s.round
	}

	if time.Since(s.tried) < s.keeper.options.gap {
		return nil
	}

	s.round = make(chan struct{})

	select {
	case s.wake <- struct{}{}:
	default:
	}

	return s.round
}

func (s *Source) run() {
	next := time.NewTimer(0)
	defer next.Stop()

	<-next.C

	for {
		select {
		case <-s.life.Done():
			return
		case <-next.C:
		case <-s.wake:
		}

		next.Reset(s.turn())
	}
}

// turn fetches once, and tells how long to wait for the next time.
func (s *Source) turn() time.Duration {
	text, set, err := s.fetch()
	if s.life.Err() != nil {
		return refreshEvery // nobody wants it any more
	}

	changed := false
	if err == nil {
		changed = !same(s.set.Swap(set), set)
	}

	wait := s.note(err)

	log := s.keeper.options.Log.With("issuer", s.issuer)

	switch {
	case err != nil:
		log.Warn("the keys of an issuer could not be fetched; those that were fetched before are used on", "error", explain(err),
			"next", wait.Round(time.Second))

		return wait
	case changed:
		log.Info("the keys of an issuer were fetched", "keys", set.Len())

		if s.keeper.options.Changed != nil {
			s.keeper.options.Changed()
		}
	}

	if err := s.save(text); err != nil {
		log.Warn("the keys of an issuer could not be kept on disk; a restart has to fetch them", "error", err)
	}

	return wait
}

func (s *Source) note(err error) (wait time.Duration) {
	o := &s.keeper.options

	s.mu.Lock()
	defer s.mu.Unlock()

	s.tried = time.Now()

	if s.round != nil {
		close(s.round)
		s.round = nil
	}

	if err != nil {
		s.failures++
		s.fault = explain(err)
		wait = min(o.refresh, o.retry<<min(s.inRow, 16))
		s.inRow++

		return wait/2 + rand.N(wait/2) //nolint:gosec // so that brokers do not come back at one time
	}

	s.inRow, s.fault, s.fetched = 0, "", s.tried

	return o.refresh - o.refresh/10 + rand.N(o.refresh/5) //nolint:gosec // as above
}

func (s *Source) fetch() ([]byte, *Set, error) {
	patience, end := context.WithTimeout(s.life, s.keeper.options.patience)
	defer end()

	request, err := http.NewRequestWithContext(patience, http.MethodGet, s.address, http.NoBody)
	if err != nil {
		return nil, nil, err
	}

	request.Header.Set("Accept", "application/jwk-set+json, application/json")
	request.Header.Set("User-Agent", "mqtt-broker")

	answer, err := s.client().Do(request)
	if err != nil {
		return nil, nil, err
	}

	defer func() { _ = answer.Body.Close() }()

	if answer.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("%w but %d", errStatus, answer.StatusCode)
	}

	text, err := io.ReadAll(io.LimitReader(answer.Body, contract.MaxJWKSBytes+1))
	if err == nil {
		// A server that is hung up on may still end its answer as if it were whole.
		err = patience.Err()
	}

	if err != nil {
		return nil, nil, err
	}

	set, err := ParseKeys(text)

	return text, set, err
}

// explain is an error without the address, which may have a secret in its query.
func explain(err error) string {
	if whole, ok := errors.AsType[*url.Error](err); ok {
		if whole.Timeout() {
			return errSlow.Error()
		}

		err = whole.Err
	}

	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return errSlow.Error()
	}

	text := strings.ToValidUTF8(err.Error(), "")
	if len(text) > maxErrorText {
		text = strings.ToValidUTF8(text[:maxErrorText], "") + "…"
	}

	return text
}

func same(a, b *Set) bool {
	if a.Len() != b.Len() {
		return false
	}

	for i := range b.keys {
		if a.keys[i].sum != b.keys[i].sum || a.keys[i].id != b.keys[i].id || a.keys[i].algorithm != b.keys[i].algorithm {
			return false
		}
	}

	return true
}

// kept is the form of a set on disk.
type kept struct {
	Issuer  string    `json:"issuer"`
	Address string    `json:"address"`
	Fetched time.Time `json:"fetched"`
	Keys    string    `json:"keys"`
}

// sourceName is what a source's file is called too. Without authorities it is what it was before there were any.
func sourceName(issuer, address, authorities string) string {
	text := issuer + "\x00" + address
	if authorities != "" {
		text += "\x00" + authorities
	}

	sum := sha256.Sum256([]byte(text))

	return hex.EncodeToString(sum[:16])
}

func (s *Source) path() string { return filepath.Join(s.keeper.options.Dir, s.name+setSuffix) }

// restore takes what an earlier process has left. What cannot be read is as good as nothing: it will be fetched.
func (s *Source) restore() {
	if s.keeper.options.Dir == "" {
		return
	}

	file, err := os.Open(s.path())
	if err != nil {
		return
	}

	defer func() { _ = file.Close() }()

	var k kept

	decoder := json.NewDecoder(io.LimitReader(file, 8*contract.MaxJWKSBytes)) // JSON in JSON may be six times as long
	if decoder.Decode(&k) != nil || k.Issuer != s.issuer || k.Address != s.address {
		return
	}

	if set, err := ParseKeys([]byte(k.Keys)); err == nil {
		s.set.Store(set)
		s.fetched = k.Fetched
	}
}

// save replaces what is on disk, so that a crash leaves the old or the new.
func (s *Source) save(text []byte) error {
	dir := s.keeper.options.Dir
	if dir == "" {
		return nil
	}

	record, err := json.Marshal(kept{Issuer: s.issuer, Address: s.address, Fetched: s.Status().Fetched, Keys: string(text)})
	if err != nil {
		return err
	}

	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}

	file, err := os.CreateTemp(dir, s.name+".*"+halfSuffix) // of mode 0600
	if err != nil {
		return err
	}

	_, err = file.Write(record)
	if err = errors.Join(err, file.Sync(), file.Close()); err == nil {
		err = os.Rename(file.Name(), s.path())
	}

	if err != nil {
		_ = os.Remove(file.Name())
	}

	return err
}
