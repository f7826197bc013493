// SPDX-License-Identifier: Apache-2.0

package bridging

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/mqtt-operator/mqtt-operator/hack/bench/wire"
)

// patience is how long a bridge may take until a first message passes.
const patience = 20 * time.Second

// client is as little of one as is needed to see whether something passes.
type client struct {
	conn net.Conn
	buf  []byte
}

func dial(ctx context.Context, to netip.AddrPort, version byte, id string) (*client, error) {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	c := &client{conn: conn}
	if _, err := conn.Write(wire.AppendConnect(nil, wire.ConnectOptions{Version: version, ClientID: id, KeepAlive: 60})); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	p, err := c.next(5 * time.Second)
	if err == nil {
		_, err = wire.CheckConnack(p)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

// next reads a packet.
func (c *client) next(wait time.Duration) (wire.Packet, error) {
	_ = c.conn.SetReadDeadline(time.Now().Add(wait))
	for {
		p, n, err := wire.Split(c.buf)
		if err != nil {
			return p, err
		}
		if n > 0 {
			c.buf = c.buf[n:]
			return p, nil
		}
		some := make([]byte, 4096)
		read, err := c.conn.Read(some)
		if err != nil {
			return p, err
		}
		c.buf = append(c.buf, some[:read]...)
	}
}

// passes publishes at the source until something arrives at the destination.
func passes(ctx context.Context, source, destination netip.AddrPort, version byte) error {
	const topic = "bench/probe"
	receiver, err := dial(ctx, destination, version, "probe-receiver")
	if err != nil {
		return err
	}
	defer receiver.conn.Close()
	sender, err := dial(ctx, source, version, "probe-sender")
	if err != nil {
		return err
	}
	defer sender.conn.Close()
	if _, err := receiver.conn.Write(wire.AppendSubscribe(nil, version, 1, []string{topic}, 0)); err != nil {
		return err
	}
	message, _, _ := wire.AppendPublish(nil, wire.PublishOptions{Version: version}, topic, []byte("probe"))
	for end := time.Now().Add(patience); time.Now().Before(end) && ctx.Err() == nil; {
		if _, err := sender.conn.Write(message); err != nil {
			return err
		}
		p, err := receiver.next(50 * time.Millisecond)
		switch {
		case err == nil && p.Type == wire.Publish:
			return nil
		case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		}
	}
	return fmt.Errorf("no message has passed the bridge within %s", patience)
}
