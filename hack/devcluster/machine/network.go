// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"fmt"
	"net"
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
//
// With IPv6 nobody is asked whether somebody else has the address: on a cable that leads nowhere nobody would answer.
func networkCommands(address string) [][]string {
	commands := [][]string{
		{"link", "set", "lo", "up"},
		{"link", "add", Link, "type", "bridge"},
	}
	if isIPv6(address) {
		return append(commands, [][]string{
			{"address", "add", address + "/64", "dev", Link, "nodad"},
			{"link", "set", Link, "up"},
			{"-6", "route", "add", "default", "dev", Link},
		}...)
	}
	return append(commands, [][]string{
		{"address", "add", address + "/24", "dev", Link},
		{"link", "set", Link, "up"},
		{"route", "add", "default", "dev", Link},
	}...)
}

func isIPv6(address string) bool { return net.ParseIP(address).To4() == nil }

// sysctls are network settings, which belong to the namespace and not to the host. The first one has to be there; the others
// are missing where the kernel lacks the feature that they tame.
func sysctls(address string) [][2]string {
	if isIPv6(address) {
		return [][2]string{
			{"net/ipv6/conf/all/forwarding", "1"},
			{"net/ipv6/conf/default/accept_dad", "0"}, // a pod's address is good at once
		}
	}
	return [][2]string{
		{"net/ipv4/ip_forward", "1"},
		{"net/ipv4/conf/all/route_localnet", "1"}, // a pod's host port answers on 127.0.0.1 too
		{"net/ipv6/conf/all/disable_ipv6", "1"},   // the cluster has IPv4 only; no half-working addresses
		{"net/ipv6/conf/default/disable_ipv6", "1"},
	}
}

func layOutNetwork(spec Spec) error {
	for _, args := range networkCommands(spec.Address) {
		if output, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(output)))
		}
	}
	for n, setting := range sysctls(spec.Address) {
		err := os.WriteFile(filepath.Join("/proc/sys", setting[0]), []byte(setting[1]), 0o644)
		if err != nil && n == 0 {
			return fmt.Errorf("sysctl %s: %w", setting[0], err)
		}
	}
	return nil
}
