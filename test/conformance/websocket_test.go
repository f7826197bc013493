// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// webSocket carries a stream in binary frames that it makes by hand: a library would not make wrong ones.
type webSocket struct {
	net.Conn
	r    *bufio.Reader
	rest []byte
	size int // bytes in a frame; 0: all of one Write
}

// Opcodes.
const (
	opContinue byte = 0
	opText     byte = 1
	opBinary   byte = 2
	opClose    byte = 8
	opPing     byte = 9
	opPong     byte = 10
)

const webSocketKey = "dGhlIHNhbXBsZSBub25jZQ=="

// upgrade opens a WebSocket and gives the answer of the server too.
func (s *scene) upgrade(protocols string) (*webSocket, *http.Response) {
	address := s.target.doors["ws"]
	if address == "" {
		s.skipf("the target has no door %q", "ws")
	}

	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		s.failf("dial: %v", err)
	}

	_ = conn.SetDeadline(time.Now().Add(patience))

	request := "GET /mqtt HTTP/1.1\r\nHost: " + address + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: " + webSocketKey + "\r\nSec-WebSocket-Version: 13\r\n"
	if protocols != "" {
		request += "Sec-WebSocket-Protocol: " + protocols + "\r\n"
	}

	if _, err := io.WriteString(conn, request+"\r\n"); err != nil {
		s.failf("upgrade: %v", err)
	}

	w := &webSocket{Conn: conn, r: bufio.NewReader(conn)}

	answer, err := http.ReadResponse(w.r, nil)
	if err != nil {
		_ = conn.Close()

		return w, nil
	}

	return w, answer
}

