// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"
)

// browse connects as another implementation does.
func browse(t testing.TB, l *Listener, options *websocket.DialOptions) *websocket.Conn {
	t.Helper()

	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)

	if options == nil {
		options = &websocket.DialOptions{Subprotocols: []string{"mqtt"}}
	}

	scheme := "ws"
	if options.HTTPClient != nil {
		scheme = "wss"
	}

	ws, answer, err := websocket.Dial(ctx, scheme+"://"+l.Address().String()+"/mqtt", options)
	if err != nil {
		t.Fatal(err)
	}

	if answer.Body != nil {
		_ = answer.Body.Close()
	}

	t.Cleanup(func() { _ = ws.CloseNow() })
	ws.SetReadLimit(-1)

	return ws
}

const upgradeHead = "GET /mqtt HTTP/1.1\r\nHost: broker:9001\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

// raw connects by hand.
func raw(t testing.TB, l *Listener) (net.Conn, *bufio.Reader) {
	t.Helper()

	conn := dial(t, l)
	_, _ = io.WriteString(conn, upgradeHead+"Sec-WebSocket-Protocol: mqtt\r\n\r\n")

	reader := bufio.NewReader(conn)

	answer, err := http.ReadResponse(reader, nil)
	if err != nil || answer.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("answer %v, error %v", answer, err)
	}

	_ = answer.Body.Close()

	return conn, reader
}

// frame is one of a client's: masked, as it has to be.
func frame(first byte, payload string) []byte {
	out := []byte{first}

	switch n := len(payload); {
	case n < 126:
		out = append(out, 0x80|byte(n))
	case n < 1<<16:
		out = binary.BigEndian.AppendUint16(append(out, 0x80|126), uint16(n))
	default:
		out = binary.BigEndian.AppendUint64(append(out, 0x80|127), uint64(n))
	}

	mask := []byte{1, 2, 3, 4}
	out = append(out, mask...)

	for i := range len(payload) {
		out = append(out, payload[i]^mask[i%4])
	}

	return out
}

// frames reads what the server sends until the connection ends or enough data has come: the opcodes, the data of binary
// messages and the code of a close.
type frames struct {
	Data   string
	Pongs  []string
	Closed int
}

func readFrames(r *bufio.Reader, enough int) (got frames, err error) {
	for enough == 0 || len(got.Data) < enough {
		var head [2]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return got, err
		}

		n := uint64(head[1])

		switch n {
		case 126:
			var b [2]byte
			_, _ = io.ReadFull(r, b[:])
			n = uint64(binary.BigEndian.Uint16(b[:]))
		case 127:
			var b [8]byte
			_, _ = io.ReadFull(r, b[:])
			n = binary.BigEndian.Uint64(b[:])
		}

		payload := make([]byte, n)
		if _, err := io.ReadFull(r, payload); err != nil {
			return got, err
		}

		switch head[0] {
		case 0x82:
			got.Data += string(payload)
		case 0x8A:
			got.Pongs = append(got.Pongs, string(payload))
		case 0x88:
			got.Closed = 1005 // stands for none
			if len(payload) > 1 {
				got.Closed = int(binary.BigEndian.Uint16(payload))
			}

			return got, nil
		default:
			return got, fmt.Errorf("first byte %#x", head[0])
		}
	}

	return got, nil
}

func TestARealClientTalksOverWebSocket(t *testing.T) {
	trusting := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}

	cases := map[string]struct {
		settings Settings
		options  *websocket.DialOptions
		want     string
	}{
		"ws":            {Settings{WebSocket: &WebSocket{}}, &websocket.DialOptions{Subprotocols: []string{"mqtt"}}, "mqtt"},
		"of MQTT 3.1":   {Settings{WebSocket: &WebSocket{}}, &websocket.DialOptions{Subprotocols: []string{"mqttv3.1"}}, "mqttv3.1"},
		"with a choice": {Settings{WebSocket: &WebSocket{}}, &websocket.DialOptions{Subprotocols: []string{"MQTT", "mqttv3.1", "mqtt"}}, "mqtt"},
		"wss": {
			Settings{WebSocket: &WebSocket{}, TLS: secure(t, 1)},
			&websocket.DialOptions{Subprotocols: []string{"mqtt"}, HTTPClient: trusting}, "mqtt",
		},
		"compression offered": {
			Settings{WebSocket: &WebSocket{}},
			&websocket.DialOptions{Subprotocols: []string{"mqtt"}, CompressionMode: websocket.CompressionContextTakeover}, "mqtt",
		},
	}

	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			l := bind(t, c.settings, Options{Handler: echo})
			ws := browse(t, l, c.options)

			if ws.Subprotocol() != c.want {
				t.Errorf("subprotocol %q, want %q", ws.Subprotocol(), c.want)
			}

			conn := websocket.NetConn(t.Context(), ws, websocket.MessageBinary)

			// Small, larger than our buffers, larger than any frame buffer.
			for _, size := range []int{1, 600, 5000, 300_000} {
				sent := bytes.Repeat([]byte("abcdefg"), size/7+1)

				go func() { _, _ = conn.Write(sent) }()

				got := make([]byte, len(sent))
				if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(sent, got) {
					t.Fatalf("%d bytes came back wrong: %v", size, err)
				}
			}
		})
	}
}

