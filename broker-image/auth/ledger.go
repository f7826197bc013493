// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	// keptDays is how long a password is known that nobody logs in with.
	keptDays = 30
	// ledgerDelay gathers what many clients prove at once into one writing; a process that is killed forgets as much.
	ledgerDelay = 3 * time.Second
	// ledgerRetry is when a disk that took nothing is asked again.
	ledgerRetry = time.Minute
	// maxKept bounds a file that is read. It is far above what a configuration holds.
	maxKept = 1 << 20

	ledgerMagic = "mqtt-operator passwords verified 1\n"
	idBytes     = 16
	recordBytes = idBytes + sha256.Size + 4
)

// Ledger keeps over a restart which passwords were right, so that a broker that comes back need not compute the slow hash
// of each of them anew. It is a file of records
//
//	id | tag | day        tag = HMAC-SHA256(key, password)
//
// where id and key come by HKDF-SHA256 from the hash in the verifier, bound to username, verifier and a salt of this file.
// The hash stands in the configuration only, so that who has the file alone cannot test a guess, nor see whose record it
// is; and who has the configuration alone has the slow hash, as ever. Who has both can test guesses fast, and who can write
// the file and knows the hash can write a record for a password of his own: this is the price, and why somebody has to ask
// for a Ledger.
//
// Verifiers for SCRAM are left out: the broker tells their salts to whoever asks, and with the salt a guess can be tested
// by the file after all, at the cost of the hash. So are fast ones, which need none.
//
// A Ledger that cannot be read or written is one that knows less: nothing here is ever an error of a login. The methods
// are safe for concurrent use, and those that a [Cache] calls for a nil Ledger, too.
type Ledger struct {
	options LedgerOptions
	salt    [sha256.Size]byte

	mu    sync.Mutex
	known map[holding]kept
	dirty bool

	saving  sync.Mutex
	failing bool // guarded by saving

	wake, hurry chan struct{}
	quit, done  chan struct{}
	once        sync.Once
}

// LedgerOptions are what a Ledger needs for its life.
type LedgerOptions struct {
	// Path of the file. What is written first is at Path.new.
	Path string
	// Configured tells whether the user has the verifier at this moment.
	Configured func(username, verifier string) bool
	// Log is where a file that cannot be used is told of.
	Log *slog.Logger
	// Now is the clock; nil means the system's. Delay is how long after a change the file is written; zero means 3 s.
	Now   func() time.Time
	Delay time.Duration
}

// holding is a verifier of a user.
type holding struct{ username, verifier string }

// kept is what is known of a holding.
type kept struct {
	id  [idBytes]byte
	tag [sha256.Size]byte
	day uint32 // when it was last used, in days since 1970: a finer time would tell who came when
}

// OpenLedger reads the file, as far as it is about these users, and keeps it up from then on. A file that is damaged, or
// none of ours, is logged and replaced.
func OpenLedger(options LedgerOptions, users iter.Seq2[string, []*Verifier]) *Ledger {
	if options.Now == nil {
		options.Now = time.Now
	}

	if options.Delay == 0 {
		options.Delay = ledgerDelay
	}

	l := &Ledger{
		options: options, known: map[holding]kept{},
		wake: make(chan struct{}, 1), hurry: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}),
	}
	_, _ = rand.Read(l.salt[:]) // never fails: the runtime ends the process instead

	if err := l.read(users); err != nil && !errors.Is(err, fs.ErrNotExist) {
		options.Log.Warn("which passwords were right before the start cannot be read; they are checked anew", "file", options.Path, "error", err)
	}

	go l.run()

	return l
}

// read takes over what the file says of verifiers that are configured.
func (l *Ledger) read(users iter.Seq2[string, []*Verifier]) error {
	file, err := os.Open(l.options.Path)
	if err != nil {
		return err
	}
	defer file.Close()

	content, err := io.ReadAll(io.LimitReader(file, int64(len(ledgerMagic)+2*sha256.Size+maxKept*recordBytes)))
	if err != nil {
		return err
	}

	salt, records, err := parseLedger(content)
	if err != nil {
		return err
	}

	l.salt = salt
	today, taken := l.today(), 0

	for username, verifiers := range users {
		for _, v := range verifiers {
			if len(records) == 0 || !v.worthKeeping() {
				continue
			}

			id, _ := l.derive(username, v)

			k, found := records[id]
			if !found {
				continue
			}

			// A clock that once ran ahead must not make it last.
			k.day = min(k.day, today)
			if today-k.day > keptDays {
				continue
			}

			l.known[holding{username, v.text}] = k
			taken++
		}
	}

	if taken < len(records) {
		l.change(true) // the others have no business on the disk
	}

	return nil
}

