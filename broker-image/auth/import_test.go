// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// Lines of other programs. Who moves here keeps their passwords.
const (
	// mosquitto_passwd 2.0.11 -H sha512-pbkdf2, without and with -I 25000, and -H sha512.
	mosquitto7     = "$7$101$I3dX7rdPKUlYeQL3$s1nN/iF41m7ZL7aGd5TzMWMxRI5hhpKXpwGFsCt7SMTzwllRuSI7cqZy5quTZQm1jZFIzDa7SAX+gZ7Xx1A3TA=="
	mosquitto7Slow = "$7$25000$cKjHjgPAFfIyBONC$76UbKiLKDBEXDHeG5zUmhHfVIScEhA2/lpOI9NjVA1RuoKaAl19fi6R+MaKVelbtpijRAObc4OCbmZXUmfm0Jw=="
	mosquitto6     = "$6$zT44t8KNOkH87w6/$XqYy9hEkURUzF40R0x2q20xQ29w0hbiNMj6/ByUUkeA8T6K7I+J8cYC2rxv6gUSPX93DqQsrleIa6Q2pslFxsw=="
	// crypt(3) of libxcrypt 4.4.
	bcrypt2a  = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.aDV7CQarKHMuNfh2oJkFzsHZya4whFe"
	bcrypt2b  = "$2b$05$CCCCCCCCCCCCCCCCCCCCC.aDV7CQarKHMuNfh2oJkFzsHZya4whFe"
	bcrypt2y  = "$2y$05$CCCCCCCCCCCCCCCCCCCCC.aDV7CQarKHMuNfh2oJkFzsHZya4whFe"
	bcryptUxU = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"
	// Python's hashlib, in the alphabets of passlib and of PHC strings.
	passlib256 = "$pbkdf2-sha256$29000$.vv8/f7/AAECAwQFBgcICQ$ywv27wro2vXKOkolIIEVQYMiCH/akbM/x1QA9Wup6cA"
	phc256     = "$pbkdf2-sha256$i=29000,l=32$+vv8/f7/AAECAwQFBgcICQ$ywv27wro2vXKOkolIIEVQYMiCH/akbM/x1QA9Wup6cA"
	passlib512 = "$pbkdf2-sha512$29000$.vv8/f7/AAECAwQFBgcICQ$iSWUxrVXKTk.3JejN.hx0U69PRkBtTPY8zHOdZ9k1ZKyEaR1evYUb.0t/XS.zGnjw82JiHzy/6NRT1CYtDSh/w"
	phc512     = "$pbkdf2-sha512$i=29000,l=64$+vv8/f7/AAECAwQFBgcICQ$iSWUxrVXKTk+3JejN+hx0U69PRkBtTPY8zHOdZ9k1ZKyEaR1evYUb+0t/XS+zGnjw82JiHzy/6NRT1CYtDSh/w"
	phcShort   = "$pbkdf2-sha256$i=29000$+vv8/f7/AAECAwQFBgcICQ$ywv27wro2vXKOkolIIEVQYMiCH/akbM/x1QA9Wup6cA"
	// Python's hashlib and hmac, with the salt and the password of RFC 7677, section 3.
	scram7677 = "$scram-sha-256$i=4096$W22ZaJ0SNY7soEsUEjb6gQ$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY$wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU"
)

