// SPDX-License-Identifier: Apache-2.0

// Command operator turns MQTTBroker and MQTTUser objects into running brokers. It decides nothing itself: flags become
// options, options a manager, and package controllers joins the reconcilers to it.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/labels"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/mqtt-operator/mqtt-operator/controllers"
	"github.com/mqtt-operator/mqtt-operator/controllers/traces"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// version is set by the build.
var version = "dev"

type options struct {
	brokerImage, namespaces, leaderNamespace string
	ownNamespace, ownLabels                  string
	healthAddress, metricsAddress, profiling string
	logLevel, logFormat                      string
	traces                                   traces.Options
	leaderElect, metricsSecure, showVersion  bool
}

func main() {
	o := options{}
	flag.StringVar(&o.brokerImage, "broker-image", "", "image of brokers whose spec names none (required)")
	flag.StringVar(&o.namespaces, "watch-namespaces", "", "namespaces to look after, separated by commas; empty: all")
	flag.StringVar(&o.ownNamespace, "own-namespace", "", "namespace of the operator's own pods, which NetworkPolicies admit to the admin port of brokers and bridges")
	flag.StringVar(&o.ownLabels, "own-labels", "", "labels of these pods, as key=value, separated by commas; empty: the admin port is open, for holders of its certificates")
	flag.BoolVar(&o.leaderElect, "leader-elect", false, "let only one of several replicas act")
	flag.StringVar(&o.leaderNamespace, "leader-election-namespace", "", "where the Lease is; empty: the pod's own")
	flag.StringVar(&o.healthAddress, "health-probe-bind-address", ":8081", "where /healthz and /readyz are served")
	flag.StringVar(&o.metricsAddress, "metrics-bind-address", ":8443", "where /metrics is served; 0: nowhere")
	flag.StringVar(&o.profiling, "pprof-bind-address", "0", "where profiles of the operator itself are served (net/http/pprof), such as 127.0.0.1:6060; 0: nowhere")
	flag.BoolVar(&o.metricsSecure, "metrics-secure", true, "serve /metrics by HTTPS to those whom the cluster allows it")
	flag.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	flag.StringVar(&o.logFormat, "log-format", "text", "text or json")
	traceFlags(&o.traces)
	flag.BoolVar(&o.showVersion, "version", false, "print the version and end")
	flag.Parse()
	if o.showVersion {
		fmt.Println(version)
		return
	}
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "operator:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	if o.brokerImage == "" {
		return errors.New("--broker-image is needed: the image of brokers whose spec names none")
	}
	logger, err := newLogger(o)
	if err != nil {
		return err
	}
	ctrl.SetLogger(logr.FromSlogHandler(logger.Handler()))
	ctx := ctrl.SetupSignalHandler()
	saveMemory(ctx)
	scheme, err := controllers.Scheme()
	if err != nil {
		return err
	}
	var namespaces []string
	if o.namespaces != "" {
		namespaces = strings.Split(o.namespaces, ",")
	}
	own, err := labels.ConvertSelectorToLabelsMap(o.ownLabels)
	if err != nil {
		return fmt.Errorf("--own-labels: %w", err)
	}
	cached, err := controllers.CacheOptions(namespaces)
	if err != nil {
		return err
	}
	config, tracing, err := connect(ctx, o.traces)
	if err != nil {
		return err
	}
	defer endTracing(tracing)
	mgr, err := ctrl.NewManager(config, manager.Options{
		Scheme: scheme, Cache: cached, Metrics: metrics(o), HealthProbeBindAddress: o.healthAddress, PprofBindAddress: o.profiling,
		LeaderElection: o.leaderElect, LeaderElectionID: "mqtt-operator", LeaderElectionNamespace: o.leaderNamespace,
		LeaderElectionReleaseOnCancel: true,
		LeaseDuration:                 new(15 * time.Second), RenewDeadline: new(10 * time.Second), RetryPeriod: new(2 * time.Second),
	})
	if err != nil {
		return fmt.Errorf("manager: %w", err)
	}
	if err := errors.Join(mgr.AddHealthzCheck("ping", healthz.Ping), mgr.AddReadyzCheck("ping", healthz.Ping)); err != nil {
		return fmt.Errorf("health: %w", err)
	}
	if err := controllers.Setup(ctx, mgr, controllers.Options{
		Image: o.brokerImage, Namespaces: namespaces, Operator: verdict.Operator{Namespace: o.ownNamespace, Labels: own}, Tracing: tracing,
	}); err != nil {
		return err
	}
	logger.Info("the operator starts", "version", version, "brokerImage", o.brokerImage, "namespaces", namespaces)
	return mgr.Start(ctx)
}
