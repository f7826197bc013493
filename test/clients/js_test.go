// SPDX-License-Identifier: Apache-2.0

package clients

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// jsStories are told in js/story.js, which says what happens in each.
var jsStories = []story{
	{"exchange", all},
	{"many", all},
	{"large", all},
	{"retained", all},
	{"will", all},
	{"offline", all},
	{"reconnect", all},
	{"forwarded", only5},
	{"alias", only5},
	{"sharing", only5},
}

func TestJavaScript(t *testing.T) {
	modules := needJS(t)

	for _, s := range jsStories {
		for _, version := range s.versions {
			t.Run(fmt.Sprintf("tcp/%s/%s", s.name, version), func(t *testing.T) {
				t.Parallel()
				jsTells(t, modules, s.name, version, "mqtt://"+plain(t).tcp)
			})
			t.Run(fmt.Sprintf("ws/%s/%s", s.name, version), func(t *testing.T) {
				t.Parallel()
				jsTells(t, modules, s.name, version, "ws://"+webSocket(t).ws+"/mqtt")
			})
		}
	}

	for _, name := range []string{"exchange", "large"} {
		t.Run("tls/"+name, func(t *testing.T) {
			t.Parallel()
			jsTells(t, modules, name, "5", "mqtts://"+secure(t).tcp, ca())
		})
		t.Run("wss/"+name, func(t *testing.T) {
			t.Parallel()
			jsTells(t, modules, name, "5", "wss://"+secure(t).ws+"/mqtt", ca())
		})
	}
}

func jsTells(t *testing.T, modules, name, version, url string, more ...string) {
	t.Helper()

	// NODE_PATH is where require looks; the test's process has no other use for it.
	line := append([]string{"NODE_PATH=" + modules, "node", filepath.Join("js", "story.js"), name, version, url, own()}, more...)
	call(t, "", "env", line...)
}

// needJS gives the directory with mqtt.js and all that it needs.
func needJS(t *testing.T) string {
	t.Helper()
	need(t, "node", "nodejs")
	need(t, "npm", "npm")

	modules, err := installJS()
	if err != nil {
		t.Fatal(err)
	}

	return modules
}

// installJS installs what the lock file pins, once for each state of it.
var installJS = sync.OnceValues(func() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}

	digest := sha256.New()
	files := map[string][]byte{}

	for _, name := range []string{"package.json", "package-lock.json"} {
		files[name], err = os.ReadFile(filepath.Join("js", name))
		if err != nil {
			return "", err
		}

		digest.Write(files[name])
	}

	cache = filepath.Join(cache, "mqtt-operator")
	home := filepath.Join(cache, "mqttjs-"+hex.EncodeToString(digest.Sum(nil))[:16])
	modules := filepath.Join(home, "node_modules")

	if _, err := os.Stat(modules); err == nil {
		return modules, nil
	}

	if err := os.MkdirAll(cache, 0o750); err != nil {
		return "", err
	}

	// Beside it first, so that what was broken off is never taken for whole.
	beside, err := os.MkdirTemp(cache, "mqttjs-")
	if err != nil {
		return "", err
	}

	defer os.RemoveAll(beside)

	for name, content := range files {
		if err := os.WriteFile(filepath.Join(beside, name), content, 0o600); err != nil {
			return "", err
		}
	}

	npm := exec.CommandContext(context.Background(), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	npm.Dir = beside

	if out, err := npm.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci: %w\n%s", err, out)
	}

	if err := os.Rename(beside, home); err != nil && !os.IsExist(err) {
		// Somebody else may have been faster.
		if _, there := os.Stat(modules); there != nil {
			return "", err
		}
	}

	return modules, nil
})