func TestPingsAreAnsweredWhileNothingElseHappens(t *testing.T) {
	l := bind(t, Settings{WebSocket: &WebSocket{}}, Options{Handler: echo})
	ws := browse(t, l, nil)
	ctx := ws.CloseRead(t.Context())

	for range 3 {
		if err := ws.Ping(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBothSidesMayClose(t *testing.T) {
	ends := make(chan error, 1)
	l := bind(t, Settings{WebSocket: &WebSocket{}}, Options{Handler: func(c *Conn) {
		defer c.Close()

		first := make([]byte, 1)
		if _, err := io.ReadFull(c, first); err != nil {
			ends <- err
		}
	}})

	if err := browse(t, l, nil).Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Errorf("a client that leaves must be answered: %v", err)
	}

	if err := <-ends; !errors.Is(err, io.EOF) {
		t.Errorf("a client that leaves politely is the end of the stream, got %v", err)
	}

	conn, reader := raw(t, l)
	_, _ = conn.Write(frame(0x82, "x"))

	if got, err := readFrames(reader, 0); err != nil || got.Closed != 1000 {
		t.Errorf("a server that leaves says so, got %+v, %v", got, err)
	}

	eventually(t, "the places", func() bool { return l.Connections() == 0 })
}

func TestFramesByHand(t *testing.T) {
	const limit = 1000

	whole := strings.Repeat("0123456789", limit/10)
	cases := map[string]struct {
		reason string
		send   [][]byte
		want   frames
	}{
		"one message": {"", [][]byte{frame(0x82, "hello")}, frames{Data: "hello"}},
		"a message in fragments": {
			"[MQTT-6.0.0-2]",
			[][]byte{frame(0x02, "he"), frame(0x00, ""), frame(0x00, "ll"), frame(0x80, "o")},
			frames{Data: "hello"},
		},
		"a ping between fragments": {
			"control frames may come at any time",
			[][]byte{frame(0x02, "he"), frame(0x89, "there?"), frame(0x80, "llo")},
			frames{Data: "hello", Pongs: []string{"there?"}},
		},
		"empty messages":               {"they are no end", [][]byte{frame(0x82, ""), frame(0x82, ""), frame(0x82, "x")}, frames{Data: "x"}},
		"a pong that nobody asked for": {"", [][]byte{frame(0x8A, "?"), frame(0x82, "x")}, frames{Data: "x"}},
		"as large as allowed":          {"", [][]byte{frame(0x82, whole), frame(0x82, whole)}, frames{Data: whole + whole}},
		"too large": {
			"", [][]byte{frame(0x82, whole+"xy")}, frames{Data: "*", Closed: 1009},
		},
		"too large in fragments": {
			"the bound counts the message",
			[][]byte{frame(0x02, whole), frame(0x00, "x"), frame(0x80, "y")},
			frames{Data: "*", Closed: 1009},
		},
		"text": {"[MQTT-6.0.0-1]", [][]byte{frame(0x81, "hello"), frame(0x82, "hello")}, frames{Closed: 1003}},
		"text in fragments that never end": {
			"[MQTT-6.0.0-1]", [][]byte{frame(0x01, "hello")}, frames{Closed: 1003},
		},
		"a fragment of nothing": {"", [][]byte{frame(0x80, "x")}, frames{Closed: 1002}},
		"compressed":            {"it was not agreed on", [][]byte{frame(0xC2, "x")}, frames{Closed: 1002}},
		"an unknown opcode":     {"", [][]byte{frame(0x83, "x")}, frames{Closed: 1002}},
		"a ping that is too long": {
			"", [][]byte{frame(0x89, strings.Repeat("x", 126))}, frames{Closed: 1002},
		},
		"not masked": {"a client must mask", [][]byte{{0x82, 1, 'x'}}, frames{Closed: 1002}},
		"closing":    {"", [][]byte{frame(0x88, "\x03\xe9")}, frames{Closed: 1001}},
		"closing without a word": {
			"", [][]byte{frame(0x88, "")}, frames{Closed: 1005},
		},
	}

	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			l := bind(t, Settings{WebSocket: &WebSocket{ReadLimit: limit}}, Options{Handler: echo})
			conn, reader := raw(t, l)

			for _, f := range c.send {
				_, _ = conn.Write(f)
			}

			enough := len(c.want.Data)
			if c.want.Closed > 0 {
				enough = 0
			}

			got, err := readFrames(reader, enough)
			if c.want.Data == "*" {
				got.Data = "*" // how much of it comes before the bound is reached is not told
			}

			if d := cmp.Diff(c.want, got); d != "" || (err != nil) && !timedOut(err) {
				t.Errorf("%s: error %v\n%s", c.reason, err, d)
			}

			_ = conn.Close()

			eventually(t, "the place", func() bool { return l.Connections() == 0 })
		})
	}
}

