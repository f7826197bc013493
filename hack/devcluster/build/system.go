// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
)

// SystemPath is where the node's programs look for the system's: it includes sbin, which a user's PATH may not.
const SystemPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// commands maps each program the node runs, and no Go module offers, to the Debian package that has it.
var commands = map[string]string{
	"runc":      "runc",
	"nft":       "nftables",
	"iptables":  "iptables", // the portmap plugin's way of writing rules
	"conntrack": "conntrack",
	"ip":        "iproute2",
	"mount":     "mount",
	"umount":    "mount",
}

// cniPlugins are the network plugins that the node's pods need.
var cniPlugins = []string{"ptp", "host-local", "portmap", "loopback"}

// cniDirs are where distributions put the network plugins.
var cniDirs = []string{"/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"}

// CNIPlugins is the directory that holds all the network plugins the node needs.
func CNIPlugins() (string, error) {
	for _, dir := range cniDirs {
		complete := true
		for _, plugin := range cniPlugins {
			complete = complete && exists(filepath.Join(dir, plugin))
		}
		if complete {
			return dir, nil
		}
	}
	return "", fmt.Errorf("no directory of %s has the network plugins %s: install the package containernetworking-plugins",
		strings.Join(cniDirs, ", "), strings.Join(cniPlugins, ", "))
}

// Command finds a program of the system.
func Command(name string) (string, error) {
	for _, dir := range filepath.SplitList(SystemPath) {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 && !info.IsDir() {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: not found in %s", name, SystemPath)
}

func missingPackages() []string {
	missing := map[string]bool{}
	for command, pkg := range commands {
		if _, err := Command(command); err != nil {
			missing[pkg] = true
		}
	}
	if _, err := CNIPlugins(); err != nil {
		missing["containernetworking-plugins"] = true
	}
	names := make([]string, 0, len(missing))
	for name := range missing {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// System installs the Debian packages that are missing; where there is no apt-get it says what to install.
func System(ctx context.Context, out io.Writer) error {
	missing := missingPackages()
	if len(missing) == 0 {
		return nil
	}
	list := strings.Join(missing, " ")
	if _, err := Command("apt-get"); err != nil {
		return fmt.Errorf("these programs' packages are missing (Debian's names): %s: "+
			"install them with this system's package manager", list)
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("packages are missing: run as root: apt-get install --no-install-recommends %s", list)
	}
	fmt.Fprintf(out, "installing Debian packages: %s\n", list)
	install := append([]string{"install", "--yes", "--quiet", "--no-install-recommends"}, missing...)
	if _, err := aptGet(ctx, install...); err != nil {
		// The likely reason is an old or empty package list; fetch it and try once more.
		if output, err := aptGet(ctx, "update", "--quiet"); err != nil {
			return fmt.Errorf("apt-get update: %w\n%s", err, tail(output, 10))
		}
		if output, err := aptGet(ctx, install...); err != nil {
			return fmt.Errorf("apt-get install %s: %w\n%s", list, err, tail(output, 10))
		}
	}
	if still := missingPackages(); len(still) > 0 {
		return fmt.Errorf("installed %s, but programs of %s are still missing", list, strings.Join(still, " "))
	}
	return nil
}

func aptGet(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "apt-get", args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	output, err := cmd.CombinedOutput()
	return string(output), err
}
