// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// exit remembers what it was told.
type exit struct {
	asked  DrainOptions
	status DrainStatus
	fault  error
}

func (e *exit) Drain(o DrainOptions) error {
	e.asked = o
	e.status.Draining = e.fault == nil

	return e.fault
}

func (e *exit) DrainStatus() DrainStatus { return e.status }

func (e *exit) EndDrain() { e.status.Draining = false }

func TestDrainOverTheEndpoint(t *testing.T) {
	ca := newAuthority(t)
	door := &exit{status: DrainStatus{Rate: 7, ServerReference: "a:1", Began: time.Unix(7, 0).UTC(), Sent: 3, Left: 4}}
	client := attended(t, ca, WithDrain(door))
	o := DrainOptions{Rate: 7, DeadlineSeconds: 0.5, ServerReference: "a:1", Permanent: true}

	want := door.status
	want.Draining = true

	if got, err := client.Drain(inTime(t), o); err != nil || got != want || door.asked != o {
		t.Errorf("%+v, %v; asked for %+v", got, err, door.asked)
	}

	if got, err := client.DrainStatus(inTime(t)); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}

	want.Draining = false

	if got, err := client.EndDrain(inTime(t)); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}

	door.fault = errors.New("a rate of -1 is none")
	if _, err := client.Drain(inTime(t), DrainOptions{}); err == nil || !strings.Contains(err.Error(), "a rate of -1 is none") {
		t.Errorf("got %v", err)
	}

	older := attended(t, ca)
	for _, ask := range []func() (DrainStatus, error){
		func() (DrainStatus, error) { return older.Drain(inTime(t), o) },
		func() (DrainStatus, error) { return older.DrainStatus(inTime(t)) },
		func() (DrainStatus, error) { return older.EndDrain(inTime(t)) },
	} {
		if _, err := ask(); !errors.Is(err, ErrNoDrain) {
			t.Errorf("an older broker: %v", err)
		}
	}
}
