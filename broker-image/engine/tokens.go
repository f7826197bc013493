// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"cmp"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/broker-image/metrics"
	"github.com/mqtt-operator/mqtt-operator/broker-image/token"
	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

const (
	// methodOAuth and methodAccount are the authentication methods whose data is a token, as in other brokers.
	methodOAuth   = "OAUTH2-JWT"
	methodAccount = "K8S-SAT"
	// keysDir is where fetched key sets lie, below the data directory.
	keysDir = "keys"
	// keyGrace is how long a connection may outlive the key that its token was signed with, half of it at least.
	keyGrace = time.Hour
)

var (
	errOtherUser    = errors.New("the username is not that of the token")
	errNobody       = errors.New("no user has the token's name or is its ServiceAccount, and the token brings no rules")
	errSeveral      = errors.New("several users are the token's ServiceAccount: the client must say which by its username")
	errCheckFailed  = errors.New("checking the token failed; please report this")
	errNoTokenGiven = errors.New("the authentication data holds no token")
)

// tokenSlots bounds how many signatures are checked at a time.
var tokenSlots = make(chan struct{}, runtime.GOMAXPROCS(0))

// issuer is somebody whose tokens are believed. One that did not change keeps its pointer.
type issuer struct {
	token.Issuer

	name   string
	method contract.Method
	source contract.TokenIssuer
	fixed  *token.Set // of the configuration
	fault  error      // why there is none
	// fetched is set before the configuration holds; nil: the set stands in the configuration.
	fetched *token.Source
}

// bearer is what a token said of a client.
type bearer struct {
	method        contract.Method
	issuer        string
	audiences     []string
	usernameClaim string
	account       string
	key           token.Print
	claims        *claims
	// before is identity.until as it was before the key was gone; 0 while the key is there.
	before int64
}

// claims are rules that a token brought along, and on whose word.
type claims struct {
	issuer, claim string
	policy        *acl.Policy
}

// ruling is what came of checking a token.
type ruling struct {
	who *identity
	err error
}

func tokenMethods() []contract.Method {
	return []contract.Method{contract.MethodJWT, contract.MethodServiceAccount}
}

// compileTokens makes the issuers ready. A key set that is no good is no reason to refuse a configuration, in which it
// may be the smallest part: its issuer's tokens are refused until there is a better one.
func (s *state) compileTokens(config *contract.Config, before *state) {
	a := &config.Authentication

	for i := range a.JWT {
		s.issuers = append(s.issuers, compileIssuer(&a.JWT[i], contract.MethodJWT, before))
	}

	if a.ServiceAccounts != nil {
		s.issuers = append(s.issuers, compileIssuer(a.ServiceAccounts, contract.MethodServiceAccount, before))
	}

	s.accounts = map[string][]string{}

	for i := range config.Users {
		if u := &config.Users[i]; u.ServiceAccount != "" {
			s.accounts[u.ServiceAccount] = append(s.accounts[u.ServiceAccount], u.Username)
		}
	}
}

func compileIssuer(source *contract.TokenIssuer, method contract.Method, before *state) *issuer {
	if old := before.issuer(method, source.Issuer); old != nil && reflect.DeepEqual(old.source, *source) {
		return old
	}

	i := &issuer{
		Issuer: token.Issuer{Audiences: source.Audiences, ACLClaim: source.ACLClaim},
		name:   source.Issuer, method: method, source: *source,
	}

	if method == contract.MethodJWT {
		i.UsernameClaim = cmp.Or(source.UsernameClaim, contract.DefaultUsernameClaim)
	}

	if source.JWKSURL == "" {
		i.fixed, i.fault = token.ParseKeys([]byte(source.JWKS))
	}

	return i
}

func (s *state) issuer(method contract.Method, name string) *issuer {
	if s == nil {
		return nil
	}

	for _, i := range s.issuers {
		if i.method == method && i.name == name {
			return i
		}
	}

	return nil
}

