// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const attacks = "docs/design/20261124-attacks.md"

// proof is a test or fuzz target of this module.
type proof struct {
	// texts are the strings that stand in it: among them are the names of its cases.
	texts map[string]bool
}

// proofs are all tests and fuzz targets of the module, by "directory Name". Modules of their own are left out.
func proofs(t *testing.T) map[string]proof {
	t.Helper()

	found := map[string]proof{}
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}

		if entry.IsDir() {
			_, isModule := os.Stat(filepath.Join(name, "go.mod"))
			if name != root && (isModule == nil || entry.Name() == "dist" || entry.Name() == "testdata" || strings.HasPrefix(entry.Name(), ".")) {
				return filepath.SkipDir
			}

			return nil
		}

		if !strings.HasSuffix(name, "_test.go") {
			return nil
		}

		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}

		dir, err := filepath.Rel(root, filepath.Dir(name))
		if err != nil {
			return err
		}

		for _, declared := range file.Decls {
			if f, ok := declared.(*ast.FuncDecl); ok && f.Recv == nil && isTest(f) {
				found[filepath.ToSlash(dir)+" "+f.Name.Name] = proof{texts: textsIn(f)}
			}
		}

		return nil
	})
	if err != nil {
		t.Fatal(err)
	}

	return found
}

// isTest tells whether Go runs a function as a test or a fuzz target.
func isTest(f *ast.FuncDecl) bool {
	for prefix, argument := range map[string]string{"Test": "T", "Fuzz": "F"} {
		if !strings.HasPrefix(f.Name.Name, prefix) || len(f.Type.Params.List) != 1 {
			continue
		}

		pointer, ok := f.Type.Params.List[0].Type.(*ast.StarExpr)
		if !ok {
			continue
		}

		of, ok := pointer.X.(*ast.SelectorExpr)
		if ok && of.Sel.Name == argument {
			return true
		}
	}

	return false
}

func textsIn(f *ast.FuncDecl) map[string]bool {
	texts := map[string]bool{}

	ast.Inspect(f, func(n ast.Node) bool {
		if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING {
			if text, err := strconv.Unquote(literal.Value); err == nil {
				texts[text] = true
			}
		}

		return true
	})

	return texts
}

// TestAttacksAreProved: every test and case that the table of attacks names is there.
func TestAttacksAreProved(t *testing.T) {
	t.Parallel()

	text, err := os.ReadFile(filepath.Join(root, attacks))
	if err != nil {
		t.Fatal(err)
	}

	known := proofs(t)
	quoted := regexp.MustCompile("`([^`]+)`")
	rows := 0

	for n, line := range strings.Split(string(text), "\n") {
		cells := strings.Split(line, "|")
		if len(cells) != 4 || strings.HasPrefix(line, "|---") || strings.Contains(cells[2], "proved by") {
			continue
		}

		rows++
		named := quoted.FindAllStringSubmatch(cells[2], -1)

		if len(named) == 0 {
			t.Errorf("%s:%d: nothing proves it", attacks, n+1)
		}

		for _, m := range named {
			dir, rest, _ := strings.Cut(m[1], " ")
			name, which, hasCase := strings.Cut(rest, "/")

			p, ok := known[dir+" "+name]
			if !ok {
				t.Errorf("%s:%d: %s has no test %s", attacks, n+1, dir, name)

				continue
			}

			if hasCase && !p.texts[which] {
				t.Errorf("%s:%d: %s %s has no case %q", attacks, n+1, dir, name, which)
			}
		}
	}

	if rows < 30 {
		t.Errorf("%d attacks were found; is it still a table?", rows)
	}
}

// TestEveryTargetIsFuzzed: hack/fuzz.sh finds its targets by their text; this is what Go takes for one.
func TestEveryTargetIsFuzzed(t *testing.T) {
	t.Parallel()

	script := exec.CommandContext(t.Context(), filepath.Join(root, "hack", "fuzz.sh"), "list")

	listed, err := script.Output()
	if err != nil {
		t.Fatal(err)
	}

	var want []string

	for _, name := range slices.Sorted(maps.Keys(proofs(t))) {
		if dir, target, _ := strings.Cut(name, " "); strings.HasPrefix(target, "Fuzz") {
			want = append(want, dir+":"+target)
		}
	}

	got := strings.Fields(string(listed))
	slices.Sort(got)
	slices.Sort(want)

	if !slices.Equal(got, want) || len(want) == 0 {
		t.Errorf("hack/fuzz.sh runs\n%s\nand the module has\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	if !slices.ContainsFunc(want, func(s string) bool { return path.Dir(s) == "cmd/kubectl-mqtt" }) {
		t.Error("the plugin reads foreign files, and nothing throws wild ones at it")
	}
}
