// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"net"
	"path/filepath"
	"regexp"

	"github.com/mqtt-operator/mqtt-operator/hack/devcluster/machine"
)

// Base is the directory that holds every cluster's state directory.
const Base = "/var/lib/mqtt-operator-devcluster"

// The networks are the same in every cluster: each has a network namespace of its own, so they never meet.
const (
	podNetwork     = "10.244.0.0/16"
	serviceNetwork = "10.96.0.0/16"
	serverService  = "10.96.0.1" // the first address of the service network, by definition
	dnsService     = "10.96.0.10"
	domain         = "cluster.local"
	serverPort     = 6443
)

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
func address(index int) net.IP { return net.IPv4(10, 90, 0, byte(1+index)) }

// podRange is the part of the pod network that the node with this index gives to its pods.
func podRange(index int) string { return fmt.Sprintf("10.244.%d.0/24", index) }

func server(ip net.IP) string { return fmt.Sprintf("https://%s:%d", ip, serverPort) }