// keys are those that the issuer has now. For a token that none of them fits it may take a moment.
func (i *issuer) keys(t *token.Token) *token.Set {
	switch {
	case i.fetched == nil:
		return i.fixed
	case t == nil:
		return i.fetched.Keys()
	default:
		return i.fetched.KeysFor(t)
	}
}

func (e *Engine) newKeeper() *token.Keeper {
	dir := ""
	if e.options.DataDir != "" {
		dir = filepath.Join(e.options.DataDir, keysDir)
	}

	return token.NewKeeper(token.KeeperOptions{Dir: dir, Roots: e.options.KeyRoots, Log: e.log, Changed: e.keysChanged})
}

// openKeys has the keys fetched that a configuration names by address, before it holds. It never waits.
func (e *Engine) openKeys(next, before *state) {
	for _, i := range next.issuers {
		if i.source.JWKSURL != "" && i.fetched == nil {
			i.fetched = e.keys.Open(i.name, i.source.JWKSURL, i.source.Authorities)
		}

		if i.fault != nil && before.issuer(i.method, i.name) != i {
			e.log.Warn("the keys of an issuer cannot be used; its tokens are refused", "issuer", i.name, "error", i.fault)
		}
	}
}

// keepKeys ends the fetching of what no configuration names any more.
func (e *Engine) keepKeys(now *state) {
	var wanted []*token.Source

	for _, i := range now.issuers {
		if i.fetched != nil {
			wanted = append(wanted, i.fetched)
		}
	}

	e.keys.Keep(wanted)
}

// keysChanged looks at those whose key may be gone.
func (e *Engine) keysChanged() {
	r := e.borrow()
	defer e.giveBack(r)

	now := e.state.Load()
	if now == nil {
		return
	}

	for _, c := range e.allMembers() {
		if who := c.member.Load(); who != nil {
			c.mindKey(now, who)
		}
	}
}

// mindKey looks whether the key is still there that a client's token was signed with. An issuer takes a new key every
// now and then and drops the old one some time later; nobody is cut off for that at once. But whoever had stolen a key
// could have given himself a token without an end: so a connection ends within an hour of its key, and its client has to
// come with a token of one that is trusted.
func (c *conn) mindKey(now *state, who *identity) {
	if who.token == nil {
		return
	}

	i := now.issuer(who.token.method, who.token.issuer)
	if i == nil {
		return
	}

	keys := i.keys(nil)
	if keys == nil && i.fetched != nil {
		return // it was never fetched from this address: nothing is known
	}

	held, graced := keys.Holds(who.token.key), who.token.before != 0
	if held != graced {
		return // as it was
	}

	other, b := *who, *who.token
	other.token = &b

	if held { // again
		other.until, b.before = b.before, 0
	} else {
		grace := keyGrace/2 + rand.N(keyGrace/2) //nolint:gosec // so that not all come back at once
		other.until, b.before = min(who.until, time.Now().Add(grace).UnixMilli()), who.until
	}

	// Who has proved itself anew meanwhile has another one.
	if c.member.CompareAndSwap(who, &other) {
		c.soon()
	}
}

// soon has the clock look at the connection.
func (c *conn) soon() {
	c.mu.Lock()
	defer c.mu.Unlock()

	if !c.closing && !c.dead {
		c.e.wheel.set(&c.timer, 0)
	}
}

// takesToken tells whether a password is to be read as a token: it looks like one, and the door takes some.
func (s *state) takesToken(listener string, password []byte) bool {
	if !token.Looks(password) {
		return false
	}

	for _, m := range tokenMethods() {
		if s.offers(listener, m) {
			return true
		}
	}

	return false
}

func (s *state) offers(listener string, m contract.Method) bool {
	d := s.door(listener)

	return d != nil && d.Takes(m) && slices.ContainsFunc(s.issuers, func(i *issuer) bool { return i.method == m })
}

