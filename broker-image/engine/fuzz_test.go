// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// FuzzConversation sends what follows a CONNECT, or comes instead of it, cut in two at some place. Whatever it is, the
// broker must neither panic nor stop to serve others.
func FuzzConversation(f *testing.F) {
	for _, version := range []byte{3, 4, 5} {
		connect := login{version: version, id: "fuzz"}.packet().encode()
		f.Add(version, true, connect, 3)
		f.Add(version, false, []byte{0x30, 4, 0, 1, 'a', 'x'}, 2)
		f.Add(version, false, []byte{0x82, 6, 0, 1, 0, 1, '#', 2, 0x34, 6, 0, 1, 'a', 0, 7, 'x', 0x62, 2, 0, 7}, 9)
		f.Add(version, false, []byte{0x82, 7, 0, 1, 0, 0, 1, '#', 2, 0x34, 7, 0, 1, 'a', 0, 7, 0, 'x', 0x62, 2, 0, 7}, 12)
		f.Add(version, false, []byte{0xC0, 0, 0xA2, 5, 0, 9, 0, 1, 'a', 0xE0, 0}, 5)
	}

	log := &logbook{}
	config := baseConfig()
	config.Listeners[0].Anonymous = &contract.Anonymous{ACL: []acl.Rule{allow("#")}}
	config.Limits.MaxPacketSize = 4096
	h := open(f, Options{Log: log.logger()}, config)
	address := h.address("tcp")

	f.Fuzz(func(t *testing.T, version byte, stranger bool, input []byte, cut int) {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Skip(err)
		}
		defer conn.Close()

		_ = conn.SetDeadline(time.Now().Add(patience))

		if !stranger {
			_, _ = conn.Write(login{version: 3 + version%3, id: "fuzz"}.packet().encode())
		}

		cut = max(0, min(cut, len(input)))
		_, _ = conn.Write(input[:cut])
		_, _ = conn.Write(input[cut:])

		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.CloseWrite()
		}

		if _, err := io.Copy(io.Discard, conn); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Fatalf("the broker hangs on % x, cut at %d", input, cut)
		}

		if strings.Contains(log.String(), "please report this") {
			t.Fatalf("panic on % x, cut at %d:\n%s", input, cut, log.String())
		}

		log.mu.Lock()
		defer log.mu.Unlock()

		log.buf = bytes.Buffer{}
	})
}