func TestLinesOfOtherPrograms(t *testing.T) {
	for name, tc := range map[string]struct {
		text, password string
		fast           bool
	}{
		"Mosquitto 2.0":             {text: mosquitto7, password: "pässword with space"},
		"Mosquitto 2.0, slower":     {text: mosquitto7Slow, password: "password"},
		"Mosquitto 1.6":             {text: mosquitto6, password: "pässword with space", fast: true},
		"bcrypt, 2a":                {text: bcrypt2a, password: "password"},
		"bcrypt, 2b":                {text: bcrypt2b, password: "password"},
		"bcrypt, 2y":                {text: bcrypt2y, password: "password"},
		"bcrypt, another password":  {text: bcryptUxU, password: "U*U"},
		"passlib, SHA-256":          {text: passlib256, password: "password"},
		"passlib, SHA-512":          {text: passlib512, password: "password"},
		"PHC, SHA-256":              {text: phc256, password: "password"},
		"PHC, SHA-512":              {text: phc512, password: "password"},
		"PHC, SHA-256, no size":     {text: phcShort, password: "password"},
		"SCRAM with plain password": {text: scram7677, password: "pencil"},
	} {
		t.Run(name, func(t *testing.T) {
			v := mustParse(t, tc.text, nil)

			if !v.Verify([]byte(tc.password)) {
				t.Error("the password must be right")
			}

			for _, wrong := range []string{"", tc.password + "x", tc.password[1:], strings.ToUpper(tc.password) + "!"} {
				if v.Verify([]byte(wrong)) {
					t.Errorf("%q must be wrong", wrong)
				}
			}

			if v.Slow() == tc.fast {
				t.Errorf("slow is %t: what is slow is remembered and waits its turn", v.Slow())
			}

			if shown := fmt.Sprintf("%v %#v %+v", v, v, v); strings.Contains(shown, tc.text[len(tc.text)-8:]) {
				t.Errorf("shows its hash: %s", shown)
			}
		})
	}
}

// Mosquitto 2.1 writes argon2id as everybody does, with 46 MiB in one pass, and 64 bytes of each salt and hash.
func TestArgon2idOfMosquitto(t *testing.T) {
	v := &Verifier{scheme: schemeArgon2id, memory: 47104, time: 1, threads: 1}
	salt := []byte(strings.Repeat("saltsalt", 8))
	text := "$argon2id$v=19$m=47104,t=1,p=1$" + encoding.EncodeToString(salt) + "$" + encoding.EncodeToString(v.compute([]byte("password"), salt, 64))

	if parsed := mustParse(t, text, nil); !parsed.Verify([]byte("password")) || parsed.Verify([]byte("passwort")) {
		t.Error("the password must be right, and no other")
	}
}

