// SPDX-License-Identifier: Apache-2.0

package main

import (
	"runtime"

	"github.com/spf13/cobra"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// versionInfo is what version prints with -o json. Fields are added, never changed.
type versionInfo struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	// API and Config are the formats that this plugin reads.
	API    string `json:"api"`
	Config string `json:"config"`
}

func versionOf(s streams) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:     "version",
		Short:   "Print the version of the plugin",
		Example: "  kubectl mqtt version\n  kubectl mqtt version -o json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := versionInfo{Version: version, Go: runtime.Version(), API: v1alpha1.GroupVersion.String(), Config: contract.Format}
			if output == "" {
				sayf(s.out, "kubectl-mqtt %s (%s; %s)", v.Version, v.Go, v.API)
				return nil
			}
			return printAs(s.out, output, v)
		},
	}
	outputFlag(c, &output)
	return c
}