// web gives a client over WebSocket.
func (s *scene) web(protocols string) (*client, *webSocket) {
	w, answer := s.upgrade(protocols)
	if answer == nil || answer.StatusCode != http.StatusSwitchingProtocols {
		s.failf("the broker does not upgrade: %v", answer)
	}

	defer func() { _ = answer.Body.Close() }()

	sum := sha1.Sum([]byte(webSocketKey + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	if got := answer.Header.Get("Sec-WebSocket-Accept"); got != base64.StdEncoding.EncodeToString(sum[:]) {
		s.failf("Sec-WebSocket-Accept is %q", got)
	}

	if got := answer.Header.Get("Sec-WebSocket-Protocol"); got != "mqtt" {
		s.failf("the subprotocol is %q [MQTT-6.0.0-4]", got)
	}

	c := s.adopt(w, func(at time.Time) { _ = w.SetDeadline(at) })

	return c, w
}

// frame writes one frame, masked as a client's must be.
func (w *webSocket) frame(first byte, payload []byte) error {
	mask := [4]byte{1, 2, 3, 4}
	head := []byte{first}

	switch n := len(payload); {
	case n < 126:
		head = append(head, 0x80|byte(n))
	case n < 1<<16:
		head = append(append(head, 0x80|126), u16(n)...)
	default:
		head = binary.BigEndian.AppendUint64(append(head, 0x80|127), uint64(n))
	}

	head = append(head, mask[:]...)

	for i, b := range payload {
		head = append(head, b^mask[i%4])
	}

	_, err := w.Conn.Write(head)

	return err
}

// Write sends binary frames.
func (w *webSocket) Write(b []byte) (int, error) {
	size := w.size
	if size == 0 {
		size = max(len(b), 1)
	}

	for at := 0; at < len(b); at += size {
		if err := w.frame(0x80|opBinary, b[at:min(at+size, len(b))]); err != nil {
			return at, err
		}
	}

	return len(b), nil
}

// Read gives what binary frames carry. A closing frame is the end.
func (w *webSocket) Read(b []byte) (int, error) {
	for len(w.rest) == 0 {
		opcode, payload, err := w.next()
		if err != nil {
			return 0, err
		}

		switch opcode {
		case opBinary, opContinue:
			w.rest = payload
		case opPing:
			if err := w.frame(0x80|opPong, payload); err != nil {
				return 0, err
			}
		case opPong:
		case opClose:
			return 0, io.EOF
		default:
			return 0, fmt.Errorf("a server of MQTT sends no frame of type %d [MQTT-6.0.0-1]", opcode)
		}
	}

	n := copy(b, w.rest)
	w.rest = w.rest[n:]

	return n, nil
}

func (w *webSocket) next() (opcode byte, payload []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(w.r, head[:]); err != nil {
		return 0, nil, err
	}

	if head[1]&0x80 != 0 {
		return 0, nil, errors.New("a server masks nothing")
	}

	n := uint64(head[1])

	switch n {
	case 126:
		var more [2]byte
		_, err = io.ReadFull(w.r, more[:])
		n = uint64(binary.BigEndian.Uint16(more[:]))
	case 127:
		var more [8]byte
		_, err = io.ReadFull(w.r, more[:])
		n = binary.BigEndian.Uint64(more[:])
	}

	if err != nil || n > 1<<28 {
		return 0, nil, fmt.Errorf("a frame of %d bytes: %w", n, errors.Join(err, io.ErrUnexpectedEOF))
	}

	payload = make([]byte, n)
	_, err = io.ReadFull(w.r, payload)

	return head[0] & 0x0F, payload, err
}

var websocketCases = map[string]scenario{
	"MQTT runs over WebSocket": {
		five: "6.0.0-4 4.2-1 6.0.0-3", three: "6.0.0-4 7.1.1-1 6.0.0-3",
		run: func(s *scene) {
			c, _ := s.web("mqtt")
			c.connect(connect{id: s.id("a"), clean: true})
			c.subscribe(filter{s.topic("x"), 2})

			for _, payload := range []string{"1", strings.Repeat("x", 200), strings.Repeat("y", 70000)} {
				c.publish(message{topic: s.topic("x"), payload: payload, qos: 2})
				c.take(payload)
			}

			c.send(disconnect(s.v, 0, nil))
			c.ends()
		},
	},
	"the subprotocol is chosen among others": {
		five: "6.0.0-4", three: "6.0.0-4",
		run: func(s *scene) {
			c, _ := s.web("chat, mqtt")
			c.connect(connect{id: s.id("a"), clean: true})
			c.ping()
		},
	},
	"packets need not begin and end with frames": {
		five: "6.0.0-2", three: "6.0.0-2",
		run: func(s *scene) {
			k := connect{version: s.v, id: s.id("a"), clean: true}
			m := message{topic: s.topic("x"), payload: "1", qos: 1, id: 2}
			all := join(k.bytes(), subscribe(s.v, 1, nil, filter{s.topic("x"), 1}), m.bytes(s.v), pingreq())

			for _, size := range []int{0, 1, 3, 10} { // all in one frame, and each frame a part of a packet
				c, w := s.web("mqtt")
				w.size = size
				c.send(all)
				c.expect(typeConnack)
				c.await(typeSuback)
				c.await(typePuback)
				c.await(typePingresp)
				c.take("1")
			}
		},
	},
	"a message in several frames is one stream": {
		five: "6.0.0-2", three: "6.0.0-2",
		run: func(s *scene) {
			c, w := s.web("mqtt")
			k := connect{version: s.v, id: s.id("a"), clean: true}
			b := k.bytes()

			for i, part := range [][]byte{b[:3], b[3:9], b[9:]} {
				first := []byte{opBinary, opContinue, 0x80 | opContinue}[i]
				if err := w.frame(first, part); err != nil {
					s.failf("write: %v", err)
				}
			}

			c.expect(typeConnack)
			c.ping()
		},
	},
	"a text frame ends the connection": {
		five: "6.0.0-1", three: "6.0.0-1",
		run: func(s *scene) {
			k := connect{version: s.v, id: s.id("a"), clean: true}

			c, w := s.web("mqtt")
			if err := w.frame(0x80|opText, k.bytes()); err != nil {
				s.failf("write: %v", err)
			}

			c.ends()

			c, w = s.web("mqtt")
			c.connect(k)

			if err := w.frame(0x80|opText, pingreq()); err != nil {
				s.failf("write: %v", err)
			}

			c.closes()
		},
	},
	"a ping of the WebSocket is answered": {
		five: "6.0.0-2",
		run: func(s *scene) {
			c, w := s.web("mqtt")
			c.connect(connect{id: s.id("a"), clean: true})

			if err := w.frame(0x80|opPing, []byte("hello")); err != nil {
				s.failf("write: %v", err)
			}

			_ = w.SetDeadline(time.Now().Add(patience))

			if opcode, payload, err := w.next(); err != nil || opcode != opPong || string(payload) != "hello" {
				c.failf("the broker answered %d %q %v", opcode, payload, err)
			}

			c.ping()
		},
	},
	"who does not offer the subprotocol gets no other": {
		five: "6.0.0-4", three: "6.0.0-4",
		run: func(s *scene) {
			w, answer := s.upgrade("chat")
			defer func() { _ = w.Close() }()

			if answer != nil {
				defer func() { _ = answer.Body.Close() }()

				if p := answer.Header.Get("Sec-WebSocket-Protocol"); p != "" && p != "mqtt" {
					s.failf("the broker chose %q", p)
				}
			}
		},
	},
}
