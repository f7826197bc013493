// SPDX-License-Identifier: Apache-2.0

package mqttbridge

import (
	"context"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// circlesAge is how old what is known of circles may be: to look at all bridges for each of them would cost the more the
// more there are, squared.
const circlesAge = recheck

// circles remembers which bridges messages go round through.
type circles struct {
	mu    sync.Mutex
	when  time.Time
	found map[types.NamespacedName]*verdict.Finding
}

// of is what is to be said of one bridge, nil for nothing.
func (c *circles) of(ctx context.Context, from client.Reader, name types.NamespacedName, now time.Time) (*verdict.Finding, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.found == nil || now.Sub(c.when) >= circlesAge || now.Before(c.when) {
		list := &v1alpha1.MQTTBridgeList{}
		if err := from.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil { // they are only looked at
			return nil, fmt.Errorf("bridges: %w", err)
		}
		c.found, c.when = verdict.Circles(list.Items), now
	}
	return c.found[name], nil
}
