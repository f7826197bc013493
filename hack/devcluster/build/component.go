// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// Component is a Go module under components/ and the executables made from it.
type Component struct {
	// Name is the folder under components/, and the first part of the cache directory's name.
	Name string
	// Module is the module whose version the component is known by; empty for our own code.
	Module string
	// Dir is the module's folder, relative to the source root.
	Dir string
	// Executables maps the name of an executable to its package.
	Executables map[string]string
	// Links are other names under which the only executable is started.
	Links []string
	// Tags are build constraints that leave out what the node has no use for.
	Tags string
	// Stamp lists string variables that receive the version (%[1]s) at link time.
	Stamp []string
	// Long is said before a cold build that takes minutes.
	Long string
}

// Kubernetes is all of Kubernetes that the node needs, in one executable that looks at the name it is started by.
var Kubernetes = Component{
	Name:        "kubernetes",
	Module:      "k8s.io/kubernetes",
	Dir:         "components/kubernetes",
	Executables: map[string]string{"kubernetes": "."},
	Links: []string{
		"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl",
	},
	Stamp: []string{
		"k8s.io/component-base/version.gitVersion",
		"k8s.io/client-go/pkg/version.gitVersion",
	},
	Long: "8 minutes or more on two cores",
}

// Etcd is the API server's store.
var Etcd = Component{
	Name:        "etcd",
	Module:      "go.etcd.io/etcd/server/v3",
	Dir:         "components/etcd",
	Executables: map[string]string{"etcd": "."},
}

// Containerd is the container runtime, its shim, and its command line.
var Containerd = Component{
	Name:   "containerd",
	Module: "github.com/containerd/containerd/v2",
	Dir:    "components/containerd",
	Executables: map[string]string{
		"containerd":              "github.com/containerd/containerd/v2/cmd/containerd",
		"containerd-shim-runc-v2": "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
		"ctr":                     "github.com/containerd/containerd/v2/cmd/ctr",
	},
	Tags:  "no_btrfs,no_devmapper,no_zfs",
	Stamp: []string{"github.com/containerd/containerd/v2/version.Version"},
	Long:  "about 2 minutes",
}

// CoreDNS answers cluster names.
var CoreDNS = Component{
	Name:        "coredns",
	Module:      "github.com/coredns/coredns",
	Dir:         "components/coredns",
	Executables: map[string]string{"coredns": "."},
	Long:        "about a minute",
}

// Pause is the process that holds a pod's namespaces.
var Pause = Component{
	Name:        "pause",
	Dir:         "pause",
	Executables: map[string]string{"pause": "."},
}

// goFlags are given to every build: the same sources give the same bytes, wherever the checkout lies.
var goFlags = []string{"-trimpath", "-buildvcs=false"}

// All lists every component, quickest use first: an interrupted first build leaves the most behind for the next.
var All = []Component{Kubernetes, Etcd, Containerd, CoreDNS, Pause}

// Version is the version of the component's module as its go.mod requires it, or "" for our own code.
func (c Component) Version(goMod []byte) string {
	if c.Module == "" {
		return ""
	}
	lines := bufio.NewScanner(bytes.NewReader(goMod))
	for lines.Scan() {
		fields := strings.Fields(strings.TrimPrefix(strings.TrimSpace(lines.Text()), "require "))
		if len(fields) >= 2 && fields[0] == c.Module && strings.HasPrefix(fields[1], "v") {
			return fields[1]
		}
	}
	return ""
}

// digest names the content of a component: its sources, its pins, the toolchain, and how it is built.
func (c Component) digest(toolchain string, sources fs.FS) (string, error) {
	names, err := fs.Glob(sources, "*.go")
	if err != nil {
		return "", err
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		if _, err := fs.Stat(sources, name); err == nil {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "", fmt.Errorf("component %s: no sources", c.Name)
	}
	sort.Strings(names)

	sum := sha256.New()
	fmt.Fprintf(sum, "toolchain %s\n", toolchain)
	// fmt prints maps in key order, so equal components print equal.
	fmt.Fprintf(sum, "recipe %v %v %v %v %v\n", goFlags, c.Executables, c.Links, c.Tags, c.Stamp)
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		content, err := fs.ReadFile(sources, name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "file %s %d\n", name, len(content))
		sum.Write(content)
	}
	return hex.EncodeToString(sum.Sum(nil))[:16], nil
}

// SourceRoot finds the folder that holds components/, looking upwards from each of the given folders.
func SourceRoot(from ...string) (string, error) {
	const marker = "components/kubernetes/go.mod"
	for _, start := range from {
		start, err := filepath.Abs(start)
		if err != nil {
			return "", err
		}
		for dir := start; ; dir = filepath.Dir(dir) {
			for _, candidate := range []string{dir, filepath.Join(dir, "hack", "devcluster")} {
				if _, err := os.Stat(filepath.Join(candidate, marker)); err == nil {
					return candidate, nil
				}
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return "", fmt.Errorf("no hack/devcluster above %s: run this inside a checkout of mqtt-operator, "+
		"or set DEVCLUSTER_SOURCE to its hack/devcluster folder", strings.Join(from, " or "))
}

// CacheRoot is where built components are kept, by the environment's wish.
func CacheRoot(getenv func(string) string) (string, error) {
	if dir := getenv("MQTT_OPERATOR_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	if dir := getenv("XDG_CACHE_HOME"); dir != "" {
		return filepath.Join(dir, "mqtt-operator"), nil
	}
	if home := getenv("HOME"); home != "" {
		return filepath.Join(home, ".cache", "mqtt-operator"), nil
	}
	return "", fmt.Errorf("no cache directory: set MQTT_OPERATOR_CACHE, XDG_CACHE_HOME or HOME")
}
