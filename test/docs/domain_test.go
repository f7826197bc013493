// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestNoClusterDomain: a cluster's domain is the cluster's own. What takes the usual one for granted works in most clusters and
// fails in the others, so nothing of ours says it but the development node, whose own it is, and those who say that nothing does.
func TestNoClusterDomain(t *testing.T) {
	t.Parallel()

	domain := []byte("cluster" + ".local")
	allowed := []string{
		"hack/cluster.sh", "hack/devcluster", // the node's resolver
		"controllers/desired/desired_test.go", "test/chart/chart_test.go", // look for it, too
		"docs/tls.md", // says that no certificate holds it
	}
	seen, used := 0, map[string]bool{}

	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}

		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}

		if entry.IsDir() {
			if slices.Contains([]string{".git", ".cache", "dist", "bin", "node_modules"}, entry.Name()) {
				return filepath.SkipDir
			}

			return nil
		}

		if !entry.Type().IsRegular() {
			return nil
		}

		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}

		seen++

		if !bytes.Contains(text, domain) {
			return nil
		}

		i := slices.IndexFunc(allowed, func(part string) bool { return name == part || strings.HasPrefix(name, part+"/") })
		if i < 0 {
			t.Errorf("%s takes %s for the domain of the cluster: write SERVICE.NAMESPACE.svc", name, domain)

			return nil
		}

		used[allowed[i]] = true

		return nil
	})
	if err != nil {
		t.Fatal(err)
	}

	if seen < 500 {
		t.Errorf("only %d files were looked at", seen)
	}

	for _, part := range allowed {
		if !used[part] {
			t.Errorf("%s does not say it any more: take it out of this test", part)
		}
	}
}
