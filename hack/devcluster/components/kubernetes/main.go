// SPDX-License-Identifier: Apache-2.0

// Command kubernetes holds every Kubernetes program the development node runs, in one binary.
//
// One binary shares the compiled client and API packages that six would each link again. The program to run is named
// by the last element of argv[0] (so symlinks work, and envtest finds its kube-apiserver), or else by the first
// argument.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client metrics
	_ "k8s.io/component-base/metrics/prometheus/version"  // build_info metric
	kubectl "k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

func main() {
	program := filepath.Base(os.Args[0])
	if _, known := command(program); !known && len(os.Args) > 1 {
		os.Args = os.Args[1:]
		program = os.Args[0]
	}
	build, known := command(program)
	if !known {
		fmt.Fprintf(os.Stderr, "kubernetes: unknown program %q; want one of %s\n", program, strings.Join(programs, " "))
		os.Exit(2)
	}
	if program == "kubectl" {
		// kubectl prints its own errors, and reads its verbosity before its flags exist.
		_, _ = logs.GlogSetter(kubectl.GetLogVerbosity(os.Args))
		util.CheckErr(cli.RunNoErrOutput(build()))
		return
	}
	os.Exit(cli.Run(build()))
}

var programs = []string{
	"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl",
}

// command returns the constructor rather than the command: building one registers flags and metrics process-wide,
// and the six programs' registrations would collide.
func command(program string) (func() *cobra.Command, bool) {
	switch program {
	case "kube-apiserver":
		return apiserver.NewAPIServerCommand, true
	case "kube-controller-manager":
		return controllermanager.NewControllerManagerCommand, true
	case "kube-scheduler":
		return func() *cobra.Command { return scheduler.NewSchedulerCommand() }, true
	case "kubelet":
		return func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) }, true
	case "kube-proxy":
		return proxy.NewProxyCommand, true
	case "kubectl":
		return kubectl.NewDefaultKubectlCommand, true
	}
	return nil, false
}
