// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"context"
	"net"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// Dial opens what carries MQTT to an endpoint, for a client that is no bridge. An error says what to do about it.
func Dial(ctx context.Context, end *contract.BridgeEnd, endpoint string) (net.Conn, error) {
	conn, err := dial(ctx, end, endpoint)
	if err != nil {
		return nil, asFault(endpoint, err)
	}

	return conn, nil
}

// Refusal is what a reason code of CONNACK or DISCONNECT of MQTT 5 means, in words.
func Refusal(endpoint string, code byte, said string) error { return refusal5(endpoint, code, said) }
