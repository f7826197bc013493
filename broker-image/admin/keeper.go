// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
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

	mu      sync.Mutex
	running Running
	parts   map[string]packed
}

// Running says which configuration runs.
type Running struct {
	// Revision is 0 before the first.
	Revision int64
	// Digest is that of the whole, empty before the first; Parts has that of each part.
	Digest string
	Parts  map[string]string
	// Refused is what was not taken since; nil where nothing was.
	Refused *Refusal
}

// NewKeeper keeps nothing yet. apply makes a configuration the one that serves, or changes nothing and says why.
func NewKeeper(apply func(*contract.Config) error) *Keeper { return &Keeper{apply: apply} }

// Offer puts a bundle in place of the one that runs. A bundle that runs already is no error. Otherwise the error wraps
// [contract.ErrInconsistent] (parts are missing or do not belong together: look again later), [ErrOlder], or says what
// is wrong with it; then what ran before goes on running.
func (k *Keeper) Offer(bundle contract.Bundle) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	digest := bundle.Digest()
	if digest == k.running.Digest {
		return nil
	}
	cfg, err := contract.Parse(bundle)
	if errors.Is(err, contract.ErrInconsistent) {
		return err
	}
	if err != nil {
		k.running.Refused = &Refusal{Error: err.Error()}
		if cfg != nil {
			k.running.Refused.Revision = cfg.Revision
		}
		return err
	}
	if k.running.Digest != "" && cfg.Revision <= k.running.Revision {
		return fmt.Errorf("%w: revision %d was offered, %d runs", ErrOlder, cfg.Revision, k.running.Revision)
	}
	if err := k.apply(cfg); err != nil {
		k.running.Refused = &Refusal{Revision: cfg.Revision, Error: err.Error()}
		return err
	}
	k.keep(bundle, cfg.Parts)
	k.running = Running{Revision: cfg.Revision, Digest: digest, Parts: cfg.Parts}
	return nil
}

// keep keeps the parts that the configuration names; those that are as they were stay as they are.
func (k *Keeper) keep(bundle contract.Bundle, parts map[string]string) {
	kept := make(map[string]packed, len(parts))
	for name, digest := range parts {
		if before, found := k.parts[name]; found && k.running.Parts[name] == digest {
			kept[name] = before
		} else {
			kept[name] = pack(bundle[name])
		}
	}
	k.parts = kept
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
		content, damaged := k.parts[name].open()
		if k.running.Parts[name] != digest || damaged != nil {
			missing = append(missing, name)
			continue
		}
		whole[name] = content
	}
	slices.Sort(missing)
	return whole, missing, nil
}

// Running says what runs; callers do not change it.
func (k *Keeper) Running() Running {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.running
}

// worthPacking is the size from which a part is kept small, in bytes.
const worthPacking = 4 << 10

// packed is a part as it is kept: ten thousand users take megabytes, which are looked at again only where another part has
// changed.
type packed struct {
	bytes     []byte
	isSmaller bool
}

func pack(content []byte) packed {
	if len(content) < worthPacking {
		return packed{bytes: content}
	}
	var to bytes.Buffer
	w, err := flate.NewWriter(&to, flate.BestSpeed)
	if err == nil {
		_, err = w.Write(content)
		err = errors.Join(err, w.Close())
	}
	if err != nil || to.Len() >= len(content) {
		return packed{bytes: content}
	}
	return packed{bytes: bytes.Clone(to.Bytes()), isSmaller: true}
}

func (p packed) open() ([]byte, error) {
	if !p.isSmaller {
		return p.bytes, nil
	}
	return io.ReadAll(flate.NewReader(bytes.NewReader(p.bytes)))
}
