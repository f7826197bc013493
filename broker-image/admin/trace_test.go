// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// traced serves an endpoint whose traces are made by a function; nil is a broker that knows none.
func traced(t *testing.T, ca *authority, trace TraceFunc) *Client {
	t.Helper()

	dir := t.TempDir()
	ca.write(dir)

	server, err := NewServer(Handler(NewKeeper(func(*contract.Config) error { return nil }), func() Status { return Status{} }, trace), dir)
	if err != nil {
		t.Fatal(err)
	}

	// So short that a trace which does not lift it breaks off.
	server.ReadTimeout, server.WriteTimeout = 50*time.Millisecond, 50*time.Millisecond

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	go func() { _ = server.ServeTLS(listener, "", "") }()

	t.Cleanup(func() { _ = server.Close() })

	return NewClient(listener.Addr().String(), ca.trust())
}

func TestTrace(t *testing.T) {
	ca := newAuthority(t)
	events := []TraceEvent{
		{Time: time.Unix(1, 0).UTC(), Event: "begun"},
		{Time: time.Unix(2, 0).UTC(), Event: "sent", Client: "a <b>", Topic: "x/\u2028/é", QoS: 1, PacketID: 7, Size: 3},
		{Time: time.Unix(3, 0).UTC(), Event: "lost", Count: 9},
	}

	asked := TraceFilter{}
	client := traced(t, ca, func(ctx context.Context, filter TraceFilter, emit func(TraceEvent) error) error {
		asked = filter

		for i, e := range events {
			if i == 1 {
				// Longer than the deadlines of the server.
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(200 * time.Millisecond):
				}
			}

			if err := emit(e); err != nil {
				return err
			}
		}

		return nil
	})

	var got []TraceEvent

	err := client.Trace(inTime(t), TraceFilter{Client: "a&b", Topic: "x/#"}, time.Hour, func(e TraceEvent) error {
		got = append(got, e)

		return nil
	})
	if err != nil {
		t.Error(err)
	}

	if diff := cmp.Diff(events, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}

	if asked != (TraceFilter{Client: "a&b", Topic: "x/#"}) {
		t.Errorf("asked for %+v", asked)
	}
}

func TestATraceEnds(t *testing.T) {
	ca := newAuthority(t)
	over := make(chan error, 1)
	client := traced(t, ca, func(ctx context.Context, _ TraceFilter, emit func(TraceEvent) error) error {
		if err := emit(TraceEvent{Event: "begun"}); err != nil {
			return err
		}

		<-ctx.Done()
		over <- context.Cause(ctx)

		return nil
	})

	if err := client.Trace(inTime(t), TraceFilter{Client: "a"}, 10*time.Millisecond, func(TraceEvent) error { return nil }); err != nil {
		t.Errorf("when its time is over: %v", err)
	}

	if err := <-over; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want the deadline", err)
	}

	enough := errors.New("enough")
	if err := client.Trace(inTime(t), TraceFilter{Client: "a"}, 0, func(TraceEvent) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("%v, want the caller's own error", err)
	}

	if err := <-over; !errors.Is(err, context.Canceled) {
		t.Errorf("%v; who hangs up must end the trace", err)
	}
}

func TestATraceThatDoesNotBegin(t *testing.T) {
	ca := newAuthority(t)

	cases := map[string]struct {
		trace TraceFunc
		want  error
	}{
		"an older broker": {nil, ErrNoTrace},
		"too many":        {func(context.Context, TraceFilter, func(TraceEvent) error) error { return ErrTraceBusy }, ErrTraceBusy},
		"a bad filter": {func(context.Context, TraceFilter, func(TraceEvent) error) error {
			return fmt.Errorf("%w: a/#/b", ErrTraceFilter)
		}, ErrTraceFilter},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			err := traced(t, ca, c.trace).Trace(inTime(t), TraceFilter{Client: "a"}, 0, nil)
			if !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}

	client := traced(t, ca, func(context.Context, TraceFilter, func(TraceEvent) error) error { return nil })

	request, err := http.NewRequestWithContext(inTime(t), http.MethodGet, client.base+tracePath+"?client=a&for=soon", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}

	response, err := client.http.Do(request)
	if err != nil {
		t.Fatal(err)
	}

	_ = response.Body.Close()

	if response.StatusCode != http.StatusBadRequest {
		t.Errorf("a duration that is none: %d", response.StatusCode)
	}
}

// TestStatusOfNeighbours: the operator and the broker may be one release apart, either way.
func TestStatusOfNeighbours(t *testing.T) {
	var status Status

	older := `{"revision":3,"digest":"d","parts":{},"connections":1,"sessions":2,"listeners":[],"started":"2026-01-01T00:00:00Z","version":"1"}`
	if err := json.Unmarshal([]byte(older), &status); err != nil || status.Storage != "" || status.Revision != 3 {
		t.Errorf("of an older broker: %+v, %v", status, err)
	}

	newer := `{"revision":4,"storage":"full","queuedMessages":7,"somethingNew":{"a":1}}`
	if err := json.Unmarshal([]byte(newer), &status); err != nil || status.Storage != "full" || status.QueuedMessages != 7 {
		t.Errorf("of a newer broker: %+v, %v", status, err)
	}
}
