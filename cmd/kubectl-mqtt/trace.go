// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/admin"
)

// defaultTrace is how long a trace lasts where nobody says how long.
const defaultTrace = time.Minute

func trace(s streams, open opener) *cobra.Command {
	f, output := connection{}, ""
	span, filter := defaultTrace, admin.TraceFilter{}
	c := &cobra.Command{
		Use:   "trace CLIENT|TOPIC",
		Short: "Watch what happens to a client, or to the topics of a filter",
		Long: "Watch live what happens to a client, or to the topics that a filter matches: connects, subscriptions, messages and\n" +
			"where they went, what was refused and why. Payloads are not in it. What holds a / or a wildcard, or begins with $, is\n" +
			"taken for a topic, all else for a client id; --client and --topic say which is meant, and together they narrow. It\n" +
			"ends when --for is over, or with Ctrl-C.",
		Example: "  kubectl mqtt trace press-7-sensor -n factory\n" +
			"  kubectl mqtt trace 'factory/+/state' -n factory --for 5m\n" +
			"  kubectl mqtt trace --client press-7-sensor --topic 'factory/#' -n factory -o json",
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := completeFilter(&filter, args); err != nil {
				return err
			}
			if span <= 0 || span > admin.MaxTrace {
				return usage("--for %s is not between 0 and %s", span, admin.MaxTrace)
			}
			r, err := reach(c.Context(), open, f)
			if err != nil {
				return err
			}
			return r.trace(c.Context(), s, filter, span, output)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f.flags(c)
	c.Flags().StringVar(&filter.Client, "client", "", "the client id to watch")
	c.Flags().StringVar(&filter.Topic, "topic", "", "the topic filter to watch")
	c.Flags().DurationVar(&span, "for", span, "when to end")
	outputFlag(c, &output)
	return c
}

// completeFilter finds out what the argument is.
func completeFilter(filter *admin.TraceFilter, args []string) error {
	switch {
	case len(args) == 0:
	case filter.Client != "" && filter.Topic != "":
		return usage("--client and --topic leave nothing for %s to say", shown(args[0]))
	case filter.Topic != "" || filter.Client == "" && !strings.ContainsAny(args[0], "/+#") && !strings.HasPrefix(args[0], "$"):
		filter.Client = args[0]
	default:
		filter.Topic = args[0]
	}
	if *filter == (admin.TraceFilter{}) {
		return usage("say what to watch: a client id, or a topic filter")
	}
	if filter.Topic != "" {
		if err := acl.ValidateFilter(filter.Topic); err != nil {
			return usage("%s: %v", shown(filter.Topic), err)
		}
	}
	return nil
}

func (r *reached) trace(ctx context.Context, s streams, filter admin.TraceFilter, span time.Duration, output string) error {
	pods, err := r.admins(ctx)
	if err != nil {
		return err
	}
	var (
		mu     sync.Mutex // one line after the other
		all    sync.WaitGroup
		faults = make([]error, len(pods))
	)
	// A broker that does not end it in time is left.
	ctx, cancel := context.WithTimeout(ctx, span+reachPatience)
	defer cancel()
	for i, pod := range pods {
		all.Go(func() {
			err := pod.Trace(ctx, filter, span, func(e admin.TraceEvent) error {
				mu.Lock()
				defer mu.Unlock()
				return printEvent(s, &e, output)
			})
			if err != nil && ctx.Err() == nil {
				faults[i] = fmt.Errorf("pod %s: %w", r.pods[i].Name, err)
			}
		})
	}
	all.Wait()
	if err := errors.Join(faults...); err != nil {
		return &exit{exitUnknown, err}
	}
	return nil
}

func printEvent(s streams, e *admin.TraceEvent, output string) error {
	switch output {
	case "json": // a line each, so that it can be read while it goes on
		return json.NewEncoder(s.out).Encode(e)
	case "yaml":
		sayf(s.out, "---")
		return printAs(s.out, output, e)
	}
	t := calm
	switch e.Event {
	case "refused", "fault", "denied", "dropped", "lost":
		t = bad
	case "disconnected", "queued":
		t = warning
	}
	s.tellf(t, "%s", eventLine(e))
	return nil
}

// eventLine is an event in a line.
func eventLine(e *admin.TraceEvent) string {
	words := []string{e.Time.UTC().Format("15:04:05.000"), fmt.Sprintf("%-12s", e.Event)}
	add := func(name, text string) {
		if text != "" {
			words = append(words, name+shown(text))
		}
	}
	number := func(name string, n int) {
		if n != 0 {
			words = append(words, fmt.Sprintf("%s%d", name, n))
		}
	}
	switch e.Event {
	case "begun":
		return strings.Join(append(words, "from here on everything is seen"), " ")
	case "lost":
		return strings.Join(append(words, fmt.Sprintf("%d events came faster than they could be shown", e.Count)), " ")
	}
	add("", e.Client)
	add("", e.Packet)
	add("topic=", e.Topic)
	add("filter=", e.Filter)
	switch e.Event {
	case "published", "denied", "queued", "sent", "dropped", "subscribed":
		if e.Topic != "" || e.Filter != "" {
			words = append(words, fmt.Sprintf("qos=%d", e.QoS))
		}
	}
	if e.Retain {
		words = append(words, "retain")
	}
	if e.Dup {
		words = append(words, "dup")
	}
	if e.Topic != "" {
		words = append(words, fmt.Sprintf("size=%d", e.Size))
	}
	number("id=", int(e.PacketID))
	switch e.Event {
	case "published":
		words = append(words, fmt.Sprintf("for=%s", plural(e.Count, "subscription")))
	default:
		number("count=", e.Count)
	}
	if e.Event == "connected" || e.Event == "refused" {
		add("user=", e.User)
		add("listener=", e.Listener)
		add("from=", e.Remote)
		if e.Version != 0 {
			words = append(words, "mqtt="+protocol(e.Version))
		}
	}
	if e.Code != 0 {
		words = append(words, fmt.Sprintf("code=0x%02X", e.Code))
	}
	add("reason: ", e.Reason)
	return strings.Join(words, " ")
}
