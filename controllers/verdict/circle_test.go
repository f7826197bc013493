// SPDX-License-Identifier: Apache-2.0

package verdict_test

import (
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

func speaking311(b *v1alpha1.MQTTBridge) { b.Spec.Remote.ProtocolVersion = new(v1alpha1.MQTTv311) }

// reached replaces the broker of the cluster by an address.
func reached(endpoint string) gen.BridgeOption {
	return func(b *v1alpha1.MQTTBridge) {
		b.Spec.Remote.BrokerRef, b.Spec.Remote.Endpoints = nil, []string{endpoint}
	}
}

// carriedOut is a bridge that its pods run.
func carriedOut(b *v1alpha1.MQTTBridge) *v1alpha1.MQTTBridge {
	if b.Annotations["let in"] != "no" {
		b.Status.Revision = &v1alpha1.RevisionStatus{Applied: new(int64(1))}
	}
	return b
}

func notLetIn(b *v1alpha1.MQTTBridge) { b.Annotations = map[string]string{"let in": "no"} }

func suspended(b *v1alpha1.MQTTBridge) { b.Spec.Suspend = new(true) }

func TestCircles(t *testing.T) {
	out, in := gen.WithRoutes(gen.Route("up", v1alpha1.RouteOut, "#")), gen.WithRoutes(gen.Route("down", v1alpha1.RouteIn, "#"))
	// A ring: mq, the nats of somebody else, hub, mq.
	there := func(options ...gen.BridgeOption) *v1alpha1.MQTTBridge {
		return gen.Bridge("plant", "there", "mq", append([]gen.BridgeOption{out, speaking311, gen.To("mqtt://nats.example.com")}, options...)...)
	}
	from := func(options ...gen.BridgeOption) *v1alpha1.MQTTBridge {
		return gen.Bridge("plant", "from", "hub", append([]gen.BridgeOption{in, speaking311, gen.To("mqtt://NATS.example.com.:1883")}, options...)...)
	}
	back := func(options ...gen.BridgeOption) *v1alpha1.MQTTBridge {
		return gen.Bridge("plant", "back", "hub", append([]gen.BridgeOption{out, gen.ToBroker(v1alpha1.BrokerReference{Name: "mq"})}, options...)...)
	}
	for name, tc := range map[string]struct {
		bridges []*v1alpha1.MQTTBridge
		members []string
		reason  string
	}{
		"a ring":                    {bridges: []*v1alpha1.MQTTBridge{there(), from(), back()}, members: []string{"plant/there", "plant/from", "plant/back"}},
		"one of them is missing":    {bridges: []*v1alpha1.MQTTBridge{there(), from()}},
		"one of them is suspended":  {bridges: []*v1alpha1.MQTTBridge{there(), from(), back(suspended)}},
		"one of them is not let in": {bridges: []*v1alpha1.MQTTBridge{there(), from(), back(notLetIn)}, reason: "what somebody only writes carries nothing"},
		"by the name of a pod":      {bridges: []*v1alpha1.MQTTBridge{there(), from(), back(reached("mqtt://mq-0.mq-headless.plant.svc"))}, members: []string{"plant/there", "plant/from", "plant/back"}},
		"another port": {
			bridges: []*v1alpha1.MQTTBridge{there(), from(gen.To("mqtt://nats.example.com:1884")), back()}, reason: "it is another broker, as far as anybody can see",
		},
		"by the name of a Service":            {bridges: []*v1alpha1.MQTTBridge{there(), from(), back(reached("mqtt://mq-mqtt.plant.svc"))}, members: []string{"plant/there", "plant/from", "plant/back"}},
		"by the short name of a Service":      {bridges: []*v1alpha1.MQTTBridge{there(), from(), back(reached("mqtts://mq-mqtts"))}, members: []string{"plant/there", "plant/from", "plant/back"}},
		"a Service of another namespace":      {bridges: []*v1alpha1.MQTTBridge{there(), from(), back(reached("mqtts://mq-mqtts.hall"))}},
		"the name of somebody else's machine": {bridges: []*v1alpha1.MQTTBridge{there(), from(), back(reached("mqtt://mq-mqtt.plant.example.com"))}},
		"a Service of a broker named alike":   {bridges: []*v1alpha1.MQTTBridge{there(), from(), back(reached("mqtt://mq-2-mqtt")), gen.Bridge("plant", "else", "mq-2")}},
		"all speak 5": {
			bridges: []*v1alpha1.MQTTBridge{there(func(b *v1alpha1.MQTTBridge) { b.Spec.Remote.ProtocolVersion = nil }), from(func(b *v1alpha1.MQTTBridge) { b.Spec.Remote.ProtocolVersion = nil }), back()},
			reason:  "the bridges find out themselves",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var list []v1alpha1.MQTTBridge
			for _, b := range tc.bridges {
				list = append(list, *carriedOut(b))
			}
			found := verdict.Circles(list)
			if len(found) != len(tc.members) {
				t.Errorf("%d bridges are said to be in a circle, want %d: %s", len(found), len(tc.members), tc.reason)
			}
			for name, finding := range found {
				if !slices.Contains(tc.members, name.String()) || finding.Reason != v1alpha1.ReasonBridgesInCircle {
					t.Errorf("%s: %+v", name, finding)
				}
				if want := "route up of back, then route up of there, then route down of from, and again"; !strings.Contains(finding.Message, want) {
					t.Errorf("%s does not say %q", finding.Message, want)
				}
			}
		})
	}
}

// TestACircleNamesNobodyElse: what stands in another namespace is not for everybody's eyes.
func TestACircleNamesNobodyElse(t *testing.T) {
	one := gen.Bridge("plant", "secret", "mq", speaking311, gen.WithRoutes(gen.Route("hidden", v1alpha1.RouteOut, "#")))
	other := gen.Bridge("hall", "mine", "hub", speaking311, gen.WithRoutes(gen.Route("down", v1alpha1.RouteIn, "#")))
	other.Spec.BrokerRef.Name, other.Spec.BrokerRef.Namespace = "mq", new("plant")
	finding := verdict.Circles([]v1alpha1.MQTTBridge{*carriedOut(one), *carriedOut(other)})[types.NamespacedName{Namespace: "hall", Name: "mine"}]
	switch {
	case finding == nil:
		t.Fatal("the circle was not found")
	case strings.Contains(finding.Message, "secret"), strings.Contains(finding.Message, "hidden"):
		t.Errorf("%s names what stands in another namespace", finding.Message)
	case !strings.Contains(finding.Message, "a bridge of another namespace"), !strings.Contains(finding.Message, "route down of mine"):
		t.Error(finding.Message)
	}
}
