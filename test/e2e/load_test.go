// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
)

// talkEvery is the time between two messages of one publisher.
const talkEvery = 20 * time.Millisecond

// load is clients at work: publishers with QoS 1, a listener beside them and one behind a bridge, and many who are only
// there. All have sessions that outlive their connections.
type load struct {
	s *story
	// clients are all whose connection must stand to the end.
	clients    []*mqttClient
	near, far  *counter
	calm       []func()
	stop       chan struct{}
	publishing sync.WaitGroup
	mu         sync.Mutex
	published  []string
	// pods are those that must stay, with how often their containers had been restarted.
	pods map[types.UID]podAtWork
}

type podAtWork struct {
	name     string
	restarts int32
}

// atWork starts a load on broker and bridge of the story, which lead to the hub: the bridge puts plant/ before load/.
func (s *story) atWork(publishers, idle int) *load {
	s.Helper()
	s.user("machine", allow("load/#"))
	s.userOf(hubName, "office", allow("#"))
	l := &load{s: s, stop: make(chan struct{})}
	join := func(user, id string) *mqttClient {
		c := s.connectAs(user, session{clientID: id, expiry: 3600})
		l.clients = append(l.clients, c)
		return c
	}
	near, far := join("machine", "near"), join("office", "far")
	s.mustSubscribe(near, "load/#")
	s.mustSubscribe(far, "plant/load/#")
	l.near, l.far = s.counter(near), s.counter(far)
	l.calm = append(l.calm, l.near.follow(), l.far.follow())
	for i := range idle {
		c := join("machine", fmt.Sprintf("idle-%d", i))
		s.mustSubscribe(c, fmt.Sprintf("load/idle/%d", i))
	}
	for i := range publishers {
		c := join("machine", fmt.Sprintf("publisher-%d", i))
		l.publishing.Go(func() { l.publish(c) })
	}
	l.pods = l.podsNow()
	s.sayf("%d clients are connected, %d of them publish", len(l.clients), publishers)
	return l
}

// publish sends different texts until the load ends, and notes what was acknowledged.
func (l *load) publish(c *mqttClient) {
	next := time.NewTicker(talkEvery)
	defer next.Stop()
	for n := 0; ; n++ {
		select {
		case <-l.stop:
			return
		case <-c.closed:
			return // undisturbed says it
		case <-next.C:
		}
		text := fmt.Sprintf("%s %d", c.name, n)
		if err := c.publish("load/"+c.name, text); err != nil {
			l.s.Errorf("%s cannot publish: %v", c.name, err)
			return
		}
		l.mu.Lock()
		l.published = append(l.published, text)
		l.mu.Unlock()
	}
}

// podsNow are the pods of brokers and bridges.
func (l *load) podsNow() map[types.UID]podAtWork {
	l.s.Helper()
	list := &corev1.PodList{}
	if err := kube.List(l.s.ctx, list, client.InNamespace(l.s.namespace), client.MatchingLabels{v1alpha1.LabelManagedBy: v1alpha1.ManagedByValue}); err != nil {
		l.s.Fatal(err)
	}
	pods := map[types.UID]podAtWork{}
	for i := range list.Items {
		pod := podAtWork{name: list.Items[i].Name}
		for _, c := range list.Items[i].Status.ContainerStatuses {
			pod.restarts += c.RestartCount
		}
		pods[list.Items[i].UID] = pod
	}
	return pods
}

// undisturbed complains about each connection that has ended and each pod that is another one or was restarted, and counts
// them.
func (l *load) undisturbed(since string) (drops, restarts int) {
	l.s.Helper()
	for _, c := range l.clients {
		if err := c.ended(); err != nil {
			drops++
			l.s.Errorf("%s: %s lost its connection: %v", since, c.name, err)
		}
	}
	now := l.podsNow()
	for uid, before := range l.pods {
		after, stays := now[uid]
		if !stays || after.restarts > before.restarts {
			restarts++
			l.s.Errorf("%s: pod %s was replaced or restarted", since, before.name)
		}
	}
	return drops, restarts
}

// include takes pods that have come since into those that must stay.
func (l *load) include() { maps.Copy(l.pods, l.podsNow()) }

// end stops the publishers and waits until everything that was acknowledged has arrived at both listeners. It returns how
// many messages that were, and how long the farther listener heard nothing at most.
func (l *load) end() (published int, silence time.Duration) {
	l.s.Helper()
	close(l.stop)
	l.publishing.Wait()
	for _, calm := range l.calm {
		calm()
	}
	for _, listener := range []*counter{l.near, l.far} {
		listener.take(l.published)
		if n := listener.twice(); n > 0 {
			l.s.Errorf("%d messages came twice to %s: nothing is a reason for that", n, listener.c.name)
		}
	}
	return len(l.published), l.far.silence
}

// pair makes the two brokers and the bridge between them that a load needs.
func (s *story) pair() {
	s.Helper()
	s.broker(withVolume)
	hub := gen.Broker(s.namespace, hubName, withVolume)
	link := gen.Bridge(s.namespace, "link", brokerName, small, gen.ToBroker(v1alpha1.BrokerReference{Name: hubName}),
		gen.WithRoutes(gen.Between(gen.Route("load", v1alpha1.RouteOut, "load/#"), "", "plant/")))
	s.create(hub, link)
	s.awaitReady(hub)
	s.awaitReady(link)
}
