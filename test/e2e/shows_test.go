// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

// keptLog is what a container wrote, kept because the container may be gone later.
type keptLog struct{ where, text string }

// keepLogs reads the logs of pods that are about to be killed.
func (s *story) keepLogs() { s.kept = append(s.kept, s.logs()...) }

// logs are those of the namespace's pods and of the operator's, of the container before the last restart too.
func (s *story) logs() []keptLog {
	var all []keptLog
	for _, namespace := range []string{s.namespace, operatorNamespace} {
		pods := &corev1.PodList{}
		if err := kube.List(s.ctx, pods, client.InNamespace(namespace)); err != nil {
			s.Logf("logs: %v", err)
			continue
		}
		for i := range pods.Items {
			pod := &pods.Items[i]
			for _, previous := range []bool{true, false} {
				if text, err := podLog(s.ctx, pod, previous); err == nil {
					all = append(all, keptLog{where: namespace + "/" + pod.Name, text: text})
				}
			}
		}
	}
	return all
}

func podLog(ctx context.Context, pod *corev1.Pod, previous bool) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	text, err := core.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{Previous: previous}).DoRaw(ctx)
	return string(text), err
}

// show prints what a reader of a failed story would look at next.
func (s *story) show() {
	var b strings.Builder
	fmt.Fprintf(&b, "\n==== the picture of namespace %s\n", s.namespace)
	brokers, users := &v1alpha1.MQTTBrokerList{}, &v1alpha1.MQTTUserList{}
	_ = kube.List(s.ctx, brokers, client.InNamespace(s.namespace))
	_ = kube.List(s.ctx, users, client.InNamespace(s.namespace))
	for i := range brokers.Items {
		showConditions(&b, &brokers.Items[i])
	}
	for i := range users.Items {
		showConditions(&b, &users.Items[i])
	}
	s.showPods(&b)
	s.showVolumes(&b)
	fmt.Fprintln(&b, "---- events")
	for _, e := range s.events() {
		fmt.Fprintf(&b, "%s %s %s %s: %s\n", e.CreationTimestamp.Format(time.TimeOnly), e.Type, e.Regarding.Name, e.Reason, e.Note)
	}
	for _, log := range append(slices.Clone(s.kept), s.logs()...) {
		// Of the operator, only what speaks of this namespace.
		about := ""
		if strings.HasPrefix(log.where, operatorNamespace+"/") {
			about = s.namespace
		}
		if lines := lastLines(log.text, about, 40); lines != "" {
			fmt.Fprintf(&b, "---- log of %s\n%s", log.where, lines)
		}
	}
	s.Log(b.String())
}

func showConditions(b *strings.Builder, object client.Object) {
	fmt.Fprintf(b, "---- %s (generation %d)\n", named(object), object.GetGeneration())
	for _, c := range conditionsOf(object) {
		fmt.Fprintf(b, "%-17s %-7s %s (of %d): %s\n", c.Type, c.Status, c.Reason, c.ObservedGeneration, c.Message)
	}
}

func (s *story) showPods(b *strings.Builder) {
	for _, namespace := range []string{s.namespace, operatorNamespace} {
		pods := &corev1.PodList{}
		_ = kube.List(s.ctx, pods, client.InNamespace(namespace))
		for i := range pods.Items {
			pod := &pods.Items[i]
			fmt.Fprintf(b, "---- pod %s/%s: %s\n", namespace, pod.Name, pod.Status.Phase)
			for _, c := range pod.Status.Conditions {
				if c.Status != corev1.ConditionTrue {
					fmt.Fprintf(b, "%s is %s: %s %s\n", c.Type, c.Status, c.Reason, c.Message)
				}
			}
			for _, c := range pod.Status.ContainerStatuses {
				if c.State.Waiting != nil || c.RestartCount > 0 {
					fmt.Fprintf(b, "container %s: %d restarts, state %v, last %v\n", c.Name, c.RestartCount, c.State, c.LastTerminationState)
				}
			}
		}
	}
}

// showVolumes says who owns what a pod is made from, and how far a volume is: sizes as asked for and as they are.
func (s *story) showVolumes(b *strings.Builder) {
	claims, sets := &corev1.PersistentVolumeClaimList{}, &appsv1.StatefulSetList{}
	_ = kube.List(s.ctx, claims, client.InNamespace(s.namespace))
	_ = kube.List(s.ctx, sets, client.InNamespace(s.namespace))
	for i := range sets.Items {
		set := &sets.Items[i]
		fmt.Fprintf(b, "---- statefulset %s: made %s, generation %d, ends %v, finalizers %v, status %+v\n",
			set.Name, set.CreationTimestamp.Format(time.TimeOnly), set.Generation, set.DeletionTimestamp, set.Finalizers, set.Status)
	}
	for i := range claims.Items {
		claim := &claims.Items[i]
		fmt.Fprintf(b, "---- claim %s: %s, asks for %s, has %s, ends %v, owners %v, conditions %v\n",
			claim.Name, claim.Status.Phase, claim.Spec.Resources.Requests.Storage(), claim.Status.Capacity.Storage(),
			claim.DeletionTimestamp, claim.OwnerReferences, claim.Status.Conditions)
	}
}

// events are those of the namespace, oldest first.
func (s *story) events() []eventsv1.Event {
	list := &eventsv1.EventList{}
	if err := kube.List(s.ctx, list, client.InNamespace(s.namespace)); err != nil {
		s.Logf("events: %v", err)
	}
	slices.SortFunc(list.Items, func(a, b eventsv1.Event) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	return list.Items
}

// lastLines are the last lines of text that hold about.
func lastLines(text, about string, count int) string {
	var lines []string
	scanner := bufio.NewScanner(bytes.NewReader([]byte(text)))
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		if line := scanner.Text(); strings.Contains(line, about) {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines[max(0, len(lines)-count):], "\n") + "\n"
}
