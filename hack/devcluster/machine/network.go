// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Link is the device that carries the machine's address.
const Link = "node0"

// networkCommands brings up the machine's network. The device is a bridge with no port: every kernel that runs pods has
// bridges, and a packet that the default route sends there goes nowhere. The route is still needed, because a packet to
// a Service's address must be routed somewhere before kube-proxy's rules give it its true destination.
func networkCommands(address string) [][]string {
	return [][]string{
		{"link", "set", "lo", "up"},
		{"link", "add", Link, "type", "bridge"},
		{"address", "add", address + "/24", "dev", Link},
		{"link", "set", Link, "up"},
		{"route", "add", "default", "dev", Link},
	}
}

// sysctls are network settings, which belong to the namespace and not to the host.
var sysctls = map[string]string{
	"net/ipv4/ip_forward":                "1",
	"net/ipv4/conf/all/route_localnet":   "1", // a pod's host port answers on 127.0.0.1 too
	"net/ipv6/conf/all/disable_ipv6":     "1", // the cluster has IPv4 only; no half-working addresses
	"net/ipv6/conf/default/disable_ipv6": "1",
}

func layOutNetwork(spec Spec) error {
	for _, args := range networkCommands(spec.Address) {
		if output, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(output)))
		}
	}
	for name, value := range sysctls {
		err := os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0o644)
		if err != nil && name == "net/ipv4/ip_forward" {
			return fmt.Errorf("sysctl %s: %w", name, err)
		}
		// The others are missing where the kernel lacks the feature they tame.
	}
	return nil
}
