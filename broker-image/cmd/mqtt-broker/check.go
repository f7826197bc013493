// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/broker-image/engine"
)

// checkConfig says whether the broker would take a configuration.
func checkConfig(args []string, out, errs io.Writer) error {
	flags := flag.NewFlagSet("check-config", flag.ContinueOnError)
	flags.Usage = func() {
		_, _ = fmt.Fprintln(errs, "mqtt-broker check-config DIR|FILE: DIR holds a configuration, FILE is its broker.json")
	}

	if err := parse(flags, args, errs, 1); err != nil {
		return err
	}

	bundle, config, err := load(flags.Arg(0))
	if err != nil {
		return err
	}

	_, _ = fmt.Fprintf(out, "revision %d\ndigest %s\n", config.Revision, bundle.Digest())

	return nil
}

// load reads a configuration from its directory, or beside its broker.json.
func load(path string) (contract.Bundle, *contract.Config, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, fmt.Errorf("configuration: %w", err)
	}

	if !info.IsDir() {
		if filepath.Base(path) != contract.BrokerFile {
			return nil, nil, fmt.Errorf("configuration: %s is no %s", path, contract.BrokerFile)
		}

		path = filepath.Dir(path)
	}

	bundle, err := contract.ReadDir(path)
	if err != nil {
		return nil, nil, err
	}

	config, err := contract.Parse(bundle)
	if err != nil {
		return nil, nil, err
	}

	return bundle, config, engine.Check(config)
}