func TestImportsOutOfBounds(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"bcrypt that takes for ever":     {strings.Replace(bcrypt2b, "$05$", "$15$", 1), "cost 15 of bcrypt is outside 4 to 14"},
		"bcrypt too cheap":               {strings.Replace(bcrypt2b, "$05$", "$03$", 1), "cost 3 of bcrypt is outside 4 to 14"},
		"bcrypt, cost of one digit":      {strings.Replace(bcrypt2b, "$05$", "$5$", 1), "two digits"},
		"bcrypt, broken 2x":              {strings.Replace(bcrypt2b, "$2b$", "$2x$", 1), "the scheme is none of"},
		"bcrypt, first version":          {strings.Replace(bcrypt2b, "$2b$", "$2$", 1), "the scheme is none of"},
		"bcrypt, stray bits":             {strings.Replace(bcrypt2b, "C.a", "C/a", 1), "without stray bits"},
		"bcrypt, short":                  {bcrypt2b[:len(bcrypt2b)-1], "must have the form"},
		"bcrypt, other characters":       {bcrypt2b[:len(bcrypt2b)-1] + "+", "in the base64 of bcrypt"},
		"Mosquitto, a million and one":   {strings.Replace(mosquitto7, "$101$", "$1000001$", 1), "1000001 iterations are outside 1 to 1000000"},
		"Mosquitto, no iterations":       {strings.Replace(mosquitto7, "$101$", "$0$", 1), "0 iterations are outside"},
		"Mosquitto, zero in front":       {strings.Replace(mosquitto7, "$101$", "$0101$", 1), "are no number"},
		"Mosquitto, negative":            {strings.Replace(mosquitto7, "$101$", "$-1$", 1), "are no number"},
		"Mosquitto, no padding":          {strings.TrimRight(mosquitto7, "="), "the hash must be 64 to 64 bytes in base64 with padding"},
		"Mosquitto, line break":          {mosquitto7 + "\n", "the hash must be"},
		"Mosquitto, with its name":       {"anna:" + mosquitto7, "plain password"},
		"Mosquitto 1.6, short hash":      {"$6$zT44t8KNOkH87w6/$XqYy9hEkURUzF40R", "the hash must be 64 to 64 bytes"},
		"crypt(3) with SHA-512":          {"$6$saltsaltsaltsalt$" + strings.Repeat("a", 86), "the hash must be"},
		"passlib, too many":              {strings.Replace(passlib256, "29000", "9999999", 1), "iterations are outside"},
		"passlib, alphabet of PHC":       {strings.Replace(passlib256, ".vv8", "+vv8", 1), "the salt must be"},
		"PHC, alphabet of passlib":       {strings.Replace(phc256, "+vv8", ".vv8", 1), "the salt must be"},
		"PHC, another size":              {strings.Replace(phc256, "l=32", "l=20", 1), "are no number"},
		"PHC, hash of another algorithm": {strings.Replace(phc256, "sha256", "sha512", 1), "are no number"},
		"PBKDF2 with SHA-1":              {strings.Replace(passlib256, "pbkdf2-sha256", "pbkdf2", 1), "the scheme is none of"},
		"SCRAM, too few":                 {strings.Replace(scram7677, "4096", "4095", 1), "4095 iterations are outside 4096 to 1000000"},
		"SCRAM, too many":                {strings.Replace(scram7677, "4096", "4294967296", 1), "are no number"},
		"SCRAM, no name":                 {strings.Replace(scram7677, "i=", "", 1), "must be i=number"},
		"SCRAM, one key":                 {scram7677[:strings.LastIndex(scram7677, "$")], "must have the form"},
		"SCRAM, a key too short":         {scram7677[:len(scram7677)-4], "the hash must be"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(tc.text)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want %q", err, tc.want)
			}

			for part := range strings.SplitSeq(tc.text, "$") {
				if len(part) > 12 && part != "pbkdf2-sha256" && part != "pbkdf2-sha512" && part != "scram-sha-256" && strings.Contains(err.Error(), part) {
					t.Errorf("the error holds a part of the text: %v", err)
				}
			}
		})
	}
}