func TestARequestIsJudged(t *testing.T) {
	const offers = "Sec-WebSocket-Protocol: mqtt\r\n"

	head := func(replace, by string) string {
		if !strings.Contains(upgradeHead, replace) {
			t.Fatalf("no %q to replace", replace)
		}

		return strings.Replace(upgradeHead, replace, by, 1)
	}

	cases := map[string]struct {
		reason   string
		settings WebSocket
		request  string
		status   int
		words    string
	}{
		"in order":              {"", WebSocket{}, upgradeHead + offers, 101, ""},
		"a query":               {"it is no part of the path", WebSocket{}, head("/mqtt", "/mqtt?a=b") + offers, 101, ""},
		"another path":          {"", WebSocket{}, head("/mqtt", "/") + offers, 404, "path"},
		"a path below":          {"exact means exact", WebSocket{}, head("/mqtt", "/mqtt/") + offers, 404, "path"},
		"the path configured":   {"", WebSocket{Path: "/a/b"}, head("/mqtt", "/a/b") + offers, 101, ""},
		"not that any more":     {"", WebSocket{Path: "/a/b"}, upgradeHead + offers, 404, "path"},
		"no subprotocol":        {"[MQTT-6.0.0-3]", WebSocket{}, upgradeHead, 400, "mqtt"},
		"another subprotocol":   {"[MQTT-6.0.0-3]", WebSocket{}, upgradeHead + "Sec-WebSocket-Protocol: chat, MQTT\r\n", 400, "mqtt"},
		"one of many":           {"", WebSocket{}, upgradeHead + "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: x, mqtt\r\n", 101, ""},
		"the host itself":       {"", WebSocket{}, upgradeHead + offers + "Origin: https://broker:9001\r\n", 101, ""},
		"another host":          {"any page could connect with what the browser knows", WebSocket{}, upgradeHead + offers + "Origin: https://evil.example\r\n", 403, "allowedOrigins"},
		"another port":          {"it is another origin", WebSocket{}, upgradeHead + offers + "Origin: https://broker\r\n", 403, "allowedOrigins"},
		"no origin to speak of": {"a sandboxed page", WebSocket{}, upgradeHead + offers + "Origin: null\r\n", 403, "allowedOrigins"},
		"an allowed origin":     {"", WebSocket{AllowedOrigins: []string{"https://a.example", "https://b.example"}}, upgradeHead + offers + "Origin: https://b.example\r\n", 101, ""},
		"a longer name":         {"no prefix, no suffix", WebSocket{AllowedOrigins: []string{"https://b.example"}}, upgradeHead + offers + "Origin: https://b.example.evil\r\n", 403, "allowedOrigins"},
		"another scheme":        {"", WebSocket{AllowedOrigins: []string{"https://b.example"}}, upgradeHead + offers + "Origin: http://b.example\r\n", 403, "allowedOrigins"},
		"the host, not listed":  {"a list says it all", WebSocket{AllowedOrigins: []string{"https://b.example"}}, upgradeHead + offers + "Origin: https://broker:9001\r\n", 403, "allowedOrigins"},
		"two origins":           {"which one is true?", WebSocket{AllowedOrigins: []string{"https://b.example"}}, upgradeHead + offers + "Origin: https://b.example\r\nOrigin: https://c.example\r\n", 403, "allowedOrigins"},
		"no browser":            {"", WebSocket{AllowedOrigins: []string{"https://b.example"}}, upgradeHead + offers, 101, ""},
		"no upgrade":            {"somebody looks with a browser", WebSocket{}, "GET /mqtt HTTP/1.1\r\nHost: broker\r\n", 426, "WebSocket"},
		"an old version":        {"", WebSocket{}, head("Version: 13", "Version: 8") + offers, 400, "13"},
		"no key":                {"", WebSocket{}, head("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "") + offers, 400, "Key"},
		"HTTP/1.0":              {"", WebSocket{}, head("HTTP/1.1", "HTTP/1.0") + offers, 426, ""},
		"a body":                {"what follows would be taken for frames", WebSocket{}, upgradeHead + offers + "Content-Length: 5\r\n", 400, "body"},
		"POST":                  {"", WebSocket{}, head("GET", "POST") + offers, 405, ""},
		"no HTTP":               {"", WebSocket{}, "\x10\x0c\x00\x04MQTT\r\n", 400, "no HTTP"},
		"a long header":         {"memory is bounded", WebSocket{}, upgradeHead + offers + "X: " + strings.Repeat("x", 9000) + "\r\n", 431, "8 KiB"},
		"many headers":          {"memory is bounded", WebSocket{}, upgradeHead + offers + strings.Repeat("X: xxxxxxxxxx\r\n", 600), 431, "8 KiB"},
	}

	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			l := bind(t, Settings{WebSocket: &c.settings}, Options{Handler: echo})
			conn := dial(t, l)

			go func() { _, _ = io.WriteString(conn, c.request+"\r\n") }()

			answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()

			if answer.StatusCode != c.status {
				t.Errorf("%s: status %d, want %d", c.reason, answer.StatusCode, c.status)
			}

			if c.status == http.StatusSwitchingProtocols {
				if got := answer.Header.Get("Sec-WebSocket-Protocol"); got != "mqtt" {
					t.Errorf("[MQTT-6.0.0-4]: subprotocol %q", got)
				}

				return
			}

			if text, _ := io.ReadAll(answer.Body); !strings.Contains(string(text), c.words) {
				t.Errorf("the words %q do not speak of %q", text, c.words)
			}

			if l.Refused(BadUpgrade) != 1 {
				t.Error("must be counted")
			}
		})
	}
}

