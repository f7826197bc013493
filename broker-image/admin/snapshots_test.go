// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/snapshot"
)

// shelf gives and takes what it is told to.
type shelf struct {
	gives func(to io.Writer) error
	takes func(from io.Reader, o RestoreOptions) (Restored, error)
}

func (s shelf) Backup(_ context.Context, to io.Writer) error { return s.gives(to) }

func (s shelf) Restore(_ context.Context, from io.Reader, o RestoreOptions) (Restored, error) {
	return s.takes(from, o)
}

func TestBackupOverTheEndpoint(t *testing.T) {
	ca := newAuthority(t)
	large := bytes.Repeat([]byte("0123456789"), 1<<20)
	client := attended(t, ca, WithSnapshots(shelf{gives: func(to io.Writer) error {
		for b := large; len(b) > 0; b = b[min(len(b), 1<<16):] {
			if _, err := to.Write(b[:min(len(b), 1<<16)]); err != nil {
				return err
			}
		}

		return nil
	}}))

	body, err := client.Backup(inTime(t))
	if err != nil {
		t.Fatal(err)
	}

	if got, err := io.ReadAll(body); err != nil || !bytes.Equal(got, large) {
		t.Errorf("%d bytes, %v", len(got), err)
	}

	_ = body.Close()

	// One that breaks off does not look like an end.
	client = attended(t, ca, WithSnapshots(shelf{gives: func(to io.Writer) error {
		_, err := to.Write([]byte("half"))

		return errors.Join(err, errors.New("the disk fails"))
	}}))

	if body, err = client.Backup(inTime(t)); err != nil {
		t.Fatal(err)
	}

	if got, err := io.ReadAll(body); !errors.Is(err, io.ErrUnexpectedEOF) || string(got) != "half" {
		t.Errorf("%q, %v", got, err)
	}

	_ = body.Close()
}

func TestRestoreOverTheEndpoint(t *testing.T) {
	ca := newAuthority(t)
	want := Restored{Header: snapshot.Header{Broker: "a/b", Taken: time.Unix(7, 0).UTC()}, Totals: snapshot.Totals{Sessions: 3}}
	large := strings.Repeat("0123456789", 1<<20)

	for _, o := range []RestoreOptions{{}, {Replace: true}, {StopClocks: true}} {
		var (
			got   int
			asked RestoreOptions
		)

		client := attended(t, ca, WithSnapshots(shelf{takes: func(from io.Reader, o RestoreOptions) (Restored, error) {
			text, err := io.ReadAll(from)
			got, asked = len(text), o

			return want, err
		}}))
		if restored, err := client.Restore(inTime(t), strings.NewReader(large), o); err != nil || restored != want || got != len(large) || asked != o {
			t.Errorf("%+v: %+v, %v, %d bytes, asked for %+v", o, restored, err, got, asked)
		}
	}
}

// unread is a body that must not be asked for.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("it was sent though nobody wanted it")

	return 0, io.EOF
}

func TestWhyThereIsNoSnapshot(t *testing.T) {
	ca := newAuthority(t)

	for _, why := range []error{ErrSnapshotBusy, ErrHasState, snapshot.ErrDamaged, snapshot.ErrOther} {
		fault := fmt.Errorf("%w: 7 of them", why)

		client := attended(t, ca, WithSnapshots(shelf{
			gives: func(io.Writer) error { return fault },
			takes: func(io.Reader, RestoreOptions) (Restored, error) { return Restored{}, fault },
		}))

		if _, err := client.Backup(inTime(t)); !errors.Is(err, why) || err.Error() != fault.Error() {
			t.Errorf("backup: %v, want %v", err, fault)
		}

		if _, err := client.Restore(inTime(t), unread{t}, RestoreOptions{}); !errors.Is(err, why) || err.Error() != fault.Error() {
			t.Errorf("restore: %v, want %v", err, fault)
		}
	}

	// Also when most of it is under way.
	client := attended(t, ca, WithSnapshots(shelf{takes: func(from io.Reader, _ RestoreOptions) (Restored, error) {
		_, err := io.CopyN(io.Discard, from, 1<<20)

		return Restored{}, errors.Join(errors.New("the disk is full"), err)
	}}))
	if _, err := client.Restore(inTime(t), strings.NewReader(strings.Repeat("x", 20<<20)), RestoreOptions{}); err == nil || !strings.Contains(err.Error(), "the broker answered 500: the disk is full") {
		t.Errorf("a fault in the middle: %v", err)
	}

	// And where it is the caller who fails.
	broken := errors.New("the file cannot be read")
	seen := make(chan error, 1)

	client = attended(t, ca, WithSnapshots(shelf{takes: func(from io.Reader, _ RestoreOptions) (Restored, error) {
		_, err := io.Copy(io.Discard, from)
		seen <- err

		return Restored{}, err
	}}))
	if _, err := client.Restore(inTime(t), io.MultiReader(strings.NewReader("begin"), failing{broken}), RestoreOptions{}); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}

	if err := <-seen; err == nil {
		t.Error("half a snapshot must not look like a whole one")
	}

	older := attended(t, ca)
	if _, err := older.Backup(inTime(t)); !errors.Is(err, ErrNoSnapshots) {
		t.Errorf("an older broker: %v", err)
	}

	if _, err := older.Restore(inTime(t), unread{t}, RestoreOptions{}); !errors.Is(err, ErrNoSnapshots) {
		t.Errorf("an older broker: %v", err)
	}

	request, err := http.NewRequestWithContext(inTime(t), http.MethodPut, client.base+snapshotPath+"?replace=perhaps", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}

	response, err := client.http.Do(request)
	if err != nil {
		t.Fatal(err)
	}

	_ = response.Body.Close()

	if response.StatusCode != http.StatusBadRequest {
		t.Errorf("an option that is none: %d", response.StatusCode)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
