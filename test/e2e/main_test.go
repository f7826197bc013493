// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

// Where hack/e2e.sh installs the chart.
const (
	operatorNamespace = "mqtt-operator-system"
	operatorName      = "mqtt-operator"
)

// The cluster that all stories share.
var (
	config *rest.Config
	kube   client.WithWatch
	// core is for what the other client cannot do: logs and tokens.
	core kubernetes.Interface
)

func TestMain(m *testing.M) {
	if err := findCluster(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func findCluster() error {
	log.SetLogger(logr.Discard())
	var err error
	if config, err = ctrl.GetConfig(); err != nil {
		return fmt.Errorf("no cluster to talk to: %w; start these tests with hack/e2e.sh", err)
	}
	config.QPS, config.Burst = 200, 400
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return fmt.Errorf("scheme: %w", err)
		}
	}
	if kube, err = client.NewWithWatch(config, client.Options{Scheme: scheme}); err != nil {
		return fmt.Errorf("client: %w", err)
	}
	if core, err = kubernetes.NewForConfig(config); err != nil {
		return fmt.Errorf("client: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := kube.Get(ctx, client.ObjectKey{Namespace: operatorNamespace, Name: operatorName}, &appsv1.Deployment{}); err != nil {
		return fmt.Errorf("the operator is not installed: %w; start these tests with hack/e2e.sh", err)
	}
	return nil
}
