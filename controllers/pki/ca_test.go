// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

const hour = time.Hour

func mustStep(t *testing.T, c CA, seen Seen, at time.Time) CA {
	t.Helper()
	next, err := c.Step("test-ca", seen, at)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// phase is a CA that has been led into a phase.
func phase(t *testing.T, wanted v1alpha1.CAPhase) CA {
	t.Helper()
	c := mustStep(t, CA{}, Seen{}, now)
	for seen := (Seen{Answered: true, Reissued: true, Wish: "1"}); c.Phase != wanted; {
		c = mustStep(t, c, seen, now)
	}
	return c
}

func TestStepsOfACA(t *testing.T) {
	all := Seen{Answered: true, Reissued: true, Grace: hour}
	for name, tc := range map[string]struct {
		reason string
		from   v1alpha1.CAPhase
		seen   Seen
		after  time.Duration
		want   v1alpha1.CAPhase
	}{
		"nothing asks for it":             {reason: "a CA that is young and good stays", from: v1alpha1.CAStable, seen: all, after: hour, want: v1alpha1.CAStable},
		"young still":                     {reason: "renewal begins at two thirds of its life", from: v1alpha1.CAStable, seen: all, after: CAValidity*2/3 - hour, want: v1alpha1.CAStable},
		"old":                             {reason: "renewal begins at two thirds of its life", from: v1alpha1.CAStable, seen: all, after: CAValidity * 2 / 3, want: v1alpha1.CAIntroducing},
		"wished":                          {reason: "a person may want it before", from: v1alpha1.CAStable, seen: Seen{Wish: "now"}, want: v1alpha1.CAIntroducing},
		"clients have time":               {reason: "who has not fetched the new CA would refuse what it signs", from: v1alpha1.CAIntroducing, seen: all, after: hour - time.Second, want: v1alpha1.CAIntroducing},
		"time is over":                    {reason: "everybody trusts both", from: v1alpha1.CAIntroducing, seen: all, after: hour, want: v1alpha1.CASwitching},
		"a pod has not answered":          {reason: "it would refuse what the new CA signs", from: v1alpha1.CAIntroducing, seen: Seen{Reissued: true}, after: hour, want: v1alpha1.CAIntroducing},
		"a pod shows the old certificate": {reason: "clients would refuse it when the old CA goes", from: v1alpha1.CASwitching, seen: Seen{Reissued: true}, after: hour, want: v1alpha1.CASwitching},
		"a user has the old certificate":  {reason: "the broker would refuse it when the old CA goes", from: v1alpha1.CASwitching, seen: Seen{Answered: true}, after: hour, want: v1alpha1.CASwitching},
		"clients fetch certificates":      {reason: "a new certificate has to reach its client", from: v1alpha1.CASwitching, seen: all, after: hour - time.Second, want: v1alpha1.CASwitching},
		"all is issued again":             {reason: "nothing hangs on the old CA any more", from: v1alpha1.CASwitching, seen: all, after: hour, want: v1alpha1.CARetiring},
		"a pod trusts the old one":        {reason: "the stage is over when nobody does", from: v1alpha1.CARetiring, seen: Seen{}, want: v1alpha1.CARetiring},
		"nobody trusts the old one":       {reason: "the stage is over", from: v1alpha1.CARetiring, seen: Seen{Answered: true}, want: v1alpha1.CAStable},
		"a wish in between":               {reason: "one after the other", from: v1alpha1.CASwitching, seen: Seen{Wish: "2"}, want: v1alpha1.CASwitching},
	} {
		t.Run(name, func(t *testing.T) {
			before := phase(t, tc.from)
			after := mustStep(t, before, tc.seen, now.Add(tc.after))
			if after.Phase != tc.want {
				t.Fatalf("got %s, want %s: %s", after.Phase, tc.want, tc.reason)
			}
			if again := ReadCA(after.Data()); !bytes.Equal(again.Trusted(), after.Trusted()) || again.Phase != after.Phase || !bytes.Equal(again.Signing.Key, after.Signing.Key) || again.Generation != after.Generation {
				t.Errorf("a Secret does not keep %v: %v", after, again)
			}
		})
	}
}

// TestNobodyIsLeftBehind walks a whole life. Who trusts what a stage said, or the stage before, accepts what is signed
// in it; who shows what was signed in the stage before is accepted, too.
func TestNobodyIsLeftBehind(t *testing.T) {
	r := Request{CommonName: "mq", DNSNames: []string{"mq"}, Server: true}
	c := mustStep(t, CA{}, Seen{}, now)
	trust, leaf := c.Trusted(), mustIssue(t, c.Signing, r)
	var seenPhases []string
	for i := range 8 {
		c = ReadCA(mustStep(t, c, Seen{Answered: true, Reissued: true, Wish: "1"}, now).Data())
		seenPhases = append(seenPhases, string(c.Phase))
		if !IsCurrent(leaf, c.Signing, r, now) {
			before := leaf
			leaf = mustIssue(t, c.Signing, r)
			verify(t, before, c.Trusted(), "what was shown before is still trusted")
		}
		verify(t, leaf, trust, "who has not heard of this stage yet accepts what it signs")
		verify(t, leaf, c.Trusted(), "who has heard of it, too")
		if first, _ := Leaf(c.Trusted()); first == nil || first.CheckSignatureFrom(first) != nil || c.Signing.Certificate == nil {
			t.Fatalf("step %d: no CA", i)
		}
		if _, err := Check(Pair{Certificate: c.Trusted(), Key: c.Signing.Key}, now); err != nil {
			t.Errorf("step %d: the first certificate must be the one that signs: %v", i, err)
		}
		trust = c.Trusted()
	}
	if got := strings.Join(seenPhases, " "); got != "Introducing Switching Retiring"+strings.Repeat(" Stable", 5) {
		t.Errorf("phases %s: one wish is one rotation", got)
	}
	if c.Generation != 2 || len(blocks(c.Trusted())) != 1 || len(c.Old) > 0 || len(c.Next.Key) > 0 {
		t.Errorf("%v with %d certificates", c, len(blocks(c.Trusted())))
	}
}

func verify(t *testing.T, leaf Pair, trust []byte, reason string) {
	t.Helper()
	certificate, err := Check(leaf, now)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(trust)
	if _, err := certificate.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now}); err != nil {
		t.Errorf("%s: %v", reason, err)
	}
}

