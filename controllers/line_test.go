// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Verbs of calls: those of HTTP for what is answered at once, watch for the beginning of one, and event for what a watch
// that stands brings.
const (
	verbWatch = "WATCH"
	verbEvent = "EVENT"
)

// call is one request of the operator, or one event that a watch brings it: the nth of its kind.
type call struct {
	verb, path string
	nth        int
}

func (c call) String() string { return fmt.Sprintf("%s %s #%d", c.verb, c.path, c.nth) }

// fault is what becomes of a call.
type fault string

const (
	// refused: nothing is done, the answer is 500.
	refused fault = "refused"
	// conflicted: nothing is done, the answer is 409.
	conflicted fault = "conflicted"
	// unanswered: it is done, and the answer never arrives.
	unanswered fault = "unanswered"
	// expired: a watch cannot go on from where the last one ended, the answer is 410.
	expired fault = "expired"
	// lost: the event does not arrive, and the watch ends with it.
	lost fault = "lost"
)

// faultsOf are the faults that such a call can have.
func faultsOf(verb string) []fault {
	switch verb {
	case verbEvent:
		return []fault{lost}
	case verbWatch:
		return []fault{refused, expired}
	case http.MethodGet:
		return []fault{refused, unanswered}
	default:
		return []fault{refused, conflicted, unanswered}
	}
}

// line is what the requests of one operator go over: it writes down each, and lets some of them fail.
type line struct {
	namespace string
	faults    map[call]fault

	mu     sync.Mutex
	counts map[call]int
	calls  []call
	// met are the faults that have come to pass, in order.
	met []string
}

// String tells lines apart.
func (l *line) String() string {
	for c, f := range l.faults {
		if len(l.faults) == 1 {
			return fmt.Sprintf("%s %s", f, c)
		}
	}
	return fmt.Sprintf("%d calls", len(l.faults))
}

// next writes down a call and returns what is to become of it, nothing for most.
func (l *line) next(verb, path string) fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	kind := call{verb: verb, path: path}
	if l.counts == nil {
		l.counts = map[call]int{}
	}
	l.counts[kind]++
	kind.nth = l.counts[kind]
	l.calls = append(l.calls, kind)
	what, fails := l.faults[kind]
	if fails {
		l.met = append(l.met, fmt.Sprintf("%s %s", what, kind))
	}
	return what
}

// carry puts the line before the way to the API server.
func (l *line) carry(way http.RoundTripper) http.RoundTripper { return &carrier{line: l, way: way} }

type carrier struct {
	line *line
	way  http.RoundTripper
}

// made are names that the operator's libraries draw.
var made = regexp.MustCompile(`/events/[^/]+$`)

// RoundTrip sends a request on, or lets it fail.
func (c *carrier) RoundTrip(request *http.Request) (*http.Response, error) {
	query := request.URL.Query()
	path := made.ReplaceAllString(strings.ReplaceAll(request.URL.Path, c.line.namespace, "NS"), "/events/NAME")
	if query.Has("dryRun") {
		path += "?dryRun"
	}
	verb := request.Method
	if query.Get("watch") == "true" || query.Get("watch") == "1" {
		verb = verbWatch
	}
	switch what := c.line.next(verb, path); what {
	case refused:
		return answer(request, http.StatusInternalServerError, metav1.StatusReasonInternalError)
	case conflicted:
		return answer(request, http.StatusConflict, metav1.StatusReasonConflict)
	case expired:
		return answer(request, http.StatusGone, metav1.StatusReasonExpired)
	case unanswered:
		response, err := c.way.RoundTrip(request)
		if err != nil {
			return nil, err
		}
		_, err = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		if err != nil {
			return nil, err
		}
		return nil, &net.OpError{Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded}
	default:
	}
	response, err := c.way.RoundTrip(request)
	if err == nil && verb == verbWatch && response.StatusCode == http.StatusOK {
		response.Body = &stream{ReadCloser: response.Body, line: c.line, path: path}
	}
	return response, err
}

// answer is what an API server says that does nothing.
func answer(request *http.Request, code int, reason metav1.StatusReason) (*http.Response, error) {
	if request.Body != nil {
		_ = request.Body.Close()
	}
	text, err := json.Marshal(&metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Code: int32(code), Reason: reason,
		Message: "the test lets this call fail",
	})
	return &http.Response{
		Status: http.StatusText(code), StatusCode: code, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: request,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(text)), ContentLength: int64(len(text)),
	}, err
}

// stream is a watch.
type stream struct {
	io.ReadCloser

	line    *line
	path    string
	isEnded bool
}

func (s *stream) Read(p []byte) (int, error) {
	if s.isEnded {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := s.ReadCloser.Read(p)
	if n > 0 && s.line.next(verbEvent, s.path) == lost {
		s.isEnded = true
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}
