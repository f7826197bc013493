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

const drainPath = "/v1/drain"

// ErrNoDrain says that the broker is of a release that cannot be drained while it runs.
var ErrNoDrain = errors.New("the broker cannot be drained while it runs; it is older than that")

// DrainOptions say how clients are sent away.
type DrainOptions struct {
	// Rate is how many go per second; 0: that of the configuration.
	Rate int `json:"rate,omitempty"`
	// DeadlineSeconds is when those go at once who are left; 0: never.
	DeadlineSeconds float64 `json:"deadlineSeconds,omitempty"`
	// ServerReference is where clients of MQTT 5 are told to go; Permanent says that they should go there from now on.
	ServerReference string `json:"serverReference,omitempty"`
	Permanent       bool   `json:"permanent,omitempty"`
}

// DrainStatus says how far a drain is. There may be more fields in later releases.
type DrainStatus struct {
	// Draining: clients are or were sent away, and nobody is let in. Done: there is nobody left.
	Draining bool `json:"draining"`
	Done     bool `json:"done"`
	// Rate is the one that holds.
	Rate            int       `json:"rate,omitempty"`
	ServerReference string    `json:"serverReference,omitempty"`
	Began           time.Time `json:"began,omitzero"`
	// Sent have been sent away; Left are connected still.
	Sent int `json:"sent"`
	Left int `json:"left"`
}

// Drainer sends the clients of a broker away that goes on.
type Drainer interface {
	// Drain begins, and lets nobody in until EndDrain.
	Drain(o DrainOptions) error
	DrainStatus() DrainStatus
	EndDrain()
}

// WithDrain has clients sent away.
func WithDrain(drainer Drainer) Option {
	return func(mux *http.ServeMux) {
		mux.HandleFunc("GET "+drainPath, func(w http.ResponseWriter, _ *http.Request) {
			reply(w, http.StatusOK, drainer.DrainStatus())
		})
		mux.HandleFunc("POST "+drainPath, func(w http.ResponseWriter, r *http.Request) {
			o := DrainOptions{}
			if !asked(w, r, &o) {
				return
			}
			if err := drainer.Drain(o); err != nil {
				reply(w, http.StatusUnprocessableEntity, answer{Error: err.Error()})
				return
			}
			reply(w, http.StatusOK, drainer.DrainStatus())
		})
		mux.HandleFunc("DELETE "+drainPath, func(w http.ResponseWriter, _ *http.Request) {
			drainer.EndDrain()
			reply(w, http.StatusOK, drainer.DrainStatus())
		})
	}
}

// Drain has the clients of a broker sent away, and does not wait until they are gone.
func (c *Client) Drain(ctx context.Context, o DrainOptions) (DrainStatus, error) {
	return c.drain(ctx, http.MethodPost, o)
}

// DrainStatus asks how far it is.
func (c *Client) DrainStatus(ctx context.Context) (DrainStatus, error) {
	return c.drain(ctx, http.MethodGet, nil)
}

// EndDrain has clients let in again.
func (c *Client) EndDrain(ctx context.Context) (DrainStatus, error) {
	return c.drain(ctx, http.MethodDelete, nil)
}

func (c *Client) drain(ctx context.Context, method string, question any) (DrainStatus, error) {
	status, said := DrainStatus{}, answer{}
	body, err := jsonOrNothing(question)
	if err != nil {
		return status, fmt.Errorf("admin endpoint: %w", err)
	}
	switch code, err := c.call(ctx, method, drainPath, body, &status, &said); {
	case code == http.StatusNotFound || code == http.StatusMethodNotAllowed:
		return status, ErrNoDrain
	case err != nil:
		return status, err
	case code != http.StatusOK:
		return status, fmt.Errorf("the broker answered %d: %s", code, said.Error)
	default:
		return status, nil
	}
}

func jsonOrNothing(v any) ([]byte, error) {
	if v == nil {
		return nil, nil
	}
	return json.Marshal(v)
}
