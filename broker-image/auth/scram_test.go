// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"testing"
)

// scramClient answers a challenge as a client that knows a password does. It is written apart from the server's side.
func scramClient(t testing.TB, header, bare, challenge, password string) (final, want string) {
	t.Helper()

	var salt []byte

	var nonce string

	iterations := 0

	for field := range strings.SplitSeq(challenge, ",") {
		value := field[2:]

		switch field[0] {
		case 'r':
			nonce = value
		case 's':
			salt, _ = base64.StdEncoding.DecodeString(value)
		case 'i':
			iterations, _ = strconv.Atoi(value)
		}
	}

	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, 32)
	if err != nil {
		t.Fatal(err)
	}

	mac := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))

		return h.Sum(nil)
	}

	without := "c=" + base64.StdEncoding.EncodeToString([]byte(header)) + ",r=" + nonce
	all := bare + "," + challenge + "," + without
	key := mac(salted, "Client Key")
	stored := sha256.Sum256(key)

	for i, b := range mac(stored[:], all) {
		key[i] ^= b
	}

	return without + ",p=" + base64.StdEncoding.EncodeToString(key),
		"v=" + base64.StdEncoding.EncodeToString(mac(mac(salted, "Server Key"), all))
}

func scramVerifier(t testing.TB, password string, salt []byte, iterations int) *Verifier {
	t.Helper()
	text, err := NewSCRAM([]byte(password), salt, iterations)

	return mustParse(t, text, err)
}

func of(verifiers ...*Verifier) func(string) []*Verifier {
	return func(string) []*Verifier { return verifiers }
}

// TestTheExchangeOfRFC7677 plays section 3 with the nonce that stands there.
func TestTheExchangeOfRFC7677(t *testing.T) {
	x := &Exchange{
		known: []*Verifier{mustParse(t, scram7677, nil)}, bare: "n=user,r=rOprNGfwEbeRWgbNEkqO", header: "n,,",
		nonce:     "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
		challenge: "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
	}

	v, final, err := x.Finish([]byte("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="))
	if err != nil || v == nil || string(final) != "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=" {
		t.Errorf("got %v, %q, %v", v, final, err)
	}
}

func TestNewSCRAM(t *testing.T) {
	salt, _ := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")

	if text, err := NewSCRAM([]byte("pencil"), salt, 4096); err != nil || text != scram7677 {
		t.Errorf("got %q, %v", text, err)
	}

	for name, makeOne := range map[string]func() (string, error){
		"few iterations":       func() (string, error) { return NewSCRAM([]byte("pencil"), nil, 4095) },
		"many iterations":      func() (string, error) { return NewSCRAM([]byte("pencil"), nil, MaxIterations+1) },
		"a short salt":         func() (string, error) { return NewSCRAM([]byte("pencil"), []byte("short"), 4096) },
		"no password":          func() (string, error) { return NewSCRAM(nil, nil, 4096) },
		"a control character":  func() (string, error) { return NewSCRAM([]byte("pen\x07cil"), nil, 4096) },
		"both ways of writing": func() (string, error) { return NewSCRAM([]byte("\u0627\u0031"), nil, 4096) }, // RFC 4013, section 3
	} {
		if text, err := makeOne(); err == nil || text != "" || strings.Contains(err.Error(), "cil") {
			t.Errorf("%s: must be refused without the password, got %q, %v", name, text, err)
		}
	}
}

func TestSCRAM(t *testing.T) {
	// The second is the Roman numeral nine; SASLprep makes it IX (RFC 4013, section 3).
	for typed, made := range map[string]string{"pencil": "pencil", "IX": "\u2168", "pass w\u00f6rt": "pass wo\u0308rt"} {
		for _, header := range []string{"n,,", "y,,"} {
			s := NewSCRAMServer(nil)
			v := scramVerifier(t, made, nil, 4096)
			bare := "n=a=2Cb=3Dc,r=abc,x=passed-over"

			x, challenge, err := s.Begin([]byte(header+bare), of(fast(t, "x"), v))
			if err != nil || x.Username != "a,b=c" || !strings.HasPrefix(string(challenge), "r=abc") {
				t.Fatalf("got %q, %v", challenge, err)
			}

			final, want := scramClient(t, header, bare, string(challenge), typed)

			got, server, err := x.Finish([]byte(final))
			if err != nil || got != v || string(server) != want {
				t.Errorf("%q with %q: got %q, %v", typed, header, server, err)
			}
		}
	}
}

