// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

// fleetPort is the port of every listener of a fleet; nobody listens there.
const fleetPort = 8883

// fleet is a number of brokers with their users.
type fleet struct {
	*world
	shape

	// peak is the most that the operator has held since it started, in bytes.
	peak int64
}

func (f *fleet) brokerName(i int) string { return fmt.Sprintf("mq-%03d", i) }

func (f *fleet) userName(broker, i int) string { return fmt.Sprintf("mq-%03d-user-%02d", broker, i) }

// measureFleet makes more and more brokers, changes some users, and then has everything looked at again.
func (b *bench) measureFleet(ctx context.Context, name string, s shape) error {
	w, err := b.newWorld(ctx, name, asEndpoint)
	if err != nil {
		return err
	}
	defer w.close()
	f := &fleet{world: w, shape: s}
	growth := table{
		title: fmt.Sprintf("Many brokers with %d users each: how it grows with their number", s.perBroker),
		note:  "A write is an object that was made or changed, events and statuses included.",
		head:  []string{"brokers", "users", "all ready after", "requests", "writes", "writes per object", "operator CPU", "operator RSS", "highest"},
	}
	have := 0
	for _, size := range s.sizes {
		line, err := f.grow(ctx, have, size)
		if err != nil {
			return err
		}
		growth.lines = append(growth.lines, line)
		have = size
	}
	b.report.tables = append(b.report.tables, growth)
	if err := f.change(ctx, have); err != nil {
		return err
	}
	if err := f.restart(ctx, have); err != nil {
		return err
	}
	return f.touch(ctx, have)
}

// grow makes the brokers from have to size, with their users.
func (f *fleet) grow(ctx context.Context, have, size int) ([]string, error) {
	f.sayf("%d brokers with %d users each", size, f.perBroker)
	if err := f.operator.forgetPeak(); err != nil {
		return nil, err
	}
	used, start := f.operator.cpu(), time.Now()
	err := each(ctx, size-have, func(ctx context.Context, i int) error {
		if err := f.Create(ctx, newBroker(f.brokerName(have+i), fleetPort)); err != nil {
			return err
		}
		for n := range f.perBroker {
			if err := f.Create(ctx, newUser(f.userName(have+i, n), f.brokerName(have+i))); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := f.converge(ctx, size, f.perBroker); err != nil {
		return nil, err
	}
	took := time.Since(start)
	made, err := f.rest(ctx)
	if err != nil {
		return nil, err
	}
	cpu := f.operator.cpu() - used
	rss := settled(ctx, f.operator, settleTime)
	_, peak := f.operator.memory()
	f.peak = max(f.peak, peak)
	f.sayf("ready after %s, %d requests, %s of CPU, operator %s", secondsOf(took), len(made), secondsOf(cpu), mib(rss))
	objects := (size - have) * (1 + f.perBroker)
	return []string{
		strconv.Itoa(size), strconv.Itoa(size * f.perBroker), secondsOf(took), strconv.Itoa(len(made)), strconv.Itoa(made.writes()),
		fmt.Sprintf("%.1f", float64(made.writes())/float64(objects)), secondsOf(cpu), mib(rss), mib(peak),
	}, nil
}

// change gives one user after the other a new rule.
func (f *fleet) change(ctx context.Context, brokers int) error {
	f.sayf("%d changes", f.changes)
	before, err := f.metrics(ctx)
	if err != nil {
		return err
	}
	var (
		all   calls
		ready []time.Duration
		used  = f.operator.cpu()
	)
	for i := range f.changes {
		took, made, err := f.changeOne(ctx, f.userName(i*7%brokers, i%f.perBroker), i)
		if err != nil {
			return err
		}
		all, ready = append(all, made...), append(ready, took)
	}
	cpu := (f.operator.cpu() - used) / time.Duration(f.changes)
	after, err := f.metrics(ctx)
	if err != nil {
		return err
	}
	n := float64(f.changes)
	where := fmt.Sprintf("%d brokers with %d users", brokers, brokers*f.perBroker)
	f.report.row("a rule of a user changes among "+where+": until status says Ready again", "", spreadOf(ready).String(), "")
	f.report.row("… requests, and those that write", "", fmt.Sprintf("%.1f, %.1f; %s of operator CPU", float64(len(all))/n, float64(all.writes())/n, millis(cpu)), "")
	f.report.row("… reconcile p99", "", "user "+reconcile(after, before, "mqttuser")+", broker "+reconcile(after, before, "mqttbroker"), "")
	kinds := table{title: "What a changed rule costs among " + where, head: []string{"request", "per change"}}
	counts := all.kinds()
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		kinds.lines = append(kinds.lines, []string{kind, fmt.Sprintf("%.2f", float64(counts[kind])/n)})
	}
	f.report.tables = append(f.report.tables, kinds)
	return nil
}

func (f *fleet) changeOne(ctx context.Context, name string, i int) (time.Duration, calls, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, oneChange, errors.New("the change never arrives"))
	defer cancel()
	user := &v1alpha1.MQTTUser{}
	if err := f.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, user); err != nil {
		return 0, nil, err
	}
	watcher, err := f.one(ctx, &v1alpha1.MQTTUserList{}, name)
	if err != nil {
		return 0, nil, err
	}
	defer watcher.Stop()
	if _, err := f.audit.take(); err != nil {
		return 0, nil, err
	}
	user.Spec.ACL[1].Filter = v1alpha1.TopicFilter(fmt.Sprintf("commands/%d", i))
	if err := f.Update(ctx, user); err != nil {
		return 0, nil, err
	}
	start := time.Now()
	err = follow(ctx, watcher, func(o client.Object) bool { return o.GetGeneration() >= user.Generation && isReadyUser(o) })
	if err != nil {
		return 0, nil, err
	}
	took := time.Since(start)
	made, err := f.audit.settle(ctx, hush)
	return took, made, err
}

