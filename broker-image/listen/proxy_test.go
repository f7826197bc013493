// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pires/go-proxyproto"
)

// binaryHeader is a header of version 2, as another implementation writes it.
func binaryHeader(t testing.TB, source, destination string, extensions int) string {
	t.Helper()

	h := &proxyproto.Header{Version: 2, Command: proxyproto.LOCAL}
	if source != "" {
		h = proxyproto.HeaderProxyFromAddrs(2, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(source)),
			net.TCPAddrFromAddrPort(netip.MustParseAddrPort(destination)))
	}

	if extensions > 0 {
		if err := h.SetTLVs([]proxyproto.TLV{{Type: proxyproto.PP2_TYPE_NOOP, Value: make([]byte, extensions-3)}}); err != nil {
			t.Fatal(err)
		}
	}

	raw, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}

	return string(raw)
}

// v2 is a header by hand.
func v2(versionAndCommand, family byte, body string) string {
	return string(signatureV2) + string([]byte{versionAndCommand, family, byte(len(body) >> 8), byte(len(body))}) + body
}

func TestParseHeader(t *testing.T) {
	type result struct {
		Size   int
		Source string
		Fault  string
	}

	parse := func(text string) result {
		size, source, err := parseHeader([]byte(text))

		r := result{Size: size}
		if source.IsValid() {
			r.Source = source.String()
		}

		if err != nil {
			r.Fault = strings.TrimPrefix(err.Error(), "PROXY header: ")
		}

		return r
	}

	v4, v6 := binaryHeader(t, "192.0.2.1:56324", "198.51.100.1:1883", 0), binaryHeader(t, "[2001:db8::1]:4711", "[2001:db8::2]:1883", 0)
	cases := map[string]struct {
		reason string
		header string
		want   result
	}{
		"version 1, IPv4":          {"", "PROXY TCP4 192.0.2.1 198.51.100.1 56324 1883\r\n", result{46, "192.0.2.1:56324", ""}},
		"version 1, IPv6":          {"", "PROXY TCP6 2001:db8::1 2001:db8::2 4711 1883\r\n", result{46, "[2001:db8::1]:4711", ""}},
		"version 1, unknown":       {"the socket's address is kept", "PROXY UNKNOWN\r\n", result{15, "", ""}},
		"version 1, unknown more":  {"what follows is ignored", "PROXY UNKNOWN ff:: x y z\r\n", result{26, "", ""}},
		"version 1, IPv4 in TCP6":  {"nginx does so", "PROXY TCP6 192.0.2.1 2001:db8::2 1 2\r\n", result{38, "192.0.2.1:1", ""}},
		"version 1, IPv6 in TCP4":  {"that is no mistake that anybody makes", "PROXY TCP4 2001:db8::1 192.0.2.1 1 2\r\n", result{Fault: "an address is wrong"}},
		"version 1, no address":    {"", "PROXY TCP4 192.0.2.256 192.0.2.1 1 2\r\n", result{Fault: "an address is wrong"}},
		"version 1, bad target":    {"a header that is wrong in one place is not believed in another", "PROXY TCP4 192.0.2.1 x 1 2\r\n", result{Fault: "an address is wrong"}},
		"version 1, zone":          {"a zone of another machine means nothing here", "PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n", result{Fault: "an address is wrong"}},
		"version 1, port too big":  {"", "PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n", result{Fault: "a port is wrong"}},
		"version 1, port with +":   {"", "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n", result{Fault: "a port is wrong"}},
		"version 1, a word less":   {"", "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", result{Fault: "the line needs two addresses and two ports"}},
		"version 1, a word more":   {"", "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n", result{Fault: "the line needs two addresses and two ports"}},
		"version 1, UDP":           {"", "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n", result{Fault: "the protocol is none of TCP4, TCP6 and UNKNOWN"}},
		"version 1, nothing":       {"", "PROXY \r\n", result{Fault: "the protocol is none of TCP4, TCP6 and UNKNOWN"}},
		"version 1, bare LF":       {"", "PROXY UNKNOWN\n", result{Fault: "the line does not end with CR LF"}},
		"version 1, endless":       {"no peer may fill our memory", "PROXY UNKNOWN " + strings.Repeat("x", 200), result{Fault: "the line does not end"}},
		"version 1, longest":       {"", "PROXY UNKNOWN " + strings.Repeat("x", 91) + "\r\n", result{107, "", ""}},
		"version 2, IPv4":          {"", v4, result{28, "192.0.2.1:56324", ""}},
		"version 2, IPv6":          {"", v6, result{52, "[2001:db8::1]:4711", ""}},
		"version 2, extensions":    {"they are skipped", binaryHeader(t, "192.0.2.1:1", "192.0.2.2:2", 1000), result{1028, "192.0.2.1:1", ""}},
		"version 2, mapped IPv4":   {"it is the same client", v2(0x21, 0x21, "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x01"+strings.Repeat("\x00", 16)+"\x00\x07\x00\x00"), result{52, "192.0.2.1:7", ""}},
		"version 2, local":         {"a proxy's health check", binaryHeader(t, "", "", 0), result{16, "", ""}},
		"version 2, local, family": {"the family of LOCAL is ignored", v2(0x20, 0x11, ""), result{16, "", ""}},
		"version 2, unspecified":   {"", v2(0x21, 0, "abc"), result{19, "", ""}},
		"version 2, UDP":           {"what came over TCP was not sent from there", v2(0x21, 0x12, strings.Repeat("x", 12)), result{28, "", ""}},
		"version 2, unix":          {"", v2(0x21, 0x31, strings.Repeat("x", 216)), result{232, "", ""}},
		"version 2, family 4":      {"", v2(0x21, 0x41, ""), result{Fault: "the address family is unknown"}},
		"version 2, too short":     {"", v2(0x21, 0x11, "12345678901"), result{Fault: "too short for its addresses"}},
		"version 2, too long":      {"no peer may fill our memory", v2(0x21, 0x11, strings.Repeat("x", 4097))[:16], result{Fault: "longer than 4 KiB"}},
		"version 2, longest":       {"", v2(0x20, 0, strings.Repeat("x", 4096)), result{4112, "", ""}},
		"version 3":                {"", v2(0x31, 0x11, strings.Repeat("x", 12)), result{Fault: "version or command is unknown"}},
		"version 2, command 2":     {"", v2(0x22, 0x11, strings.Repeat("x", 12)), result{Fault: "version or command is unknown"}},
		"nothing yet":              {"", "", result{}},
		"a CONNECT":                {"", "\x10\x0c\x00\x04MQTT", result{Fault: "there is none"}},
		"a POST":                   {"its first letter is the same", "POST / HTTP/1.1", result{Fault: "there is none"}},
		"lower case":               {"", "proxy UNKNOWN\r\n", result{Fault: "there is none"}},
		"signature with a flaw":    {"", "\r\n\r\n\x00\r\nQUIT\r", result{Fault: "there is none"}},
	}

	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(c.want, parse(c.header)); d != "" {
				t.Fatalf("%s:\n%s", c.reason, d)
			}

			if c.want.Size == 0 {
				return
			}

			if d := cmp.Diff(c.want, parse(c.header+"\x10\x0c\r\n")); d != "" {
				t.Errorf("what follows must make no difference:\n%s", d)
			}

			for n := range c.want.Size {
				if d := cmp.Diff(result{}, parse(c.header[:n])); d != "" {
					t.Fatalf("%d bytes of it are the beginning of a header:\n%s", n, d)
				}
			}
		})
	}
}

