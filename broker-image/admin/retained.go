// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
	"unicode/utf8"
)

const (
	retainedPath = "/v1/retained"
	// retainedBuffer is how much of a list is sent at once.
	retainedBuffer = 64 << 10
)

// ErrNoRetained says that the broker is of a release that gives and takes no lists of retained messages.
var ErrNoRetained = errors.New("the broker knows no export of retained messages; it is older than that")

// ErrRetainedFilter is wrapped where the topic filter is at fault.
var ErrRetainedFilter = errors.New("filter")

// RetainedMessage is a retained message as it stands in a file, one in a line. A file may hold no other fields.
type RetainedMessage struct {
	Topic string `json:"topic"`
	QoS   byte   `json:"qos"`
	// Expires is how many seconds are left until it expires; nil if it does not.
	Expires *uint32 `json:"expires,omitempty"`
	// Payload where it is UTF-8, else PayloadBase64.
	Payload       string `json:"payload,omitempty"`
	PayloadBase64 []byte `json:"payloadBase64,omitempty"`
	// Properties of MQTT 5.
	Properties *RetainedProperties `json:"properties,omitempty"`
}

// RetainedProperties are those that travel with a message.
type RetainedProperties struct {
	// PayloadFormat is 1 where the publisher says that the payload is UTF-8, 0 where it says that it is not said.
	PayloadFormat         *byte  `json:"payloadFormat,omitempty"`
	ContentType           string `json:"contentType,omitempty"`
	ResponseTopic         string `json:"responseTopic,omitempty"`
	CorrelationDataBase64 []byte `json:"correlationDataBase64,omitempty"`
	// User properties, each a name and a value.
	User [][2]string `json:"user,omitempty"`
}

// SetPayload puts a payload where it belongs.
func (m *RetainedMessage) SetPayload(b []byte) {
	m.Payload, m.PayloadBase64 = "", nil
	if utf8.Valid(b) {
		m.Payload = string(b)
	} else {
		m.PayloadBase64 = b
	}
}

// Content is the payload, wherever it stands.
func (m *RetainedMessage) Content() []byte {
	if m.PayloadBase64 != nil {
		return m.PayloadBase64
	}
	return []byte(m.Payload)
}

// RetainedReader reads messages, one after another.
type RetainedReader struct {
	dec *json.Decoder
	n   int
}

// NewRetainedReader reads them from a file, or from what [Client.Retained] gives.
func NewRetainedReader(from io.Reader) *RetainedReader {
	dec := json.NewDecoder(from)
	dec.DisallowUnknownFields()
	return &RetainedReader{dec: dec}
}

// Next gives the next message, or [io.EOF]. The error says which one it was.
func (r *RetainedReader) Next() (*RetainedMessage, error) {
	m := &RetainedMessage{}
	err := r.dec.Decode(m)
	if errors.Is(err, io.EOF) {
		return nil, io.EOF
	}
	r.n++
	switch {
	case err != nil:
		return nil, fmt.Errorf("message %d: %w", r.n, err)
	case m.Topic == "":
		return nil, fmt.Errorf("message %d: it has no topic", r.n)
	case m.Payload != "" && m.PayloadBase64 != nil:
		return nil, fmt.Errorf("message %d: topic %q: payload and payloadBase64 exclude one another", r.n, m.Topic)
	case m.Properties != nil && m.Properties.PayloadFormat != nil && *m.Properties.PayloadFormat > 1:
		return nil, fmt.Errorf("message %d: topic %q: payloadFormat %d is neither 0 nor 1", r.n, m.Topic, *m.Properties.PayloadFormat)
	}
	return m, nil
}

// AppendRetained writes a message as a line.
func AppendRetained(dst []byte, m *RetainedMessage) ([]byte, error) {
	b := bytes.NewBuffer(dst)
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(m)
	return b.Bytes(), err
}

// Retainer gives and takes the retained messages of a broker.
type Retainer interface {
	// Retained calls each with every one whose topic a filter matches.
	Retained(filter string, each func(*RetainedMessage) error) error
	// Retain retains what next gives until that is io.EOF, as far as the filter matches, and says how many it were, also
	// where there is an error.
	Retain(ctx context.Context, filter string, next func() (*RetainedMessage, error)) (int, error)
}

