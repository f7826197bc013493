// SPDX-License-Identifier: Apache-2.0

package desired

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// Services are the headless one, which names the pods, and one for each listener.
func Services(f *verdict.Facts) []client.Object {
	objects := []client.Object{HeadlessService(f)}
	for _, l := range f.Spec.Listeners {
		objects = append(objects, ListenerService(f, l))
	}
	return objects
}

// HeadlessService gives each pod a name. It has it from the moment that it has an address: a name that is gone for the time
// of a restart is one that resolvers remember as unknown, often for 30 seconds.
func HeadlessService(f *verdict.Facts) *corev1.Service {
	service := &corev1.Service{ObjectMeta: meta(f, v1alpha1.HeadlessServiceName(f.Broker.Name))}
	service.Spec = corev1.ServiceSpec{
		ClusterIP:      corev1.ClusterIPNone,
		Selector:       v1alpha1.BrokerSelector(f.Broker.Name),
		IPFamilyPolicy: new(corev1.IPFamilyPolicyPreferDualStack),

		PublishNotReadyAddresses: true,
	}
	for _, l := range f.Spec.Listeners {
		service.Spec.Ports = append(service.Spec.Ports, port(l))
	}
	return service
}

// ListenerService is the Service by which clients reach one listener. Its target is a number: a named port would have
// to stand in the pod template, and a new listener would restart the broker.
//
// It leads to the pod whether that is ready or not, for there is no other. A pod that is there refuses at once and by TCP,
// as often as it is asked, and lets clients in from the moment that it listens. In place of one that is not, the node
// answers by ICMP, a thousand times a second in all (net.ipv4.icmp_msgs_per_sec), and who gets no answer waits for seconds.
// And where one listener does not serve, which makes the pod unready, the others go on. Where several pods serve, this must
// become false again.
func ListenerService(f *verdict.Facts, l v1alpha1.ResolvedListener) *corev1.Service {
	service := &corev1.Service{ObjectMeta: meta(f, v1alpha1.ListenerServiceName(f.Broker.Name, l.Name))}
	service.Annotations = l.Service.Annotations
	service.Spec = corev1.ServiceSpec{
		Type:                  l.Service.Type,
		Selector:              v1alpha1.BrokerSelector(f.Broker.Name),
		IPFamilyPolicy:        &l.Service.IPFamilyPolicy,
		IPFamilies:            l.Service.IPFamilies,
		Ports:                 []corev1.ServicePort{port(l)},
		ExternalTrafficPolicy: l.Service.ExternalTrafficPolicy,

		PublishNotReadyAddresses: true,
	}
	service.Spec.Ports[0].NodePort = l.Service.NodePort
	if l.Service.LoadBalancerClass != "" {
		service.Spec.LoadBalancerClass = &l.Service.LoadBalancerClass
	}
	return service
}

func port(l v1alpha1.ResolvedListener) corev1.ServicePort {
	return corev1.ServicePort{
		Name: l.Name, Port: l.Port, TargetPort: intstr.FromInt32(l.Port), Protocol: corev1.ProtocolTCP,
		AppProtocol: new(appProtocol(l.Protocol)),
	}
}

// appProtocol is what meshes and load balancers read: the name that IANA registered for the service, or where that is
// WebSocket, for which there is none, the one of Kubernetes.
func appProtocol(p v1alpha1.ListenerProtocol) string {
	switch p {
	case v1alpha1.ProtocolTLS:
		return "secure-mqtt"
	case v1alpha1.ProtocolWS:
		return "kubernetes.io/ws"
	case v1alpha1.ProtocolWSS:
		return "kubernetes.io/wss"
	case v1alpha1.ProtocolTCP:
	}
	return "mqtt"
}
