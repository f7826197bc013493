// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
)

// Names of the files in a bundle.
const (
	BrokerFile = "broker.json"
	TLSFile    = "tls.json"
	// PoliciesFile is absent while no policy is in use.
	PoliciesFile = "policies.json"
	usersPrefix  = "users-"
	usersSuffix  = ".json"
)

const (
	// MaxShards is the number of user shards that a broker's pod can mount.
	MaxShards = 16
	// MaxShardBytes bounds one shard, so that it fits a Secret (1 MiB, base64 not counted) with room for metadata.
	MaxShardBytes = 1_000_000
	// comfortableShardBytes is the size above which the number of shards doubles.
	comfortableShardBytes = 500_000
)

// ErrTooLarge says that a configuration does not fit the Secrets that carry it.
var ErrTooLarge = errors.New("configuration too large")

// ErrInconsistent says that the parts of a bundle are not those that its broker.json names: an update is half way
// through. It is not a fault of the configuration; look again later.
var ErrInconsistent = errors.New("the parts do not match broker.json yet")

// Bundle is a configuration as named files.
type Bundle map[string][]byte

// String names the files and no content.
func (b Bundle) String() string {
	return "contract.Bundle{" + strings.Join(slices.Sorted(maps.Keys(b)), " ") + "}"
}

// GoString hides the content from %#v.
func (b Bundle) GoString() string { return b.String() }

// UsersFile is the name of the n-th shard of users, n from 0 to MaxShards-1.
func UsersFile(n int) string { return usersPrefix + strconv.Itoa(n) + usersSuffix }

// IsFile reports whether name is a file that a bundle may hold.
func IsFile(name string) bool {
	if name == BrokerFile || name == TLSFile || name == PoliciesFile {
		return true
	}
	return isUsersFile(name)
}

func isUsersFile(name string) bool {
	n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(name, usersPrefix), usersSuffix))
	return err == nil && n >= 0 && n < MaxShards && name == UsersFile(n)
}

// DigestOf is the digest of one file, as written in [Broker.Parts].
func DigestOf(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Digest identifies the whole bundle: broker.json names the digest of each part, so its own digest covers all.
func (b Bundle) Digest() string { return DigestOf(b[BrokerFile]) }

// Equal reports whether two bundles hold the same bytes.
func (b Bundle) Equal(other Bundle) bool { return maps.EqualFunc(b, other, bytes.Equal) }

// Shard is the shard of a user among shards.
func Shard(username string, shards int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(username))
	return int(h.Sum32() % uint32(shards)) //nolint:gosec // shards is 1 to MaxShards.
}

// Shards is the number of user shards that cfg needs, a power of two and at least prior: it never shrinks, so that a
// broker whose users come and go does not move them between Secrets.
func Shards(users []User, prior int) int {
	texts, err := textsOf(users)
	if err != nil { // Render says what cannot be written.
		return max(1, prior)
	}
	defer texts.free()
	return texts.shards(prior)
}

// usersPart is the content of a users file.
type usersPart struct {
	Users []User `json:"users"`
}

// tlsPart is the content of tls.json.
type tlsPart struct {
	Pairs map[string]KeyPair `json:"pairs"`
	Trust map[string]Trust   `json:"trust,omitempty"`
}

// policiesPart is the content of policies.json.
type policiesPart struct {
	Policies map[string][]acl.Rule `json:"policies"`
}

// Render writes cfg as a bundle with the given number of user shards. The result depends on cfg and shards alone;
// cfg.Parts is ignored, and what may be absent and equals its default is left out. It fails with [ErrTooLarge] when a file does not fit a Secret.
func Render(cfg *Config, shards int) (Bundle, error) {
	if shards < 1 || shards > MaxShards {
		return nil, fmt.Errorf("shards: %d is not within 1 to %d", shards, MaxShards)
	}
	texts, err := textsOf(cfg.Users)
	if err != nil {
		return nil, err
	}
	defer texts.free()
	return render(cfg, texts, shards, nil)
}

// render is [Render] with the users written already. What prior holds word for word is prior's own.
func render(cfg *Config, users *userTexts, shards int, prior Bundle) (Bundle, error) {
	pairs := cfg.Pairs
	if pairs == nil {
		pairs = map[string]KeyPair{}
	}
	bundle := Bundle{}
	if err := bundle.add(TLSFile, tlsPart{Pairs: pairs, Trust: cfg.Trust}); err != nil {
		return nil, err
	}
	if len(cfg.Policies) > 0 { // a broker of an older release knows no such file
		if err := bundle.add(PoliciesFile, policiesPart{Policies: cfg.Policies}); err != nil {
			return nil, err
		}
	}
	if err := users.addTo(bundle, shards, prior); err != nil {
		return nil, err
	}
	broker := cfg.Broker
	broker.Parts = map[string]string{}
	for name, content := range bundle {
		broker.Parts[name] = DigestOf(content)
	}
	return bundle, bundle.close(broker)
}

