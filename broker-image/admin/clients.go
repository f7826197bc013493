// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

const (
	clientsPath    = "/v1/clients"
	disconnectPath = "/v1/disconnect"

	// MaxClients is how many clients one page holds at most, and does where the caller names no number.
	MaxClients = 1000
	// maxQuestion bounds the body of a question about clients: a client identifier may have 64 KiB, and JSON six times that.
	maxQuestion = 1 << 20
)

// ErrNoClients says that the broker is of a release that does not list its clients.
var ErrNoClients = errors.New("the broker does not list its clients; it is older than that")

// ClientFilter says which clients are listed. What is empty does not narrow.
type ClientFilter struct {
	// After is the client id behind which the page begins.
	After string `json:"after,omitempty"`
	// Prefix is how the client id begins.
	Prefix string `json:"prefix,omitempty"`
	// User and Listener are the whole names.
	User     string `json:"user,omitempty"`
	Listener string `json:"listener,omitempty"`
	// Limit is how many are listed; 0 or more than [MaxClients] is that.
	Limit int `json:"limit,omitempty"`
}

// ClientPage is a part of the list.
type ClientPage struct {
	Clients []ConnectedClient `json:"clients"`
	// Next is the After of the page that follows; empty if none does.
	Next string `json:"next,omitempty"`
}

// ConnectedClient is a client that is connected. There may be more fields in later releases.
type ConnectedClient struct {
	Client   string `json:"client"`
	User     string `json:"user,omitempty"`
	Listener string `json:"listener"`
	Remote   string `json:"remote"`
	// Version of the protocol: 3, 4 (3.1.1) or 5.
	Version byte `json:"version"`
	// Since is when it was let in.
	Since         time.Time `json:"since"`
	Subscriptions int       `json:"subscriptions"`
	// Queued messages wait to be sent to it; Inflight ones have been and are not acknowledged.
	Queued      int   `json:"queued"`
	QueuedBytes int64 `json:"queuedBytes"`
	Inflight    int   `json:"inflight"`
}

// Clients are those that are connected to a broker.
type Clients interface {
	// List gives a page of them, by client id.
	List(filter ClientFilter) ClientPage
	// Disconnect ends the connection of one, and says whether it had one. Its session stays.
	Disconnect(client string) bool
}

// Option adds something to what [Handler] serves.
type Option func(*http.ServeMux)

// WithClients lists clients and disconnects them.
func WithClients(clients Clients) Option {
	return func(mux *http.ServeMux) {
		mux.HandleFunc("POST "+clientsPath, func(w http.ResponseWriter, r *http.Request) {
			filter := ClientFilter{}
			if !asked(w, r, &filter) {
				return
			}

			if filter.Limit <= 0 || filter.Limit > MaxClients {
				filter.Limit = MaxClients
			}

			reply(w, http.StatusOK, clients.List(filter))
		})
		mux.HandleFunc("POST "+disconnectPath, func(w http.ResponseWriter, r *http.Request) {
			body := disconnect{}
			if !asked(w, r, &body) {
				return
			}

			reply(w, http.StatusOK, disconnected{Disconnected: clients.Disconnect(body.Client)})
		})
	}
}

// disconnect and disconnected are question and answer.
type disconnect struct {
	Client string `json:"client"`
}

type disconnected struct {
	Disconnected bool `json:"disconnected"`
}

// asked decodes a question, or answers that it is none.
func asked(w http.ResponseWriter, r *http.Request, question any) bool {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxQuestion))
	dec.DisallowUnknownFields()

	if err := dec.Decode(question); err != nil {
		reply(w, http.StatusBadRequest, answer{Error: "the body is no question of this kind"})

		return false
	}

	return true
}

// Clients lists a page of those that are connected. The error is [ErrNoClients] where the broker does not list any.
func (c *Client) Clients(ctx context.Context, filter ClientFilter) (ClientPage, error) {
	page := ClientPage{}
	err := c.ask(ctx, clientsPath, filter, &page)

	return page, err
}

// Disconnect ends the connection of a client, and says whether it had one. The client finds its session when it comes
// back. The error is [ErrNoClients] as with Clients.
func (c *Client) Disconnect(ctx context.Context, client string) (bool, error) {
	said := disconnected{}
	err := c.ask(ctx, disconnectPath, disconnect{Client: client}, &said)

	return said.Disconnected, err
}

func (c *Client) ask(ctx context.Context, path string, question, into any) error {
	body, err := json.Marshal(question)
	if err != nil {
		return fmt.Errorf("admin endpoint: %w", err)
	}

	switch code, err := c.call(ctx, http.MethodPost, path, body, into, nil); {
	case err != nil:
		return err
	case code == http.StatusNotFound:
		return ErrNoClients
	case code != http.StatusOK:
		return fmt.Errorf("the broker answered %d", code)
	default:
		return nil
	}
}
