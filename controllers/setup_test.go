// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// TestPodsAreReachedByTheirAddress, whichever family it is of.
func TestPodsAreReachedByTheirAddress(t *testing.T) {
	o := Options{}
	o.resolve()
	for address, want := range map[string]string{"10.0.0.7": "10.0.0.7:9443", "fd00::7": "[fd00::7]:9443"} {
		if got := o.AdminAddress(&corev1.Pod{Status: corev1.PodStatus{PodIP: address}}); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}
