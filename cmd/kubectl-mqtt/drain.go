// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqtt-operator/mqtt-operator/broker-image/admin"
)

func drain(s streams, open opener) *cobra.Command {
	f, pod, o := connection{}, "", admin.DrainOptions{}
	end, deadline := false, time.Duration(0)
	c := &cobra.Command{
		Use:   "drain BROKER",
		Short: "Send the clients of a pod away, at a bounded rate",
		Long: "Send the clients of a pod away, so many per second, and let nobody in until kubectl mqtt drain --end, or until the pod\n" +
			"restarts. Sessions, queues and retained messages stay where they are. Clients of MQTT 5 are told 0x8B, Server\n" +
			"shutting down, or with --server-reference 0x9C, Use another server, and where that is; with --permanent 0x9D, Server\n" +
			"moved. Those before MQTT 5 are disconnected. Wills are published. Who comes again is refused with 0x88, Server\n" +
			"unavailable, or sent elsewhere in the same way.\n\n" +
			"The verb waits until nobody is left. It may be ended before: the drain goes on. A second one changes the rate and the\n" +
			"deadline of the first.",
		Example: "  kubectl mqtt drain plant -n factory --rate 100 --deadline 10m\n" +
			"  kubectl mqtt drain plant -n factory --server-reference mqtt.new.example.com:8883 --permanent\n" +
			"  kubectl mqtt drain plant -n factory --end",
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			o.DeadlineSeconds = deadline.Seconds()
			switch {
			case o.Rate < 0 || c.Flags().Changed("rate") && o.Rate == 0:
				return usage("--rate %d is not above 0", o.Rate)
			case deadline < 0:
				return usage("--deadline %s is negative", deadline)
			case o.Permanent && o.ServerReference == "":
				return usage("--permanent needs --server-reference")
			case end && (o != admin.DrainOptions{}):
				return usage("--end goes with no other flag of a drain")
			}
			if len(args) > 0 {
				f.broker = args[0]
			}
			r, one, err := reachOne(c.Context(), open, f, pod)
			if err != nil {
				return err
			}
			if end {
				return one.endDrain(c.Context(), s)
			}
			return r.drain(c.Context(), s, one, o)
		},
		ValidArgsFunction: brokerNames(open),
	}
	f.flags(c)
	podFlag(c, &pod)
	c.Flags().IntVar(&o.Rate, "rate", 0, "how many clients per second; 0: as spec.updates.drain.disconnectRate says")
	c.Flags().DurationVar(&deadline, "deadline", 0, "when those go at once who are left; 0: never")
	c.Flags().StringVar(&o.ServerReference, "server-reference", "", "host:port where clients of MQTT 5 are told to go")
	c.Flags().BoolVar(&o.Permanent, "permanent", false, "with --server-reference: they should go there from now on")
	c.Flags().BoolVar(&end, "end", false, "let clients in again")
	return c
}

func (o one) endDrain(ctx context.Context, s streams) error {
	ctx, cancel := context.WithTimeout(ctx, reachPatience)
	defer cancel()
	if _, err := o.EndDrain(ctx); err != nil {
		return &exit{exitUnknown, fmt.Errorf("pod %s: %w", o.name, err)}
	}
	sayf(s.out, "%s lets clients in", o.name)
	return nil
}

func (r *reached) drain(ctx context.Context, s streams, pod one, o admin.DrainOptions) error {
	status, err := pod.Drain(ctx, o)
	if err != nil {
		return &exit{exitUnknown, fmt.Errorf("pod %s: %w", pod.name, err)}
	}
	if len(r.pods) == 1 && o.ServerReference == "" {
		sayf(s.err, "note: the broker has no other pod that could take its clients")
	}
	for next := r.now().Add(sayEvery); !status.Done; {
		if now := r.now(); !now.Before(next) {
			next = now.Add(sayEvery)
			sayf(s.err, "note: %s sent away, %d left", plural(status.Sent, "client"), status.Left)
		}
		select {
		case <-ctx.Done():
			sayf(s.err, "note: the drain goes on: %s sent away, %d left", plural(status.Sent, "client"), status.Left)
			return &exit{code: exitUnknown}
		case <-time.After(askEvery):
		}
		if ctx.Err() != nil {
			continue
		}
		if status, err = pod.drainStatusSoon(ctx); err != nil {
			return &exit{exitUnknown, fmt.Errorf("pod %s: %w; the drain goes on while the pod does", pod.name, err)}
		}
		if !status.Draining {
			return &exit{exitUnknown, fmt.Errorf("pod %s: somebody has ended the drain, or the pod has restarted", pod.name)}
		}
	}
	sayf(s.out, "%s sent away from %s at %d per second; it lets nobody in before kubectl mqtt drain %s -n %s --end",
		plural(status.Sent, "client"), pod.name, status.Rate, r.broker.Name, r.broker.Namespace)
	return nil
}

func (o one) drainStatusSoon(ctx context.Context) (admin.DrainStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, reachPatience)
	defer cancel()
	return o.DrainStatus(ctx)
}
