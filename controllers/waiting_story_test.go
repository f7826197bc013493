// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/desired"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
)

// gates hold back what the operator is about to write into the status of objects.
type gates struct {
	mu     sync.Mutex
	closed map[string]*gate
}

// gate is closed to one status: arrived is closed when the status stands before it, and opened when it may go on.
type gate struct{ arrived, opened chan struct{} }

// shut is a gate for the next status of the object of that name.
func (g *gates) shut(name string) *gate {
	g.mu.Lock()
	defer g.mu.Unlock()
	it := &gate{arrived: make(chan struct{}), opened: make(chan struct{})}
	g.closed[name] = it
	return it
}

func (g *gates) pass(name string) {
	g.mu.Lock()
	it := g.closed[name]
	delete(g.closed, name)
	g.mu.Unlock()
	if it != nil {
		close(it.arrived)
		<-it.opened
	}
}

type gated struct {
	client.Client
	gates *gates
}

func (g *gated) Status() client.SubResourceWriter {
	return &gatedStatus{SubResourceWriter: g.Client.Status(), gates: g.gates}
}

type gatedStatus struct {
	client.SubResourceWriter
	gates *gates
}

func (g *gatedStatus) Apply(ctx context.Context, status runtime.ApplyConfiguration, options ...client.SubResourceApplyOption) error {
	if named, ok := status.(interface{ GetName() string }); ok {
		g.gates.pass(named.GetName())
	}
	return g.SubResourceWriter.Apply(ctx, status, options...)
}

// TestAnAnswerThatOvertakesAQuestion: a broker answers while a pass is still about to write that it has not. The cache holds
// an older and better status of the user, or the policy, by then. It is looked at again all the same.
func TestAnAnswerThatOvertakesAQuestion(t *testing.T) {
	w, g := newWorld(t), &gates{closed: map[string]*gate{}}
	w.between = func(c client.Client) client.Client { return &gated{Client: c, gates: g} }
	w.startOperator()
	first, second := gen.Broker(w.namespace, "first"), gen.Broker(w.namespace, "second")
	policy := gen.Policy(w.namespace, "shared", gen.Rule(v1alpha1.ACLAllow, "a/#", v1alpha1.ACLSubscribe))
	bob := gen.User(w.namespace, "bob", "first", gen.WithPolicies("shared"))
	w.create(first, second, policy, bob)
	w.ready(first, second, policy, bob)
	w.settle()

	// knows waits until the operator's own cache holds this.
	knows := func(what string, object client.Object, ask func() bool) {
		w.eventually("the operator knows that "+what, func() error {
			if err := w.operator.GetClient().Get(t.Context(), client.ObjectKeyFromObject(object), object); err != nil {
				return err
			}
			if !ask() {
				return fmt.Errorf("it knows %+v", object)
			}
			return nil
		})
	}
	hasAnswered := func(broker *v1alpha1.MQTTBroker, since int64) {
		knows("broker "+broker.Name+" has answered", broker, func() bool {
			r := broker.Status.Revision
			return r != nil && r.Applied != nil && r.Desired != nil && *r.Applied > since && *r.Applied == *r.Desired
		})
	}

	// Another user comes, and the answer is on the way when somebody writes a note on what belongs to the first.
	since, users := *first.Status.Revision.Desired, w.secret(v1alpha1.UsersSecretName("first", 0))
	before := users.Annotations[desired.RevisionAnnotation]
	answer := g.shut("first")
	w.create(gen.User(w.namespace, "dave", "first"))
	<-answer.arrived
	knows("there is another user", users, func() bool { return users.Annotations[desired.RevisionAnnotation] != before })
	question := g.shut("bob")
	change(w, w.secret(v1alpha1.BindingSecretName("bob")), func(s *corev1.Secret) { s.Annotations["note"] = "this" })
	<-question.arrived
	close(answer.opened)
	hasAnswered(first, since)
	close(question.opened)
	w.settle()
	w.ready(bob)

	// The policy is bound at another broker, too.
	since = *second.Status.Revision.Desired
	question = g.shut("shared")
	carol := gen.User(w.namespace, "carol", "second", gen.WithPolicies("shared"))
	w.create(carol)
	w.ready(carol)
	hasAnswered(second, since)
	<-question.arrived
	close(question.opened)
	w.settle()
	w.ready(policy)
	if *policy.Status.BoundUsers != 2 {
		t.Errorf("%d users are bound, want 2", *policy.Status.BoundUsers)
	}
}