func TestSCRAMRefusesFirst(t *testing.T) {
	s := NewSCRAMServer(nil)

	for name, tc := range map[string]struct {
		message string
		want    error
	}{
		"nothing":                 {"", errScramMessage},
		"channel binding":         {"p=tls-exporter,,n=user,r=abc", errScramBinding},
		"another's name":          {"n,a=admin,n=user,r=abc", errScramAuthzid},
		"own name as another's":   {"n,a=user,n=user,r=abc", errScramAuthzid},
		"no header":               {"n=user,r=abc", errScramMessage},
		"another header":          {"x,,n=user,r=abc", errScramMessage},
		"something for authzid":   {"n,x,n=user,r=abc", errScramMessage},
		"a mandatory extension":   {"n,,m=x,n=user,r=abc", errScramExtended},
		"no name":                 {"n,,n=,r=abc", errScramMessage},
		"no nonce":                {"n,,n=user", errScramMessage},
		"an empty nonce":          {"n,,n=user,r=", errScramMessage},
		"a nonce with a space":    {"n,,n=user,r=a b", errScramMessage},
		"a nonce with a NUL":      {"n,,n=user,r=a\x00b", errScramMessage},
		"a nonce not of ASCII":    {"n,,n=user,r=ä", errScramMessage},
		"an endless nonce":        {"n,,n=user,r=" + strings.Repeat("a", maxScramNonce+1), errScramMessage},
		"an endless message":      {"n,,n=user,r=abc,x=" + strings.Repeat("a", maxScramMessage), errScramMessage},
		"an escape that is none":  {"n,,n=us=er,r=abc", errScramMessage},
		"an escape in lower case": {"n,,n=us=2cer,r=abc", errScramMessage},
		"an escape cut off":       {"n,,n=user=2,r=abc", errScramMessage},
		"the nonce first":         {"n,,r=abc,n=user", errScramMessage},
		"a field without a value": {"n,,n=user,r=abc,x=", errScramMessage},
		"a field without a name":  {"n,,n=user,r=abc,=x", errScramMessage},
	} {
		t.Run(name, func(t *testing.T) {
			if x, challenge, err := s.Begin([]byte(tc.message), of()); !errors.Is(err, tc.want) || x != nil || challenge != nil {
				t.Errorf("got %q, %v", challenge, err)
			}
		})
	}
}

// unproved is a last message without its proof.
func unproved(final string) string {
	before, _, _ := strings.Cut(final, ",p=")

	return before
}

func TestSCRAMRefusesLast(t *testing.T) {
	s := NewSCRAMServer(nil)
	v := scramVerifier(t, "pencil", nil, 4096)

	for name, tc := range map[string]struct {
		edit func(final string) string
		want error
	}{
		"nothing":                     {func(string) string { return "" }, errScramMessage},
		"no proof":                    {unproved, errScramMessage},
		"a short proof":               {func(f string) string { return unproved(f) + ",p=AAAA" }, errScramMessage},
		"a proof of zeros":            {func(f string) string { return unproved(f) + ",p=" + strings.Repeat("A", 43) + "=" }, ErrScramProof},
		"something behind the proof":  {func(f string) string { return f + ",x=y" }, errScramMessage},
		"a line break":                {func(f string) string { return f + "\n" }, errScramMessage},
		"the other header":            {func(f string) string { return strings.Replace(f, "c=biws", "c=eSws", 1) }, errScramBinding},
		"data of a channel":           {func(f string) string { return strings.Replace(f, "c=biws", "c=biwsAAAA", 1) }, errScramBinding},
		"no header":                   {func(f string) string { return f[len("c=biws,"):] }, errScramMessage},
		"another nonce":               {func(f string) string { return strings.Replace(f, "r=abc", "r=abd", 1) }, errScramNonce},
		"the client's nonce":          {func(f string) string { return "c=biws,r=abc" + strings.TrimPrefix(f, unproved(f)) }, errScramNonce},
		"an extension behind its MAC": {func(f string) string { return strings.Replace(f, ",p=", ",x=y,p=", 1) }, ErrScramProof},
		"endless": {func(f string) string {
			return strings.Replace(f, ",p=", ",x="+strings.Repeat("y", maxScramMessage)+",p=", 1)
		}, errScramMessage},
	} {
		t.Run(name, func(t *testing.T) {
			x, challenge, err := s.Begin([]byte("n,,n=user,r=abc"), of(v))
			if err != nil {
				t.Fatal(err)
			}

			final, _ := scramClient(t, "n,,", "n=user,r=abc", string(challenge), "pencil")

			if got, answer, err := x.Finish([]byte(tc.edit(final))); !errors.Is(err, tc.want) || got != nil || answer != nil {
				t.Errorf("got %q, %v", answer, err)
			}
		})
	}

	t.Run("another password", func(t *testing.T) {
		x, challenge, _ := s.Begin([]byte("n,,n=user,r=abc"), of(v))
		final, _ := scramClient(t, "n,,", "n=user,r=abc", string(challenge), "crayon")

		if _, _, err := x.Finish([]byte(final)); !errors.Is(err, ErrScramProof) {
			t.Errorf("got %v", err)
		}
	})

	t.Run("the proof of another run", func(t *testing.T) {
		_, challenge, _ := s.Begin([]byte("n,,n=user,r=abc"), of(v))
		final, _ := scramClient(t, "n,,", "n=user,r=abc", string(challenge), "pencil")
		x, _, _ := s.Begin([]byte("n,,n=user,r=abc"), of(v))

		if _, _, err := x.Finish([]byte(final)); !errors.Is(err, errScramNonce) {
			t.Errorf("who listened could come in: %v", err)
		}
	})
}

