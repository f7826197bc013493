// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"net"
	"testing"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho/session/state"
)

// A PUBREC that is read when the connection has ended is the end of the connection, and not of the program.
func TestAnAnswerBehindTheEndOfTheConnection(t *testing.T) {
	answer := &packets.ControlPacket{
		FixedHeader: packets.FixedHeader{Type: packets.PUBREC}, Content: &packets.Pubrec{PacketID: 1, Properties: &packets.Properties{}},
	}
	if err := (careful{state.NewInMemory()}).PacketReceived(answer, nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}