// restart ends the operator and starts it: it looks at every object, and nothing differs.
func (f *fleet) restart(ctx context.Context, brokers int) error {
	f.sayf("the operator restarts")
	if _, err := f.audit.take(); err != nil {
		return err
	}
	start := time.Now()
	if err := f.startOperator(); err != nil {
		return err
	}
	metrics, err := f.looked(ctx, nil, brokers)
	if err != nil {
		return err
	}
	took, cpu := time.Since(start), f.operator.cpu()
	made, err := f.rest(ctx)
	if err != nil {
		return err
	}
	_, peak := f.operator.memory()
	rss := settled(ctx, f.operator, settleTime)
	if f.memory > 0 {
		f.peak = max(f.peak, peak)
		f.report.row(fmt.Sprintf("most that the operator holds with %d brokers and %d users, making them and at the resync", brokers, brokers*f.perBroker),
			"≤ "+mib(f.memory), mib(f.peak), judge(f.peak <= f.memory))
	}
	f.still(made, fmt.Sprintf("full resync: the operator restarts, %d brokers and %d users", brokers, brokers*f.perBroker))
	f.report.row("… time, requests, CPU, RSS", "", fmt.Sprintf("%s, %d, %s, %s (at most %s)", secondsOf(took), len(made), secondsOf(cpu), mib(rss), mib(peak)), "")
	f.report.row("… reconcile p99", "", "user "+reconcile(metrics, nil, "mqttuser")+", broker "+reconcile(metrics, nil, "mqttbroker"), "")
	return nil
}

// touch wakes every object by an annotation that says nothing.
func (f *fleet) touch(ctx context.Context, brokers int) error {
	f.sayf("every object is touched")
	before, err := f.metrics(ctx)
	if err != nil {
		return err
	}
	if _, err := f.audit.take(); err != nil {
		return err
	}
	used := f.operator.cpu()
	err = each(ctx, brokers, func(ctx context.Context, i int) error {
		patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"annotations":{"bench/touched":"yes"}}}`))
		if err := f.Patch(ctx, &v1alpha1.MQTTBroker{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: f.brokerName(i)}}, patch); err != nil {
			return err
		}
		for n := range f.perBroker {
			if err := f.Patch(ctx, &v1alpha1.MQTTUser{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: f.userName(i, n)}}, patch); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	after, err := f.looked(ctx, before, brokers)
	if err != nil {
		return err
	}
	cpu := f.operator.cpu() - used
	made, err := f.rest(ctx)
	if err != nil {
		return err
	}
	f.still(made, fmt.Sprintf("each of the %d objects is touched (an annotation)", brokers*(1+f.perBroker)))
	f.report.row("… CPU, reconcile p99", "", secondsOf(cpu)+", user "+reconcile(after, before, "mqttuser")+", broker "+reconcile(after, before, "mqttbroker"), "")
	return nil
}

// still tells how much was written where nothing should have been.
func (f *fleet) still(made calls, what string) {
	said := fmt.Sprintf("%d writes", made.writes())
	for kind, n := range made.kinds() {
		f.sayf("%s: %d × %s", what, n, kind)
	}
	f.report.row(what, "0 writes", said, judge(made.writes() == 0))
}

// looked waits until every object was looked at since before, which may be nil, and nothing waits.
func (f *fleet) looked(ctx context.Context, before map[string]float64, brokers int) (now map[string]float64, err error) {
	err = until(ctx, 100*time.Millisecond, func() error {
		if err := f.alive(); err != nil {
			return err
		}
		var err error
		if now, err = f.metrics(ctx); err != nil {
			return notYet{err} // It is only starting.
		}
		for controller, want := range map[string]int{"mqttbroker": brokers, "mqttuser": brokers * f.perBroker} {
			series := `controller_runtime_reconcile_time_seconds_count{controller="` + controller + `"}`
			if looked, waiting := int(now[series]-before[series]), queued(now, controller); looked < want || waiting > 0 {
				return wait("%s: the operator has looked %d times, %d wait", controller, looked, int(waiting))
			}
		}
		return nil
	})
	return now, err
}

// queued is how many objects of a controller wait to be looked at or are being looked at.
func queued(metrics map[string]float64, controller string) (n float64) {
	for series, value := range metrics {
		if isDepth(series, controller) {
			n += value
		}
	}
	return n + metrics[`controller_runtime_active_workers{controller="`+controller+`"}`]
}
