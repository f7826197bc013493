// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/snapshot"
)

const (
	snapshotPath = "/v1/snapshot"

	// slowPeer is how long one read or write of a snapshot may take before it is given up.
	slowPeer = 30 * time.Second
	// mostRead is how much of a snapshot is read after it was refused, so that the answer reaches who still sends.
	mostRead = 64 << 20
	// beforeSending is how long a caller waits for a broker to ask for the snapshot.
	beforeSending = 2 * time.Minute
)

// ErrNoSnapshots says that the broker is of a release that gives and takes no snapshots.
var ErrNoSnapshots = errors.New("the broker knows no backup; it is older than that")

// Reasons why a broker gives or takes no snapshot.
var (
	// ErrSnapshotBusy says that another one is given or taken.
	ErrSnapshotBusy = errors.New("another backup or restore is under way")
	// ErrHasState says that the broker has what would be lost.
	ErrHasState = errors.New("the broker has state of its own")
)

// RestoreOptions say how to restore.
type RestoreOptions struct {
	// Replace what the broker has. Otherwise one that has something takes nothing.
	Replace bool
	// StopClocks has nothing expire by the time between backup and restore.
	StopClocks bool
}

// Restored is what a broker has after a restore.
type Restored struct {
	// Header and Totals are those of the snapshot.
	Header snapshot.Header `json:"header"`
	Totals snapshot.Totals `json:"totals"`
}

// Snapshots save all that a broker keeps, and bring it back.
type Snapshots interface {
	// Backup writes a snapshot.
	Backup(ctx context.Context, to io.Writer) error
	// Restore takes one. When it returns it has all of it, or all that it had before.
	Restore(ctx context.Context, from io.Reader, o RestoreOptions) (Restored, error)
}

// WithSnapshots gives snapshots and takes them.
func WithSnapshots(snapshots Snapshots) Option {
	return func(mux *http.ServeMux) {
		mux.HandleFunc("GET "+snapshotPath, func(w http.ResponseWriter, r *http.Request) { getSnapshot(w, r, snapshots) })
		mux.HandleFunc("PUT "+snapshotPath, func(w http.ResponseWriter, r *http.Request) { putSnapshot(w, r, snapshots) })
	}
}

func getSnapshot(w http.ResponseWriter, r *http.Request, snapshots Snapshots) {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{})
	out := &snapshotWriter{to: w, control: control}
	switch err := snapshots.Backup(r.Context(), out); {
	case err == nil:
	case out.begun:
		panic(http.ErrAbortHandler) // the caller has to see that this is no end
	default:
		refuseSnapshot(w, err)
	}
}

// snapshotWriter sends what it is given at once, and not for ever.
type snapshotWriter struct {
	to      http.ResponseWriter
	control *http.ResponseController
	begun   bool
}

func (s *snapshotWriter) Write(b []byte) (int, error) {
	if err := s.control.SetWriteDeadline(time.Now().Add(slowPeer)); err != nil {
		return 0, err
	}
	if !s.begun {
		s.begun = true
		s.to.Header().Set("Content-Type", "application/octet-stream")
		s.to.Header().Set("Cache-Control", "no-store")
		s.to.WriteHeader(http.StatusOK)
	}
	n, err := s.to.Write(b)
	if err == nil {
		err = s.control.Flush()
	}
	return n, err
}

func putSnapshot(w http.ResponseWriter, r *http.Request, snapshots Snapshots) {
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Time{})
	query := r.URL.Query()
	var o RestoreOptions
	for name, flag := range map[string]*bool{"replace": &o.Replace, "stopClocks": &o.StopClocks} {
		if text := query.Get(name); text != "" {
			var err error
			if *flag, err = strconv.ParseBool(text); err != nil {
				reply(w, http.StatusBadRequest, answer{Error: name + ": is neither true nor false"})
				return
			}
		}
	}
	from := &snapshotReader{from: r.Body, control: control}
	restored, err := snapshots.Restore(r.Context(), from, o)
	_ = control.SetWriteDeadline(time.Now().Add(slowPeer))
	if err != nil {
		if from.begun {
			_, _ = io.CopyN(io.Discard, from, mostRead)
		}
		refuseSnapshot(w, err)
		return
	}
	reply(w, http.StatusOK, restored)
}