// close adds broker.json, which names the parts.
func (b Bundle) close(broker Broker) error {
	broker.Limits, broker.Persistence, broker.Drain = broker.Limits.sparse(), broker.Persistence.sparse(), broker.Drain.sparse()
	if broker.Listeners == nil {
		broker.Listeners = []Listener{}
	}
	if err := b.add(BrokerFile, broker); err != nil {
		return err
	}
	// These three lie in one Secret.
	if sum := len(b[BrokerFile]) + len(b[TLSFile]) + len(b[PoliciesFile]); sum > MaxShardBytes {
		return fmt.Errorf("%w: %s, %s and %s would have %d bytes together, %d fit a Secret", ErrTooLarge, BrokerFile, TLSFile, PoliciesFile, sum, MaxShardBytes)
	}
	return nil
}

// usersFiles is how many of the parts are shards of users.
func usersFiles(parts map[string]string) (n int) {
	for name := range parts {
		if isUsersFile(name) {
			n++
		}
	}
	return n
}

func (b Bundle) add(name string, content any) error {
	text, err := json.MarshalIndent(content, "", " ")
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return b.put(name, append(text, '\n'), nil)
}

// put adds a file, which is copied unless prior has the same.
func (b Bundle) put(name string, content []byte, prior Bundle) error {
	if len(content) > MaxShardBytes {
		return fmt.Errorf("%w: %s would have %d bytes, %d fit a Secret", ErrTooLarge, name, len(content), MaxShardBytes)
	}
	if before, found := prior[name]; found && bytes.Equal(before, content) {
		b[name] = before
		return nil
	}
	b[name] = bytes.Clone(content)
	return nil
}

// HoldsUser reports whether a shard that was rendered here holds exactly this user. It compares text, so that asking
// for one user does not parse thousands.
func HoldsUser(shard []byte, user *User) bool {
	text, err := json.MarshalIndent(user, "  ", " ") //nolint:gosec // User.JWT names an issuer
	return err == nil && bytes.Contains(shard, append([]byte("\n  "), text...))
}

// Next renders cfg after prior. Where nothing differs, the result is prior itself, revision and all; otherwise the
// revision is one above the greatest of prior's and floor. prior may be nil; a prior that does not parse counts as
// nil, which is why floor is needed: it holds what else is known to have been used (status, the pods' answers).
func Next(cfg *Config, prior Bundle, floor int64) (Bundle, int64, error) {
	shards, revision := 1, int64(0)
	if before, err := parseBroker(prior); err == nil {
		revision = before.Revision
		shards = max(shards, usersFiles(before.Parts))
	}
	users, err := textsOf(cfg.Users)
	if err != nil {
		return nil, 0, err
	}
	defer users.free()
	shards = users.shards(shards)
	next := *cfg
	next.Revision = max(revision, floor)
	isFirst := revision == 0 || revision < floor
	if isFirst {
		next.Revision++
	}
	bundle, err := render(&next, users, shards, prior)
	switch {
	case err != nil:
		return nil, 0, err
	case isFirst:
		return bundle, next.Revision, nil
	case bundle.Equal(prior):
		return prior, revision, nil
	}
	// The parts are what they are whatever the revision; only broker.json is written again.
	next.Revision++
	if next.Broker.Parts, err = Parts(bundle); err != nil {
		return nil, 0, err
	}
	return bundle, next.Revision, bundle.close(next.Broker)
}

// ReadDir reads the bundle in dir, or a directory's broker.json given by name. Files that no bundle holds are left
// alone. It does not parse.
func ReadDir(dir string) (Bundle, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("config directory: %w", err)
	}
	bundle := Bundle{}
	for _, entry := range entries {
		if !IsFile(entry.Name()) {
			continue
		}
		content, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return nil, fmt.Errorf("config directory: %w", err)
		}
		bundle[entry.Name()] = content
	}
	if _, found := bundle[BrokerFile]; !found {
		return nil, fmt.Errorf("config directory %s: no %s", dir, BrokerFile)
	}
	return bundle, nil
}