// What we believe, another implementation understands in the same way.
func FuzzParseHeader(f *testing.F) {
	for _, seed := range []string{
		"PROXY TCP4 192.0.2.1 198.51.100.1 56324 1883\r\nrest", "PROXY TCP6 2001:db8::1 ::ffff:1.2.3.4 4711 1883\r\n",
		"PROXY UNKNOWN\r\n", binaryHeader(f, "192.0.2.1:56324", "198.51.100.1:1883", 20), binaryHeader(f, "[2001:db8::1]:1", "[::1]:2", 0),
		v2(0x20, 0, "abc"), v2(0x21, 0x31, strings.Repeat("x", 216)),
	} {
		f.Add([]byte(seed))
	}

	f.Fuzz(func(t *testing.T, data []byte) {
		size, source, err := parseHeader(data)
		if size < 0 || size > len(data) || err != nil && size != 0 {
			t.Fatalf("size %d of %d, error %v", size, len(data), err)
		}

		if !source.IsValid() {
			return
		}

		reader := bufio.NewReaderSize(bytes.NewReader(data), 2*longestV2)

		theirs, err := proxyproto.Read(reader)
		if err != nil {
			t.Fatalf("we take %q for %s, others say %v", data[:size], source, err)
		}

		a, _ := theirs.SourceAddr.(*net.TCPAddr)
		if a == nil || netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), a.AddrPort().Port()) != source {
			t.Errorf("we take %q for %s, others for %v", data[:size], source, theirs.SourceAddr)
		}

		if rest, _ := io.ReadAll(reader); len(rest) != len(data)-size {
			t.Errorf("we leave %d bytes, others %d", len(data)-size, len(rest))
		}
	})
}

