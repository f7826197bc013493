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
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// rates is what top prints with -o json, for each pod. Fields are added, never changed.
type rates struct {
	// Broker is namespace/name.
	Broker string `json:"broker"`
	Pod    string `json:"pod"`
	// Seconds lie between the two looks that the rates come from.
	Seconds float64 `json:"seconds"`
	// What comes in and goes out, per second: PUBLISH packets, and bytes of MQTT of every kind.
	MessagesIn  float64 `json:"messagesInPerSecond"`
	MessagesOut float64 `json:"messagesOutPerSecond"`
	BytesIn     float64 `json:"bytesInPerSecond"`
	BytesOut    float64 `json:"bytesOutPerSecond"`
	// Connects and Disconnects are clients that came and went, per second.
	Connects    float64 `json:"connectsPerSecond"`
	Disconnects float64 `json:"disconnectsPerSecond"`
	// Dropped are messages that a subscriber should have got and did not, per second; DropReasons are those of Dropped.
	Dropped     float64            `json:"droppedPerSecond"`
	DropReasons map[string]float64 `json:"dropReasons,omitempty"`
	// What there is at the second look.
	Connections   int64 `json:"connections"`
	Sessions      int64 `json:"sessions"`
	Subscriptions int64 `json:"subscriptions"`
	Queued        int64 `json:"queued"`
	QueuedBytes   int64 `json:"queuedBytes"`
	Inflight      int64 `json:"inflight"`
	Retained      int64 `json:"retained"`
	// Restarted says that the pod began anew between the looks: there are no rates then.
	Restarted bool `json:"restarted,omitempty"`
}

// defaultInterval is what lies between two looks; shortestInterval is what may.
const (
	defaultInterval  = 2 * time.Second
	shortestInterval = 10 * time.Millisecond
)

func top(s streams, open opener) *cobra.Command {
	f, output := connection{}, ""
	interval, once := defaultInterval, false
	c := &cobra.Command{
		Use:   "top [BROKER]",
		Short: "Show live rates of a broker",
		Long: "Show live rates of a broker: messages and bytes in and out, clients that come and go, what waits and what is dropped.\n" +
			"They come from two looks at the metrics of each pod. On a terminal it goes on until Ctrl-C; elsewhere, and with\n" +
			"--once or -o, it ends after the first rates.",
		Example: "  kubectl mqtt top plant -n factory\n" +
			"  kubectl mqtt top plant -n factory --interval 10s --once -o json",
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if interval < shortestInterval {
				return usage("--interval %s is shorter than %s", interval, shortestInterval)
			}
			if len(args) > 0 {
				f.broker = args[0]
			}
			r, err := reach(c.Context(), open, f)
			if err != nil {
				return err
			}
			return r.top(c.Context(), s, interval, once || !s.terminal || output != "", output)
		},
		ValidArgsFunction: brokerNames(open),
	}
	f.flags(c)
	c.Flags().DurationVar(&interval, "interval", interval, "time between two looks")
	c.Flags().BoolVar(&once, "once", false, "end after the first rates, on a terminal too")
	outputFlag(c, &output, wide)
	return c
}

func (r *reached) top(ctx context.Context, s streams, interval time.Duration, once bool, output string) error {
	before, err := r.look(ctx)
	if err != nil {
		return &exit{exitUnknown, err}
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(interval):
		}
		now, err := r.look(ctx)
		if err != nil && ctx.Err() != nil {
			return nil //nolint:nilerr // somebody has had enough
		}
		if err != nil {
			return &exit{exitUnknown, err}
		}
		all := make([]*rates, len(now))
		for i := range now {
			all[i] = ratesOf(before[i], now[i])
			all[i].Broker, all[i].Pod = r.broker.Namespace+"/"+r.broker.Name, r.pods[i].Name
		}
		before = now
		switch {
		case output != "" && output != wide:
			err = printAs(s.out, output, all)
		default:
			if !once {
				_, _ = fmt.Fprint(s.out, "\x1b[H\x1b[2J") // home, and nothing else on the screen
			}
			printRates(s, all, output == wide)
		}
		if err != nil {
			return &exit{exitUnknown, err}
		}
		if once {
			return nil
		}
	}
}

// look reads the metrics of every pod once.
func (r *reached) look(ctx context.Context) ([]*reading, error) {
	all := make([]*reading, len(r.pods))
	for i := range r.pods {
		text, err := r.metrics(ctx, client.ObjectKeyFromObject(&r.pods[i]))
		if err != nil {
			return nil, err
		}
		all[i] = read(text, r.now())
	}
	return all, nil
}

// reading is what the metrics of a pod say at a time.
type reading struct {
	at     time.Time
	values []sample
}

type sample struct {
	name   string
	labels string // as they stand there, without braces
	value  float64
}

// read takes the text format of Prometheus apart, as a broker writes it: no time stands behind a value.
func read(text []byte, at time.Time) *reading {
	r := &reading{at: at}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		space := strings.LastIndexByte(line, ' ')
		if line == "" || line[0] == '#' || space < 0 {
			continue
		}
		value, err := strconv.ParseFloat(line[space+1:], 64)
		if err != nil {
			continue
		}
		name, labels, _ := strings.Cut(line[:space], "{")
		r.values = append(r.values, sample{name: name, labels: strings.TrimSuffix(labels, "}"), value: value})
	}
	return r
}