// TestSCRAMTellsNobodyWhoExists: who is not there, and who has no verifier for SCRAM, looks like those who have one.
func TestSCRAMTellsNobodyWhoExists(t *testing.T) {
	ask := func(s *SCRAM, name string, verifiers ...*Verifier) (x *Exchange, parameters string) {
		x, challenge, err := s.Begin([]byte("n,,n="+name+",r=abc"), of(verifiers...))
		if err != nil {
			t.Fatal(err)
		}

		_, parameters, _ = strings.Cut(string(challenge), ",")

		return x, parameters
	}

	s := NewSCRAMServer([]byte("seed"))
	x, first := ask(s, "nobody")
	_, again := ask(s, "nobody")
	_, after := ask(NewSCRAMServer([]byte("seed")), "nobody")
	_, other := ask(s, "somebody")
	_, without := ask(s, "nobody", fast(t, "x"))
	_, elsewhere := ask(NewSCRAMServer(nil), "nobody")

	if first != again || first != after || first != without {
		t.Errorf("salts that change give the name away: %q, %q, after a restart %q, without a verifier %q", first, again, after, without)
	}

	if first == other || first == elsewhere {
		t.Error("salts must differ from name to name and from broker to broker")
	}

	if !strings.HasSuffix(first, ",i=4096") || len(first) != len("s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096") {
		t.Errorf("%q does not look like a challenge of ours", first)
	}

	final, _ := scramClient(t, "n,,", "n=nobody,r=abc", x.challenge, "pencil")
	if _, _, err := x.Finish([]byte(final)); !errors.Is(err, ErrScramProof) {
		t.Errorf("nobody must fail like everybody: %v", err)
	}

	s.Imitate([]*Verifier{scramVerifier(t, "x", bytes.Repeat([]byte("salt"), 8), 100_000), scramVerifier(t, "y", nil, 4096)})

	seen := map[int]bool{}

	for i := range 16 {
		_, p := ask(s, "name"+strconv.Itoa(i))
		seen[len(p)] = true
	}

	if len(seen) != 2 {
		t.Errorf("of 16 names all look like one kind of user: %v", seen)
	}
}

func TestBothPasswordsOpenWhereTheSaltIsOne(t *testing.T) {
	s := NewSCRAMServer(nil)
	salt := []byte("one salt for two")
	next, old := scramVerifier(t, "new", salt, 4096), scramVerifier(t, "old", salt, 4096)
	stranger := scramVerifier(t, "third", nil, 4096)

	for password, want := range map[string]*Verifier{"new": next, "old": old, "third": nil} {
		x, challenge, _ := s.Begin([]byte("n,,n=user,r=abc"), of(next, old, stranger))
		final, _ := scramClient(t, "n,,", "n=user,r=abc", string(challenge), password)

		if got, _, _ := x.Finish([]byte(final)); got != want {
			t.Errorf("%s: got another verifier", password)
		}
	}
}

func FuzzSCRAM(f *testing.F) {
	f.Add("n,,n=user,r=abc", "c=biws,r=abc,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", "pencil")
	f.Add("y,,n=u=2Cs=3Der,r=abc,x=y", "c=eSws,r=abc,x=y,p=", "\u2168")
	f.Add("p=x,,", "", "\u0627\u0031")

	v := mustParse(f, scram7677, nil)
	s := NewSCRAMServer(nil)

	f.Fuzz(func(t *testing.T, first, last, password string) {
		if v.Verify([]byte(password)) && password != "pencil" && !strings.Contains(password, "pencil") {
			if p, _ := prepare([]byte(password)); p != "pencil" {
				t.Errorf("%q opens", password)
			}
		}

		x, _, err := s.Begin([]byte(first), of(v))
		if err != nil {
			return
		}

		if got, _, err := x.Finish([]byte(last)); err == nil || got != nil {
			t.Errorf("%q and %q open", first, last)
		}
	})
}
