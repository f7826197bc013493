// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// Client talks to one broker. Its methods end with their context.
type Client struct {
	base string
	http *http.Client
}

// NewClient takes the address of the endpoint, host:port. trust holds the caller's certificate, the CA, and the name
// by which the broker is known.
func NewClient(address string, trust *tls.Config) *Client {
	return &Client{
		base: "https://" + address,
		http: &http.Client{Transport: &http.Transport{TLSClientConfig: trust, DisableKeepAlives: true}},
	}
}

// NewClientOver talks through connections that dial makes, to the same endpoint each time.
func NewClientOver(dial func(context.Context) (net.Conn, error), trust *tls.Config) *Client {
	c := NewClient(trust.ServerName, trust)
	c.http.Transport = &http.Transport{
		TLSClientConfig: trust, DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
	}
	return c
}

// Status asks what runs.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var status Status
	code, err := c.call(ctx, http.MethodGet, statusPath, nil, &status, nil)
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("the broker answered %d", code)
	}
	return status, err
}

// Apply hands over a configuration, as little of it as the broker needs, and returns what runs then. The error is a
// [RefusedError] where the broker will not have it, or wraps [ErrOlder] where a newer one runs; the status is set in
// the latter case too.
func (c *Client) Apply(ctx context.Context, bundle contract.Bundle) (Status, error) {
	running, err := c.Status(ctx)
	if err != nil {
		return running, err
	}
	if running.Digest == bundle.Digest() {
		return running, nil
	}
	files := contract.Bundle{}
	for name, content := range bundle {
		if name == contract.BrokerFile || running.Parts[name] != contract.DigestOf(content) {
			files[name] = content
		}
	}
	status, err := c.put(ctx, files)
	if _, lacks := errors.AsType[*MissingError](err); lacks { // it moved on between the question and the offer
		return c.put(ctx, maps.Clone(bundle))
	}
	return status, err
}

func (c *Client) put(ctx context.Context, files contract.Bundle) (Status, error) {
	body, err := json.Marshal(offer{Files: files})
	if err != nil {
		return Status{}, fmt.Errorf("offer: %w", err)
	}
	var (
		status Status
		said   answer
	)
	code, err := c.call(ctx, http.MethodPut, configPath, body, &status, &said)
	switch {
	case err != nil:
		return status, err
	case code == http.StatusOK:
		return status, nil
	case code == http.StatusConflict:
		return status, fmt.Errorf("%w: revision %d", ErrOlder, status.Revision)
	case code == http.StatusUnprocessableEntity:
		return status, &RefusedError{Reason: said.Error}
	case code == http.StatusPreconditionRequired:
		return status, &MissingError{Parts: said.Missing}
	default:
		return status, fmt.Errorf("the broker answered %d: %s", code, said.Error)
	}
}

// call decodes the answer into status where the code says that it is one, else into said.
func (c *Client) call(ctx context.Context, method, path string, body []byte, status any, said *answer) (int, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("admin endpoint: %w", err)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return 0, fmt.Errorf("admin endpoint: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	var into any = said
	if response.StatusCode == http.StatusOK || response.StatusCode == http.StatusConflict {
		into = status
	}
	if into == any((*answer)(nil)) {
		return response.StatusCode, nil
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxBody)).Decode(into); err != nil {
		return response.StatusCode, fmt.Errorf("admin endpoint: the broker's answer: %w", err)
	}
	return response.StatusCode, nil
}