func TestWhoOwesAHeader(t *testing.T) {
	prefixes := func(texts ...string) []netip.Prefix {
		var p []netip.Prefix
		for _, text := range texts {
			p = append(p, netip.MustParsePrefix(text))
		}

		return p
	}

	cases := map[string]struct {
		reason         string
		trusted        []netip.Prefix
		remote         string
		want, optional header
	}{
		"in a trusted network":       {"", prefixes("fd00::/8", "10.0.0.0/8"), "10.1.2.3:4", mustHeader, mayHeader},
		"elsewhere":                  {"it is taken as it is", prefixes("10.0.0.0/8"), "11.1.2.3:4", noHeader, noHeader},
		"IPv4 as IPv6":               {"it is the same peer", prefixes("10.0.0.0/8"), "[::ffff:10.1.2.3]:4", mustHeader, mayHeader},
		"a mapped network":           {"it is the same network", prefixes("::ffff:10.0.0.0/104"), "10.1.2.3:4", mustHeader, mayHeader},
		"everybody, of IPv6":         {"::/0 holds all", prefixes("::/0"), "10.1.2.3:4", mustHeader, mayHeader},
		"a zone":                     {"a zone is no part of a network", prefixes("fe80::/10"), "[fe80::1%2]:4", mustHeader, mayHeader},
		"a probe":                    {"loopback is trusted only as part of the whole", prefixes("0.0.0.0/0"), "127.0.0.1:4", mayHeader, mayHeader},
		"a probe over IPv6":          {"as above", prefixes("::/0"), "[::1]:4", mayHeader, mayHeader},
		"a probe of another network": {"it owes nothing", prefixes("10.0.0.0/8"), "127.0.0.1:4", noHeader, noHeader},
		"a proxy in the pod":         {"who trusts loopback itself means it", prefixes("0.0.0.0/0", "127.0.0.1/32"), "127.0.0.1:4", mustHeader, mayHeader},
		"a unix socket":              {"its peers are trusted", nil, "", mustHeader, mayHeader},
	}

	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var remote netip.AddrPort
			if c.remote != "" {
				remote = netip.MustParseAddrPort(c.remote)
			}

			required, optional := &Proxy{Required: true, Trusted: c.trusted}, &Proxy{Trusted: c.trusted}
			if d := cmp.Diff([]header{c.want, c.optional}, []header{required.asks(remote), optional.asks(remote)}); d != "" {
				t.Errorf("%s:\n%s", c.reason, d)
			}

			if got := (*Proxy)(nil).asks(remote); got != noHeader {
				t.Errorf("without PROXY: %v", got)
			}
		})
	}
}