// parseLedger takes a file apart. Any part of it that is missing or changed makes it useless as a whole.
func parseLedger(content []byte) (salt [sha256.Size]byte, records map[[idBytes]byte]kept, err error) {
	rest, ours := bytes.CutPrefix(content, []byte(ledgerMagic))

	switch {
	case !ours:
		return salt, nil, errors.New("it is not a file of this kind")
	case len(rest) < 2*sha256.Size, (len(rest)-2*sha256.Size)%recordBytes != 0:
		return salt, nil, errors.New("it is cut short")
	}

	end := len(content) - sha256.Size
	if sum := sha256.Sum256(content[:end]); !bytes.Equal(sum[:], content[end:]) {
		return salt, nil, errors.New("it is damaged")
	}

	copy(salt[:], rest)

	rest = rest[sha256.Size : len(rest)-sha256.Size]
	records = make(map[[idBytes]byte]kept, len(rest)/recordBytes)

	for ; len(rest) > 0; rest = rest[recordBytes:] {
		var k kept

		copy(k.id[:], rest)
		copy(k.tag[:], rest[idBytes:])
		k.day = binary.BigEndian.Uint32(rest[idBytes+sha256.Size:])
		records[k.id] = k
	}

	return salt, records, nil
}

// worthKeeping tells whether a Ledger takes the verifier; see there.
func (v *Verifier) worthKeeping() bool { return v.Slow() && !v.SCRAM() }

// secret is what nobody knows who does not have the verifier, 128 bits of it at least.
func (v *Verifier) secret() []byte {
	if v.scheme == schemeBcrypt {
		const hash = 31 // characters behind the salt

		return []byte(v.text[len(v.text)-hash:])
	}

	return v.bytes(v.hash)
}

// derive gives the name of a record and the key of its tag.
func (l *Ledger) derive(username string, v *Verifier) (id [idBytes]byte, key []byte) {
	info := make([]byte, 0, len(ledgerMagic)+len(username)+len(v.text)+16)
	info = append(info, ledgerMagic...)

	for _, part := range []string{username, v.text} {
		// The lengths keep parts from flowing into one another.
		info = binary.BigEndian.AppendUint64(info, uint64(len(part)))
		info = append(info, part...)
	}

	both, err := hkdf.Key(sha256.New, v.secret(), l.salt[:], string(info), sha256.Size+idBytes)
	if err != nil { // which no length here gives; a key that nobody knows opens nothing and tells nothing
		both = make([]byte, sha256.Size+idBytes)
		_, _ = rand.Read(both)
	}

	copy(id[:], both[sha256.Size:])

	return id, both[:sha256.Size]
}

// record is what is known once the password has proved right.
func (l *Ledger) record(username string, v *Verifier, password []byte) kept {
	id, key := l.derive(username, v)
	k := kept{id: id, day: l.today()}

	mac := hmac.New(sha256.New, key)
	_, _ = mac.Write(password)
	mac.Sum(k.tag[:0])

	return k
}

func (l *Ledger) today() uint32 { return uint32(max(0, l.options.Now().Unix()/(24*3600))) } //nolint:gosec // until the year 11 million

// opens tells whether the password is known to be the right one. False says nothing.
func (l *Ledger) opens(username string, v *Verifier, password []byte) bool {
	if l == nil || !v.worthKeeping() {
		return false
	}

	l.mu.Lock()
	k, found := l.known[holding{username, v.text}]
	l.mu.Unlock()

	if !found || l.today() > k.day+keptDays {
		return false
	}

	is := l.record(username, v, password)

	return hmac.Equal(is.tag[:], k.tag[:])
}

// note keeps that the password was right, whatever was known before.
func (l *Ledger) note(username string, v *Verifier, password []byte) {
	if l == nil || !v.worthKeeping() {
		return
	}

	k := l.record(username, v, password)

	l.mu.Lock()
	defer l.mu.Unlock()

	// A check may end after its verifier has gone. Asked under the lock: a Sweep that comes later sees what is put here.
	if !l.options.Configured(username, v.text) || len(l.known) >= maxKept {
		return
	}

	l.known[holding{username, v.text}] = k
	l.change(false)
}

