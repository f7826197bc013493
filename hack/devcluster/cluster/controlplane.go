// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/mqtt-operator/mqtt-operator/hack/devcluster/machine"
	"github.com/mqtt-operator/mqtt-operator/hack/devcluster/pki"
)

const etcdEndpoint = "http://127.0.0.1:2379"

// ControlPlane is the API server, its store, and the controllers.
type ControlPlane struct {
	Layout
	Family  Family
	Address net.IP
}

// user is someone who speaks to the API server with a certificate.
type user struct {
	file   string
	name   string
	groups []string
}

func (c ControlPlane) users() []user {
	return []user{
		{"admin", "kubernetes-admin", []string{"system:masters"}},
		{"controller-manager", "system:kube-controller-manager", nil},
		{"scheduler", "system:kube-scheduler", nil},
		{"coredns", dnsUser, nil},
	}
}

// writeFiles makes the cluster's keys, those of its nodes included, and the control plane's configuration.
func (c ControlPlane) writeFiles(nodes []Node, now time.Time) error {
	for _, dir := range []string{c.pki(""), c.config("")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	authority, err := pki.NewAuthority("devcluster-"+c.Name, now)
	if err != nil {
		return err
	}
	// Its own authority: whoever it signs for may name any user to an aggregated API server.
	frontProxy, err := pki.NewAuthority("devcluster-"+c.Name+"-front-proxy", now)
	if err != nil {
		return err
	}
	tokens, err := pki.NewSigningKey()
	if err != nil {
		return err
	}
	pairs := map[string]pki.Pair{"ca": authority.Pair, "front-proxy-ca": frontProxy.Pair, "service-account": tokens}

	issue := func(from *pki.Authority, file string, leaf pki.Leaf) error {
		pair, err := from.Issue(leaf, now)
		pairs[file] = pair
		return err
	}
	err = issue(authority, "apiserver", pki.Leaf{
		CommonName: "kube-apiserver",
		Names: []string{
			"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + domain,
		},
		Addresses: []net.IP{c.Address, net.ParseIP(c.Family.serverService()), net.IPv4(127, 0, 0, 1)},
	})
	if err != nil {
		return err
	}
	err = issue(authority, "apiserver-kubelet-client", pki.Leaf{
		CommonName: "kube-apiserver-kubelet-client", Groups: []string{"system:masters"},
	})
	if err != nil {
		return err
	}
	if err := issue(frontProxy, "front-proxy-client", pki.Leaf{CommonName: "front-proxy-client"}); err != nil {
		return err
	}
	users := c.users()
	for _, node := range nodes {
		users = append(users, node.users()...)
		if err := issue(authority, node.file("kubelet-serving"), node.servingLeaf()); err != nil {
			return err
		}
	}
	for _, u := range users {
		if err := issue(authority, u.file, pki.Leaf{CommonName: u.name, Groups: u.groups}); err != nil {
			return err
		}
	}
	for file, pair := range pairs {
		if err := pair.Write(c.pki(""), file); err != nil {
			return err
		}
	}

	for _, u := range users {
		config := c.kubeconfig(authority.Cert, pairs[u.file])
		path := c.config(u.file + ".kubeconfig")
		if u.file == "admin" {
			path = c.Kubeconfig()
		}
		if err := writeJSON(path, config, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// kubeconfig carries its credentials inside, so that it can be copied.
func (c ControlPlane) kubeconfig(authority []byte, user pki.Pair) any {
	name := "devcluster-" + c.Name
	return object{
		"apiVersion":      "v1",
		"kind":            "Config",
		"current-context": name,
		"clusters": []object{{"name": name, "cluster": object{
			"server": server(c.Address), "certificate-authority-data": authority,
		}}},
		"users": []object{{"name": name, "user": object{
			"client-certificate-data": user.Cert, "client-key-data": user.Key,
		}}},
		"contexts": []object{{"name": name, "context": object{"cluster": name, "user": name}}},
	}
}

func (c ControlPlane) etcd() machine.Service {
	return machine.Service{Name: "etcd", Argv: []string{
		c.executable("etcd", "etcd"),
		"--name=" + c.Name,
		"--data-dir=/var/lib/etcd",
		// Plain HTTP: only processes in the node's network namespace reach 127.0.0.1, and pods have their own.
		"--listen-client-urls=" + etcdEndpoint,
		"--advertise-client-urls=" + etcdEndpoint,
		"--listen-peer-urls=http://127.0.0.1:2380",
		// The cluster does not outlive a crash of the computer, so there is nothing to make safe.
		"--unsafe-no-fsync",
		"--log-level=warn",
	}}
}

func (c ControlPlane) apiserver() machine.Service {
	return machine.Service{Name: "kube-apiserver", Argv: []string{
		c.executable("kubernetes", "kube-apiserver"),
		"--etcd-servers=" + etcdEndpoint,
		"--advertise-address=" + c.Address.String(),
		"--bind-address=" + c.Family.anyAddress(),
		fmt.Sprintf("--secure-port=%d", serverPort),
		"--tls-cert-file=" + c.pki("apiserver.crt"),
		"--tls-private-key-file=" + c.pki("apiserver.key"),
		"--client-ca-file=" + c.pki("ca.crt"),
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
		"--service-cluster-ip-range=" + c.Family.serviceNetwork(),
		"--service-account-issuer=https://kubernetes.default.svc." + domain,
		"--service-account-key-file=" + c.pki("service-account.crt"),
		"--service-account-signing-key-file=" + c.pki("service-account.key"),
		"--kubelet-certificate-authority=" + c.pki("ca.crt"),
		"--kubelet-client-certificate=" + c.pki("apiserver-kubelet-client.crt"),
		"--kubelet-client-key=" + c.pki("apiserver-kubelet-client.key"),
		// Else logs and exec would try to resolve the node's host name.
		"--kubelet-preferred-address-types=InternalIP",
		"--requestheader-client-ca-file=" + c.pki("front-proxy-ca.crt"),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-username-headers=X-Remote-User",
		"--proxy-client-cert-file=" + c.pki("front-proxy-client.crt"),
		"--proxy-client-key-file=" + c.pki("front-proxy-client.key"),
		"--profiling=false",
	}}
}

func (c ControlPlane) controllers() []machine.Service {
	return []machine.Service{{Name: "kube-controller-manager", Argv: []string{
		c.executable("kubernetes", "kube-controller-manager"),
		"--kubeconfig=" + c.config("controller-manager.kubeconfig"),
		"--authentication-kubeconfig=" + c.config("controller-manager.kubeconfig"),
		"--authorization-kubeconfig=" + c.config("controller-manager.kubeconfig"),
		"--bind-address=127.0.0.1",
		"--client-ca-file=" + c.pki("ca.crt"),
		"--cluster-signing-cert-file=" + c.pki("ca.crt"),
		"--cluster-signing-key-file=" + c.pki("ca.key"),
		"--requestheader-client-ca-file=" + c.pki("front-proxy-ca.crt"),
		"--root-ca-file=" + c.pki("ca.crt"),
		"--service-account-private-key-file=" + c.pki("service-account.key"),
		"--use-service-account-credentials=true",
		"--controllers=*,tokencleaner,-nodeipam",                   // each node's range follows from its index
		"--leader-elect=false",                                     // there is one; an election costs seconds
		"--flex-volume-plugin-dir=/var/lib/kubelet/volume-plugins", // else it makes one below /usr
		"--profiling=false",
	}}, {Name: "kube-scheduler", Argv: []string{
		c.executable("kubernetes", "kube-scheduler"),
		"--kubeconfig=" + c.config("scheduler.kubeconfig"),
		"--authentication-kubeconfig=" + c.config("scheduler.kubeconfig"),
		"--authorization-kubeconfig=" + c.config("scheduler.kubeconfig"),
		"--bind-address=127.0.0.1",
		"--leader-elect=false",
		"--profiling=false",
	}}}
}

// object is a JSON object.
type object = map[string]any

func writeJSON(path string, value any, mode os.FileMode) error {
	content, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(path, append(content, '\n'), mode)
}

func writeFile(path string, content []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, content, mode)
}
