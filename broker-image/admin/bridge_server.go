// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// BridgeKeeper holds the configuration of a bridge that runs and lets only a newer and valid one take its place. It is
// safe for concurrent use.
type BridgeKeeper struct {
	apply func(*contract.Bridge) error

	mu       sync.Mutex
	digest   string
	revision int64
	refused  *Refusal
}

// NewBridgeKeeper keeps nothing yet. apply makes a configuration the one that runs, or changes nothing and says why.
func NewBridgeKeeper(apply func(*contract.Bridge) error) *BridgeKeeper {
	return &BridgeKeeper{apply: apply}
}

// Offer puts a configuration, the content of bridge.json, in place of the one that runs. One that runs already is no
// error. Otherwise the error wraps [ErrOlder] or says what is wrong with it; then what ran before goes on running.
func (k *BridgeKeeper) Offer(text []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	digest := contract.DigestOf(text)
	if k.digest == digest {
		return nil
	}
	cfg, err := contract.ParseBridge(text)
	if err != nil {
		k.refused = &Refusal{Error: err.Error()}
		if cfg != nil {
			k.refused.Revision = cfg.Revision
		}
		return err
	}
	if k.digest != "" && cfg.Revision <= k.revision {
		return fmt.Errorf("%w: revision %d was offered, %d runs", ErrOlder, cfg.Revision, k.revision)
	}
	if err := k.apply(cfg); err != nil {
		k.refused = &Refusal{Revision: cfg.Revision, Error: err.Error()}
		return err
	}
	k.digest, k.revision, k.refused = digest, cfg.Revision, nil
	return nil
}

// Running is the revision that runs, 0 before the first, its digest, and what was refused since.
func (k *BridgeKeeper) Running() (revision int64, digest string, refused *Refusal) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.revision, k.digest, k.refused
}

// BridgeHandler serves the endpoint of a bridge; give it to [NewServer]. status says what only the bridge knows: whether
// it is active, its ends and routes, its version.
func BridgeHandler(keeper *BridgeKeeper, status func() BridgeStatus) http.Handler {
	s := &bridgeServer{keeper: keeper, status: status}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+statusPath, s.getStatus)
	mux.HandleFunc("PUT "+configPath, s.putConfig)
	return mux
}

type bridgeServer struct {
	keeper *BridgeKeeper
	status func() BridgeStatus
}

func (s *bridgeServer) now() BridgeStatus {
	status := s.status()
	status.Revision, status.Digest, status.Refused = s.keeper.Running()
	if status.Routes == nil {
		status.Routes = []RouteStatus{}
	}
	return status
}

func (s *bridgeServer) getStatus(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, s.now())
}

func (s *bridgeServer) putConfig(w http.ResponseWriter, r *http.Request) {
	var put offer
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&put); err != nil {
		// The decoder's words could repeat a part of the body.
		reply(w, http.StatusBadRequest, answer{Error: "the body is no offer of files"})
		return
	}
	text, found := put.Files[contract.BridgeFile]
	if !found || len(put.Files) != 1 {
		reply(w, http.StatusBadRequest, answer{Error: "offer exactly one file, " + contract.BridgeFile})
		return
	}
	switch err := s.keeper.Offer(text); {
	case err == nil:
		reply(w, http.StatusOK, s.now())
	case errors.Is(err, ErrOlder):
		reply(w, http.StatusConflict, s.now())
	default:
		reply(w, http.StatusUnprocessableEntity, answer{Error: err.Error()})
	}
}
