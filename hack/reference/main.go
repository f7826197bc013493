// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: reference DEFINITIONS OUT")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "reference:", err)
		os.Exit(1)
	}
}

// run writes a page for each definition in a folder. Pages that nothing writes any more go.
func run(definitions, out string) error {
	files, err := filepath.Glob(filepath.Join(definitions, "*.yaml"))
	if err != nil || len(files) == 0 {
		return errors.Join(fmt.Errorf("%s: no definitions", definitions), err)
	}
	if err := os.RemoveAll(out); err != nil { //nolint:gosec // A path from the command line is this tool's work.
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil { //nolint:gosec // A page is for everybody.
		return err
	}
	for _, file := range files {
		text, err := os.ReadFile(file) //nolint:gosec // A path from the command line is this tool's work.
		if err != nil {
			return err
		}
		definition := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.UnmarshalStrict(text, definition); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		content, err := render(definition)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		name := filepath.Join(out, strings.ToLower(definition.Spec.Names.Kind)+".md")
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil { //nolint:gosec // A page is for everybody.
			return err
		}
	}
	return nil
}