func TestFramesBehindTheRequestAreNotLost(t *testing.T) {
	l := bind(t, Settings{WebSocket: &WebSocket{}}, Options{Handler: echo})
	conn := dial(t, l)
	long := strings.Repeat("x", 3000)
	_, _ = conn.Write(append([]byte(upgradeHead+"Sec-WebSocket-Protocol: mqtt\r\n\r\n"), frame(0x82, long)...))

	reader := bufio.NewReader(conn)

	answer, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}

	_ = answer.Body.Close()

	if got, err := readFrames(reader, len(long)); err != nil || got.Data != long {
		t.Errorf("%d bytes came back, want %d: %v", len(got.Data), len(long), err)
	}
}

func TestAPacketInManyFramesIsOneStream(t *testing.T) {
	chunks := make(chan string, 1)
	l := bind(t, Settings{WebSocket: &WebSocket{}}, Options{Handler: func(c *Conn) {
		defer c.Close()

		buf := make([]byte, 10)
		_, _ = io.ReadFull(c, buf)
		chunks <- string(buf)
	}})

	conn, _ := raw(t, l)
	for i := range 10 {
		_, _ = conn.Write(frame(0x82, string(rune('0'+i))))
	}

	if got := <-chunks; got != "0123456789" {
		t.Errorf("got %q", got)
	}
}

func TestTheDeadlineOfAHandlerEndsAReadOverWebSocket(t *testing.T) {
	for name, settings := range map[string]Settings{
		"ws": {WebSocket: &WebSocket{}}, "wss": {WebSocket: &WebSocket{}, TLS: secure(t, 1)},
	} {
		t.Run(name, func(t *testing.T) {
			errs := make(chan error, 1)
			l := bind(t, settings, Options{Handler: func(c *Conn) {
				defer c.Close()

				_ = c.SetDeadline(time.Now().Add(10 * time.Millisecond))
				_, err := c.Read(make([]byte, 1))
				errs <- err
			}})

			options := &websocket.DialOptions{Subprotocols: []string{"mqtt"}}
			if settings.TLS != nil {
				options.HTTPClient = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
			}

			browse(t, l, options)

			if err := <-errs; !timedOut(err) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Close must end a Read that waits and a Write that a silent client blocks, and must not wait for either.
func TestCloseInterrupts(t *testing.T) {
	for name, settings := range map[string]Settings{
		"plain": {}, "TLS": {TLS: secure(t, 1)}, "ws": {WebSocket: &WebSocket{}},
	} {
		t.Run(name, func(t *testing.T) {
			conns := make(chan *Conn, 1)
			l := bind(t, settings, Options{Handler: func(c *Conn) { conns <- c }})

			switch {
			case settings.TLS != nil:
				dialTLS(t, l)
			case settings.WebSocket != nil:
				raw(t, l)
			default:
				dial(t, l)
			}

			c := <-conns
			_ = c.SetDeadline(time.Time{})
			done := make(chan error, 2)

			go func() {
				_, err := c.Read(make([]byte, 1))
				done <- err
			}()

			go func() {
				for {
					if _, err := c.Write(make([]byte, 1<<20)); err != nil {
						done <- err

						return
					}
				}
			}()

			_ = c.Close()

			for range 2 {
				select {
				case err := <-done:
					if err == nil {
						t.Error("must end with an error")
					}
				case <-time.After(patience):
					t.Fatal("still waiting")
				}
			}
		})
	}
}
