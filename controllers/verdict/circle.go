// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"cmp"
	"net"
	"net/url"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// Circles says of each bridge that belongs to one that messages go round through it and others without end. Nobody is
// stopped for that: the bridges may belong to several people, and who came last need not be who is wrong.
//
// Only those count that a pod carries out: a spec may name brokers that its author is not let into, and must neither accuse
// others nor learn from the answer who they are.
func Circles(bridges []v1alpha1.MQTTBridge) map[types.NamespacedName]*Finding {
	var (
		members []contract.Member
		names   []types.NamespacedName
		facts   []*BridgeFacts
	)
	brokers := map[types.NamespacedName]bool{}
	order := slices.Clone(bridges) // so that what is found does not depend on who is looked at first
	slices.SortFunc(order, func(a, b v1alpha1.MQTTBridge) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	bridges = order
	for i := range bridges {
		f := &BridgeFacts{Bridge: &bridges[i], Spec: bridges[i].Resolved()}
		if f.Bridge.DeletionTimestamp != nil || !f.Spec.IsRunning() || !isCarriedOut(f.Bridge) {
			continue
		}
		facts = append(facts, f)
		brokers[f.broker(f.Spec.Broker)] = true
		if f.Spec.RemoteBroker != nil {
			brokers[f.broker(*f.Spec.RemoteBroker)] = true
		}
	}
	for _, f := range facts {
		members = append(members, contract.Member{
			Routes: f.skeleton().Routes, Bare: f.Spec.Protocol == v1alpha1.MQTTv311,
			Local: []string{f.broker(f.Spec.Broker).String()}, Remote: f.remotes(brokers),
		})
		names = append(names, types.NamespacedName{Namespace: f.Bridge.Namespace, Name: f.Bridge.Name})
	}
	found := map[types.NamespacedName]*Finding{}
	for _, circle := range contract.Circles(members) {
		for _, step := range circle {
			if name := names[step.Member]; found[name] == nil {
				found[name] = circleFinding(name.Namespace, circle, names)
			}
		}
	}
	return found
}

// isCarriedOut reports whether every pod that answers has run a configuration, for which the brokers at both ends that are
// ours must have let the bridge in.
func isCarriedOut(b *v1alpha1.MQTTBridge) bool {
	return b.Status.Revision != nil && b.Status.Revision.Applied != nil
}

// circleFinding names what is in the namespace: what others have there is not for everybody's eyes.
func circleFinding(namespace string, circle []contract.Step, names []types.NamespacedName) *Finding {
	var steps []string
	for _, step := range circle {
		text := "a bridge of another namespace"
		if name := names[step.Member]; name.Namespace == namespace {
			text = "route " + step.Route + " of " + name.Name
		}
		steps = append(steps, text)
	}
	return find(v1alpha1.ReasonBridgesInCircle,
		"Messages go round without end: %s, and again. On the way is a remote broker that is spoken to with MQTT 3.1.1, which takes away the marks by which a bridge knows what it has carried. Narrow a filter or change a prefix so that nothing comes back, or set spec.remote.protocolVersion: v5 where that broker speaks it.",
		strings.Join(steps, ", then "))
}

func (f *BridgeFacts) broker(ref v1alpha1.BrokerReference) types.NamespacedName {
	return types.NamespacedName{Namespace: f.namespaceOf(ref), Name: ref.Name}
}

// remotes are the names of the remote broker: one of ours, or host and port of each endpoint.
func (f *BridgeFacts) remotes(brokers map[types.NamespacedName]bool) (names []string) {
	if f.Spec.RemoteBroker != nil {
		return []string{f.broker(*f.Spec.RemoteBroker).String()}
	}
	for _, endpoint := range f.Spec.Endpoints {
		u, err := url.Parse(endpoint)
		if err != nil {
			continue
		}
		host, port := strings.TrimSuffix(strings.ToLower(u.Hostname()), "."), u.Port()
		if port == "" {
			port = map[string]string{"mqtt": "1883", "mqtts": "8883", "ws": "80", "wss": "443"}[u.Scheme]
		}
		name := net.JoinHostPort(host, port)
		length := 0
		for broker := range brokers {
			if len(broker.Name) > length && isServiceOf(host, broker, f.Bridge.Namespace) { // mq-2-mqtts is not of mq
				name, length = broker.String(), len(broker.Name)
			}
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// isServiceOf reports whether a host name, seen from a namespace, is that of a Service of a broker. They begin with the
// broker's name; see [v1alpha1.ListenerServiceName].
func isServiceOf(host string, broker types.NamespacedName, from string) bool {
	labels := strings.Split(host, ".")
	if len(labels) > 1 && labels[1] == v1alpha1.HeadlessServiceName(broker.Name) {
		labels = labels[1:] // the name of a pod
	}
	if len(labels) > 1 {
		from = labels[1]
	}
	isInside := len(labels) <= 2 || labels[2] == "svc"
	return isInside && from == broker.Namespace && strings.HasPrefix(labels[0], broker.Name+"-")
}
