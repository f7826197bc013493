// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const sample = `# A header that describes no value.

# Door of the house.
door:
  # How wide it is, in <metres>.
  # @schema {"minimum": 1}
  width: 2
  # Its colour.
  colour: ""
# Furniture.
resources:
  chairs: 4
# Names.
names: []
`

func TestRead(t *testing.T) {
	cases := map[string]struct {
		reason, from, to, want string
	}{
		"a value without a comment is refused": {reason: "the README would lack it", from: "  # Its colour.\n", want: "door.colour: no comment"},
		"a broken schema is refused":           {reason: "it would be ignored in silence", from: `{"minimum": 1}`, to: "{", want: "door.width: @schema"},
		"a list at the top is refused":         {reason: "Helm's values are a mapping", from: sample, to: "- a\n", want: "want one mapping"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := read([]byte(strings.Replace(sample, c.from, c.to, 1)))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want a refusal with %q: %s", err, c.want, c.reason)
			}
		})
	}
}

func TestRun(t *testing.T) {
	chart := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(chart, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("values.yaml", sample)
	write("README.md", "before\n"+begin+"stale\n"+end+"after\n")
	for range 2 { // the second run must change nothing
		if err := run(chart); err != nil {
			t.Fatal(err)
		}
		readme, err := os.ReadFile(filepath.Join(chart, "README.md"))
		if err != nil {
			t.Fatal(err)
		}
		want := "before\n" + begin + `
| value | default | what it does |
|---|---|---|
| **door** | | Door of the house. |
| ` + "`door.width` | `2`" + ` | How wide it is, in &lt;metres&gt;. |
| ` + "`door.colour` | `\"\"`" + ` | Its colour. |
| ` + "`resources` | `{\"chairs\":4}`" + ` | Furniture. |
| ` + "`names` | `[]`" + ` | Names. |

` + end + "after\n"
		if string(readme) != want {
			t.Fatalf("got:\n%s\nwant:\n%s", readme, want)
		}
	}

	text, err := os.ReadFile(filepath.Join(chart, "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	type property struct {
		Type       string               `json:"type"`
		Minimum    int                  `json:"minimum"`
		Others     *bool                `json:"additionalProperties"`
		Properties map[string]*property `json:"properties"`
	}
	var schema property
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	door, resources, names := schema.Properties["door"], schema.Properties["resources"], schema.Properties["names"]
	if door == nil || resources == nil || names == nil {
		t.Fatalf("a value is missing in:\n%s", text)
	}
	for _, closed := range []*bool{schema.Others, door.Others} {
		if closed == nil || *closed {
			t.Error("values that nobody knows must be refused")
		}
	}
	if resources.Others != nil || resources.Type != "object" || names.Type != "array" {
		t.Errorf("got %+v and %+v", resources, names)
	}
	if width := door.Properties["width"]; width == nil || width.Type != "integer" || width.Minimum != 1 {
		t.Errorf("got %+v", width)
	}
}
