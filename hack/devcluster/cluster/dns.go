// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"

	"github.com/mqtt-operator/mqtt-operator/hack/devcluster/kube"
	"github.com/mqtt-operator/mqtt-operator/hack/devcluster/machine"
)

const dnsUser = "system:coredns"

// corefile answers cluster names from the API, and every other name with "no such name": without an outside that is the
// truth, and a client that hears it stops asking. There is no cache, so an answer is never older than the API's state.
func (c ControlPlane) corefile() string {
	return fmt.Sprintf(`%[1]s %[4]s {
    bind %[2]s
    errors
    ready 127.0.0.1:8181
    kubernetes %[1]s %[4]s {
        kubeconfig %[3]s
        pods insecure
        ttl 5
    }
}
. {
    bind %[2]s
    errors
    template ANY ANY {
        rcode NXDOMAIN
    }
}
`, domain, c.Address, c.config("coredns.kubeconfig"), c.Family.reverse())
}

func (c ControlPlane) dns() machine.Service {
	return machine.Service{Name: "coredns", Argv: []string{
		c.executable("coredns", "coredns"), "-conf=" + c.config("Corefile"),
	}}
}

// objects are what a new cluster needs in its API: names for pods, and storage for claims.
func (c ControlPlane) objects() []struct {
	path   string
	object kube.Object
} {
	type entry = struct {
		path   string
		object kube.Object
	}
	const rbac = "/apis/rbac.authorization.k8s.io/v1/"
	labels := object{"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"}
	return []entry{
		{rbac + "clusterroles/" + dnsUser, kube.Object{
			"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
			"metadata": object{"name": dnsUser},
			"rules": []object{
				{"apiGroups": []string{""}, "resources": []string{"services", "pods", "namespaces"}, "verbs": []string{"list", "watch"}},
				{"apiGroups": []string{"discovery.k8s.io"}, "resources": []string{"endpointslices"}, "verbs": []string{"list", "watch"}},
			},
		}},
		{rbac + "clusterrolebindings/" + dnsUser, kube.Object{
			"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
			"metadata": object{"name": dnsUser},
			"roleRef":  object{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": dnsUser},
			"subjects": []object{{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": dnsUser}},
		}},
		{"/api/v1/namespaces/kube-system/services/kube-dns", kube.Object{
			"apiVersion": "v1", "kind": "Service",
			"metadata": object{"name": "kube-dns", "namespace": "kube-system", "labels": labels},
			"spec": object{"clusterIP": c.Family.dnsService(), "ports": []object{
				{"name": "dns", "port": 53, "protocol": "UDP"},
				{"name": "dns-tcp", "port": 53, "protocol": "TCP"},
			}},
		}},
		{"/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices/kube-dns", kube.Object{
			"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
			"metadata": object{"name": "kube-dns", "namespace": "kube-system", "labels": object{
				"kubernetes.io/service-name":             "kube-dns",
				"endpointslice.kubernetes.io/managed-by": kube.FieldOwner,
			}},
			"addressType": c.Family.addressType(),
			"endpoints":   []object{{"addresses": []string{c.Address.String()}, "conditions": object{"ready": true}}},
			"ports": []object{
				{"name": "dns", "port": 53, "protocol": "UDP"},
				{"name": "dns-tcp", "port": 53, "protocol": "TCP"},
			},
		}},
		{"/apis/storage.k8s.io/v1/storageclasses/standard", kube.Object{
			"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
			"metadata": object{"name": "standard", "annotations": object{
				"storageclass.kubernetes.io/is-default-class": "true",
			}},
			"provisioner":          provisioner,
			"reclaimPolicy":        "Delete",
			"volumeBindingMode":    "WaitForFirstConsumer",
			"allowVolumeExpansion": true,
		}},
	}
}
