// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqtt-operator/mqtt-operator/broker-image/admin"
)

// clientList is what clients prints with -o json. Fields are added, never changed.
type clientList struct {
	// Broker is namespace/name.
	Broker  string       `json:"broker"`
	Clients []clientInfo `json:"clients"`
	// More says that there are more than were asked for.
	More bool `json:"more,omitempty"`
}

type clientInfo struct {
	admin.ConnectedClient

	Pod string `json:"pod"`
}

// defaultClients is how many are shown where nobody says a number.
const defaultClients = 100

func clients(s streams, open opener) *cobra.Command {
	f, output := connection{}, ""
	filter := admin.ClientFilter{Limit: defaultClients}
	c := &cobra.Command{
		Use:   "clients [BROKER]",
		Short: "List the clients that are connected",
		Long: "List the clients that are connected to a broker, by client id: who they are, where they come from, how long they have\n" +
			"been there, and what waits for them. --limit 0 lists all of them.",
		Example: "  kubectl mqtt clients plant -n factory\n" +
			"  kubectl mqtt clients plant -n factory --user press-7 -o wide\n" +
			"  kubectl mqtt clients plant -n factory --prefix press- --limit 0 -o json",
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if filter.Limit < 0 {
				return usage("--limit %d is negative", filter.Limit)
			}
			if len(args) > 0 {
				f.broker = args[0]
			}
			r, err := reach(c.Context(), open, f)
			if err != nil {
				return err
			}
			list, err := r.clients(c.Context(), filter)
			if err != nil {
				return err
			}
			if output != "" && output != wide {
				if err := printAs(s.out, output, list); err != nil {
					return &exit{exitUnknown, err}
				}
				return nil
			}
			list.print(s, r.now(), output == wide)
			return nil
		},
		ValidArgsFunction: brokerNames(open),
	}
	f.flags(c)
	c.Flags().StringVar(&filter.Prefix, "prefix", "", "only client ids that begin so")
	c.Flags().StringVar(&filter.User, "user", "", "only the clients of this username")
	c.Flags().StringVar(&filter.Listener, "listener", "", "only the clients of this listener")
	c.Flags().IntVar(&filter.Limit, "limit", filter.Limit, "how many at most; 0: all")
	outputFlag(c, &output, wide)
	return c
}

// clients asks every pod, page by page, for as many as are wanted.
func (r *reached) clients(ctx context.Context, filter admin.ClientFilter) (*clientList, error) {
	pods, err := r.admins(ctx)
	if err != nil {
		return nil, err
	}
	list := &clientList{Broker: r.broker.Namespace + "/" + r.broker.Name, Clients: []clientInfo{}}
	for i, pod := range pods {
		asked, found := filter, 0
		for more := true; more; {
			page, err := pageOf(ctx, pod, asked)
			if err != nil {
				return nil, &exit{exitUnknown, fmt.Errorf("pod %s: %w", r.pods[i].Name, err)}
			}
			for _, client := range page.Clients {
				list.Clients = append(list.Clients, clientInfo{ConnectedClient: client, Pod: r.pods[i].Name})
			}
			found += len(page.Clients)
			asked.After, more = page.Next, page.Next != ""
			if filter.Limit > 0 {
				asked.Limit = filter.Limit - found
				list.More = list.More || more && asked.Limit <= 0
				more = more && asked.Limit > 0
			}
		}
	}
	slices.SortStableFunc(list.Clients, func(a, b clientInfo) int { return strings.Compare(a.Client, b.Client) })
	if n := filter.Limit; n > 0 && len(list.Clients) > n {
		list.Clients, list.More = list.Clients[:n], true
	}
	return list, nil
}

func pageOf(ctx context.Context, pod *admin.Client, filter admin.ClientFilter) (admin.ClientPage, error) {
	ctx, cancel := context.WithTimeout(ctx, reachPatience)
	defer cancel()
	return pod.Clients(ctx, filter)
}

func (l *clientList) print(s streams, now time.Time, more bool) {
	if len(l.Clients) == 0 {
		sayf(s.out, "nobody")
		return
	}
	rows := [][]string{{"CLIENT", "USER", "LISTENER", "FROM", "MQTT", "FOR", "SUBSCRIPTIONS", "QUEUED", "IN FLIGHT"}}
	if more {
		rows[0] = append(rows[0], "QUEUED BYTES", "SINCE", "POD")
	}
	for i := range l.Clients {
		c := &l.Clients[i]
		user := "-"
		if c.User != "" {
			user = shown(c.User)
		}
		row := []string{
			shown(c.Client), user, c.Listener, or(c.Remote, "-"), protocol(c.Version), age(now, c.Since),
			strconv.Itoa(c.Subscriptions), strconv.Itoa(c.Queued), strconv.Itoa(c.Inflight),
		}
		if more {
			row = append(row, inBytes(float64(c.QueuedBytes)), c.Since.UTC().Format(time.RFC3339), c.Pod)
		}
		rows = append(rows, row)
	}
	table(s.out, rows)
	if l.More {
		sayf(s.err, "note: there are more; say how many with --limit, or narrow with --user, --listener or --prefix")
	}
}

// protocol is a version of MQTT as people call it.
func protocol(version byte) string {
	switch version {
	case 3:
		return "3.1"
	case 4:
		return "3.1.1"
	default:
		return strconv.Itoa(int(version))
	}
}

func kick(s streams, open opener) *cobra.Command {
	f := connection{}
	c := &cobra.Command{
		Use:   "kick CLIENT",
		Short: "Disconnect a client",
		Long: "Disconnect a client by its client id. A client of MQTT 5 is told 0x98, Administrative action; its will is published.\n" +
			"Its session stays for as long as it asked for, and nothing keeps it from coming back: for that, suspend its MQTTUser\n" +
			"(spec.suspend).\n\n" +
			"The exit code is 1 where no such client is connected.",
		Example: "  kubectl mqtt kick press-7-sensor -n factory",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			r, err := reach(c.Context(), open, f)
			if err != nil {
				return err
			}
			pods, err := r.admins(c.Context())
			if err != nil {
				return err
			}
			gone, faults := "", []error(nil)
			for i, pod := range pods {
				had, err := sendAway(c.Context(), pod, args[0])
				if err != nil {
					faults = append(faults, fmt.Errorf("pod %s: %w", r.pods[i].Name, err))
				}
				if had {
					gone = r.pods[i].Name
				}
			}
			if err := errors.Join(faults...); err != nil {
				return &exit{exitUnknown, err}
			}
			if gone == "" {
				sayf(s.out, "no client %s is connected to broker %s/%s", shown(args[0]), r.broker.Namespace, r.broker.Name)
				return &exit{code: exitNo}
			}
			sayf(s.out, "client %s has been disconnected from %s; its session is kept", shown(args[0]), gone)
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f.flags(c)
	return c
}

func sendAway(ctx context.Context, pod *admin.Client, id string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, reachPatience)
	defer cancel()
	return pod.Disconnect(ctx, id)
}
