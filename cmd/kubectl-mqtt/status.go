// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

// brokerInfo is what status prints with -o json. Fields are added, never changed.
type brokerInfo struct {
	// Broker is namespace/name.
	Broker string `json:"broker"`
	// Health is healthy, degraded (clients are served, but not all is as the spec says), down, hibernated, or unknown.
	Health  string `json:"health"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// Current is false where the operator has not looked at the newest spec yet.
	Current bool `json:"current"`
	Paused  bool `json:"paused,omitempty"`
	// Conditions are all of them; Expected says whether a condition is as it should be.
	Conditions []conditionInfo `json:"conditions,omitempty"`
	// Revision is the configuration that is wanted, Applied the oldest one that a ready pod runs.
	Revision  int64          `json:"revision,omitempty"`
	Applied   int64          `json:"applied,omitempty"`
	Pods      []brokerPod    `json:"pods,omitempty"`
	Listeners []listenerInfo `json:"listeners,omitempty"`
	Users     usersInfo      `json:"users"`
	Bridges   []bridgeState  `json:"bridges,omitempty"`
	// LastRestart is why pods were restarted on purpose; what happened to a container stands with its pod.
	LastRestart *restartInfo `json:"lastRestart,omitempty"`
	// Notes are what could not be read.
	Notes []string `json:"notes,omitempty"`
}

type conditionInfo struct {
	Type     string      `json:"type"`
	Status   string      `json:"status"`
	Expected bool        `json:"expected"`
	Reason   string      `json:"reason"`
	Message  string      `json:"message,omitempty"`
	Since    metav1.Time `json:"since"`
}

type brokerPod struct {
	Name        string `json:"name"`
	Ready       bool   `json:"ready"`
	Draining    bool   `json:"draining,omitempty"`
	Revision    int64  `json:"revision,omitempty"`
	Connections int32  `json:"connections"`
	Sessions    int32  `json:"sessions"`
	// Restarts are those of the container, and Died why it was restarted last.
	Restarts int32        `json:"restarts"`
	Died     string       `json:"died,omitempty"`
	DiedAt   *metav1.Time `json:"diedAt,omitempty"`
	Image    string       `json:"image,omitempty"`
	Node     string       `json:"node,omitempty"`
}

type listenerInfo struct {
	Name      string   `json:"name"`
	Protocol  string   `json:"protocol,omitempty"`
	Addresses []string `json:"addresses,omitempty"`
	// CertNotAfter is the end of the certificate, CertDaysLeft how many whole days are left.
	CertNotAfter *metav1.Time `json:"certNotAfter,omitempty"`
	CertDaysLeft *int         `json:"certDaysLeft,omitempty"`
	// TLSReason and TLSMessage say what is wrong with the certificate, empty where nothing is.
	TLSReason  string `json:"tlsReason,omitempty"`
	TLSMessage string `json:"tlsMessage,omitempty"`
}

type usersInfo struct {
	Accepted int32 `json:"accepted"`
	// Rejected counts as the broker's status does, which users that wait for something are not in.
	Rejected int32 `json:"rejected"`
	// NotReady are the users that are not in force, with the reason.
	NotReady []userInfo `json:"notReady,omitempty"`
}

type userInfo struct {
	// User is namespace/name.
	User    string `json:"user"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

type bridgeState struct {
	Name    string `json:"name"`
	Ready   bool   `json:"ready"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

type restartInfo struct {
	Reason string      `json:"reason"`
	Time   metav1.Time `json:"time"`
}

// What health may be.
const (
	healthy    = "healthy"
	degraded   = "degraded"
	down       = "down"
	hibernated = "hibernated"
	unknown    = "unknown"
)

func status(s streams, open opener) *cobra.Command {
	f, output, all := connection{}, "", false
	c := &cobra.Command{
		Use:   "status [BROKER]",
		Short: "Say how a broker is doing, on one screen; without a name, all of them in a table",
		Long: "Say how an MQTTBroker is doing, on one screen: health, conditions that are not as they should be, pods and their\n" +
			"revisions, listeners and certificates, users that are not let in, bridges, and the last restart. It comes from the\n" +
			"objects of the cluster; nothing is asked of the broker itself. Without a name it is a table of all brokers of the\n" +
			"namespace.\n\n" +
			"The exit code is 1 where a broker is not as its spec says.",
		Example: "  kubectl mqtt status -A\n" +
			"  kubectl mqtt status plant -n factory\n" +
			"  kubectl mqtt status plant -n factory -o wide",
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if all && len(args) > 0 {
				return usage("a name and -A do not go together")
			}
			at, namespace, err := open(f)
			if err != nil {
				return &exit{exitUnknown, err}
			}
			if len(args) > 0 {
				f.broker = args[0]
			}
			infos, err := at.brokers(c.Context(), namespace, f.broker, all)
			if err != nil {
				return err
			}
			switch {
			case output != "" && output != wide && f.broker != "":
				err = printAs(s.out, output, infos[0])
			case output != "" && output != wide:
				err = printAs(s.out, output, infos)
			case f.broker != "":
				infos[0].print(s, at.now(), output == wide)
			case len(infos) == 0:
				sayf(s.err, "there is no MQTTBroker here; try -A")
			default:
				printBrokers(s, infos, at.now(), all, output == wide)
			}
			if err != nil {
				return &exit{exitUnknown, err}
			}
			if slices.ContainsFunc(infos, func(i *brokerInfo) bool { return !i.good() }) {
				return &exit{code: exitNo}
			}
			return nil
		},
		ValidArgsFunction: brokerNames(open),
	}
	f.flags(c)
	c.Flags().BoolVarP(&all, "all-namespaces", "A", false, "the brokers of all namespaces")
	outputFlag(c, &output, wide)
	return c
}

// brokers reads one broker, or all of them, and what belongs to them.
func (s *site) brokers(ctx context.Context, namespace, name string, all bool) ([]*brokerInfo, error) {
	list := &v1alpha1.MQTTBrokerList{}
	var in []client.ListOption
	if !all {
		in = append(in, client.InNamespace(namespace))
	}
	if name != "" {
		broker, err := findBroker(ctx, s, namespace, name)
		if err != nil {
			return nil, err
		}
		list.Items = []v1alpha1.MQTTBroker{*broker}
	} else if err := s.List(ctx, list, in...); err != nil {
		return nil, &exit{exitUnknown, explained(err)}
	}
	users, bridges, notes := &v1alpha1.MQTTUserList{}, &v1alpha1.MQTTBridgeList{}, []string(nil)
	// Users and bridges may live in other namespaces than their broker, where it allows that.
	if slices.ContainsFunc(list.Items, func(b v1alpha1.MQTTBroker) bool { return isShared(&b) }) {
		in = nil
	}
	for kind, into := range map[string]client.ObjectList{"users": users, "bridges": bridges} {
		err := s.List(ctx, into, in...)
		if apierrors.IsForbidden(err) && len(in) == 0 && !all {
			if err = s.List(ctx, into, client.InNamespace(namespace)); err == nil {
				notes = append(notes, fmt.Sprintf("you may not see the %s of other namespaces", kind))
			}
		}
		switch {
		case apierrors.IsForbidden(err):
			notes = append(notes, "you may not see the "+kind)
		case err != nil:
			return nil, &exit{exitUnknown, explained(err)}
		}
	}
	pods, err := s.podsByBroker(ctx, namespace, name, all)
	switch {
	case apierrors.IsForbidden(err):
		notes = append(notes, "you may not see the pods")
	case err != nil:
		return nil, &exit{exitUnknown, err}
	}
	slices.Sort(notes)
	infos := make([]*brokerInfo, 0, len(list.Items))
	for i := range list.Items {
		b := &list.Items[i]
		info := brokerInfoOf(b, s.now())
		info.Notes = slices.Clone(notes)
		info.addPods(pods[client.ObjectKeyFromObject(b)])
		info.addUsers(b, users.Items)
		info.addBridges(b, bridges.Items)
		infos = append(infos, info)
	}
	slices.SortFunc(infos, func(a, b *brokerInfo) int { return strings.Compare(a.Broker, b.Broker) })
	return infos, nil
}

// podsByBroker are the pods of one broker, or of all.
func (s *site) podsByBroker(ctx context.Context, namespace, name string, all bool) (map[client.ObjectKey][]corev1.Pod, error) {
	labels := v1alpha1.BrokerSelector(name)
	if name == "" {
		delete(labels, v1alpha1.LabelInstance)
	}
	if all {
		namespace = metav1.NamespaceAll
	}
	pods, err := s.podsOf(ctx, namespace, labels)
	if err != nil {
		return nil, err
	}
	by := map[client.ObjectKey][]corev1.Pod{}
	for i := range pods {
		key := client.ObjectKey{Namespace: pods[i].Namespace, Name: pods[i].Labels[v1alpha1.LabelInstance]}
		by[key] = append(by[key], pods[i])
	}
	return by, nil
}

// isShared says whether a broker lets users of other namespaces in.
func isShared(b *v1alpha1.MQTTBroker) bool {
	allowed := b.Spec.AllowedNamespaces
	return allowed != nil && allowed.From != nil && *allowed.From != v1alpha1.NamespacesSame
}

// brokerInfoOf is what the status of a broker says.
func brokerInfoOf(b *v1alpha1.MQTTBroker, now time.Time) *brokerInfo {
	st := &b.Status
	info := &brokerInfo{Broker: b.Namespace + "/" + b.Name, Current: st.ObservedGeneration == b.Generation, Paused: b.Paused(), Health: unknown}
	for i := range st.Conditions {
		c := &st.Conditions[i]
		info.Conditions = append(info.Conditions, conditionInfo{
			Type: c.Type, Status: string(c.Status), Expected: isExpected(c), Reason: c.Reason, Message: c.Message, Since: c.LastTransitionTime,
		})
	}
	available := meta.IsStatusConditionTrue(st.Conditions, string(v1alpha1.ConditionAvailable))
	if ready := meta.FindStatusCondition(st.Conditions, string(v1alpha1.ConditionReady)); ready != nil {
		info.Reason, info.Message = ready.Reason, ready.Message
		resolved := b.Resolved()
		switch {
		case resolved.Hibernated() && ready.Status == metav1.ConditionTrue:
			info.Health = hibernated
		case ready.Status == metav1.ConditionTrue:
			info.Health = healthy
		case available:
			info.Health = degraded
		case ready.Status == metav1.ConditionFalse:
			info.Health = down
		}
	}
	if st.Revision != nil {
		info.Revision, info.Applied = value(st.Revision.Desired), value(st.Revision.Applied)
	}
	for i := range st.Pods {
		p := &st.Pods[i]
		info.Pods = append(info.Pods, brokerPod{
			Name: p.Name, Ready: value(p.Ready), Draining: value(p.Draining), Revision: value(p.ConfigRevision),
			Connections: value(p.Connections), Sessions: value(p.Sessions),
		})
	}
	for i := range st.Listeners {
		info.Listeners = append(info.Listeners, listenerInfoOf(b, &st.Listeners[i], now))
	}
	if st.Users != nil {
		info.Users.Accepted, info.Users.Rejected = value(st.Users.Accepted), value(st.Users.Rejected)
	}
	if st.LastRestart != nil {
		info.LastRestart = &restartInfo{Reason: string(st.LastRestart.Reason), Time: st.LastRestart.Time}
	}
	return info
}

// isExpected says whether a condition is as it should be. True is the good news, but for five of them; who hibernates does what the spec says.
func isExpected(c *metav1.Condition) bool {
	if c.Reason == string(v1alpha1.ReasonHibernated) {
		return true
	}
	switch v1alpha1.ConditionType(c.Type) {
	case v1alpha1.ConditionPaused, v1alpha1.ConditionInsecure, v1alpha1.ConditionCertificateExpiring,
		v1alpha1.ConditionLooping, v1alpha1.ConditionStalled:
		return c.Status == metav1.ConditionFalse
	default:
		return c.Status == metav1.ConditionTrue
	}
}

func listenerInfoOf(b *v1alpha1.MQTTBroker, l *v1alpha1.ListenerStatus, now time.Time) listenerInfo {
	info := listenerInfo{Name: l.Name, Addresses: l.Addresses, CertNotAfter: l.CertNotAfter}
	for i := range b.Spec.Listeners {
		if b.Spec.Listeners[i].Name == l.Name {
			info.Protocol = string(b.Spec.Listeners[i].Protocol)
		}
	}
	if l.CertNotAfter != nil {
		info.CertDaysLeft = new(daysLeft(l.CertNotAfter.Time, now))
	}
	if c := meta.FindStatusCondition(l.Conditions, string(v1alpha1.ConditionTLSReady)); c != nil && c.Status != metav1.ConditionTrue {
		info.TLSReason, info.TLSMessage = c.Reason, c.Message
	}
	return info
}

// daysLeft are whole days; what has ended has a negative number of them.
func daysLeft(end, now time.Time) int {
	const day = 24 * time.Hour
	left := end.Sub(now)
	if left < 0 {
		return -int((-left + day - 1) / day)
	}
	return int(left / day)
}

// addPods adds what the pods themselves say, and those of which the operator knows nothing yet.
func (i *brokerInfo) addPods(pods []corev1.Pod) {
	for n := range pods {
		pod := &pods[n]
		at := slices.IndexFunc(i.Pods, func(p brokerPod) bool { return p.Name == pod.Name })
		if at < 0 {
			at = len(i.Pods)
			i.Pods = append(i.Pods, brokerPod{Name: pod.Name})
		}
		p := &i.Pods[at]
		p.Node = pod.Spec.NodeName
		for c := range pod.Status.ContainerStatuses {
			said := &pod.Status.ContainerStatuses[c]
			p.Image = said.Image
			p.Restarts += said.RestartCount
			if died := said.LastTerminationState.Terminated; died != nil {
				p.Died, p.DiedAt = died.Reason, &died.FinishedAt
				if died.Reason == "" || died.Reason == "Error" {
					p.Died = fmt.Sprintf("exit code %d", died.ExitCode)
				}
			}
		}
	}
}

func (i *brokerInfo) addUsers(b *v1alpha1.MQTTBroker, users []v1alpha1.MQTTUser) {
	for n := range users {
		user := &users[n]
		ready := meta.FindStatusCondition(user.Status.Conditions, string(v1alpha1.ConditionReady))
		if user.Spec.BrokerRef.Name != b.Name || user.BrokerNamespace() != b.Namespace || ready != nil && ready.Status == metav1.ConditionTrue {
			continue
		}
		info := userInfo{User: user.Namespace + "/" + user.Name, Message: "the operator has not looked at it yet"}
		if ready != nil {
			info.Reason, info.Message = ready.Reason, ready.Message
		}
		i.Users.NotReady = append(i.Users.NotReady, info)
	}
}

func (i *brokerInfo) addBridges(b *v1alpha1.MQTTBroker, bridges []v1alpha1.MQTTBridge) {
	for n := range bridges {
		bridge := &bridges[n]
		if bridge.Spec.BrokerRef.Name != b.Name || or(value(bridge.Spec.BrokerRef.Namespace), bridge.Namespace) != b.Namespace {
			continue
		}
		info := infoOf(bridge)
		state := bridgeState{Name: bridge.Name, Ready: info.Ready, Reason: info.Reason, Message: info.Message}
		if bridge.Namespace != b.Namespace {
			state.Name = bridge.Namespace + "/" + bridge.Name
		}
		if info.Message == "" {
			state.Message = "the operator has not looked at it yet"
		}
		i.Bridges = append(i.Bridges, state)
	}
}

// good says whether all is as the spec says.
func (i *brokerInfo) good() bool { return i.Health == healthy || i.Health == hibernated }

func (i *brokerInfo) tone() tone {
	switch i.Health {
	case healthy:
		return well
	case degraded, hibernated:
		return warning
	default:
		return bad
	}
}

// print writes one screen.
func (i *brokerInfo) print(s streams, now time.Time, more bool) {
	switch i.Health {
	case healthy:
		s.tellf(i.tone(), "Broker %s is healthy: %s", i.Broker, i.Message)
	case hibernated:
		s.tellf(i.tone(), "Broker %s hibernates, as its spec says: %s", i.Broker, i.Message)
	case degraded:
		s.tellf(i.tone(), "Broker %s serves clients, but not all is as its spec says (%s): %s", i.Broker, i.Reason, i.Message)
	case down:
		s.tellf(i.tone(), "Broker %s serves nobody (%s): %s", i.Broker, i.Reason, i.Message)
	default:
		if i.Message == "" {
			s.tellf(i.tone(), "Broker %s: the operator has not looked at it yet. Does it run, and does it look after this namespace?", i.Broker)
			return
		}
		s.tellf(i.tone(), "Broker %s: it is not known how it is doing (%s): %s", i.Broker, i.Reason, i.Message)
	}
	if !i.Current {
		s.tellf(warning, "The operator has not looked at the newest spec yet.")
	}
	if i.Paused {
		s.tellf(warning, "It is paused: the operator changes nothing of it.")
	}
	i.printConditions(s, now, more)
	i.printPods(s, now, more)
	i.printListeners(s, more)
	i.printUsers(s)
	i.printBridges(s)
	if i.LastRestart != nil {
		sayf(s.out, "\nLast restart: %s, %s ago, %s", i.LastRestart.Time.UTC().Format(time.RFC3339), age(now, i.LastRestart.Time.Time), whyRestarted(i.LastRestart.Reason))
	}
	for _, note := range i.Notes {
		sayf(s.err, "note: %s", note)
	}
}

func (i *brokerInfo) printConditions(s streams, now time.Time, all bool) {
	rows, tones := [][]string{{"CONDITION", "STATUS", "FOR", "REASON", "MESSAGE"}}, []tone{calm}
	for n := range i.Conditions {
		c := &i.Conditions[n]
		if (!c.Expected || all) && c.Type != string(v1alpha1.ConditionReady) {
			t := warning
			switch {
			case c.Expected:
				t = calm
			case c.Status == string(metav1.ConditionFalse), c.Type == string(v1alpha1.ConditionStalled):
				t = bad
			}
			rows, tones = append(rows, []string{c.Type, c.Status, age(now, c.Since.Time), c.Reason, oneLine(c.Message)}), append(tones, t)
		}
	}
	if len(rows) > 1 {
		if !all {
			sayf(s.out, "\nNot as it should be:")
		} else {
			sayf(s.out, "")
		}
		s.tonedTable(rows, tones)
	}
}

func (i *brokerInfo) printPods(s streams, now time.Time, more bool) {
	if len(i.Pods) == 0 {
		return
	}
	sayf(s.out, "")
	rows, tones := [][]string{{"POD", "READY", "REVISION", "CLIENTS", "SESSIONS", "RESTARTS"}}, []tone{calm}
	if more {
		rows[0] = append(rows[0], "NODE", "IMAGE")
	}
	for n := range i.Pods {
		p := &i.Pods[n]
		ready, t := "yes", calm
		switch {
		case p.Draining:
			ready, t = "sends its clients away", warning
		case !p.Ready:
			ready, t = "no", bad
		}
		restarts := strconv.Itoa(int(p.Restarts))
		if p.Died != "" {
			restarts += " (" + p.Died
			if p.DiedAt != nil && !p.DiedAt.IsZero() {
				restarts += ", " + age(now, p.DiedAt.Time) + " ago"
			}
			restarts += ")"
		}
		row := []string{p.Name, ready, i.revision(p), strconv.Itoa(int(p.Connections)), strconv.Itoa(int(p.Sessions)), restarts}
		if more {
			row = append(row, or(p.Node, "-"), or(p.Image, "-"))
		}
		if t == calm && (p.Revision != i.Revision || p.Died != "") {
			t = warning
		}
		rows, tones = append(rows, row), append(tones, t)
	}
	s.tonedTable(rows, tones)
}

// revision is what a pod runs, and what it should run if that is another.
func (i *brokerInfo) revision(p *brokerPod) string {
	switch p.Revision {
	case i.Revision:
		return strconv.FormatInt(p.Revision, 10)
	case 0:
		return fmt.Sprintf("none yet, %d is wanted", i.Revision)
	default:
		return fmt.Sprintf("%d, %d is wanted", p.Revision, i.Revision)
	}
}

func (i *brokerInfo) printListeners(s streams, more bool) {
	if len(i.Listeners) == 0 {
		return
	}
	sayf(s.out, "")
	rows, tones := [][]string{{"LISTENER", "PROTOCOL", "ADDRESS", "CERTIFICATE"}}, []tone{calm}
	for n := range i.Listeners {
		l := &i.Listeners[n]
		until, t := l.certificate()
		addresses := l.Addresses
		if len(addresses) == 0 {
			addresses = []string{"-"}
		}
		rows, tones = append(rows, []string{l.Name, or(l.Protocol, "-"), addresses[0], until}), append(tones, t)
		for _, address := range addresses[1:] {
			rows, tones = append(rows, []string{"", "", address, ""}), append(tones, t)
		}
		if more && l.TLSMessage != "" {
			rows, tones = append(rows, []string{"", "", "", oneLine(l.TLSMessage)}), append(tones, t)
		}
	}
	s.tonedTable(rows, tones)
}

// soon is how few days of a certificate are worth a colour; the operator warns from then on, too.
const soon = 14

func (l *listenerInfo) certificate() (string, tone) {
	text, t := "-", calm
	if l.CertDaysLeft != nil {
		switch left := *l.CertDaysLeft; {
		case left < 0:
			text, t = "has ended on "+l.CertNotAfter.UTC().Format(time.DateOnly), bad
		default:
			text = fmt.Sprintf("%s left, until %s", plural(left, "day"), l.CertNotAfter.UTC().Format(time.DateOnly))
			if left < soon {
				t = warning
			}
		}
	}
	if l.TLSReason != "" {
		text, t = strings.TrimPrefix(text+"; ", "-; ")+l.TLSReason, bad
	}
	return text, t
}

func (i *brokerInfo) printUsers(s streams) {
	sayf(s.out, "\nUsers: %d accepted, %d rejected", i.Users.Accepted, i.Users.Rejected)
	if len(i.Users.NotReady) == 0 {
		return
	}
	namespace, _, _ := strings.Cut(i.Broker, "/")
	rows, tones := [][]string{{"USER", "REASON", "MESSAGE"}}, []tone{calm}
	for _, u := range i.Users.NotReady {
		rows, tones = append(rows, []string{strings.TrimPrefix(u.User, namespace+"/"), or(u.Reason, "-"), oneLine(u.Message)}), append(tones, bad)
	}
	s.tonedTable(rows, tones)
}

func (i *brokerInfo) printBridges(s streams) {
	if len(i.Bridges) == 0 {
		return
	}
	sayf(s.out, "")
	rows, tones := [][]string{{"BRIDGE", "STATE", "MESSAGE"}}, []tone{calm}
	for _, b := range i.Bridges {
		t := bad
		if b.Ready {
			t = calm
		}
		rows, tones = append(rows, []string{b.Name, or(b.Reason, "-"), oneLine(b.Message)}), append(tones, t)
	}
	s.tonedTable(rows, tones)
}

// printBrokers writes a line for each.
func printBrokers(s streams, infos []*brokerInfo, now time.Time, namespaces, more bool) {
	head := []string{"BROKER", "HEALTH", "PODS", "REVISION", "CLIENTS", "USERS", "BRIDGES", "CERTIFICATES", "LAST RESTART"}
	if namespaces {
		head = slices.Insert(head, 0, "NAMESPACE")
	}
	if more {
		head = append(head, "MESSAGE")
	}
	rows, tones := [][]string{head}, []tone{calm}
	notes := map[string]bool{}
	for _, i := range infos {
		namespace, name, _ := strings.Cut(i.Broker, "/")
		row := []string{name, i.health(), i.podsReady(), i.revisions(), i.clients(), i.userCounts(), i.bridgeCounts(), i.firstEnd(), "-"}
		if i.LastRestart != nil {
			row[len(row)-1] = age(now, i.LastRestart.Time.Time) + " ago, " + i.LastRestart.Reason
		}
		if namespaces {
			row = slices.Insert(row, 0, namespace)
		}
		if more {
			row = append(row, oneLine(i.Message))
		}
		t := i.tone()
		if t == well {
			t = calm
		}
		rows, tones = append(rows, row), append(tones, t)
		for _, note := range i.Notes {
			notes[note] = true
		}
	}
	s.tonedTable(rows, tones)
	for _, note := range slices.Sorted(maps.Keys(notes)) {
		sayf(s.err, "note: %s", note)
	}
}

func (i *brokerInfo) health() string {
	text := i.Health
	if !i.good() && i.Reason != "" {
		text += " (" + i.Reason + ")"
	}
	if i.Paused {
		text += ", paused"
	}
	return text
}

func (i *brokerInfo) podsReady() string {
	ready := 0
	for n := range i.Pods {
		if i.Pods[n].Ready {
			ready++
		}
	}
	return fmt.Sprintf("%d/%d", ready, len(i.Pods))
}

func (i *brokerInfo) revisions() string {
	text := strconv.FormatInt(i.Revision, 10)
	if i.Applied != i.Revision {
		text = fmt.Sprintf("%d of %d", i.Applied, i.Revision)
	}
	return text
}

func (i *brokerInfo) clients() string {
	n := int32(0)
	for p := range i.Pods {
		n += i.Pods[p].Connections
	}
	return strconv.Itoa(int(n))
}

func (i *brokerInfo) userCounts() string {
	text := strconv.Itoa(int(i.Users.Accepted))
	if n := len(i.Users.NotReady); n > 0 {
		text += fmt.Sprintf(" (%d more not ready)", n)
	}
	return text
}

func (i *brokerInfo) bridgeCounts() string {
	ready := 0
	for _, b := range i.Bridges {
		if b.Ready {
			ready++
		}
	}
	if len(i.Bridges) == 0 {
		return "-"
	}
	return fmt.Sprintf("%d/%d", ready, len(i.Bridges))
}

// firstEnd is the certificate that ends first.
func (i *brokerInfo) firstEnd() string {
	var first *listenerInfo
	for n := range i.Listeners {
		if l := &i.Listeners[n]; l.CertDaysLeft != nil && (first == nil || l.CertNotAfter.Before(first.CertNotAfter)) {
			first = l
		}
	}
	switch {
	case first == nil:
		return "-"
	case *first.CertDaysLeft < 0:
		return "ended"
	default:
		return plural(*first.CertDaysLeft, "day")
	}
}

// whyRestarted puts the reason of a restart into words.
func whyRestarted(reason string) string {
	words := map[v1alpha1.ConditionReason]string{
		v1alpha1.ReasonImageChanged:    "for another image",
		v1alpha1.ReasonPodChanged:      "for a change of spec.pod",
		v1alpha1.ReasonTemplateChanged: "because a release of the operator shapes pods differently",
	}[v1alpha1.ConditionReason(reason)]
	if words == "" {
		return reason
	}
	return words + " (" + reason + ")"
}

// age is how long ago something was, as kubectl says it.
func age(now, then time.Time) string {
	if then.IsZero() {
		return "-"
	}
	return duration.HumanDuration(max(0, now.Sub(then)))
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return strconv.Itoa(n) + " " + word + "s"
}

func or(text, fallback string) string {
	if text == "" {
		return fallback
	}
	return text
}

// oneLine is text of others as it can stand in a cell of a table.
func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if text == "" {
		return "-"
	}
	return shown(text)
}