// beginToken begins an enhanced authentication whose data is a token. It is false if the method is another, or not
// offered here.
func (c *conn) beginToken(method, username string, data []byte) bool {
	m := contract.Method("")

	switch method {
	case methodOAuth:
		m = contract.MethodJWT
	case methodAccount:
		m = contract.MethodServiceAccount
	}

	if !c.e.state.Load().offers(c.door.Name, m) {
		return false
	}

	c.exchange = &exchange{method: method, over: true}
	c.checkToken(data, username, []contract.Method{m})

	return true
}

// checkToken has a token looked at elsewhere: keys may have to be fetched, and signatures take their time.
func (c *conn) checkToken(text []byte, username string, methods []contract.Method) {
	c.paused, c.pause = true, pauseToken
	c.heard.Store(c.heard.Load() + stallSilence.Milliseconds()) // it is not the client that is silent

	go func() {
		c.ruling.Store(c.e.rule(c.door.Name, text, username, methods))
		c.resume()
	}()
}

// rule decides on a token.
func (e *Engine) rule(listener string, text []byte, username string, methods []contract.Method) (v *ruling) {
	defer func() {
		if fault := recover(); fault != nil {
			e.metrics.Shared.Panics.Add(1)
			e.log.Error("a token could not be checked because that failed; please report this", "listener", listener,
				"fault", fault, "stack", string(debug.Stack()))

			v = &ruling{err: errCheckFailed}
		}
	}()

	if len(text) == 0 {
		return &ruling{err: errNoTokenGiven}
	}

	t, err := token.Parse(text)
	if err != nil {
		return &ruling{err: err}
	}

	now := e.state.Load()
	v = &ruling{err: token.ErrIssuer}

	for _, m := range methods {
		i := now.issuer(m, t.Issuer)
		if i == nil || !now.offers(listener, m) {
			continue
		}

		if v = i.rule(t, now, username); v.err == nil {
			return v
		}
	}

	return v
}

func (i *issuer) rule(t *token.Token, now *state, username string) *ruling {
	keys := i.keys(t)

	tokenSlots <- struct{}{}
	id, err := t.Verify(&i.Issuer, keys, time.Now())
	<-tokenSlots

	if err != nil {
		return &ruling{err: err}
	}

	name, err := now.named(i, id, username)
	if err != nil {
		return &ruling{err: err}
	}

	who := &identity{username: name, until: id.Expires.UnixMilli(), token: &bearer{
		method: i.method, issuer: i.name, audiences: id.Audiences, usernameClaim: i.UsernameClaim, account: id.Account,
		key: id.Key,
	}}

	if id.Policy != nil {
		who.token.claims = &claims{issuer: i.name, claim: i.ACLClaim, policy: id.Policy}
	}

	return &ruling{who: who}
}

// named is the user that a token stands for, which must be the one that the client named, if it did.
func (s *state) named(i *issuer, id *token.Identity, username string) (string, error) {
	if i.method == contract.MethodJWT {
		if username != "" && username != id.Username {
			return "", errOtherUser
		}

		return id.Username, nil
	}

	users := s.accounts[id.Account]

	switch {
	case len(users) == 0:
		return "", errNobody
	case username == "" && len(users) > 1:
		return "", errSeveral
	case username == "":
		return users[0], nil
	case !slices.Contains(users, username):
		return "", errOtherUser
	}

	return username, nil
}

// settleToken goes on when a token has been looked at. It is false if that is not so yet.
func (c *conn) settleToken(r *round) (ready bool) {
	v := c.ruling.Swap(nil)
	if v == nil {
		return false
	}

	c.paused = false
	c.heard.Store(r.nowMS)

	if v.err == nil {
		v.err = c.opens(c.e.state.Load(), v.who)
	}

	if v.err != nil {
		r.count.AuthFail(tokenFailure(v.err))
	}

	switch {
	case c.phase == established && v.err != nil:
		c.endAgain(r, v.err.Error())
	case c.phase == established:
		c.renew(r, v.who, nil)
	case errors.Is(v.err, token.ErrKeys):
		c.turnAway(r, &refusal{wire.ServerUnavailable, v.err.Error(), metrics.Unavailable})
	case v.err != nil && c.exchange != nil:
		c.turnAway(r, &refusal{wire.NotAuthorized, v.err.Error(), metrics.Unauthenticated})
	case v.err != nil:
		c.turnAway(r, &refusal{wire.BadUserNameOrPassword, v.err.Error(), metrics.Unauthenticated})
	default:
		c.who = v.who
		c.admit(r)
	}

	return true
}

