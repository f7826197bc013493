// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"strconv"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

func TestSeen(t *testing.T) {
	broker := func(version string) *v1alpha1.MQTTBroker {
		return &v1alpha1.MQTTBroker{ObjectMeta: metav1.ObjectMeta{Name: "mq", UID: "1", ResourceVersion: version}}
	}
	w := NewWriter(nil, nil)
	if err := w.Seen(broker("7")); err != nil {
		t.Errorf("nothing was written, and yet: %v", err)
	}
	w.statuses.put("1", "100")
	if err := w.Seen(broker("99")); !apierrors.IsConflict(err) {
		t.Errorf("a look from before our last write: %v, want a conflict, so that the object is looked at again", err)
	}
	if err := w.Seen(broker("100")); err != nil {
		t.Errorf("our own last write: %v", err)
	}
	if err := w.Seen(broker("101")); err != nil {
		t.Errorf("somebody else's later write: %v", err)
	}
	for n := range 3 * remembered {
		w.statuses.put(types.UID("other-"+strconv.Itoa(n)), "1")
		w.statuses.put("often", strconv.Itoa(n))
	}
	if kept := len(w.statuses.versions); kept != remembered {
		t.Errorf("%d versions are kept, want %d: the map must not grow with the objects that ever were", kept, remembered)
	}
}
