// SPDX-License-Identifier: Apache-2.0

// Package cluster turns a machine into a Kubernetes node with its control plane.
//
// In: a name and directories of executables. Out: a state directory with a kubeconfig, and a machine in which
//
//	etcd <- kube-apiserver <- kube-controller-manager, kube-scheduler     ControlPlane
//	                       <- kubelet -> containerd -> runc, CNI plugins  Node
//	                       <- kube-proxy                                  Node
//	                       <- coredns, volumes                            for all nodes
//
// ControlPlane and Node are values that render their configuration and their services; payload.go, which runs inside
// the machine, starts them in order. A second node would be a second machine with a Node of the next index, joined to
// the first by a link; nothing here assumes that the control plane's address is the node's.
//
// Three choices that differ from a common cluster, and why:
//
// CoreDNS is a process beside the kubelet, not a pod: names resolve before the first pod starts, and no state of the
// node's pods can take them away. Pods reach it as always, at the cluster DNS address, through a Service whose endpoint
// is the node's address.
//
// Volumes come from a provisioner of our own that makes "local" volumes. The controller manager's host-path provisioner
// makes directories with mode 0750 that belong to root, and Kubernetes does not apply fsGroup to host paths, so that no
// unprivileged pod could write. Local volumes get fsGroup applied as a cloud's disks do: a pod that forgets fsGroup fails
// here as it would there. Unlike host paths they can also grow.
//
// Pods are connected by the ptp plugin, not by a bridge: between pods on a bridge, answers to a Service's client pass by
// the address translation unless the host has the br_netfilter module. Routed, they never do.
package cluster
