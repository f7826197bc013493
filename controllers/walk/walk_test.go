// SPDX-License-Identifier: Apache-2.0

package walk_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
	"github.com/mqtt-operator/mqtt-operator/controllers/walk"
)

var errBoom = errors.New("boom")

func TestAWalkEndsAtTheFirstErrorAndNamesTheStep(t *testing.T) {
	var done []string
	step := func(name string, err error) walk.Step[*[]string] {
		return walk.Step[*[]string]{Name: name, Do: func(_ context.Context, p *[]string) error {
			*p = append(*p, name)
			return err
		}}
	}
	err := walk.Steps[*[]string]{step("observe", nil), step("judge", errBoom), step("apply", nil)}.Run(t.Context(), &done)
	if !errors.Is(err, errBoom) || !strings.HasPrefix(err.Error(), "judge: ") || !slices.Equal(done, []string{"observe", "judge"}) {
		t.Errorf("did %v, error %v", done, err)
	}
}

func TestWhatHappensAfterAWalk(t *testing.T) {
	const again = time.Minute
	resource := schema.GroupResource{Resource: "secrets"}
	ending := apierrors.NewForbidden(resource, "mq", errBoom)
	ending.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	for name, tc := range map[string]struct {
		reason string
		err    error
		after  time.Duration
		fails  bool
	}{
		"well":                   {reason: "an object on which all is well is looked at now and then", after: again},
		"waiting":                {reason: "who waits says for how long", err: &verdict.Waiting{For: time.Second}, after: time.Second},
		"stalled":                {reason: "trying again does not help, but time may pass a certificate's end", err: &verdict.Stalled{}, after: again},
		"a conflict of versions": {reason: "the cache is behind: no error, only a little early", err: apierrors.NewConflict(resource, "mq", errBoom), after: 20 * time.Millisecond},
		"a namespace that ends":  {reason: "nothing can be made there any more, and nobody wants to read about it", err: ending},
		"anything else":          {reason: "unexpected errors are logged and tried again with back-off", err: errBoom, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			err := tc.err
			if err != nil {
				err = fmt.Errorf("apply: %w", err)
			}
			result, failed := walk.Result(err, again)
			if result.RequeueAfter != tc.after || (failed != nil) != tc.fails {
				t.Errorf("after %v, error %v: %s", result.RequeueAfter, failed, tc.reason)
			}
		})
	}
}
