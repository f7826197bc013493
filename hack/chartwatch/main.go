// SPDX-License-Identifier: Apache-2.0

// Command chartwatch writes the operator's own alerts and dashboard, as package desired knows them, into a Helm chart. What
// only a release knows stands there as @namespace@ and @pods@, because the braces of Helm mean something else in an alert.
package main

import (
	"fmt"
	"os"

	"sigs.k8s.io/yaml"

	"github.com/mqtt-operator/mqtt-operator/controllers/desired"
)

const (
	namespace = "@namespace@"
	pods      = "@pods@"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: chartwatch FOLDER")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "chartwatch:", err)
		os.Exit(1)
	}
}

func run(path string) error {
	folder, err := os.OpenRoot(path)
	if err != nil {
		return err
	}
	defer func() { _ = folder.Close() }()
	rules, err := yaml.Marshal(desired.OperatorRules(namespace, pods))
	if err != nil {
		return err
	}
	if err := folder.WriteFile("alerts.yaml", rules, 0o644); err != nil {
		return err
	}
	return folder.WriteFile("dashboard.json", []byte(desired.OperatorDashboard(namespace, pods)), 0o644)
}
