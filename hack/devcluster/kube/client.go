// SPDX-License-Identifier: Apache-2.0

// Package kube speaks to the API server in plain JSON.
//
// The node needs a handful of objects and two watches; that is no reason to compile a typed client. Objects are maps,
// written by server-side apply under one field owner, so writing twice is writing once.
package kube

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
)

// Object is any object of the API.
type Object map[string]any

// FieldOwner is who the API server notes as the author of what Apply writes.
const FieldOwner = "devcluster"

// Client is a connection to one API server as one user.
type Client struct {
	server string
	http   *http.Client
}

// Error is the API server's refusal.
type Error struct {
	Code    int
	Message string
}

func (e *Error) Error() string {
	return fmt.Sprintf("status %d: %s", e.Code, e.Message)
}

// NotFound is whether the server says that there is no such object.
func NotFound(err error) bool {
	var refusal *Error
	return errors.As(err, &refusal) && refusal.Code == http.StatusNotFound
}

// NewClient reads the credentials of a user from files.
func NewClient(server, caFile, certFile, keyFile string) (*Client, error) {
	authority, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authority) {
		return nil, fmt.Errorf("%s: no certificate", caFile)
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		// No proxy: the server is in this very network namespace.
		TLSClientConfig:   &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2: true,
	}
	return &Client{server: server, http: &http.Client{Transport: transport}}, nil
}

// Get reads an object, a list or a health endpoint that answers in JSON.
func (c *Client) Get(ctx context.Context, path string, into any) error {
	return c.do(ctx, http.MethodGet, path, "", nil, into)
}

// Healthy asks one of the server's own health endpoints.
func (c *Client) Healthy(ctx context.Context, path string) error {
	return c.do(ctx, http.MethodGet, path, "", nil, nil)
}

// Apply writes an object, or its status with path ending in /status, creating it where it does not exist.
func (c *Client) Apply(ctx context.Context, path string, object Object) error {
	body, err := json.Marshal(object)
	if err != nil {
		return err
	}
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	path += separator + url.Values{"fieldManager": {FieldOwner}, "force": {"true"}}.Encode()
	// JSON is YAML, and this is the older of the two content types for it.
	return c.do(ctx, http.MethodPatch, path, "application/apply-patch+yaml", body, nil)
}

// Patch merges changes into an object.
func (c *Client) Patch(ctx context.Context, path string, change Object) error {
	body, err := json.Marshal(change)
	if err != nil {
		return err
	}
	return c.do(ctx, http.MethodPatch, path, "application/merge-patch+json", body, nil)
}

// Delete removes an object; one that is gone already is no error.
func (c *Client) Delete(ctx context.Context, path string) error {
	err := c.do(ctx, http.MethodDelete, path, "", nil, nil)
	if NotFound(err) {
		return nil
	}
	return err
}

// Watch calls changed for every event of a collection until the server ends the watch, which it does every few minutes.
func (c *Client) Watch(ctx context.Context, path, resourceVersion string, changed func()) error {
	query := url.Values{"watch": {"true"}, "resourceVersion": {resourceVersion}}
	response, err := c.send(ctx, http.MethodGet, path+"?"+query.Encode(), "", nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	events := json.NewDecoder(response.Body)
	for {
		var event struct {
			Type   string          `json:"type"`
			Object json.RawMessage `json:"object"`
		}
		if err := events.Decode(&event); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("watch %s: %w", path, err)
		}
		if event.Type == "ERROR" {
			return fmt.Errorf("watch %s: %s", path, event.Object)
		}
		changed()
	}
}

func (c *Client) do(ctx context.Context, method, path, contentType string, body []byte, into any) error {
	response, err := c.send(ctx, method, path, contentType, body)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if into == nil {
		_, err := io.Copy(io.Discard, response.Body)
		return err
	}
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

func (c *Client) send(ctx context.Context, method, path, contentType string, body []byte) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.server+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	request.Header.Set("Accept", "application/json, */*;q=0.1")
	response, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode < 300 {
		return response, nil
	}
	defer response.Body.Close()
	content, _ := io.ReadAll(io.LimitReader(response.Body, 1<<16))
	var status struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(content, &status) != nil || status.Message == "" {
		status.Message = strings.TrimSpace(string(content))
	}
	return nil, fmt.Errorf("%s %s: %w", method, path, &Error{Code: response.StatusCode, Message: status.Message})
}
