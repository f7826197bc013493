// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/mqtt-operator/mqtt-operator/hack/devcluster/machine"
)

// Base is the directory that holds every cluster's state directory.
const Base = "/var/lib/mqtt-operator-devcluster"

// The networks are the same in every cluster: each has a network namespace of its own, so they never meet.
const (
	domain     = "cluster.local"
	serverPort = 6443
)

// Family is the kind of addresses that a cluster has: one, never both.
type Family string

// The families; the zero value is IPv4.
const (
	IPv4 Family = "ipv4"
	IPv6 Family = "ipv6"
)

// FamilyOf checks what somebody has typed.
func FamilyOf(text string) (Family, error) {
	switch f := Family(text); f {
	case IPv4, IPv6:
		return f, nil
	default:
		return "", fmt.Errorf("family %q: want %s or %s", text, IPv4, IPv6)
	}
}

func (f Family) pick(four, six string) string {
	if f == IPv6 {
		return six
	}
	return four
}

func (f Family) podNetwork() string     { return f.pick("10.244.0.0/16", "fd00:244::/48") }
func (f Family) serviceNetwork() string { return f.pick("10.96.0.0/16", "fd00:96::/112") }

// serverService is the first address of the service network, by definition.
func (f Family) serverService() string { return f.pick("10.96.0.1", "fd00:96::1") }
func (f Family) dnsService() string    { return f.pick("10.96.0.10", "fd00:96::a") }

// everywhere is the network of all addresses, anyAddress what a server listens on that listens on all.
func (f Family) everywhere() string  { return f.pick("0.0.0.0/0", "::/0") }
func (f Family) anyAddress() string  { return f.pick("0.0.0.0", "::") }
func (f Family) addressType() string { return f.pick("IPv4", "IPv6") }
func (f Family) reverse() string     { return f.pick("in-addr.arpa", "ip6.arpa") }

// Layout names the files of one cluster.
type Layout struct {
	Name string
	Dir  string
}

// A unix socket's path may have 107 bytes, and containerd's lies deep in the state directory; names also become host
// names.
var namePattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,18}[a-z0-9])?$`)

// NewLayout checks the name.
func NewLayout(name string) (Layout, error) {
	if !namePattern.MatchString(name) {
		return Layout{}, fmt.Errorf("name %q: want up to 20 lower-case letters, digits and inner dashes", name)
	}
	return Layout{Name: name, Dir: filepath.Join(Base, name)}, nil
}

// Kubeconfig is the administrator's.
func (l Layout) Kubeconfig() string { return filepath.Join(l.Dir, "kubeconfig") }

// Log is the log file of a component.
func (l Layout) Log(component string) string {
	return filepath.Join(l.Dir, machine.Logs, component+".log")
}

// ContainerdSocket is where the host finds the node's containerd.
func (l Layout) ContainerdSocket() string {
	return machine.HostPath(l.Dir, containerdSocket)
}

// ResolvConf tells commands in the node's network how to resolve names.
func (l Layout) ResolvConf() string { return l.config("resolv-exec.conf") }

func (l Layout) pki(file string) string    { return filepath.Join(l.Dir, "pki", file) }
func (l Layout) config(file string) string { return filepath.Join(l.Dir, "config", file) }

// executable is a component's executable as the machine sees it.
func (l Layout) executable(component, name string) string {
	return filepath.Join(machine.ExecutableDir(l.Dir, component), name)
}

// address is the address of the node with this index.
func (f Family) address(index int) net.IP {
	return net.ParseIP(f.pick(fmt.Sprintf("10.90.0.%d", 1+index), fmt.Sprintf("fd00:90::%x", 1+index)))
}

// podRange is the part of the pod network that the node with this index gives to its pods.
func (f Family) podRange(index int) string {
	return f.pick(fmt.Sprintf("10.244.%d.0/24", index), fmt.Sprintf("fd00:244:0:%x::/64", index))
}

func server(ip net.IP) string {
	return "https://" + net.JoinHostPort(ip.String(), strconv.Itoa(serverPort))
}
