// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// BridgeClient talks to one bridge. Its methods end with their context.
type BridgeClient struct{ client *Client }

// NewBridgeClient takes the address of the endpoint, host:port. trust holds the caller's certificate, the CA, and the
// name by which the bridge is known.
func NewBridgeClient(address string, trust *tls.Config) *BridgeClient {
	return &BridgeClient{client: NewClient(address, trust)}
}

// Status asks what runs.
func (c *BridgeClient) Status(ctx context.Context) (BridgeStatus, error) {
	var status BridgeStatus
	code, err := c.client.call(ctx, http.MethodGet, statusPath, nil, &status, nil)
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("the bridge answered %d", code)
	}
	return status, err
}

// Apply hands over a configuration, the content of bridge.json, and returns what runs then. The error is a
// [RefusedError] where the bridge will not have it, or wraps [ErrOlder] where a newer one runs; the status is set in the
// latter case too.
func (c *BridgeClient) Apply(ctx context.Context, text []byte) (BridgeStatus, error) {
	body, err := json.Marshal(offer{Files: contract.Bundle{contract.BridgeFile: text}})
	if err != nil {
		return BridgeStatus{}, fmt.Errorf("offer: %w", err)
	}
	var (
		status BridgeStatus
		said   answer
	)
	code, err := c.client.call(ctx, http.MethodPut, configPath, body, &status, &said)
	switch {
	case err != nil:
		return status, err
	case code == http.StatusOK:
		return status, nil
	case code == http.StatusConflict:
		return status, fmt.Errorf("%w: revision %d", ErrOlder, status.Revision)
	case code == http.StatusUnprocessableEntity:
		return status, &RefusedError{Reason: said.Error}
	default:
		return status, fmt.Errorf("the bridge answered %d: %s", code, said.Error)
	}
}