// touch notes that the password was used, of which it is known that it is right.
func (l *Ledger) touch(username string, v *Verifier, password []byte) {
	if l == nil || !v.worthKeeping() {
		return
	}

	today := l.today()

	l.mu.Lock()
	k, found := l.known[holding{username, v.text}]
	l.mu.Unlock()

	if !found || k.day != today { // once a day
		l.note(username, v, password)
	}
}

// Sweep forgets what is not configured any more, on the disk too and at once. It is called after each change of the
// configuration. Nothing hangs on it but what lies on the disk: without its verifier a record opens nothing.
func (l *Ledger) Sweep() {
	l.mu.Lock()
	defer l.mu.Unlock()

	before := len(l.known)

	for h := range l.known {
		if !l.options.Configured(h.username, h.verifier) {
			delete(l.known, h)
		}
	}

	if len(l.known) != before {
		l.change(true)
	}
}

// Len is the number of passwords known.
func (l *Ledger) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()

	return len(l.known)
}

// change has the file written, soon or now. mu is held, or nobody else knows l yet.
func (l *Ledger) change(now bool) {
	l.dirty = true

	ring := l.wake
	if now {
		ring = l.hurry
	}

	select {
	case ring <- struct{}{}:
	default: // it has been rung
	}
}

// run writes the file when there is reason to.
func (l *Ledger) run() {
	defer close(l.done)

	daily := time.NewTicker(24 * time.Hour)
	defer daily.Stop()

	for {
		select {
		case <-l.quit:
			return
		case <-l.hurry:
		case <-daily.C:
			l.expire()
		case <-l.wake:
			select {
			case <-l.quit:
				return
			case <-l.hurry:
			case <-time.After(l.options.Delay):
			}
		}

		l.save()
	}
}

// expire forgets what nobody has used for long.
func (l *Ledger) expire() {
	today := l.today()

	l.mu.Lock()
	defer l.mu.Unlock()

	for h, k := range l.known {
		if today > k.day+keptDays {
			delete(l.known, h)
			l.dirty = true
		}
	}
}

// save writes the file if it is not what is known. A disk that takes nothing is told of once, and asked again later.
func (l *Ledger) save() {
	l.saving.Lock()
	defer l.saving.Unlock()

	content, changed := l.content()
	if !changed {
		return
	}

	err := replaceFile(l.options.Path, content)

	switch {
	case err == nil:
		l.failing = false

		return
	case !l.failing:
		l.options.Log.Warn("which passwords were right cannot be written; after a restart they are checked anew", "file", l.options.Path, "error", err)
	}

	l.failing = true

	l.mu.Lock()
	l.dirty = true
	l.mu.Unlock()
	time.AfterFunc(ledgerRetry, func() {
		select {
		case l.hurry <- struct{}{}:
		default:
		}
	})
}

// content is the file as it should be, if it is to be written.
func (l *Ledger) content() (content []byte, changed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()

	if !l.dirty {
		return nil, false
	}

	l.dirty = false

	content = make([]byte, 0, len(ledgerMagic)+2*sha256.Size+len(l.known)*recordBytes)
	content = append(content, ledgerMagic...)
	content = append(content, l.salt[:]...)

	for _, k := range l.known {
		content = append(content, k.id[:]...)
		content = append(content, k.tag[:]...)
		content = binary.BigEndian.AppendUint32(content, k.day)
	}

	sum := sha256.Sum256(content)

	return append(content, sum[:]...), true
}

// replaceFile writes a file that is there as a whole or not at all.
func replaceFile(path string, content []byte) error {
	next := path + ".new"

	// One that is left from before may have another mode.
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}

	file, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}

	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}

	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(next, path)
	}

	if err != nil {
		return errors.Join(err, os.Remove(next))
	}

	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}

	return errors.Join(dir.Sync(), dir.Close())
}

// Close writes what is not written yet. What is noted later is not kept.
func (l *Ledger) Close() {
	l.end()
	l.expire()
	l.save()
}

func (l *Ledger) end() {
	l.once.Do(func() { close(l.quit) })
	<-l.done
}

// Discard ends the Ledger and removes its file.
func (l *Ledger) Discard() {
	l.end()

	if err := RemoveLedger(l.options.Path); err != nil {
		l.options.Log.Warn("the file that says which passwords were right cannot be removed", "file", l.options.Path, "error", err)
	}
}

// RemoveLedger removes the file of a Ledger that is not open; that there is none is no error.
func RemoveLedger(path string) error {
	for _, p := range []string{path, path + ".new"} {
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s: %w", p, err)
		}
	}

	return nil
}
