// SPDX-License-Identifier: Apache-2.0

package mqttbroker

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

const (
	// keysRefresh is how old the cluster's keys may become. A key that the API server begins to sign with has been
	// published before, where it is rotated with care.
	keysRefresh = 5 * time.Minute
	// keysRetry is when an API server that did not answer is asked again.
	keysRetry = 30 * time.Second
	// keysTimeout bounds one look.
	keysTimeout = 5 * time.Second
)

// ClusterKeys knows who signs the tokens of the cluster's ServiceAccounts, by the discovery that the API server serves
// (KEP-1393). It asks for all brokers together, and remembers what it was told last.
type ClusterKeys struct {
	// get reads a path of the API server.
	get   func(ctx context.Context, path string) ([]byte, error)
	clock clock.PassiveClock

	mu   sync.Mutex
	keys verdict.ClusterKeys
	// due is when to ask again.
	due time.Time
}

// NewClusterKeys asks the API server of config, with the operator's own credentials.
func NewClusterKeys(config *rest.Config, c *http.Client, now clock.PassiveClock) (*ClusterKeys, error) {
	api, err := discovery.NewDiscoveryClientForConfigAndClient(config, c)
	if err != nil {
		return nil, fmt.Errorf("discovery: %w", err)
	}
	get := func(ctx context.Context, path string) ([]byte, error) {
		return api.RESTClient().Get().AbsPath(path).DoRaw(ctx)
	}
	return &ClusterKeys{get: get, clock: now}, nil
}

// Paths of the discovery.
const (
	discoveryPath = "/.well-known/openid-configuration"
	keySetPath    = "/openid/v1/jwks"
)

// Keys are the keys of now. Where they cannot be read, they are those that were read last, with the problem.
func (k *ClusterKeys) Keys(ctx context.Context) verdict.ClusterKeys {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.clock.Now()
	if now.Before(k.due) {
		return k.keys
	}
	ctx, cancel := context.WithTimeout(ctx, keysTimeout)
	defer cancel()
	fresh, err := k.read(ctx)
	if err != nil {
		k.keys.Problem, k.due = unreadable(err), now.Add(keysRetry)
		return k.keys
	}
	k.keys, k.due = fresh, now.Add(keysRefresh)
	return k.keys
}

func (k *ClusterKeys) read(ctx context.Context) (verdict.ClusterKeys, error) {
	document, err := k.get(ctx, discoveryPath)
	if err != nil {
		return verdict.ClusterKeys{}, err
	}
	configuration := struct {
		Issuer string `json:"issuer"`
	}{}
	if err := json.Unmarshal(document, &configuration); err != nil {
		return verdict.ClusterKeys{}, fmt.Errorf("%s: %w", discoveryPath, err)
	}
	set, err := k.get(ctx, keySetPath)
	return verdict.ClusterKeys{Issuer: configuration.Issuer, JWKS: string(set)}, err
}

func unreadable(err error) *verdict.Finding {
	message := "The API server does not say who signs the tokens of ServiceAccounts; see kubectl get --raw " + discoveryPath + "; it is asked again."
	if apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) {
		message = "The operator may not read who signs the tokens of ServiceAccounts: bind its ServiceAccount to the ClusterRole " +
			"system:service-account-issuer-discovery, by a ClusterRoleBinding."
	}
	return &verdict.Finding{Reason: v1alpha1.ReasonServiceAccountKeysUnavailable, Message: message}
}