// WithRetained gives lists of retained messages and takes them.
func WithRetained(retainer Retainer) Option {
	return func(mux *http.ServeMux) {
		mux.HandleFunc("GET "+retainedPath, func(w http.ResponseWriter, r *http.Request) { getRetained(w, r, retainer) })
		mux.HandleFunc("POST "+retainedPath, func(w http.ResponseWriter, r *http.Request) { postRetained(w, r, retainer) })
	}
}

func getRetained(w http.ResponseWriter, r *http.Request, retainer Retainer) {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{})
	sent := &snapshotWriter{to: w, control: control, kind: "application/jsonl"}
	out := bufio.NewWriterSize(sent, retainedBuffer)
	var line []byte
	err := retainer.Retained(filterOf(r), func(m *RetainedMessage) (err error) {
		if line, err = AppendRetained(line[:0], m); err == nil {
			_, err = out.Write(line)
		}
		return err
	})
	switch {
	case err != nil && sent.begun:
		panic(http.ErrAbortHandler) // the caller has to see that this is no end
	case err != nil:
		reply(w, http.StatusBadRequest, answer{Error: err.Error()})
	default:
		_, _ = sent.Write(nil) // an empty list is one, too
		if out.Flush() != nil {
			panic(http.ErrAbortHandler)
		}
	}
}

// filterOf is the filter of a request; that of all where there is none.
func filterOf(r *http.Request) string {
	if filter := r.URL.Query().Get("filter"); filter != "" {
		return filter
	}
	return "#"
}

// imported is the answer to a list.
type imported struct {
	Retained int    `json:"retained"`
	Error    string `json:"error,omitempty"`
}

func postRetained(w http.ResponseWriter, r *http.Request, retainer Retainer) {
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Time{})
	from := &snapshotReader{from: r.Body, control: control}
	n, err := retainer.Retain(r.Context(), filterOf(r), NewRetainedReader(from).Next)
	_ = control.SetWriteDeadline(time.Now().Add(slowPeer))
	if err != nil {
		if from.begun {
			_, _ = io.CopyN(io.Discard, from, mostRead)
		}
		reply(w, http.StatusUnprocessableEntity, imported{Retained: n, Error: err.Error()})
		return
	}
	reply(w, http.StatusOK, imported{Retained: n})
}

// Retained asks for the retained messages whose topics a filter matches, which the caller reads with [NewRetainedReader].
// Close it.
func (c *Client) Retained(ctx context.Context, filter string) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+retainedPath+"?"+url.Values{"filter": {filter}}.Encode(), http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("admin endpoint: %w", err)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("admin endpoint: %w", err)
	}
	if response.StatusCode == http.StatusOK {
		return response.Body, nil
	}
	defer func() { _ = response.Body.Close() }()
	return nil, retainedFault(response, &imported{})
}

// Retain has the broker retain the messages that are read from a list, as far as the filter matches, and says how many it
// were, also where there is an error.
func (c *Client) Retain(ctx context.Context, filter string, from io.Reader) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+retainedPath+"?"+url.Values{"filter": {filter}}.Encode(), io.NopCloser(from))
	if err != nil {
		return 0, fmt.Errorf("admin endpoint: %w", err)
	}
	request.Header.Set("Expect", "100-continue")
	response, err := c.patient().Do(request)
	if err != nil {
		return 0, fmt.Errorf("admin endpoint: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	said := imported{}
	if response.StatusCode != http.StatusOK {
		err := retainedFault(response, &said)
		return said.Retained, err
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, longestLine)).Decode(&said); err != nil {
		return 0, fmt.Errorf("admin endpoint: the broker's answer: %w", err)
	}
	return said.Retained, nil
}

// retainedFault is why the broker does not do it.
func retainedFault(response *http.Response, said *imported) error {
	if response.StatusCode == http.StatusNotFound || response.StatusCode == http.StatusMethodNotAllowed {
		return ErrNoRetained
	}
	_ = json.NewDecoder(io.LimitReader(response.Body, longestLine)).Decode(said) // words, where there are some
	if response.StatusCode == http.StatusBadRequest {
		return fmt.Errorf("%w: %s", ErrRetainedFilter, said.Error)
	}
	return fmt.Errorf("%d are retained, then the broker refused: %s", said.Retained, said.Error)
}
