// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"net"

	"github.com/mqtt-operator/mqtt-operator/hack/devcluster/machine"
	"github.com/mqtt-operator/mqtt-operator/hack/devcluster/pki"
)

const (
	containerdSocket = "/run/containerd/containerd.sock"
	pauseImage       = "localhost/mqtt-operator/pause:1"
	volumesDir       = "/var/lib/volumes"
)

// Node is one kubelet with its container runtime and its rules for Services.
type Node struct {
	Layout
	Family Family
	// Index is the node's place among the cluster's; its name, its address and its pods' addresses follow from it.
	Index int
	// Plugins is the directory with the network plugins.
	Plugins string
	// Snapshotter is containerd's way of stacking image layers.
	Snapshotter string
}

// NodeName is what the node is called in the API.
func (n Node) NodeName() string { return fmt.Sprintf("%s-%d", n.Layout.Name, n.Index) }

// file gives a per-node file its name.
func (n Node) file(name string) string { return fmt.Sprintf("%s-%d", name, n.Index) }

func (n Node) users() []user {
	return []user{
		{n.file("kubelet"), "system:node:" + n.NodeName(), []string{"system:nodes"}},
		{n.file("proxy"), "system:kube-proxy", nil},
	}
}

func (n Node) servingLeaf() pki.Leaf {
	return pki.Leaf{
		CommonName: "system:node:" + n.NodeName(),
		Groups:     []string{"system:nodes"},
		Names:      []string{n.NodeName()},
		Addresses:  []net.IP{n.Family.address(n.Index)},
	}
}

// cgroup is below the machine's, beside the group that holds the machine's own processes.
func (n Node) cgroup() string { return "/" + machine.CgroupRoot + "/" + n.Layout.Name }

func (n Node) writeFiles() error {
	for path, value := range map[string]any{
		n.config(n.file("kubelet") + ".json"):               n.kubelet(),
		n.config(n.file("proxy") + ".json"):                 n.proxy(),
		n.config(n.file("cni") + "/10-devcluster.conflist"): n.network(),
	} {
		if err := writeJSON(path, value, 0o644); err != nil {
			return err
		}
	}
	if err := writeFile(n.config(n.file("containerd")+".toml"), []byte(n.containerd()), 0o644); err != nil {
		return err
	}
	// For pods that ask for the node's own name resolution: the host's servers are out of reach from here.
	if err := writeFile(n.config("resolv.conf"), []byte("nameserver "+n.Family.dnsService()+"\n"), 0o644); err != nil {
		return err
	}
	// For commands from the host: as in a pod of the default namespace.
	return writeFile(n.ResolvConf(), []byte(fmt.Sprintf("nameserver %s\nsearch default.svc.%[2]s svc.%[2]s %[2]s\noptions ndots:5\n",
		n.Family.dnsService(), domain)), 0o644)
}

func (n Node) kubelet() any {
	return object{
		"apiVersion": "kubelet.config.k8s.io/v1beta1",
		"kind":       "KubeletConfiguration",
		"authentication": object{
			"anonymous": object{"enabled": false},
			"webhook":   object{"enabled": true},
			"x509":      object{"clientCAFile": n.pki("ca.crt")},
		},
		"authorization":     object{"mode": "Webhook"},
		"tlsCertFile":       n.pki(n.file("kubelet-serving") + ".crt"),
		"tlsPrivateKeyFile": n.pki(n.file("kubelet-serving") + ".key"),

		"containerRuntimeEndpoint": "unix://" + containerdSocket,
		"cgroupDriver":             "cgroupfs", // systemd, if the host has it, is not asked
		"cgroupRoot":               n.cgroup(),
		"failCgroupV1":             false,
		"failSwapOn":               false,
		"volumePluginDir":          "/var/lib/kubelet/volume-plugins",

		"address":            n.Family.anyAddress(),
		"healthzBindAddress": "127.0.0.1",
		"clusterDomain":      domain,
		"clusterDNS":         []string{n.Family.dnsService()},
		"resolvConf":         n.config("resolv.conf"),

		// A developer's disk is often nearly full, and an image that is collected can not be pulled again.
		"evictionHard": object{
			"memory.available": "64Mi", "nodefs.available": "1%", "nodefs.inodesFree": "1%", "imagefs.available": "1%",
		},
		"imageGCHighThresholdPercent": 100,
		"imageGCLowThresholdPercent":  99,

		// How long a changed Secret takes to appear in a pod, at most; a minute by default.
		"syncFrequency":             "10s",
		"nodeStatusUpdateFrequency": "4s",
	}
}

