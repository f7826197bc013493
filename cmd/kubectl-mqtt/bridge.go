// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

// bridgeInfo is what bridge status prints with -o json. Fields are added, never changed.
type bridgeInfo struct {
	// Bridge is namespace/name.
	Bridge string `json:"bridge"`
	// Ready says whether all is as the spec says; a bridge that is suspended or has no replicas is.
	Ready   bool   `json:"ready"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// Looping says how messages go round through this bridge and others; empty where they do not.
	Looping string `json:"looping,omitempty"`
	// Current is false where the operator has not looked at the newest spec yet.
	Current bool          `json:"current"`
	Local   bridgeEnd     `json:"local"`
	Remote  bridgeEnd     `json:"remote"`
	Pods    []bridgePod   `json:"pods,omitempty"`
	Routes  []bridgeRoute `json:"routes,omitempty"`
	// CountedAt is when the numbers of the routes were written.
	CountedAt *metav1.Time `json:"countedAt,omitempty"`
}

type bridgeEnd struct {
	// Connected is True, False or Unknown.
	Connected string `json:"connected"`
	Endpoint  string `json:"endpoint,omitempty"`
	Reason    string `json:"reason,omitempty"`
	Message   string `json:"message,omitempty"`
	Notice    string `json:"notice,omitempty"`
}

type bridgePod struct {
	Name     string `json:"name"`
	Ready    bool   `json:"ready"`
	Active   bool   `json:"active"`
	Revision int64  `json:"revision,omitempty"`
}

type bridgeRoute struct {
	Name      string `json:"name"`
	Direction string `json:"direction,omitempty"`
	Connected bool   `json:"connected"`
	Forwarded int64  `json:"forwarded"`
	PerMinute int64  `json:"forwardedPerMinute"`
	Waiting   int64  `json:"queued"`
	Lag       int64  `json:"lagSeconds"`
	Dropped   int64  `json:"dropped"`

	DropReasons   map[string]int64 `json:"dropReasons,omitempty"`
	LastError     string           `json:"lastError,omitempty"`
	LastErrorTime *metav1.Time     `json:"lastErrorTime,omitempty"`
}

func bridges(s streams, open opener) *cobra.Command {
	c := &cobra.Command{
		Use:   "bridge",
		Short: "Look at bridges",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(bridgeStatus(s, open))
	return c
}

func bridgeStatus(s streams, open opener) *cobra.Command {
	f, output := connection{}, ""
	c := &cobra.Command{
		Use:   "status NAME",
		Short: "Say how a bridge and each of its routes are doing",
		Long: "Say how an MQTTBridge and each of its routes are doing, from its status: the ends, the pods, how fast messages go,\n" +
			"how long the oldest waits, what was given up and why. The operator writes numbers every 30 s at most.\n\n" +
			"The exit code is 1 where the bridge does not do what its spec says.",
		Example: "  kubectl mqtt bridge status cloud -n plant\n" +
			"  kubectl mqtt bridge status cloud -n plant -o json",
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			reader, namespace, err := open(f)
			if err != nil {
				return &exit{exitUnknown, err}
			}
			bridge := &v1alpha1.MQTTBridge{}
			if err := reader.Get(c.Context(), client.ObjectKey{Namespace: namespace, Name: args[0]}, bridge); err != nil {
				return &exit{exitUnknown, explained(err)}
			}
			info := infoOf(bridge)
			if output != "" {
				if err := printAs(s.out, output, info); err != nil {
					return err
				}
			} else {
				info.print(s.out)
			}
			if !info.Ready {
				return &exit{code: exitNo}
			}
			return nil
		},
		ValidArgsFunction: namesOf(open, func() client.ObjectList { return &v1alpha1.MQTTBridgeList{} }),
	}
	f.clusterFlags(c)
	c.Flags().Lookup("namespace").Usage = "namespace of the bridge; empty: that of the context"
	outputFlag(c, &output)
	return c
}

// infoOf is what the status of a bridge says.
func infoOf(b *v1alpha1.MQTTBridge) *bridgeInfo {
	status := &b.Status
	info := &bridgeInfo{Bridge: b.Namespace + "/" + b.Name, Current: status.ObservedGeneration == b.Generation, CountedAt: status.CountedAt}
	if c := meta.FindStatusCondition(status.Conditions, string(v1alpha1.ConditionReady)); c != nil {
		info.Ready, info.Reason, info.Message = c.Status == metav1.ConditionTrue, c.Reason, c.Message
	}
	if c := meta.FindStatusCondition(status.Conditions, string(v1alpha1.ConditionLooping)); c != nil && c.Status == metav1.ConditionTrue {
		info.Looping = c.Message
	}
	info.Local = endOf(status.Conditions, v1alpha1.ConditionLocalConnected, status.Local)
	info.Remote = endOf(status.Conditions, v1alpha1.ConditionRemoteConnected, status.Remote)
	for _, pod := range status.Pods {
		info.Pods = append(info.Pods, bridgePod{Name: pod.Name, Ready: value(pod.Ready), Active: value(pod.Active), Revision: value(pod.ConfigRevision)})
	}
	directions := map[string]v1alpha1.RouteDirection{}
	for i := range b.Spec.Routes {
		directions[b.Spec.Routes[i].Name] = b.Spec.Routes[i].Direction
	}
	for _, r := range status.Routes {
		route := bridgeRoute{
			Name: r.Name, Direction: string(directions[r.Name]), Connected: value(r.Connected), Forwarded: value(r.Forwarded), PerMinute: value(r.ForwardedPerMinute),
			Waiting: value(r.Queued), Lag: value(r.LagSeconds), Dropped: value(r.Dropped), LastError: r.LastError, LastErrorTime: r.LastErrorTime,
		}
		for _, reason := range r.DropReasons {
			if route.DropReasons == nil {
				route.DropReasons = map[string]int64{}
			}
			route.DropReasons[reason.Reason] = value(reason.Count)
		}
		info.Routes = append(info.Routes, route)
	}
	return info
}

func endOf(conditions []metav1.Condition, kind v1alpha1.ConditionType, status *v1alpha1.BridgeEndStatus) bridgeEnd {
	end := bridgeEnd{Connected: string(metav1.ConditionUnknown)}
	if c := meta.FindStatusCondition(conditions, string(kind)); c != nil {
		end.Connected, end.Reason, end.Message = string(c.Status), c.Reason, c.Message
	}
	if status != nil {
		end.Endpoint, end.Notice = status.Endpoint, status.Notice
	}
	return end
}

// value is what a field says, or nothing.
func value[T any](field *T) (none T) {
	if field == nil {
		return none
	}
	return *field
}

// print writes for people.
func (i *bridgeInfo) print(w io.Writer) {
	switch {
	case i.Message == "":
		sayf(w, "Bridge %s: the operator has not looked at it yet. Does it run, and does it look after this namespace?", i.Bridge)
		return
	case i.Ready:
		sayf(w, "Bridge %s is as it should be: %s", i.Bridge, i.Message)
	default:
		sayf(w, "Bridge %s is not as it should be (%s): %s", i.Bridge, i.Reason, i.Message)
	}
	if i.Looping != "" {
		sayf(w, "%s", i.Looping)
	}
	if !i.Current {
		sayf(w, "The operator has not looked at the newest spec yet.")
	}
	sayf(w, "")
	rows := [][]string{{"Local:", i.Local.text()}, {"Remote:", i.Remote.text()}}
	for n, pod := range i.Pods {
		label := ""
		if n == 0 {
			label = "Pods:"
		}
		rows = append(rows, []string{label, pod.text()})
	}
	table(w, rows)
	if len(i.Routes) == 0 {
		return
	}
	sayf(w, "")
	rows = [][]string{{"ROUTE", "DIRECTION", "STATE", "FORWARDED", "RATE", "WAITING", "LAG", "DROPPED"}}
	for n := range i.Routes {
		rows = append(rows, i.Routes[n].row())
	}
	table(w, rows)
	for n := range i.Routes {
		if r := &i.Routes[n]; r.LastError != "" {
			sayf(w, "\nLast error of %s%s: %s", r.Name, at(r.LastErrorTime), shown(r.LastError))
		}
	}
	if i.CountedAt != nil {
		sayf(w, "\nThe numbers are of %s.", i.CountedAt.UTC().Format(time.RFC3339))
	}
}

func at(t *metav1.Time) string {
	if t == nil {
		return ""
	}
	return ", at " + t.UTC().Format(time.RFC3339)
}

func (e *bridgeEnd) text() string {
	text := e.Message
	switch {
	case e.Connected == string(metav1.ConditionTrue):
		text = "connected to " + shown(e.Endpoint)
		if e.Notice != "" {
			text += "; not all is as it was asked for: " + e.Notice
		}
	case e.Connected == string(metav1.ConditionFalse) && e.Reason != string(v1alpha1.ReasonSuspended):
		text = "not connected (" + e.Reason + "): " + text
	}
	return text
}

func (p *bridgePod) text() string {
	text := p.Name
	switch {
	case p.Revision == 0:
		return text + " does not answer"
	case p.Active:
		text += " is at work"
	default:
		text += " stands by"
	}
	return text + ", revision " + strconv.FormatInt(p.Revision, 10)
}

func (r *bridgeRoute) row() []string {
	state := "flows"
	if !r.Connected {
		state = "stands still"
	}
	dropped := strconv.FormatInt(r.Dropped, 10)
	if len(r.DropReasons) > 0 {
		var reasons []string
		for _, reason := range slices.Sorted(maps.Keys(r.DropReasons)) {
			reasons = append(reasons, fmt.Sprintf("%s %d", reason, r.DropReasons[reason]))
		}
		dropped += " (" + strings.Join(reasons, ", ") + ")"
	}
	const minute = 60
	return []string{
		r.Name, r.Direction, state, strconv.FormatInt(r.Forwarded, 10), strconv.FormatFloat(float64(r.PerMinute)/minute, 'f', 1, 64) + "/s",
		strconv.FormatInt(r.Waiting, 10), (time.Duration(r.Lag) * time.Second).String(), dropped,
	}
}
