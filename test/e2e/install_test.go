// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

// TestHelmTest is what somebody does who has just installed the chart: a message goes from a pod through a broker and back.
func TestHelmTest(t *testing.T) {
	t.Parallel()
	helm := os.Getenv("HELM")
	if helm == "" {
		t.Fatal("HELM says where Helm is; start these tests with hack/e2e.sh")
	}
	s := begin(t)
	left := func() error {
		for _, list := range []client.ObjectList{&v1alpha1.MQTTBrokerList{}, &v1alpha1.MQTTUserList{}, &corev1.PodList{}} {
			// What the operator made of them goes after them.
			mine := client.MatchingLabels{"app.kubernetes.io/name": "mqtt-operator-test"}
			if err := kube.List(s.ctx, list, client.InNamespace(operatorNamespace), mine); err != nil {
				return err
			}
			if n := meta.LenList(list); n != 0 {
				return fmt.Errorf("helm test left %d of %T", n, list)
			}
		}
		return nil
	}
	for range 2 {
		text, err := exec.CommandContext(s.ctx, helm, "test", operatorName, "--namespace", operatorNamespace, "--timeout", "4m").CombinedOutput()
		if err != nil || !strings.Contains(string(text), "the message came back in") {
			t.Fatalf("helm test: %v: %s", err, text)
		}
		s.eventually(patience, "what the test made is gone", left)
	}
}
