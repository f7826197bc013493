// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

const (
	longestRequest = 8 << 10
	// What stays with an idle connection. A larger Read goes past the reading buffer; a larger Write past the writing one.
	readBuffer  = 512
	writeBuffer = 512
	// linger is how long a client that broke a rule has to read why.
	linger = 2 * time.Second
)

// subprotocols that we speak, the one we like best first [MQTT-6.0.0-3].
var subprotocols = []string{"mqtt", "mqttv3.1"}

var requestReaders = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4096) }}

// upgrade reads an HTTP request and makes a WebSocket connection of it, or says in HTTP why not.
func upgrade(conn net.Conn, settings *WebSocket) (net.Conn, error) {
	request, early, err := readRequest(conn)
	if err != nil {
		return nil, err
	}

	if r := judge(request, settings); r.status != 0 {
		return nil, r.send(conn)
	}

	// The library compares without regard to case, and would answer in the client's spelling.
	request.Header.Set("Sec-WebSocket-Protocol", offered(request.Header))

	a := &answer{conn: &transport{Conn: conn, early: early}, header: http.Header{}}

	ws, err := websocket.Accept(a, request, &websocket.AcceptOptions{
		Subprotocols: subprotocols, InsecureSkipVerify: true, // judge has looked at the origin, by the letter
		CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		return nil, err
	}

	limit := settings.ReadLimit
	if limit <= 0 {
		limit = DefaultReadLimit
	}

	ws.SetReadLimit(limit)

	return &messages{Conn: a.conn, ws: ws}, nil
}

// readRequest reads the head of a request within its bound. What came after it is early.
func readRequest(conn net.Conn) (request *http.Request, early []byte, err error) {
	reader, _ := requestReaders.Get().(*bufio.Reader)
	limited := &io.LimitedReader{R: conn, N: longestRequest}
	reader.Reset(limited)

	defer func() {
		reader.Reset(nil)
		requestReaders.Put(reader)
	}()

	request, err = http.ReadRequest(reader)

	switch {
	case err == nil:
		rest, _ := reader.Peek(reader.Buffered())

		return request, slices.Clone(rest), nil
	case limited.N <= 0:
		return nil, nil, refusal{http.StatusRequestHeaderFieldsTooLarge, "the request is longer than 8 KiB"}.send(conn)
	case timedOut(err), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, nil, fmt.Errorf("HTTP request: %w", err)
	default:
		return nil, nil, refusal{http.StatusBadRequest, "this is no HTTP request"}.send(conn)
	}
}

// refusal is an answer of HTTP other than yes.
type refusal struct {
	status int
	text   string
}

// send answers; the error says the same.
func (r refusal) send(conn net.Conn) error {
	a := &answer{conn: &transport{Conn: conn}, header: http.Header{}}
	http.Error(a, r.text, r.status)

	return fmt.Errorf("WebSocket: %d, %s", r.status, r.text)
}

// judge looks at what the library does not, or not as we want it.
func judge(r *http.Request, settings *WebSocket) refusal {
	path := settings.Path
	if path == "" {
		path = DefaultPath
	}

	switch {
	case r.URL.Path != path:
		return refusal{http.StatusNotFound, "MQTT is not served at this path"}
	case r.ContentLength != 0 || len(r.TransferEncoding) > 0:
		return refusal{http.StatusBadRequest, "the request must have no body"}
	case r.Header.Get("Upgrade") == "":
		return refusal{http.StatusUpgradeRequired, "this is an endpoint for MQTT over WebSocket"}
	case !originAllowed(r, settings.AllowedOrigins):
		return refusal{http.StatusForbidden, "pages of this origin may not connect; see allowedOrigins of the listener"}
	case offered(r.Header) == "":
		// [MQTT-6.0.0-3]
		return refusal{http.StatusBadRequest, "the client must offer the WebSocket subprotocol mqtt"}
	default:
		return refusal{}
	}
}

func originAllowed(r *http.Request, allowed []string) bool {
	origins := r.Header.Values("Origin")
	if len(origins) == 0 {
		return true
	}

	if len(origins) > 1 {
		return false
	}

	if len(allowed) > 0 {
		return slices.ContainsFunc(allowed, func(a string) bool { return strings.EqualFold(a, origins[0]) })
	}

	u, err := url.Parse(origins[0])

	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

// offered is the subprotocol to speak, or nothing.
func offered(h http.Header) string {
	var offers []string
	for _, line := range h.Values("Sec-WebSocket-Protocol") {
		for offer := range strings.SplitSeq(line, ",") {
			offers = append(offers, strings.TrimSpace(offer))
		}
	}

	for _, ours := range subprotocols {
		if slices.Contains(offers, ours) {
			return ours
		}
	}

	return ""
}

// answer is the little that is needed of an HTTP server. It spares each connection what net/http keeps for the next
// request.
type answer struct {
	conn    *transport
	header  http.Header
	started bool
}

// Header is what will be sent.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader sends it.
func (a *answer) WriteHeader(status int) {
	if a.started {
		return
	}

	a.started = true

	if status != http.StatusSwitchingProtocols {
		a.header.Set("Connection", "close")
	}

	var head strings.Builder

	fmt.Fprintf(&head, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))

	_ = a.header.Write(&head)

	head.WriteString("\r\n")

	// Who cannot be written to is noticed by the next read.
	_, _ = io.WriteString(a.conn, head.String())
}

// Write sends the text of a refusal.
func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)

	return a.conn.Write(p)
}