func (n Node) proxy() any {
	return object{
		"apiVersion":       "kubeproxy.config.k8s.io/v1alpha1",
		"kind":             "KubeProxyConfiguration",
		"mode":             "nftables",
		"clusterCIDR":      n.Family.podNetwork(),
		"hostnameOverride": n.NodeName(),
		"clientConnection": object{"kubeconfig": n.config(n.file("proxy") + ".kubeconfig")},
		// These limits are the host's and cannot be set from a network namespace; zero leaves them.
		"conntrack": object{
			"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s",
		},
		"healthzBindAddress": "127.0.0.1:10256",
		"metricsBindAddress": "127.0.0.1:10249",
	}
}

// network gives every pod a cable of its own to the node.
func (n Node) network() any {
	return object{
		"cniVersion": "1.0.0",
		"name":       "devcluster",
		"plugins": []object{{
			"type":   "ptp",
			"ipMasq": false, // there is no outside to hide the pods from
			"ipam": object{
				"type":    "host-local",
				"dataDir": "/run/cni/networks",
				"ranges":  [][]object{{{"subnet": n.Family.podRange(n.Index)}}},
				"routes":  []object{{"dst": n.Family.everywhere()}},
			},
		}, {
			"type":         "portmap",
			"capabilities": object{"portMappings": true},
			"snat":         true,
		}},
	}
}

func (n Node) containerd() string {
	return fmt.Sprintf(`version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
# What the node does not use, and what would look for its files outside the machine's own directories.
disabled_plugins = [
  "io.containerd.internal.v1.opt",
  "io.containerd.internal.v1.tracing",
  "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.nri.v1.nri",
  "io.containerd.image-verifier.v1.bindir",
]

[grpc]
  address = %[1]q

[plugins.'io.containerd.cri.v1.images']
  snapshotter = %[2]q
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = %[3]q

[plugins.'io.containerd.cri.v1.runtime']
  # The machine does not show securityfs, without which no AppArmor profile can be loaded.
  disable_apparmor = true
  # Inside a container a score below our own may not be set.
  restrict_oom_score_adj = true
  cdi_spec_dirs = []

  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = [%[4]q]
    conf_dir = %[5]q

  [plugins.'io.containerd.cri.v1.runtime'.containerd]
    default_runtime_name = "runc"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
        SystemdCgroup = false
`, containerdSocket, n.Snapshotter, pauseImage, n.Plugins, n.config(n.file("cni")))
}

func (n Node) runtime() machine.Service {
	return machine.Service{
		Name: "containerd",
		Argv: []string{n.executable("containerd", "containerd"), "--config=" + n.config(n.file("containerd")+".toml")},
		Path: machine.ExecutableDir(n.Dir, "containerd"), // where containerd finds its shim
	}
}

func (n Node) agents() []machine.Service {
	return []machine.Service{{Name: "kubelet", Argv: []string{
		n.executable("kubernetes", "kubelet"),
		"--config=" + n.config(n.file("kubelet")+".json"),
		"--kubeconfig=" + n.config(n.file("kubelet")+".kubeconfig"),
		"--hostname-override=" + n.NodeName(),
		"--node-ip=" + n.Family.address(n.Index).String(),
		fmt.Sprintf("--node-labels=topology.kubernetes.io/zone=zone-%d", n.Index),
	}}, {Name: "kube-proxy", Argv: []string{
		n.executable("kubernetes", "kube-proxy"),
		"--config=" + n.config(n.file("proxy")+".json"),
	}}}
}
