// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// connectPacket is a CONNECT of MQTT 3.1.1 with a clean session.
func connectPacket(clientID, username string, password []byte) []byte {
	field := func(to, content []byte) []byte {
		return append(binary.BigEndian.AppendUint16(to, uint16(len(content))), content...) //nolint:gosec // as short as we make them
	}
	const cleanWithUsernameAndPassword = 0xC2
	body := append(field(nil, []byte("MQTT")), 4, cleanWithUsernameAndPassword, 0, 0)
	for _, content := range [][]byte{[]byte(clientID), []byte(username), password} {
		body = field(body, content)
	}
	packet := []byte{0x10}
	for rest := len(body); ; {
		digit := byte(rest % 128)
		if rest /= 128; rest == 0 {
			return append(append(packet, digit), body...)
		}
		packet = append(packet, digit|0x80)
	}
}

// errRefused says that the broker answered, and the answer was no.
var errRefused = errors.New("refused")

// source is an address of 127.0.0.0/8 to connect from. Who tries a user before the broker knows it fails, and the broker
// has a source that failed with a name wait: so each try comes from another one.
func source(try int) net.Addr {
	return &net.TCPAddr{IP: net.IPv4(127, 1, byte(try/250), byte(1+try%250))} //nolint:gosec // within a byte, each
}

// connect opens a connection from an address that the broker accepts; trust is nil for one without TLS, from for any
// address. The caller closes it.
func connect(ctx context.Context, from net.Addr, at string, trust *tls.Config, packet []byte) (net.Conn, error) {
	var (
		conn   net.Conn
		err    error
		dialer = &net.Dialer{LocalAddr: from}
	)
	if trust == nil {
		conn, err = dialer.DialContext(ctx, "tcp", at)
	} else {
		conn, err = (&tls.Dialer{NetDialer: dialer, Config: trust}).DialContext(ctx, "tcp", at)
	}
	if err != nil {
		return nil, err
	}
	if err := shake(ctx, conn, packet); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// shake sends a CONNECT and reads the CONNACK.
func shake(ctx context.Context, conn net.Conn, packet []byte) error {
	if deadline, found := ctx.Deadline(); found {
		conn.SetDeadline(deadline)
		defer conn.SetDeadline(time.Time{})
	}
	if _, err := conn.Write(packet); err != nil {
		return err
	}
	var connack [4]byte
	if _, err := io.ReadFull(conn, connack[:]); err != nil {
		return err
	}
	if connack[0] != 0x20 || connack[3] != 0 {
		return fmt.Errorf("%w: CONNACK % x", errRefused, connack)
	}
	return nil
}
