// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
)

const (
	// wrongRate is how many of a thousand requests of the operator go wrong.
	wrongRate = 100
	// convergesWithin is how long it may take until all is as it is written, once nothing goes wrong any more. A container
	// that ended again and again is started again by its kubelet after up to five minutes.
	convergesWithin = 7 * time.Minute
)

// chaos is a time in which everything goes wrong that is not a broker's pod.
type chaos struct {
	*story

	dice    *rand.Rand
	detour  *detour
	acts    map[string]int
	changes map[string]int
	// users are those that somebody has written and not deleted.
	users  []string
	number int
}

// TestChaos: the leader is killed, the operator's pods are replaced, its way to the API server fails, while clients are at
// work and people write. hack/chaos.sh runs it; it is not among the stories of hack/e2e.sh.
func TestChaos(t *testing.T) {
	minutes, err := strconv.Atoi(os.Getenv("CHAOS_MINUTES"))
	if err != nil {
		t.Fatalf("CHAOS_MINUTES: %v: start this story with hack/chaos.sh", err)
	}
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("CHAOS_SEED"); text != "" {
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("CHAOS_SEED: %v", err)
		}
	}
	s := begin(t)
	s.sayf("seed %d", seed)
	s.pair()
	work := s.atWork(4, 30)
	c := &chaos{
		story: s, dice: rand.New(rand.NewPCG(seed, 0)), acts: map[string]int{}, changes: map[string]int{},
		detour: s.takeDetour(seed),
	}
	work.undisturbed("after the operator took its detour")

	c.detour.goWrong(wrongRate)
	end := time.Now().Add(time.Duration(minutes) * time.Minute)
	nextAct := time.Now()
	for time.Now().Before(end) {
		if !time.Now().Before(nextAct) {
			c.act()
			nextAct = time.Now().Add(time.Duration(8+c.dice.IntN(15)) * time.Second)
		}
		c.change()
		select {
		case <-s.ctx.Done():
			return
		case <-time.After(time.Duration(500+c.dice.IntN(2000)) * time.Millisecond): // chaos has no facts to wait for
		}
	}
	drops, restarts := work.undisturbed("in the end")
	c.detour.goWrong(0)
	s.sayf("nothing goes wrong any more")
	took := c.converges()
	d2, r2 := work.undisturbed("when all is as it is written")
	published, silence := work.end()
	c.table(minutes, took, max(drops, d2), max(restarts, r2), len(work.clients), published, silence)
}

// act lets something happen to the operator.
func (c *chaos) act() {
	c.Helper()
	switch n := c.dice.IntN(11); {
	case n < 4:
		c.killLeader()
	case n < 5:
		c.crashLeader()
	case n < 6:
		c.freezeLeader()
	case n < 7:
		c.acts["operator pods replaced, as by an upgrade"]++
		c.restartOperator(c.acts["operator pods replaced, as by an upgrade"])
	case n < 10:
		c.acts["way to the API server shut for 2 to 9 s"]++
		c.detour.shutFor(time.Duration(2000+c.dice.IntN(7000)) * time.Millisecond)
	default:
		c.acts["way shut for 25 s, longer than a lease"]++
		c.detour.shutFor(25 * time.Second)
	}
}

// holder is the pod that has the Lease now, nil where nobody has.
func (c *chaos) holder() *corev1.Pod {
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: operatorName}}
	if err := c.get(lease); err != nil || lease.Spec.HolderIdentity == nil {
		return nil
	}
	name, _, _ := strings.Cut(*lease.Spec.HolderIdentity, "_")
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: name}}
	if name == "" || c.get(pod) != nil {
		return nil
	}
	return pod
}

func (c *chaos) killLeader() {
	pod := c.holder()
	if pod == nil {
		return
	}
	if err := kube.Delete(c.ctx, pod, client.GracePeriodSeconds(0)); client.IgnoreNotFound(err) != nil {
		c.Errorf("%s cannot be killed: %v", pod.Name, err)
	}
	c.acts["leader's pod deleted without grace"]++
}

func (c *chaos) crashLeader() {
	pod := c.holder()
	if pod == nil || len(pod.Status.ContainerStatuses) == 0 || pod.Status.ContainerStatuses[0].State.Running == nil {
		return
	}
	if c.crash(pod) {
		c.acts["leader's process killed (SIGKILL)"]++
	}
}

// freezeLeader stops the leader's process for longer than its lease lasts, and lets it go on as if nothing had happened:
// for a moment there are two who lead.
func (c *chaos) freezeLeader() {
	const frozen = 20 * time.Second
	pod := c.holder()
	if os.Getenv("CONTAINERD_ADDRESS") == "" || pod == nil || len(pod.Status.ContainerStatuses) == 0 {
		return
	}
	_, id, _ := strings.Cut(pod.Status.ContainerStatuses[0].ContainerID, "://")
	if text, err := exec.CommandContext(c.ctx, "ctr", "tasks", "pause", id).CombinedOutput(); err != nil {
		c.sayf("%s is not frozen: %v: %s", pod.Name, err, text) // it ended a moment ago
		return
	}
	ctx := context.WithoutCancel(c.ctx)
	thaw := sync.OnceFunc(func() { _ = exec.CommandContext(ctx, "ctr", "tasks", "resume", id).Run() })
	time.AfterFunc(frozen, thaw)
	c.Cleanup(thaw)
	c.acts["leader's process frozen for 20 s, longer than a lease"]++
}

