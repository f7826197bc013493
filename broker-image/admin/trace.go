// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

const (
	// MaxTrace is how long one trace may last, and lasts where the caller names no time.
	MaxTrace = 15 * time.Minute
	// slowReader is how long one write may take before the trace is given up.
	slowReader = 30 * time.Second
	// longestLine is more than any event needs: its texts are bounded by the broker.
	longestLine = 256 << 10
)

// ErrNoTrace says that the broker is of a release that knows no traces.
var ErrNoTrace = errors.New("the broker knows no traces; it is older than they are")

// Reasons why a broker begins no trace.
var (
	// ErrTraceBusy says that as many run as may.
	ErrTraceBusy = errors.New("as many traces run as may")
	// ErrTraceFilter is wrapped where the filter is at fault.
	ErrTraceFilter = errors.New("what to trace")
)

// TraceFilter says what is watched: a client, the topics that a filter matches, or what fits both.
type TraceFilter struct {
	Client string
	Topic  string
}

// TraceEvent is one thing that happened. What does not apply is left out. There may be more fields in later releases.
type TraceEvent struct {
	Time time.Time `json:"time"`
	// Event is begun (from here on everything is seen), connected, refused, disconnected, fault, subscribed, unsubscribed, published, denied, queued, sent, dropped,
	// ack-received, ack-sent, or lost for events that came too fast.
	Event    string `json:"event"`
	Client   string `json:"client,omitempty"`
	User     string `json:"user,omitempty"`
	Listener string `json:"listener,omitempty"`
	Remote   string `json:"remote,omitempty"`
	// Version of the protocol: 3, 4 (3.1.1) or 5.
	Version  byte   `json:"version,omitempty"`
	Topic    string `json:"topic,omitempty"`
	Filter   string `json:"filter,omitempty"`
	QoS      byte   `json:"qos,omitempty"`
	Retain   bool   `json:"retain,omitempty"`
	Dup      bool   `json:"dup,omitempty"`
	Size     int    `json:"size,omitempty"`
	PacketID uint16 `json:"packetID,omitempty"`
	Packet   string `json:"packet,omitempty"`
	Code     byte   `json:"code,omitempty"`
	Reason   string `json:"reason,omitempty"`
	Count    int    `json:"count,omitempty"`
}

// TraceFunc runs a trace until the context ends or emit fails. It wraps [ErrTraceBusy] or [ErrTraceFilter] if it does
// not begin.
type TraceFunc func(ctx context.Context, filter TraceFilter, emit func(TraceEvent) error) error

func (s *server) getTrace(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	span := MaxTrace

	if text := query.Get("for"); text != "" {
		asked, err := time.ParseDuration(text)
		if err != nil || asked <= 0 {
			reply(w, http.StatusBadRequest, answer{Error: "for: is no duration like 30s"})

			return
		}

		span = min(asked, MaxTrace)
	}

	ctx, cancel := context.WithTimeout(r.Context(), span)
	defer cancel()

	// The server's deadlines are for short answers.
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{})

	out := &traceWriter{to: w, control: control}

	err := s.trace(ctx, TraceFilter{Client: query.Get("client"), Topic: query.Get("topic")}, out.write)

	switch {
	case out.begun:
	case errors.Is(err, ErrTraceBusy):
		reply(w, http.StatusServiceUnavailable, answer{Error: err.Error()})
	case errors.Is(err, ErrTraceFilter):
		reply(w, http.StatusBadRequest, answer{Error: err.Error()})
	default:
		reply(w, http.StatusInternalServerError, answer{Error: "the trace could not begin"})
	}
}

// traceWriter writes one line per event and sends it at once.
type traceWriter struct {
	to      http.ResponseWriter
	control *http.ResponseController
	begun   bool
}

func (t *traceWriter) head() {
	t.begun = true
	t.to.Header().Set("Content-Type", "application/jsonl")
	t.to.Header().Set("Cache-Control", "no-store")
	t.to.WriteHeader(http.StatusOK)
}

// write sends one event, and with the first one that the trace has begun.
func (t *traceWriter) write(event TraceEvent) error {
	if err := t.control.SetWriteDeadline(time.Now().Add(slowReader)); err != nil {
		return err
	}

	if !t.begun {
		t.head()
	}

	if err := json.NewEncoder(t.to).Encode(event); err != nil {
		return err
	}

	return t.control.Flush()
}

// Trace calls each with what happens to what the filter names, in order, until the context ends, the broker ends the
// trace, or each gives an error. A span of 0 asks for [MaxTrace].
func (c *Client) Trace(ctx context.Context, filter TraceFilter, span time.Duration, each func(TraceEvent) error) error {
	query := url.Values{}

	for name, value := range map[string]string{"client": filter.Client, "topic": filter.Topic} {
		if value != "" {
			query.Set(name, value)
		}
	}

	if span > 0 {
		query.Set("for", span.String())
	}

	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+tracePath+"?"+query.Encode(), http.NoBody)
	if err != nil {
		return fmt.Errorf("admin endpoint: %w", err)
	}

	response, err := c.http.Do(request)
	if err != nil {
		return fmt.Errorf("admin endpoint: %w", err)
	}

	defer func() { _ = response.Body.Close() }()

	if err := traceFault(response); err != nil {
		return err
	}

	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, longestLine)

	for lines.Scan() {
		var event TraceEvent
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			return fmt.Errorf("admin endpoint: the broker's answer: %w", err)
		}

		if err := each(event); err != nil {
			return err
		}
	}

	if err := lines.Err(); err != nil {
		return fmt.Errorf("admin endpoint: the trace broke off: %w", err)
	}

	return nil
}

// traceFault is why the broker begins no trace.
func traceFault(response *http.Response) error {
	if response.StatusCode == http.StatusOK {
		return nil
	}

	var said answer
	_ = json.NewDecoder(io.LimitReader(response.Body, longestLine)).Decode(&said) // words, where there are some

	switch response.StatusCode {
	case http.StatusNotFound:
		return ErrNoTrace
	case http.StatusServiceUnavailable:
		return ErrTraceBusy
	case http.StatusBadRequest:
		return fmt.Errorf("%w: %s", ErrTraceFilter, said.Error)
	default:
		return fmt.Errorf("the broker answered %d: %s", response.StatusCode, said.Error)
	}
}
