// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

// TestPacketsOfTheLibraryStayWhole writes what the library writes in pieces (here SUBSCRIBE) beside acknowledgements and
// the pinger, and reads the whole as a server does.
func TestPacketsOfTheLibraryStayWhole(t *testing.T) {
	t.Parallel()

	const each = 2000

	near, far := net.Pipe()
	s := newStream(near, 5, time.Minute)
	read, enough := make(chan error, 1), make(chan struct{})

	go func() {
		defer far.Close()
		defer close(enough)

		for subscribed := 0; subscribed < each; {
			packet, err := packets.ReadPacket(far)
			if err != nil {
				read <- err

				return
			}

			if c, is := packet.Content.(*packets.Subscribe); is {
				subscribed++

				if len(c.Subscriptions) != 1 || c.Subscriptions[0].Topic != "hall/press/+/temperature" {
					read <- fmt.Errorf("it reads the subscriptions %v", c.Subscriptions)

					return
				}
			}
		}

		read <- nil
	}()

	var writers sync.WaitGroup

	writers.Go(func() {
		for {
			select {
			case <-enough:
				return
			default:
				s.gather(func(b []byte) []byte { return appendAck(b, 0x40, 7) })
			}
		}
	})
	writers.Go(func() {
		for range each {
			packet := packets.NewControlPacket(packets.SUBSCRIBE)
			packet.Content = &packets.Subscribe{PacketID: 9, Properties: &packets.Properties{}, Subscriptions: []packets.SubOptions{{Topic: "hall/press/+/temperature", QoS: 1}}}

			if _, err := packet.WriteTo(s); err != nil {
				return // the reader says why
			}
		}
	})
	writers.Wait()

	if err := <-read; err != nil {
		t.Errorf("a server cannot read what was written: %v", err)
	}

	s.fail(net.ErrClosed)
}
