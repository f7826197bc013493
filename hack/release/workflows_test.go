// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// workflow is what this project wants to be so in every workflow; hack/workflows.sh looks at the rest.
type workflow struct {
	Permissions map[string]string `json:"permissions"`
	Jobs        map[string]struct {
		Permissions    map[string]string `json:"permissions"`
		TimeoutMinutes int               `json:"timeout-minutes"`
		Uses           string            `json:"uses"`
		Steps          []struct {
			Uses string         `json:"uses"`
			Run  string         `json:"run"`
			With map[string]any `json:"with"`
		} `json:"steps"`
	} `json:"jobs"`
}

var (
	// fixed is a version, or better the digest of a commit; a branch would be what somebody else decides each day.
	fixed  = regexp.MustCompile(`^[a-z0-9-]+/[a-z0-9-]+@(v\d+(\.\d+){0,2}|[0-9a-f]{40})$`)
	script = regexp.MustCompile(`hack/[a-z-]+\.sh`)
)

func TestWorkflowsAreCautious(t *testing.T) {
	paths, err := filepath.Glob("../../.github/workflows/*.yaml")
	if err != nil || len(paths) < 2 {
		t.Fatalf("found %q, %v", paths, err)
	}

	writes := map[string]bool{}

	for _, path := range paths {
		text := read(t, path)

		var w workflow
		if err := yaml.Unmarshal(text, &w); err != nil {
			t.Fatalf("%s: %v", path, err)
		}

		if w.Permissions == nil || len(w.Permissions) != 0 {
			t.Errorf("%s: permissions at the top are %v, want none: each job asks for its own", path, w.Permissions)
		}

		if strings.Contains(string(text), "pull_request_target") {
			t.Errorf("%s gives the code of strangers our rights", path)
		}

		for name, job := range w.Jobs {
			if job.Permissions == nil || (job.TimeoutMinutes == 0 && job.Uses == "") {
				t.Errorf("%s: job %s has permissions %v and %d minutes", path, name, job.Permissions, job.TimeoutMinutes)
			}

			for right, level := range job.Permissions {
				if level == "write" {
					writes[filepath.Base(path)+" "+name+" "+right] = true
				}
			}

			for _, step := range job.Steps {
				if step.Uses != "" && !fixed.MatchString(step.Uses) {
					t.Errorf("%s: job %s uses %s, which is neither a version nor the digest of a commit", path, name, step.Uses)
				}

				if strings.HasPrefix(step.Uses, "actions/checkout@") && step.With["persist-credentials"] != false {
					t.Errorf("%s: job %s leaves its token where every later step can read it", path, name)
				}

				// What a tag or a title says must not become a command.
				if strings.Contains(step.Run, "${{") {
					t.Errorf("%s: job %s puts an expression into a command: %s", path, name, step.Run)
				}

				for _, called := range script.FindAllString(step.Run, -1) {
					if info, err := os.Stat("../../" + called); err != nil || info.Mode()&0o100 == 0 {
						t.Errorf("%s: job %s calls %s, which is no program", path, name, called)
					}
				}
			}
		}
	}

	for _, right := range []string{"contents", "packages", "id-token"} {
		delete(writes, "release.yaml release "+right)
	}

	for _, right := range []string{"pages", "id-token"} {
		delete(writes, "pages.yaml deploy "+right)
	}

	for right := range writes {
		t.Errorf("nobody expected the right to write: %s", right)
	}
}
