// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mqtt-operator/mqtt-operator/hack/devcluster/machine"
)

// ErrDown says that there is no such cluster, and what to do about it.
var ErrDown = errors.New("not running: start it with: devcluster up")

// Status writes how a cluster is.
func Status(ctx context.Context, l Layout, out io.Writer) error {
	_, spec, err := machine.Running(l.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return ErrDown
	}
	if err != nil {
		return fmt.Errorf("%w; what it left is removed by: devcluster down", err)
	}
	report, err := machine.ReadReport(l.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !report.Ready {
		return errors.New("still starting")
	}
	fmt.Fprintf(out, "cluster %s: up, state in %s\n", l.Name, l.Dir)
	for _, s := range report.Services {
		state := "ended"
		if s.Running {
			state = "running"
		}
		line := fmt.Sprintf("  %-24s %s for %s", s.Name, state, time.Since(s.Since).Round(time.Second))
		if s.Restarts > 0 {
			line += fmt.Sprintf(", ended %d times, last: %s", s.Restarts, s.Last)
		}
		fmt.Fprintln(out, line)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	kubectl := exec.CommandContext(ctx, filepath.Join(spec.Executables["kubernetes"], "kubectl"),
		"--kubeconfig="+l.Kubeconfig(), "get", "nodes,pods,persistentvolumeclaims", "--all-namespaces", "--output=wide")
	kubectl.Env = []string{"HOME=/root", "PATH=" + os.Getenv("PATH")}
	output, err := machine.Output(l.Dir, kubectl)
	if err != nil {
		return fmt.Errorf("kube-apiserver does not answer: %w: %s", err, output)
	}
	_, err = out.Write(output)
	return err
}

// Exec replaces this program by a command in the cluster's network, with the cluster's kubectl and credentials at hand.
func Exec(l Layout, argv []string) error {
	_, spec, err := machine.Running(l.Dir)
	if err != nil {
		return ErrDown
	}
	env := execEnv(os.Environ(), map[string]string{
		"KUBECONFIG":           l.Kubeconfig(),
		"CONTAINERD_ADDRESS":   l.ContainerdSocket(),
		"CONTAINERD_NAMESPACE": "k8s.io",
		"DEVCLUSTER_NAME":      l.Name,
	}, spec.Executables["kubernetes"], spec.Executables["containerd"])
	return machine.Exec(l.Dir, l.ResolvConf(), argv, env)
}

// execEnv is the caller's environment with the cluster's settings, its tools first on PATH, and no proxy: none can be
// reached, and clients would send what is meant for the cluster there.
func execEnv(environ []string, set map[string]string, tools ...string) []string {
	var env []string
	path := os.Getenv("PATH")
	for _, entry := range environ {
		key, value, _ := strings.Cut(entry, "=")
		_, replaced := set[key]
		switch strings.ToUpper(key) {
		case "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY":
			replaced = true
		case "PATH":
			path, replaced = value, true
		}
		if !replaced {
			env = append(env, entry)
		}
	}
	for key, value := range set {
		env = append(env, key+"="+value)
	}
	slices.Sort(env)
	return append(env, "PATH="+strings.Join(append(tools, path), ":"))
}

// Load gives image archives to the node.
func Load(ctx context.Context, l Layout, archives []string, out io.Writer) error {
	_, spec, err := machine.Running(l.Dir)
	if err != nil {
		return ErrDown
	}
	for _, archive := range archives {
		if _, err := os.Stat(archive); err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, filepath.Join(spec.Executables["containerd"], "ctr"),
			"--address="+l.ContainerdSocket(), "--namespace=k8s.io", "images", "import", archive)
		output, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: import: %w\n%s", archive, err, output)
		}
		// Of all that ctr says, only the images' names are news.
		for line := range strings.Lines(string(output)) {
			if fields := strings.Fields(line); len(fields) == 2 && fields[1] == "saved" {
				fmt.Fprintln(out, "loaded", fields[0])
			}
		}
	}
	return nil
}

// Components lists the components that have logs.
func Components(l Layout) []string {
	logs, _ := filepath.Glob(l.Log("*"))
	for i, log := range logs {
		logs[i] = strings.TrimSuffix(filepath.Base(log), ".log")
	}
	return logs
}