// Hijack gives the connection with small buffers.
func (a *answer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return a.conn, bufio.NewReadWriter(bufio.NewReaderSize(a.conn, readBuffer), bufio.NewWriterSize(a.conn, writeBuffer)), nil
}

// messages makes a stream of binary messages [MQTT-6.0.0-2]. The deadlines are those of the connection below: the
// library's own, by context, cost a goroutine or a timer for each call.
type messages struct {
	net.Conn // below: TLS or the socket
	ws       *websocket.Conn
	reader   io.Reader // of the message that has begun; belongs to who reads
	writing  sync.Mutex
	once     sync.Once
	broken   atomic.Bool // what came was no WebSocket
}

// Read reads; pings are answered on the way.
func (m *messages) Read(p []byte) (int, error) {
	for {
		if err := m.begin(); err != nil {
			return 0, err
		}

		n, err := m.reader.Read(p)

		switch {
		case errors.Is(err, io.EOF):
			m.reader = nil
		case errors.Is(err, websocket.ErrMessageTooBig):
			return n, m.offend(websocket.StatusMessageTooBig, "message too big")
		case err != nil:
			m.broken.Store(!timedOut(err))

			return n, err
		}

		if n > 0 {
			return n, nil
		}
	}
}

// begin finds the next message.
func (m *messages) begin() error {
	if m.reader != nil {
		return nil
	}

	kind, reader, err := m.ws.Reader(context.Background())
	if err != nil {
		switch websocket.CloseStatus(err) {
		case websocket.StatusNormalClosure, websocket.StatusGoingAway, websocket.StatusNoStatusRcvd:
			return io.EOF
		default:
			m.broken.Store(!timedOut(err))

			return err
		}
	}

	if kind != websocket.MessageBinary {
		// [MQTT-6.0.0-1]
		return m.offend(websocket.StatusUnsupportedData, "MQTT needs binary messages")
	}

	m.reader = reader

	return nil
}

// offend closes with a code. It waits for the client's answer, because what it still sends would otherwise make our
// system reset the connection before the client has read the code.
func (m *messages) offend(code websocket.StatusCode, text string) error {
	_ = m.Conn.SetDeadline(time.Now().Add(linger))
	_ = m.ws.Close(code, text)

	return fmt.Errorf("WebSocket: %s", text)
}

// Write sends one message.
func (m *messages) Write(p []byte) (int, error) {
	m.writing.Lock()
	defer m.writing.Unlock()

	if err := m.ws.Write(context.Background(), websocket.MessageBinary, p); err != nil {
		return 0, err
	}

	return len(p), nil
}

// Close sends a close frame if nobody is writing, and closes. The library would wait for the answer, up to ten seconds.
func (m *messages) Close() error {
	m.once.Do(func() {
		if m.writing.TryLock() {
			// A frame of ours is whole here, and a pong of the library is one Write: nothing can be torn apart.
			_ = m.Conn.SetWriteDeadline(time.Now().Add(goodbye))
			_, _ = m.Conn.Write(m.parting())
			m.writing.Unlock()
		}

		_ = m.Conn.Close()
		_ = m.ws.CloseNow()
	})

	return nil
}

// parting is a close frame: normal closure, or protocol error.
func (m *messages) parting() []byte {
	code := websocket.StatusNormalClosure
	if m.broken.Load() {
		code = websocket.StatusProtocolError
	}

	return binary.BigEndian.AppendUint16([]byte{0x88, 2}, uint16(code))
}