// opens tells whether a token opens anything, which the configuration of now says.
func (c *conn) opens(now *state, who *identity) (err error) {
	if why := c.agree(now, who); why != "" {
		err = errors.New(why)
	} else if d := now.door(c.door.Name); d != nil {
		if kind, why := now.judgeToken(&d.Listener, who); kind != stays {
			err = errors.New(why)
		}
	}

	if err != nil && now.users[who.username] == nil {
		return errNobody
	}

	return err
}

func tokenFailure(err error) metrics.AuthFailure {
	switch {
	case errors.Is(err, token.ErrExpired):
		return metrics.ExpiredToken
	case errors.Is(err, token.ErrIssuer):
		return metrics.UnknownIssuer
	case errors.Is(err, token.ErrKeys):
		return metrics.NoKeys
	case errors.Is(err, errNobody):
		return metrics.UnknownUser
	}

	return metrics.BadToken
}

// claims are the rules that came with the client, if a token brought some.
func (i *identity) claims() *claims {
	if i == nil || i.token == nil {
		return nil
	}

	return i.token.claims
}

// judgeToken is judge for a client that came with a token. Its keys are another matter: see mindKey.
func (s *state) judgeToken(door *contract.Listener, who *identity) (verdict, string) {
	b := who.token
	i := s.issuer(b.method, b.issuer)

	switch {
	case i == nil:
		return unauthorized, "the token's issuer is not trusted"
	case !door.Takes(b.method):
		return unauthorized, "the listener does not take such tokens"
	case !token.Accepts(i.Audiences, b.audiences):
		return unauthorized, "the token is for another audience"
	case i.UsernameClaim != b.usernameClaim:
		return unauthorized, "the username stands in another claim"
	}

	u := s.users[who.username]

	switch {
	case u == nil && (b.claims == nil || b.claims.claim != i.ACLClaim):
		return unauthorized, "the user is gone"
	case u == nil:
		return stays, ""
	case u.source.Suspended:
		return unauthorized, "the user is suspended"
	case b.method == contract.MethodServiceAccount && u.source.ServiceAccount != b.account:
		return unauthorized, "the user is not the token's ServiceAccount"
	case b.method == contract.MethodJWT && u.source.JWT != contract.AnyIssuer && u.source.JWT != b.issuer:
		return unauthorized, "the user does not log in with tokens of this issuer"
	}

	return stays, ""
}

// policyWith is the rules of an identity: those of its user first, so that no issuer undoes what they deny, then those
// that its token brought.
func (s *state) policyWith(username, listener string, c *claims) *acl.Policy {
	own := s.policy(username, listener)
	if c == nil {
		return own
	}

	if i := s.issuer(contract.MethodJWT, c.issuer); i == nil || i.ACLClaim != c.claim {
		return own
	}

	if u := s.users[username]; u != nil && (u.source.Suspended || u.source.JWT != contract.AnyIssuer && u.source.JWT != c.issuer) {
		return own
	}

	return acl.Join(own, c.policy)
}

// mayClaim tells whether somebody of this name may come whose rights only a token knows.
func (s *state) mayClaim(username string) bool {
	return username != "" && s.users[username] == nil &&
		slices.ContainsFunc(s.issuers, func(i *issuer) bool { return i.ACLClaim != "" })
}

// keySets is what there is to tell about keys that are fetched.
func (s *state) keySets() (all []metrics.KeySetState) {
	for _, i := range s.issuers {
		if i.fetched != nil {
			st := i.fetched.Status()
			all = append(all, metrics.KeySetState{Issuer: i.name, Keys: st.Keys, Fetched: st.Fetched, Failures: st.Failures})
		}
	}

	return all
}