// change is what a person does. Nothing of it is a reason to disturb the clients at work.
func (c *chaos) change() {
	c.Helper()
	c.number++
	broker := gen.Broker(c.namespace, []string{brokerName, hubName}[c.dice.IntN(2)])
	switch n := c.dice.IntN(10); {
	case n < 4 || len(c.users) == 0:
		name := fmt.Sprintf("visitor-%d", c.number)
		c.create(gen.User(c.namespace, name, broker.Name, allow(name+"/#")))
		c.users = append(c.users, name)
		c.changes["users written"]++
	case n < 6:
		i := c.dice.IntN(len(c.users))
		c.remove(gen.User(c.namespace, c.users[i], broker.Name))
		c.users = slices.Delete(c.users, i, i+1)
		c.changes["users deleted"]++
	case n < 8:
		user := gen.User(c.namespace, c.users[c.dice.IntN(len(c.users))], broker.Name)
		c.update(user, func() {
			user.Spec.ACL = append(user.Spec.ACL[:1], gen.Rule(v1alpha1.ACLAllow, fmt.Sprintf("also/%d", c.number), v1alpha1.ACLPublish))
		})
		c.changes["grants changed"]++
	case n < 9:
		c.update(broker, func() {
			broker.Spec.Listeners = append(broker.Spec.Listeners[:1], gen.Plain("second", int32(2000+c.dice.IntN(20))))
		})
		c.changes["listeners moved to another port"]++
	default:
		bridge := gen.Bridge(c.namespace, "link", brokerName)
		c.update(bridge, func() {
			bridge.Spec.Routes = append(bridge.Spec.Routes[:1], gen.Between(gen.Route("extra", v1alpha1.RouteOut, fmt.Sprintf("extra/%d/#", c.number)), "", "plant/"))
		})
		c.changes["routes changed"]++
	}
}

// converges waits until all is as it is written: every user who is there is let in, and the others' Secrets are gone.
func (c *chaos) converges() time.Duration {
	c.Helper()
	began := time.Now()
	var objects []client.Object
	for _, name := range []string{brokerName, hubName} {
		objects = append(objects, gen.Broker(c.namespace, name))
	}
	objects = append(objects, gen.Bridge(c.namespace, "link", brokerName))
	for _, name := range append(slices.Clone(c.users), "machine", "office") {
		objects = append(objects, gen.User(c.namespace, name, brokerName))
	}
	for _, object := range objects {
		c.eventually(convergesWithin-time.Since(began), named(object)+" is ready", func() error {
			return c.condition(object, v1alpha1.ConditionReady, metav1.ConditionTrue, "")
		})
	}
	took := time.Since(began)
	for _, name := range c.users {
		in, err := c.tryConnect(name, session{})
		if err != nil {
			c.Errorf("%s is not let in: %v", name, err)
			continue
		}
		if err := in.publish(name+"/1", "here"); err != nil {
			c.Errorf("%s may not do what is written: %v", name, err)
		}
		in.leave()
	}
	c.eventually(patience, "of users who are gone nothing is left", func() error {
		secrets := &corev1.SecretList{}
		if err := kube.List(c.ctx, secrets, client.InNamespace(c.namespace)); err != nil {
			return err
		}
		for i := range secrets.Items {
			name := strings.TrimSuffix(strings.TrimSuffix(secrets.Items[i].Name, "-verifier"), "-mqtt")
			if strings.HasPrefix(name, "visitor-") && !slices.Contains(c.users, name) {
				return errors.New(secrets.Items[i].Name + " is still there")
			}
		}
		return nil
	})
	c.settles()
	return took
}

// table says what happened.
func (c *chaos) table(minutes int, took time.Duration, drops, restarts, clients, published int, silence time.Duration) {
	var b strings.Builder
	row := func(what string, value any) { fmt.Fprintf(&b, "| %s | %v |\n", what, value) }
	fmt.Fprintf(&b, "\n| what | how often |\n|---|---|\n")
	for _, counts := range []map[string]int{c.acts, c.detour.counted(), c.changes} {
		for _, what := range slices.Sorted(maps.Keys(counts)) {
			row(what, counts[what])
		}
	}
	row("minutes", minutes)
	row("messages acknowledged, each of which arrived at both listeners", published)
	row("longest silence behind the bridge", fmt.Sprintf("%.2f s", silence.Seconds()))
	row("all as it is written, after the last fault", fmt.Sprintf("%.1f s", took.Seconds()))
	row(fmt.Sprintf("**connections dropped, of %d**", clients), fmt.Sprintf("**%d**", drops))
	row("**pods of brokers and bridges restarted**", fmt.Sprintf("**%d**", restarts))
	c.Log(b.String())
}

func (d *detour) counted() map[string]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.counts)
}
