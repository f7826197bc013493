// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mqtt-operator/mqtt-operator/cmd/kubectl-mqtt/mosquitto"
)

func importer(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "import",
		Short: "Turn the users of another broker into YAML",
		Long: "Turn the users and rights of another broker into YAML for kubectl apply. It reads files, writes to standard output\n" +
			"and asks no cluster. What cannot be carried over is said as comments in the YAML and on standard error, with\n" +
			"file and line; then the exit code is 3.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(importMosquitto(s), importDynsec(s))
	return c
}

func importMosquitto(s streams) *cobra.Command {
	o := mosquitto.Options{}
	c := &cobra.Command{
		Use:   "mosquitto PASSWD [ACL]",
		Short: "Mosquitto's password_file and acl_file",
		Long: "Turn Mosquitto's password_file, and its acl_file if there is one, into a Secret with the hash and an MQTTUser for\n" +
			"each user, and an MQTTAccessPolicy for the pattern lines. Passwords stay what they are: hashes are carried over\n" +
			"as they stand. Nobody is granted a message that Mosquitto would not have let pass.",
		Example: "  kubectl mqtt import mosquitto /etc/mosquitto/passwd /etc/mosquitto/acl --broker mq -n factory > users.yaml\n" +
			"  kubectl apply -f users.yaml",
		Args: cobra.RangeArgs(1, 2),
		RunE: func(_ *cobra.Command, args []string) error {
			return imported(s, o, args, func(files []mosquitto.File) (*mosquitto.Result, error) {
				if len(files) == 1 {
					return mosquitto.Import(files[0], nil, o)
				}
				return mosquitto.Import(files[0], &files[1], o)
			})
		},
	}
	importFlags(c, &o)
	return c
}

func importDynsec(s streams) *cobra.Command {
	o := mosquitto.Options{}
	c := &cobra.Command{
		Use:   "mosquitto-dynsec FILE",
		Short: "The configuration of Mosquitto's dynamic security plugin",
		Long: "Turn the file of Mosquitto's dynamic security plugin (plugin_opt_config_file) into a Secret with the hash and an\n" +
			"MQTTUser for each client, and an MQTTAccessPolicy for each role.",
		Example: "  kubectl mqtt import mosquitto-dynsec /var/lib/mosquitto/dynamic-security.json --broker mq -n factory > users.yaml",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return imported(s, o, args, func(files []mosquitto.File) (*mosquitto.Result, error) { return mosquitto.ImportDynsec(files[0], o) })
		},
	}
	importFlags(c, &o)
	return c
}

func importFlags(c *cobra.Command, o *mosquitto.Options) {
	c.Flags().StringVar(&o.Broker, "broker", "", "name of the MQTTBroker that shall know the users (required)")
	c.Flags().StringVarP(&o.Namespace, "namespace", "n", "", "namespace of the objects; empty: that in which they are applied")
	c.Flags().StringVar(&o.Prefix, "name-prefix", "", "what the names of all objects begin with")
}

// imported reads files, writes YAML and says what is missing in it.
func imported(s streams, o mosquitto.Options, paths []string, do func([]mosquitto.File) (*mosquitto.Result, error)) error {
	if o.Broker == "" {
		return usage("--broker is needed: the name of the MQTTBroker that shall know the users")
	}
	if err := o.Validate(); err != nil {
		return &exit{exitUsage, err}
	}
	var files []mosquitto.File
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return &exit{exitNo, err}
		}
		files = append(files, mosquitto.File{Name: path, Text: text})
	}
	result, err := do(files)
	if err != nil {
		return &exit{exitNo, err}
	}
	named := make([]string, len(paths))
	for i, path := range paths {
		named[i] = shown(path)
	}
	text, err := result.YAML(fmt.Sprintf("Written by kubectl mqtt import from %s, for MQTTBroker %s.", strings.Join(named, " and "), o.Broker))
	if err != nil {
		return &exit{exitNo, err}
	}
	if _, err := s.out.Write(text); err != nil {
		return &exit{exitNo, fmt.Errorf("standard output: %w", err)}
	}
	for _, report := range result.Reports {
		sayf(s.err, "%s", report)
	}
	if !result.Complete() {
		sayf(s.err, "%d of the files' statements were not carried over; the YAML holds them as comments.", len(result.Reports))
		return &exit{code: exitIncomplete}
	}
	return nil
}