func TestPROXYOverRealSockets(t *testing.T) {
	const line = "PROXY TCP4 192.0.2.1 198.51.100.1 56324 1883\r\n"

	elsewhere := &Proxy{Required: true, Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	cases := map[string]struct {
		reason string
		proxy  *Proxy
		send   []string // piece by piece
		read   string   // what the handler reads; with nothing, the connection must have been refused
		remote string   // empty: the socket's
	}{
		"version 1":                       {"", loopback(true), []string{line + "hello"}, "hello", "192.0.2.1:56324"},
		"version 2":                       {"", loopback(true), []string{binaryHeader(t, "[2001:db8::1]:7", "[::1]:8", 0), "hello"}, "hello", "[2001:db8::1]:7"},
		"version 1 in pieces":             {"the network may cut where it likes", loopback(true), []string{"P", "ROXY TCP4 192.0.2.1 ", "198.51.100.1 56324 1883\r", "\nhel", "lo"}, "hello", "192.0.2.1:56324"},
		"version 2 in pieces":             {"", loopback(true), []string{binaryHeader(t, "192.0.2.1:7", "192.0.2.2:8", 0)[:5], binaryHeader(t, "192.0.2.1:7", "192.0.2.2:8", 0)[5:20], binaryHeader(t, "192.0.2.1:7", "192.0.2.2:8", 0)[20:] + "hello"}, "hello", "192.0.2.1:7"},
		"local":                           {"the proxy speaks for itself", loopback(true), []string{binaryHeader(t, "", "", 0) + "hello"}, "hello", ""},
		"unknown":                         {"the proxy does not know either", loopback(true), []string{"PROXY UNKNOWN\r\nhello"}, "hello", ""},
		"none where one is required":      {"somebody goes round the proxy's settings", loopback(true), []string{"hello"}, "", ""},
		"none where one is optional":      {"", loopback(false), []string{"hello"}, "hello", ""},
		"almost one where it is optional": {"not a byte may get lost", loopback(false), []string{"PRO", "BLEM"}, "PROBLEM", ""},
		"one where it is optional":        {"", loopback(false), []string{line + "hello"}, "hello", "192.0.2.1:56324"},
		"broken where it is optional":     {"half a header is no beginning of anything else", loopback(false), []string{"PROXY TCP4 hello\r\n"}, "", ""},
		"from elsewhere":                  {"a header that is not believed is not skipped either", elsewhere, []string{line}, line, ""},
		"none from elsewhere":             {"probes from within the pod", elsewhere, []string{"hello"}, "hello", ""},
		"one where none is read":          {"", nil, []string{line}, line, ""},
	}

	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			type result struct{ Read, Remote string }

			results := make(chan result, 1)
			l := bind(t, Settings{Proxy: c.proxy}, Options{Handler: func(conn *Conn) {
				go func() {
					defer conn.Close()

					buf := make([]byte, max(len(c.read), 1))
					n, _ := io.ReadFull(conn, buf)
					results <- result{string(buf[:n]), conn.RemoteAddr().String()}
				}()
			}})

			conn := dial(t, l)
			for _, piece := range c.send {
				_, _ = io.WriteString(conn, piece)
			}

			if c.read == "" {
				if !ended(conn) || l.Refused(BadProxyHeader) != 1 {
					t.Error("must be refused: " + c.reason)
				}

				return
			}

			want := result{c.read, c.remote}
			if want.Remote == "" {
				want.Remote = conn.LocalAddr().String()
			}

			if d := cmp.Diff(want, <-results); d != "" {
				t.Errorf("%s:\n%s", c.reason, d)
			}
		})
	}
}

func TestPROXYBeforeTLS(t *testing.T) {
	remotes := make(chan string, 1)
	l := bind(t, Settings{TLS: secure(t, 1), Proxy: loopback(true)}, Options{Handler: func(c *Conn) {
		remotes <- c.RemoteAddr().String()

		echo(c)
	}})

	conn := dial(t, l)
	_, _ = io.WriteString(conn, "PROXY TCP4 192.0.2.1 198.51.100.1 56324 8883\r\n")

	if err := echoes(client(t, conn)); err != nil {
		t.Fatal(err)
	}

	if got := <-remotes; got != "192.0.2.1:56324" {
		t.Errorf("remote %s", got)
	}
}

func TestPROXYIsSwitchedLive(t *testing.T) {
	l := bind(t, Settings{}, Options{Handler: echo})
	if err := echoes(dial(t, l)); err != nil {
		t.Fatal(err)
	}

	l.Set(Settings{Proxy: loopback(true)})

	conn := dial(t, l)
	_, _ = io.WriteString(conn, "PROXY UNKNOWN\r\n")

	if err := echoes(conn); err != nil {
		t.Error(err)
	}

	bare := dial(t, l)
	_, _ = io.WriteString(bare, "hello")

	if !ended(bare) {
		t.Error("the new settings count")
	}
}
