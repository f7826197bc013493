// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
)

// header says what a peer owes.
type header byte

const (
	noHeader header = iota // and none is looked for
	mayHeader
	mustHeader
)

const (
	longestV1 = 107 // with its line end
	shortV2   = 16  // up to and with the length
	longestV2 = shortV2 + 4096
)

var (
	signatureV1 = []byte("PROXY ")
	signatureV2 = []byte("\r\n\r\n\x00\r\nQUIT\n")

	errNoHeader = errors.New("PROXY header: there is none")
)

// asks says what a peer owes. It is called for every connection.
func (p *Proxy) asks(remote netip.AddrPort) header {
	if p == nil {
		return noHeader
	}

	asked := mayHeader
	if p.Required {
		asked = mustHeader
	}

	// A unix socket.
	if !remote.IsValid() {
		return asked
	}

	answer, local := noHeader, remote.Addr().Unmap().WithZone("")

	for _, network := range p.Trusted {
		if !contains(network, local) {
			continue
		}

		if !local.IsLoopback() || network.Addr().Unmap().IsLoopback() {
			return asked
		}

		// Trusted along with everybody: that is no proxy in the pod, and perhaps a probe.
		answer = mayHeader
	}

	return answer
}

// Listens tells whether a header from this address is read; from a unix socket it is the zero one.
func (p *Proxy) Listens(from netip.Addr) bool {
	if !from.IsValid() {
		return p.asks(netip.AddrPort{}) != noHeader
	}

	return p.asks(netip.AddrPortFrom(from, 1)) != noHeader
}

// contains knows that ::ffff:10.0.0.0/104 is 10.0.0.0/8, and that ::/0 means everybody.
func contains(network netip.Prefix, a netip.Addr) bool {
	if network.Contains(a) {
		return true
	}

	return a.Is4() && network.Addr().Is6() && network.Contains(netip.AddrFrom16(a.As16()))
}

var headerBuffers = sync.Pool{New: func() any { return new([longestV2]byte) }}

// readHeader reads until it knows. What came after the header is early; the source is not valid if it keeps the socket's.
func readHeader(conn net.Conn, ask header) (source netip.AddrPort, early []byte, err error) {
	buf, _ := headerBuffers.Get().(*[longestV2]byte)
	defer headerBuffers.Put(buf)

	for n := 0; ; {
		// Each form is shorter than the buffer, so a full one has been decided.
		more, err := conn.Read(buf[n:])
		n += more

		size, source, fault := parseHeader(buf[:n])

		switch {
		case errors.Is(fault, errNoHeader) && ask == mayHeader:
			return netip.AddrPort{}, bytes.Clone(buf[:n]), nil
		case fault != nil:
			return netip.AddrPort{}, nil, fault
		case size > 0:
			return source, bytes.Clone(buf[size:n]), nil
		case err != nil:
			return netip.AddrPort{}, nil, fmt.Errorf("PROXY header: %w", err)
		}
	}
}

// parseHeader looks for a header at the beginning of buf. A size of 0 asks for more bytes.
func parseHeader(buf []byte) (size int, source netip.AddrPort, err error) {
	switch {
	case len(buf) == 0:
		return 0, source, nil
	case bytes.HasPrefix(buf, signatureV2):
		return parseV2(buf)
	case bytes.HasPrefix(buf, signatureV1):
		return parseV1(buf)
	case bytes.HasPrefix(signatureV1, buf), bytes.HasPrefix(signatureV2, buf):
		return 0, source, nil
	default:
		return 0, source, errNoHeader
	}
}

// parseV1 reads a line such as "PROXY TCP4 192.0.2.1 198.51.100.1 56324 1883".
func parseV1(buf []byte) (size int, source netip.AddrPort, err error) {
	end := bytes.IndexByte(buf[:min(len(buf), longestV1)], '\n')
	if end < 0 {
		if len(buf) >= longestV1 {
			return 0, source, errors.New("PROXY header: the line does not end")
		}

		return 0, source, nil
	}

	line, terminated := strings.CutSuffix(string(buf[:end]), "\r")
	if !terminated {
		return 0, source, errors.New("PROXY header: the line does not end with CR LF")
	}

	size = end + 1
	words := strings.Split(line, " ")

	switch family := words[1]; {
	case family == "UNKNOWN":
		// Whatever follows is to be ignored.
		return size, source, nil
	case family != "TCP4" && family != "TCP6":
		return 0, source, errors.New("PROXY header: the protocol is none of TCP4, TCP6 and UNKNOWN")
	case len(words) != 6:
		return 0, source, errors.New("PROXY header: the line needs two addresses and two ports")
	}

	from, err := parsePoint(words[1], words[2], words[4])
	if err != nil {
		return 0, source, err
	}

	// Where it was sent to is not used, but a line that is wrong there is not believed elsewhere.
	if _, err := parsePoint(words[1], words[3], words[5]); err != nil {
		return 0, source, err
	}

	return size, from, nil
}

func parsePoint(family, address, port string) (netip.AddrPort, error) {
	a, err := netip.ParseAddr(address)
	// nginx writes an IPv4 address into TCP6 if only one of the two sides is IPv6.
	if err != nil || a.Zone() != "" || family == "TCP4" && !a.Is4() {
		return netip.AddrPort{}, errors.New("PROXY header: an address is wrong")
	}

	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, errors.New("PROXY header: a port is wrong")
	}

	return netip.AddrPortFrom(a.Unmap(), uint16(p)), nil
}

// parseV2 reads the binary form.
func parseV2(buf []byte) (size int, source netip.AddrPort, err error) {
	if len(buf) < shortV2 {
		return 0, source, nil
	}

	version, command, family := buf[12]>>4, buf[12]&15, buf[13]
	length := int(binary.BigEndian.Uint16(buf[14:]))
	size = shortV2 + length

	if version != 2 || command > 1 {
		return 0, source, errors.New("PROXY header: version or command is unknown")
	}

	width, known := widths[family]

	switch {
	case size > longestV2:
		return 0, source, errors.New("PROXY header: longer than 4 KiB")
	case command == 0:
		// LOCAL: the proxy itself, as for its health check. The family is to be ignored.
	case !known:
		return 0, source, errors.New("PROXY header: the address family is unknown")
	case length < width:
		return 0, source, errors.New("PROXY header: too short for its addresses")
	}

	if len(buf) < size {
		return 0, source, nil
	}

	if body := buf[shortV2:size]; command == 1 {
		switch family {
		case 0x11:
			source = netip.AddrPortFrom(netip.AddrFrom4([4]byte(body)), binary.BigEndian.Uint16(body[8:]))
		case 0x21:
			source = netip.AddrPortFrom(netip.AddrFrom16([16]byte(body)).Unmap(), binary.BigEndian.Uint16(body[32:]))
		}
	}

	return size, source, nil
}

// widths are the bytes that the addresses of a family take: unspecified, IPv4, IPv6 and unix, each as stream or datagram.
var widths = map[byte]int{
	0x00: 0, 0x01: 0, 0x02: 0,
	0x10: 12, 0x11: 12, 0x12: 12,
	0x20: 36, 0x21: 36, 0x22: 36,
	0x30: 216, 0x31: 216, 0x32: 216,
}