func TestACAThatCannotSign(t *testing.T) {
	good, introducing := phase(t, v1alpha1.CAStable), phase(t, v1alpha1.CAIntroducing)
	leaf := mustIssue(t, good.Signing, Request{CommonName: "x", Server: true})
	broken := introducing
	broken.Signing.Key = []byte("x")
	lost := introducing
	lost.Next.Key = nil
	for name, tc := range map[string]struct {
		reason     string
		ca         CA
		at         time.Time
		phase      v1alpha1.CAPhase
		generation int64
		signs      []byte // nil: a fresh one
	}{
		"none yet":               {reason: "every broker begins with one", ca: ReadCA(nil), at: now, phase: v1alpha1.CAStable, generation: 1},
		"a leaf in its place":    {reason: "what may not sign is no CA", ca: NewStable(leaf, 3, now), at: now, phase: v1alpha1.CAStable, generation: 4},
		"its time is over":       {reason: "nobody trusts it any more", ca: good, at: now.Add(CAValidity + hour), phase: v1alpha1.CAStable, generation: 2},
		"its successor is there": {reason: "clients trust that one already", ca: broken, at: now, phase: v1alpha1.CAStable, generation: 2, signs: introducing.Next.Certificate},
		"its successor is lost":  {reason: "another one is drawn, and clients get their time again", ca: lost, at: now.Add(hour), phase: v1alpha1.CAIntroducing, generation: 1, signs: introducing.Signing.Certificate},
	} {
		t.Run(name, func(t *testing.T) {
			got := mustStep(t, tc.ca, Seen{Answered: true, Reissued: true}, tc.at)
			if got.Phase != tc.phase || got.Generation != tc.generation || (tc.signs != nil && !bytes.Equal(got.Signing.Certificate, tc.signs)) {
				t.Errorf("got %v: %s", got, tc.reason)
			}
			if _, err := Issue(got.Signing, Request{CommonName: "x"}, tc.at); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestACAOfAnEarlierReleaseOrMadeByHand(t *testing.T) {
	root, theirs := mustCA(t), mustCA(t)
	chain := append(bytes.Clone(theirs.Certificate), root.Certificate...)
	c := ReadCA(map[string][]byte{CACertKey: chain, CAKeyKey: theirs.Key})
	same := mustStep(t, c, Seen{Answered: true, Reissued: true}, now)
	if same.Phase != v1alpha1.CAStable || same.Generation != 1 || !bytes.Equal(same.Trusted(), chain) {
		t.Errorf("%v: what a person put there stays as it is", same)
	}
	if rotated := mustStep(t, c, Seen{Wish: "1"}, now); len(blocks(rotated.Trusted())) != 3 || rotated.Rotate != "1" {
		t.Errorf("%v trusts %d, want all of the old ones and the next", rotated, len(blocks(rotated.Trusted())))
	}
}

func TestIsTrustedIn(t *testing.T) {
	introducing := phase(t, v1alpha1.CAIntroducing)
	switching := mustStep(t, introducing, Seen{Answered: true}, now)
	retiring := mustStep(t, switching, Seen{Answered: true, Reissued: true}, now)
	other := mustCA(t).Certificate
	for name, tc := range map[string]struct {
		reason string
		ca     CA
		trust  []byte
		want   bool
	}{
		"both and another's":  {reason: "a customer's CA is none of ours", ca: introducing, trust: join(other, introducing.Trusted()), want: true},
		"the old one alone":   {reason: "the next one is not there yet", ca: introducing, trust: introducing.Signing.Certificate},
		"the new one alone":   {reason: "the old one went too early", ca: switching, trust: switching.Signing.Certificate},
		"both, when one goes": {reason: "the old one is still trusted", ca: retiring, trust: switching.Trusted()},
		"one, when one goes":  {reason: "the old one is gone", ca: retiring, trust: join(other, retiring.Trusted()), want: true},
		"both, as it should":  {reason: "old certificates are still shown", ca: switching, trust: switching.Trusted(), want: true},
		"nothing":             {reason: "nothing is trusted", ca: retiring, trust: nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tc.ca.IsTrustedIn(tc.trust); got != tc.want {
				t.Errorf("got %v: %s", got, tc.reason)
			}
		})
	}
}

func TestACAPrintsNoKey(t *testing.T) {
	c := phase(t, v1alpha1.CAIntroducing)
	if text := fmt.Sprintf("%v %+v %#v", c, c, c); strings.Contains(text, "45, 45") || strings.Contains(text, "PRIVATE") {
		t.Errorf("a printed CA shows its key: %s", text)
	}
}
