// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/auth"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/broker-image/metrics"
	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

const (
	// rememberedFailures bounds what is known of who failed where, who did not, and which sources did: some 20 MiB.
	rememberedFailures = 1 << 16
	// waitingPasswords is how many may wait to be checked; each holds a connection that has sent its CONNECT.
	waitingPasswords = 8192
	// verifyPatience is how long one may wait, from CONNECT on.
	verifyPatience = time.Minute
	// doubles is how many users those who do not exist are made to look like.
	doubles = 64
	// seedFile holds what the salts of users that do not exist are made of, below the data directory.
	seedFile = "scram-seed"
	// ledgerFile holds which passwords were right, below the data directory.
	ledgerFile = "password-cache"
)

// lockedOut is for the log; the client gets the answer to a wrong password.
const lockedOut = "locked out: too many wrong passwords for this user from this address"

// doorkeeper is what checks passwords.
type doorkeeper struct {
	cache *auth.Cache
	guard *auth.Guard
	queue *auth.Queue
	scram *auth.SCRAM
}

// verified is what came of checking a password: the verifier that it fits, or why there is none.
type verified struct {
	verifier *auth.Verifier
	failure  metrics.AuthFailure
}

func newDoorkeeper(seed []byte) doorkeeper {
	return doorkeeper{
		cache: auth.NewCache(rememberedUsers), guard: auth.NewGuard(rememberedFailures),
		queue: auth.NewQueue(runtime.GOMAXPROCS(0), waitingPasswords), scram: auth.NewSCRAMServer(seed),
	}
}

// readSeed gives the bytes that have to stay the same over a restart; the first time it draws them.
func readSeed(dir string) ([]byte, error) {
	path := filepath.Join(dir, seedFile)

	seed, err := os.ReadFile(path)
	if err == nil && len(seed) >= 32 {
		return seed, nil
	}

	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", path, err)
	}

	seed = make([]byte, 32)
	_, _ = rand.Read(seed) // never fails: the runtime ends the process instead

	// By another name at first: half a file would be another seed.
	if err := os.WriteFile(path+".new", seed, 0o600); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}

	if err := os.Rename(path+".new", path); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}

	return seed, nil
}

// keepPasswords has what passwords were right kept over a restart, or no longer. The configuration holds already, and
// applying is held.
func (e *Engine) keepPasswords(wanted bool) {
	if e.options.DataDir == "" {
		if wanted && !e.homeless {
			e.log.Warn("which passwords were right cannot be kept over a restart: there is no data directory")
		}

		e.homeless = wanted

		return
	}

	path := filepath.Join(e.options.DataDir, ledgerFile)

	switch {
	case wanted && e.ledger == nil:
		now := e.state.Load()
		e.ledger = auth.OpenLedger(auth.LedgerOptions{
			Path: path, Log: e.log,
			Configured: func(username, verifier string) bool { return e.state.Load().holds(username, verifier) },
		}, func(yield func(string, []*auth.Verifier) bool) {
			for name, u := range now.users {
				if !yield(name, u.verifiers) {
					return
				}
			}
		})
		e.cache.Keep(e.ledger)
	case wanted:
		e.ledger.Sweep()
	case e.ledger != nil:
		e.cache.Keep(nil)
		e.ledger.Discard()
		e.ledger = nil
	default: // there may be one of an earlier process
		if err := auth.RemoveLedger(path); err != nil {
			e.log.Warn("the file that says which passwords were right cannot be removed", "error", err)
		}
	}
}

// holds tells whether a user has a verifier.
func (s *state) holds(username, verifier string) bool {
	return slices.ContainsFunc(s.verifiers(username), func(v *auth.Verifier) bool { return v.Text() == verifier })
}

// meet has those who do not exist look like those who do. It picks the same users each time as far as it can, so that a
// new configuration does not tell them apart either.
func (k *doorkeeper) meet(s *state) {
	costly, scram := sample{}, sample{}

	for _, u := range s.users {
		if slices.ContainsFunc(u.verifiers, isCostly) || len(u.verifiers) > 0 && !slices.ContainsFunc(u.verifiers, isPlain) {
			costly.offer(u)
		}

		if slices.ContainsFunc(u.verifiers, (*auth.Verifier).SCRAM) {
			scram.offer(u)
		}
	}

	like := make([][]*auth.Verifier, 0, doubles)
	for _, u := range costly {
		like = append(like, u.user.verifiers)
	}

	challenges := make([]*auth.Verifier, 0, doubles)
	for _, u := range scram {
		challenges = append(challenges, u.user.verifiers[slices.IndexFunc(u.user.verifiers, (*auth.Verifier).SCRAM)])
	}

	k.cache.Imitate(like)
	k.scram.Imitate(challenges)
}

func isPlain(v *auth.Verifier) bool  { return !v.SCRAM() }
func isCostly(v *auth.Verifier) bool { return v.Slow() && !v.SCRAM() }

