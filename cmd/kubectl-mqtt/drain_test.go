// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/admin"
	"github.com/mqtt-operator/mqtt-operator/broker-image/engine"
)

// Drain is of admin.Drainer.
func (p *pod) Drain(o admin.DrainOptions) error {
	options := engine.DrainOptions{Rate: o.Rate, Deadline: time.Duration(o.DeadlineSeconds * float64(time.Second))}
	if o.ServerReference != "" {
		options.Redirect = &engine.Redirect{Reference: o.ServerReference, Permanent: o.Permanent}
	}
	return p.engine.Drain(options)
}

// DrainStatus is of admin.Drainer.
func (p *pod) DrainStatus() admin.DrainStatus {
	s := p.engine.DrainStatus()
	return admin.DrainStatus{Draining: s.Draining, Done: s.Done, Rate: s.Rate, ServerReference: s.Reference, Began: s.Began, Sent: s.Sent, Left: s.Left}
}

// EndDrain is of admin.Drainer.
func (p *pod) EndDrain() { p.engine.EndDrain() }

func TestDrain(t *testing.T) {
	p := runs(t, time.Now())
	_, first := p.device(7, "press-7", "alice")
	_, second := p.device(8, "press-8", "bob")
	code, out, errs := call(t, p.opens, "drain", "mq", "--rate", "50")
	if code != exitYes || errs != "note: the broker has no other pod that could take its clients\n" {
		t.Errorf("%d %s", code, errs)
	}
	golden(t, "drain", out)
	for _, gone := range []<-chan byte{first, second} {
		if told := <-gone; told != 0x8B {
			t.Errorf("told %#x, want 0x8B Server shutting down", told)
		}
	}
	code, out, errs = call(t, p.opens, "drain", "--end", "--pod", "mq-broker-0")
	if code != exitYes || errs != "" {
		t.Errorf("%d %s", code, errs)
	}
	golden(t, "drain-end", out)
	_, gone := p.device(7, "press-7", "alice")
	if code, out, errs := call(t, p.opens, "drain", "--server-reference", "other.example:8883"); code != exitYes || errs != "" || !strings.HasPrefix(out, "1 client sent away from mq-broker-0 at 1000 per second") {
		t.Errorf("%d %s%s", code, out, errs)
	}
	if told := <-gone; told != 0x9C {
		t.Errorf("told %#x, want 0x9C Use another server", told)
	}
}

// TestADrainThatIsNotWaitedFor: it says how far it is, goes on when the verb is ended, and is taken over by the next.
func TestADrainThatIsNotWaitedFor(t *testing.T) {
	p := runs(t, time.Now())
	var all []<-chan byte
	for i := range 5 {
		_, gone := p.device(i+1, fmt.Sprintf("press-%d", i), "alice")
		all = append(all, gone)
	}
	at := time.Now()
	p.site.now = func() time.Time { // each look at the clock takes long
		at = at.Add(sayEvery)
		return at
	}
	slow := starts(t, p.opens, "drain", "--rate", "1")
	slow.until("note: 1 client sent away, ")
	slow.cancel()
	if code := slow.ends(); code != exitUnknown || !strings.Contains(slow.errs.String(), "note: the drain goes on: ") {
		t.Errorf("%d %s", code, slow.errs.String())
	}
	if s := p.engine.DrainStatus(); !s.Draining || s.Done {
		t.Errorf("%+v", s)
	}
	p.site.now = time.Now
	if code, out, errs := call(t, p.opens, "drain", "--rate", "1", "--deadline", "1ms"); code != exitYes {
		t.Errorf("%d %s%s", code, out, errs)
	}
	for _, gone := range all {
		<-gone
	}
	waiting := starts(t, p.opens, "drain", "--rate", "1")
	if code := waiting.ends(); code != exitYes || !strings.HasPrefix(waiting.out.String(), "0 clients sent away") {
		t.Errorf("nobody is left: %d %s", code, waiting.out.String())
	}
}

func TestADrainThatCannotBe(t *testing.T) {
	p := runs(t, time.Now())
	for args, want := range map[string]struct {
		code int
		errs string
	}{
		"drain --rate 0":          {exitUsage, "--rate 0 is not above 0"},
		"drain --rate 1000001":    {exitUnknown, "a rate of 1000001 is not between 1 and 1000000"},
		"drain --deadline -1s":    {exitUsage, "--deadline -1s is negative"},
		"drain --permanent":       {exitUsage, "--permanent needs --server-reference"},
		"drain --end --rate 5":    {exitUsage, "--end goes with no other flag"},
		"drain --pod 3":           {exitUnknown, "no pod 3 of broker factory/mq runs"},
		"drain mq other":          {exitUsage, "accepts at most 1 arg"},
		"drain --rate x":          {exitUsage, "invalid argument"},
		"drain --deadline 5":      {exitUsage, "invalid argument"},
		"drain --broker nowhere ": {exitUnknown, "not found"},
	} {
		if code, out, errs := call(t, p.opens, strings.Fields(args)...); code != want.code || out != "" || !strings.Contains(errs, want.errs) {
			t.Errorf("%s: %d %s%s", args, code, out, errs)
		}
	}
	if p.engine.DrainStatus().Draining {
		t.Error("what is refused begins nothing")
	}
}
