// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// ErrOlder says that a configuration is not newer than the one that runs, and is another one.
var ErrOlder = errors.New("a newer configuration runs")

// Refusal is the last configuration that was not taken, and why.
type Refusal struct {
	// Revision is 0 where it could not be read.
	Revision int64  `json:"revision"`
	Error    string `json:"error"`
}

// Keeper holds the configuration that runs and lets only a newer, complete and valid one take its place. It is safe
// for concurrent use.
type Keeper struct {
	apply func(*contract.Config) error

	mu       sync.Mutex
	running  contract.Bundle
	revision int64
	refused  *Refusal
}

// NewKeeper keeps nothing yet. apply makes a configuration the one that serves, or changes nothing and says why.
func NewKeeper(apply func(*contract.Config) error) *Keeper { return &Keeper{apply: apply} }

// Offer puts a bundle in place of the one that runs. A bundle that runs already is no error. Otherwise the error wraps
// [contract.ErrInconsistent] (parts are missing or do not belong together: look again later), [ErrOlder], or says what
// is wrong with it; then what ran before goes on running.
func (k *Keeper) Offer(bundle contract.Bundle) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.running != nil && bundle.Digest() == k.running.Digest() {
		return nil
	}
	cfg, err := contract.Parse(bundle)
	if errors.Is(err, contract.ErrInconsistent) {
		return err
	}
	if err != nil {
		k.refused = &Refusal{Error: err.Error()}
		if cfg != nil {
			k.refused.Revision = cfg.Revision
		}
		return err
	}
	if k.running != nil && cfg.Revision <= k.revision {
		return fmt.Errorf("%w: revision %d was offered, %d runs", ErrOlder, cfg.Revision, k.revision)
	}
	if err := k.apply(cfg); err != nil {
		k.refused = &Refusal{Revision: cfg.Revision, Error: err.Error()}
		return err
	}
	k.running, k.revision, k.refused = only(bundle, cfg.Parts), cfg.Revision, nil
	return nil
}

// only drops files that the configuration does not name.
func only(bundle contract.Bundle, parts map[string]string) contract.Bundle {
	kept := contract.Bundle{contract.BrokerFile: bundle[contract.BrokerFile]}
	for name := range parts {
		kept[name] = bundle[name]
	}
	return kept
}

// Complete adds to files those parts of the running configuration that broker.json of files names by digest, and
// returns the names of parts that are nowhere to be found.
func (k *Keeper) Complete(files contract.Bundle) (whole contract.Bundle, missing []string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	whole = maps.Clone(files)
	parts, err := contract.Parts(files)
	if err != nil {
		return nil, nil, err
	}
	for name, digest := range parts {
		if content, found := whole[name]; found && contract.DigestOf(content) == digest {
			continue
		}
		content, found := k.running[name]
		if !found || contract.DigestOf(content) != digest {
			missing = append(missing, name)
			continue
		}
		whole[name] = content
	}
	slices.Sort(missing)
	return whole, missing, nil
}

// Running is the bundle that runs, nil before the first; callers do not change it. With it come its revision and what
// was refused since.
func (k *Keeper) Running() (contract.Bundle, int64, *Refusal) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.running, k.revision, k.refused
}