// sample is a few users, those whose names have the smallest sums, in this order.
type sample []sampled

type sampled struct {
	sum  uint64
	user *user
}

func (s *sample) offer(u *user) {
	h := fnv.New64a()
	_, _ = h.Write([]byte(u.name))
	one := sampled{h.Sum64(), u}

	at, _ := slices.BinarySearchFunc(*s, one, func(a, b sampled) int { return cmp.Compare(a.sum, b.sum) })
	if at == doubles {
		return
	}

	*s = slices.Insert(*s, at, one)
	*s = (*s)[:min(len(*s), doubles)]
}

// source is where the client comes from, as far as failures are counted.
func (c *conn) source() auth.Source { return auth.SourceOf(c.socket.Remote().Addr()) }

// verify checks a password. What is remembered is known at once; the rest waits for its turn, elsewhere, and the
// connection is not read meanwhile.
func (c *conn) verify(r *round, name string, password []byte, now *state) {
	k, from := &c.e.doorkeeper, c.source()

	var verifiers []*auth.Verifier
	if u := now.users[name]; u != nil && name != "" {
		verifiers = u.verifiers
	}

	standing := k.guard.Ask(name, from, r.now)
	if standing.Locked {
		c.failed(r, metrics.TooManyAttempts)

		return
	}

	// While another attempt of this kind is not decided, this one must wait for it: else a thousand could be made before
	// the first is counted.
	if standing.Clear {
		if v := k.cache.Quick(name, verifiers, password); v != nil {
			k.guard.Right(name, from, false)
			c.who = &identity{username: name, verifier: v.Text()}
			c.admit(r)

			return
		}
	}

	c.paused, c.pause = true, pauseVerify
	k.guard.Start(name, from)
	c.e.wheel.set(&c.timer, verifyPatience)

	answer := func(v verified) {
		c.verdict.Store(&v)
		c.resume()
	}
	job := auth.Job{
		Source: from,
		Rank:   func() auth.Rank { return k.guard.Ask(name, from, time.Now()).Rank },
		Run:    func() { answer(k.decide(c, name, from, verifiers, password)) },
		Refuse: func() {
			k.guard.Drop(name, from)
			answer(verified{failure: metrics.VerifierBusy})
		},
	}

	if !k.queue.Add(job) {
		k.guard.Drop(name, from)

		c.paused = false
		c.failed(r, metrics.VerifierBusy)
	}
}

// decide checks a password whose turn has come.
func (k *doorkeeper) decide(c *conn, name string, from auth.Source, verifiers []*auth.Verifier, password []byte) verified {
	switch {
	case c.deaf(): // it has gone, and must not cost anything
		k.guard.Drop(name, from)

		return verified{failure: metrics.VerifierBusy}
	case k.guard.Ask(name, from, time.Now()).Locked:
		k.guard.Drop(name, from)

		return verified{failure: metrics.TooManyAttempts}
	}

	v := k.cache.Verify(name, verifiers, password)
	if v == nil {
		k.guard.Wrong(name, from, true, time.Now())

		return verified{failure: metrics.WrongPassword}
	}

	k.guard.Right(name, from, true)

	return verified{verifier: v}
}

// settleVerify goes on when a password has been checked. It is false if that is not so yet.
func (c *conn) settleVerify(r *round) bool {
	v := c.verdict.Load()
	if v == nil {
		return false
	}

	c.paused = false

	switch {
	case v.verifier != nil:
		c.who = &identity{username: c.connect.Username, verifier: v.verifier.Text()}
		c.admit(r)
	case v.failure == metrics.WrongPassword && c.e.state.Load().users[c.connect.Username] == nil:
		c.failed(r, metrics.UnknownUser)
	default:
		c.failed(r, v.failure)
	}

	return true
}

// failed turns away who could not prove who it is. The client does not learn which of the reasons it was, but for the
// one that has nothing to do with it.
func (c *conn) failed(r *round, why metrics.AuthFailure) {
	switch why {
	case metrics.VerifierBusy:
		r.count.AuthFail(why)
		c.turnAway(r, &refusal{wire.ServerBusy, "too many passwords wait to be checked", metrics.Busy})
	case metrics.TooManyAttempts:
		r.count.AuthFail(why)
		c.turnAway(r, &refusal{wire.BadUserNameOrPassword, lockedOut, metrics.Unauthenticated})
	default:
		c.unknown(r, why)
	}
}

// how is by what the client proves who it is, or tried to, for people.
func (c *conn) how() string {
	switch {
	case c.exchange != nil:
		return c.exchange.method
	case c.who != nil && c.who.token != nil:
		return string(c.who.token.method)
	case c.who != nil && c.who.named:
		return string(contract.MethodCertificate)
	case c.who != nil && c.who.verifier != "", c.who == nil && c.connect != nil && (c.connect.HasUsername || c.connect.HasPassword):
		return "password"
	case c.who != nil && c.who.username == "":
		return "anonymous"
	default:
		return "none"
	}
}
