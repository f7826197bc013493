// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const sample = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: doors.example.com}
spec:
  group: example.com
  names: {kind: Door, plural: doors, shortNames: [dr]}
  scope: Namespaced
  versions:
  - name: v1
    additionalPrinterColumns:
    - {name: Open, type: boolean, jsonPath: .status.open}
    - {name: Message, type: string, jsonPath: .status.message, priority: 1}
    schema:
      openAPIV3Schema:
        description: Door is a door.
        type: object
        properties:
          spec:
            description: spec says what is wanted.
            type: object
            required: [colour]
            x-kubernetes-validations:
            - {rule: self.width > 0, message: a door has a width}
            properties:
              colour: {description: 'colour is <red> or not.', type: string, enum: [red, blue]}
              hinges:
                description: hinges hold it.
                type: array
                maxItems: 4
                x-kubernetes-list-map-keys: [name]
                items:
                  type: object
                  required: [name]
                  properties:
                    name: {description: name is its name., type: string, maxLength: 9, pattern: '^[a-z|]+$'}
              lock:
                description: lock keeps it shut.
                type: object
                x-kubernetes-validations:
                - {rule: 'has(self.key)', message: a lock has a key}
                properties:
                  after: {description: after is when., type: string, pattern: '^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$'}
                  key: {description: key opens it., type: integer, minimum: 1, maximum: 9}
                  bolt: {description: bolt is another., type: boolean}
                  bell:
                    description: bell rings.
                    type: object
                    x-kubernetes-validations:
                    - {rule: "false", message: spec.lock.bell is not alive in this version}
                    properties:
                      tune: {description: tune is what it plays., type: string}
              selector:
                description: selector picks rooms.
                type: object
                properties: {matchLabels: {type: object, additionalProperties: {type: string}}}
          status:
            description: status says what is true.
            type: object
            properties:
              open: {description: open says so., type: boolean}
`

func TestRun(t *testing.T) {
	in, out := t.TempDir(), filepath.Join(t.TempDir(), "reference")
	write := func(text string) {
		if err := os.WriteFile(filepath.Join(in, "door.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(sample)
	var before string
	for range 2 { // the second run must change nothing, and a page that nobody writes must go
		if err := run(in, out); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(out, "door.md"))
		if err != nil {
			t.Fatal(err)
		}
		if before != "" && before != string(text) {
			t.Error("a second run writes something else")
		}
		before = string(text)
		if err := os.WriteFile(filepath.Join(out, "window.md"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := run(in, out); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(out, "window.md")); !os.IsNotExist(err) {
		t.Error("the page of a kind that is gone must go")
	}
	for want, why := range map[string]string{
		"# Fields of Door\n": "a page has a name",
		"| `kubectl get` shows | Open; with `-o wide` also Message |":                          "columns are part of the API",
		"Rules of spec:\n\n* a door has a width\n":                                             "rules are told in words",
		"| `colour` | one of `red`, `blue`, **required** | colour is `<red>` or not. |":        "what is required is first; an angle bracket is no HTML",
		"| `hinges` | list (at most 4, each `name` once) of object | hinges hold it. |":        "a list says its bounds",
		"| `hinges[].name` | string, at most 9 characters, **required** | name is its name. |": "a small object stands in the table",
		"* `hinges[].name` matches `^[a-z|]+$`\n":                                              "a pattern is told where no rule says it better",
		"| `lock` | [object](#speclock) | lock keeps it shut. |":                               "an object links to its section",
		"### `spec.lock`\n\nlock keeps it shut.\n":                                             "it has one",
		"* a lock has a key\n":                                                                             "its rules stand there",
		"| `after` | duration | after is when. |":                                                          "a duration is no pattern",
		"| `key` | integer, 1 to 9 | key opens it. |":                                                      "a number has bounds",
		"| `bell` | *not alive in this version* | bell rings. |":                                           "what is refused says so",
		"* `bell`: `spec.lock.bell` is not alive in this version\n":                                        "in the words of the API server",
		"| `selector` | LabelSelector of Kubernetes | selector picks rooms. |\n\nRules of spec:":           "what Kubernetes describes is not repeated",
		"## `status`\n\n| field | type | meaning |\n|---|---|---|\n| `open` | boolean | open says so. |\n": "the status is there",
	} {
		if !strings.Contains(before, want) {
			t.Errorf("no %q: %s", want, why)
		}
	}
	for _, never := range []string{"tune", "matchLabels"} {
		if strings.Contains(before, never) {
			t.Errorf("%s has no place here", never)
		}
	}

	write(strings.Replace(sample, "description: bolt is another., ", "", 1))
	if err := run(in, out); err == nil || !strings.Contains(err.Error(), "spec.lock.bolt has no description") {
		t.Errorf("a field without a description: got %v", err)
	}
}