// snapshotReader does not wait for ever for what comes.
type snapshotReader struct {
	from    io.Reader
	control *http.ResponseController
	begun   bool
}

func (s *snapshotReader) Read(b []byte) (int, error) {
	s.begun = true
	if err := s.control.SetReadDeadline(time.Now().Add(slowPeer)); err != nil {
		return 0, err
	}
	return s.from.Read(b)
}

// refuseSnapshot says why there is none. Who asks may do with the broker what he likes, and may know all of it.
func refuseSnapshot(w http.ResponseWriter, err error) {
	code := http.StatusInternalServerError
	switch {
	case errors.Is(err, ErrSnapshotBusy):
		code = http.StatusServiceUnavailable
	case errors.Is(err, ErrHasState):
		code = http.StatusConflict
	case errors.Is(err, snapshot.ErrDamaged):
		code = http.StatusUnprocessableEntity
	case errors.Is(err, snapshot.ErrOther):
		code = http.StatusUnsupportedMediaType
	}
	reply(w, code, answer{Error: err.Error()})
}

// Backup asks for a snapshot, which the caller reads with [snapshot.NewReader]: it is whole if that says so. Close it.
func (c *Client) Backup(ctx context.Context) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+snapshotPath, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("admin endpoint: %w", err)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("admin endpoint: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		defer func() { _ = response.Body.Close() }()
		return nil, snapshotFault(response)
	}
	return response.Body, nil
}

// Restore hands a snapshot over, and returns when the broker has it. The error wraps [ErrSnapshotBusy], [ErrHasState],
// [snapshot.ErrDamaged] or [snapshot.ErrOther] where that is why the broker has what it had before.
func (c *Client) Restore(ctx context.Context, from io.Reader, o RestoreOptions) (Restored, error) {
	query := url.Values{"replace": {strconv.FormatBool(o.Replace)}, "stopClocks": {strconv.FormatBool(o.StopClocks)}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, c.base+snapshotPath+"?"+query.Encode(), io.NopCloser(from))
	if err != nil {
		return Restored{}, fmt.Errorf("admin endpoint: %w", err)
	}
	// A broker that will not have it says so before it is sent.
	request.Header.Set("Expect", "100-continue")
	response, err := c.patient().Do(request)
	if err != nil {
		return Restored{}, fmt.Errorf("admin endpoint: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return Restored{}, snapshotFault(response)
	}
	restored := Restored{}
	if err := json.NewDecoder(io.LimitReader(response.Body, longestLine)).Decode(&restored); err != nil {
		return Restored{}, fmt.Errorf("admin endpoint: the broker's answer: %w", err)
	}
	return restored, nil
}

// patient is a client that waits to be asked for the body.
func (c *Client) patient() *http.Client {
	transport, ok := c.http.Transport.(*http.Transport)
	if !ok {
		return c.http
	}
	transport = transport.Clone()
	transport.ExpectContinueTimeout = beforeSending
	return &http.Client{Transport: transport}
}

// snapshotFault is why the broker does not do it.
func snapshotFault(response *http.Response) error {
	var said answer
	_ = json.NewDecoder(io.LimitReader(response.Body, longestLine)).Decode(&said) // words, where there are some
	var why error
	switch response.StatusCode {
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return ErrNoSnapshots
	case http.StatusServiceUnavailable:
		why = ErrSnapshotBusy
	case http.StatusConflict:
		why = ErrHasState
	case http.StatusUnprocessableEntity:
		why = snapshot.ErrDamaged
	case http.StatusUnsupportedMediaType:
		why = snapshot.ErrOther
	default:
		return fmt.Errorf("the broker answered %d: %s", response.StatusCode, said.Error)
	}
	return &saidError{words: said.Error, why: why}
}

// saidError has the words of the broker, which name the reason already.
type saidError struct {
	words string
	why   error
}

func (e *saidError) Error() string {
	if e.words == "" {
		return e.why.Error()
	}
	return e.words
}

func (e *saidError) Unwrap() error { return e.why }
