// SPDX-License-Identifier: Apache-2.0

// Package machine runs programs as if on a computer of their own, and removes every trace of it.
//
// In: a state directory, a cgroup, an address, and what to run. Out: one process id. The computer is a set of Linux
// namespaces, and that process is the first in them:
//
//	Start (host) ── clone: new pid, mount, network, uts and ipc namespaces ──> First
//	  │                                                                          │ waits for the word, joins the cgroup,
//	  │ records First's identity, then gives the word                            │ lays out file systems and network
//	  │                                                                          ├─> the payload, which starts services
//	  └ reads progress lines until the payload is ready or has failed            └ reaps orphans until the payload ends
//
// The kernel does the cleaning: when First dies every process in its pid namespace is killed, and with the last of them
// go the mounts and the network. What is left is the state directory and the cgroup, and Remove knows both. Because
// First waits for its word, a caller that dies before recording it leaves nothing running either.
//
// Importers: the cluster package only. It knows nothing of Kubernetes.
package machine