// TestTheDearestVerifierIsBearable: whatever may stand in a configuration is checked within seconds. The bound is wide,
// for machines that do something else beside.
func TestTheDearestVerifierIsBearable(t *testing.T) {
	v := &Verifier{scheme: schemeArgon2id, memory: MaxMemory, time: maxTime, threads: 1}
	salt := []byte("saltsalt")
	dear := map[string]string{
		"argon2id": fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=1$%s$%s", MaxMemory, maxTime, encoding.EncodeToString(salt),
			encoding.EncodeToString(v.compute([]byte("password"), salt, 32))),
		"bcrypt":    strings.Replace(bcrypt2b, "$05$", fmt.Sprintf("$%d$", MaxCost), 1),
		"Mosquitto": strings.Replace(mosquitto7, "$101$", fmt.Sprintf("$%d$", MaxIterations), 1),
		"SCRAM":     strings.Replace(scram7677, "i=4096", fmt.Sprintf("i=%d", MaxIterations), 1),
	}

	for name, text := range dear {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			mustParse(t, text, nil).Verify([]byte("password"))

			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// TestWhoHasNoCostlyVerifierIsLikeWhoHas: a name that does not exist costs what somebody's does, always the same.
func TestWhoHasNoCostlyVerifierIsLikeWhoHas(t *testing.T) {
	c := NewCache(10)
	cheap, dear := mustParse(t, mosquitto7, nil), mustParse(t, strings.Replace(mosquitto7, "$101$", "$40000$", 1), nil)
	c.Imitate([][]*Verifier{{cheap}, {dear}})

	took := func(name string, verifiers []*Verifier) time.Duration {
		best := time.Hour

		for range 3 {
			start := time.Now()
			c.Verify(name, verifiers, []byte("wrong"))
			best = min(best, time.Since(start))
		}

		return best
	}

	own := took("anna", []*Verifier{dear})
	low, high := 0, 0

	for i := range 16 {
		verifiers := [][]*Verifier{nil, {fast(t, secret)}}[i%2]

		switch d := took(fmt.Sprintf("name %d", i), verifiers); {
		case d < own/20:
			low++
		case d > own/4:
			high++
		}
	}

	if low == 0 || high == 0 {
		t.Errorf("of 16 names %d cost little and %d much: there must be some of each kind that users have", low, high)
	}

	c.Imitate(nil)

	if d := took("name", nil); d > own/20 {
		t.Errorf("where all passwords are drawn at random, a wrong one cost %v", d)
	}
}

func TestAVerifierForSCRAMIsAskedLast(t *testing.T) {
	c := NewCache(10)
	scram, other := mustParse(t, scram7677, nil), fast(t, "other")

	if c.Verify("anna", []*Verifier{scram, other}, []byte("pencil")) != nil {
		t.Error("where there is another verifier, that of SCRAM must not open: it is the weaker one")
	}

	if c.Verify("anna", []*Verifier{scram, other}, []byte("other")) != other {
		t.Error("the other one must open")
	}

	if c.Verify("anna", []*Verifier{scram}, []byte("pencil")) != scram || c.Quick("anna", []*Verifier{scram}, []byte("pencil")) != scram {
		t.Error("alone it must open, and be remembered")
	}
}

// spelling writes a verifier anew, from what was understood.
func spelling(v *Verifier) []string {
	enc := v.scheme.encoding(v.text)
	salt, sum := enc.EncodeToString(v.bytes(v.salt)), enc.EncodeToString(v.bytes(v.hash))

	switch v.scheme {
	case schemeArgon2id:
		return []string{fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s", v.memory, v.time, v.threads, salt, sum)}
	case schemeSHA256, schemeSHA512:
		return []string{fmt.Sprintf("$%s$%s$%s", v.scheme, salt, sum)}
	case schemeSCRAM:
		stored, server := v.keys()

		return []string{fmt.Sprintf("$scram-sha-256$i=%d$%s$%s$%s", v.time, salt, enc.EncodeToString(stored), enc.EncodeToString(server))}
	case schemeMosquitto:
		return []string{fmt.Sprintf("$7$%d$%s$%s", v.time, salt, sum)}
	case schemePBKDF2SHA256, schemePBKDF2SHA512:
		return []string{
			fmt.Sprintf("$%s$%d$%s$%s", v.scheme, v.time, salt, sum), fmt.Sprintf("$%s$i=%d$%s$%s", v.scheme, v.time, salt, sum),
			fmt.Sprintf("$%s$i=%d,l=%d$%s$%s", v.scheme, v.time, len(v.bytes(v.hash)), salt, sum),
		}
	case schemeBcrypt:
		rest := v.text[len(v.text)-53:]
		salt, _ := blowfish.DecodeString(rest[:22])
		sum, _ := blowfish.DecodeString(rest[22:])

		return []string{fmt.Sprintf("%s$%02d$%s%s", v.text[:3], v.time, blowfish.EncodeToString(salt), blowfish.EncodeToString(sum))}
	}

	return nil
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"$sha256$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc", "$$$$$",
		mosquitto6, mosquitto7, bcrypt2a, bcrypt2b, bcrypt2y, passlib256, passlib512, phc256, phc512, phcShort, scram7677,
	} {
		f.Add(text)
	}

	f.Fuzz(func(t *testing.T, text string) {
		v, err := Parse(text)
		if err != nil {
			return
		}

		if !slices.Contains(spelling(v), text) {
			t.Errorf("a verifier has one spelling; %q was taken for %q", text, spelling(v))
		}
	})
}