// sum adds up a metric over all of its labels.
func (r *reading) sum(name string) (total float64) {
	for i := range r.values {
		if r.values[i].name == name {
			total += r.values[i].value
		}
	}
	return total
}

// by is a metric by the value of its one label.
func (r *reading) by(name string) map[string]float64 {
	values := map[string]float64{}
	for i := range r.values {
		if v := &r.values[i]; v.name == name {
			_, label, _ := strings.Cut(v.labels, "=")
			values[strings.Trim(label, `"`)] += v.value
		}
	}
	return values
}

// prefix is that of all metrics of a broker.
const prefix = "mqtt_broker_"

// ratesOf is what happened between two looks.
func ratesOf(before, now *reading) *rates {
	r := &rates{
		Seconds:     now.at.Sub(before.at).Seconds(),
		Connections: int64(now.sum(prefix + "connections")), Sessions: int64(now.sum(prefix + "sessions")),
		Subscriptions: int64(now.sum(prefix + "subscriptions")),
		Queued:        int64(now.sum(prefix + "queue_messages")), QueuedBytes: int64(now.sum(prefix + "queue_bytes")),
		Inflight: int64(now.sum(prefix + "inflight_messages")), Retained: int64(now.sum(prefix + "retained_messages")),
	}
	// What is counted grows as long as the process lives.
	const bytesIn = prefix + "received_bytes_total"
	if r.Restarted = now.sum(bytesIn) < before.sum(bytesIn); r.Restarted || r.Seconds <= 0 {
		return r
	}
	rate := func(name string) float64 { return (now.sum(prefix+name) - before.sum(prefix+name)) / r.Seconds }
	r.MessagesIn, r.MessagesOut = rate("messages_received_total"), rate("messages_sent_total")
	r.BytesIn, r.BytesOut = rate("received_bytes_total"), rate("sent_bytes_total")
	r.Connects, r.Disconnects = rate("connections_opened_total"), rate("disconnections_total")
	r.Dropped = rate("messages_dropped_total")
	earlier := before.by(prefix + "messages_dropped_total")
	for reason, n := range now.by(prefix + "messages_dropped_total") {
		if n > earlier[reason] {
			if r.DropReasons == nil {
				r.DropReasons = map[string]float64{}
			}
			r.DropReasons[reason] = (n - earlier[reason]) / r.Seconds
		}
	}
	return r
}

func printRates(s streams, all []*rates, more bool) {
	rows := [][]string{{"POD", "CLIENTS", "IN", "OUT", "BYTES IN", "BYTES OUT", "QUEUED", "IN FLIGHT", "DROPPED"}}
	if more {
		rows[0] = append(rows[0], "COME", "GO", "SESSIONS", "SUBSCRIPTIONS", "RETAINED", "QUEUED BYTES")
	}
	tones := []tone{calm}
	for _, r := range all {
		row, t := []string{
			r.Pod, strconv.FormatInt(r.Connections, 10), perSecond(r.MessagesIn), perSecond(r.MessagesOut), bytesPerSecond(r.BytesIn), bytesPerSecond(r.BytesOut),
			strconv.FormatInt(r.Queued, 10), strconv.FormatInt(r.Inflight, 10), perSecond(r.Dropped),
		}, calm
		if r.Restarted {
			row[2], row[3], row[4], row[5], row[8] = "restarted", "-", "-", "-", "-"
			t = bad
		}
		if more {
			row = append(row, perSecond(r.Connects), perSecond(r.Disconnects), strconv.FormatInt(r.Sessions, 10),
				strconv.FormatInt(r.Subscriptions, 10), strconv.FormatInt(r.Retained, 10), inBytes(float64(r.QueuedBytes)))
		}
		if r.Dropped > 0 {
			t = warning
		}
		rows, tones = append(rows, row), append(tones, t)
	}
	s.tonedTable(rows, tones)
	for _, r := range all {
		if len(r.DropReasons) > 0 {
			var reasons []string
			for _, reason := range slices.Sorted(maps.Keys(r.DropReasons)) {
				reasons = append(reasons, reason+" "+perSecond(r.DropReasons[reason]))
			}
			sayf(s.out, "%s drops: %s", r.Pod, strings.Join(reasons, ", "))
		}
	}
}

func perSecond(rate float64) string {
	if rate > 0 && rate < 10 {
		return strconv.FormatFloat(rate, 'f', 1, 64) + "/s"
	}
	return strconv.FormatFloat(rate, 'f', 0, 64) + "/s"
}

func bytesPerSecond(rate float64) string { return inBytes(rate) + "/s" }

// inBytes is a size as people read it, in steps of 1024.
func inBytes(size float64) string {
	const step = 1024
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	n := 0
	for ; size >= step && n < len(units)-1; n++ {
		size /= step
	}
	digits := 0
	if n > 0 {
		digits = 1
	}
	return strconv.FormatFloat(size, 'f', digits, 64) + " " + units[n]
}
