// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

func restart(s streams, open opener) *cobra.Command {
	f := connection{}
	c := &cobra.Command{
		Use:   "restart BROKER",
		Short: "Have the operator restart the pods of a broker",
		Long: "Have the operator restart the pods of a broker, one after the other, as for any change that needs it: by the\n" +
			"annotation " + v1alpha1.AnnotationRestartAt + " on the MQTTBroker, with the time of now. Clients are disconnected and come\n" +
			"back; nothing that is kept on a volume is lost. The verb does not wait: kubectl mqtt status says how far it is.",
		Example: "  kubectl mqtt restart plant -n factory",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			at, namespace, err := open(f)
			if err != nil {
				return &exit{exitUnknown, err}
			}
			broker, err := findBroker(c.Context(), at, namespace, args[0])
			if err != nil {
				return err
			}
			before := broker.DeepCopy()
			if broker.Annotations == nil {
				broker.Annotations = map[string]string{}
			}
			broker.Annotations[v1alpha1.AnnotationRestartAt] = at.now().UTC().Format(time.RFC3339)
			if err := at.Patch(c.Context(), broker, client.MergeFrom(before)); err != nil {
				return &exit{exitUnknown, fmt.Errorf("broker %s/%s: %w", namespace, args[0], err)}
			}
			sayf(s.out, "broker %s/%s is to be restarted (%s=%s)", broker.Namespace, broker.Name, v1alpha1.AnnotationRestartAt, broker.Annotations[v1alpha1.AnnotationRestartAt])
			resolved := broker.Resolved()
			switch {
			case broker.Paused():
				sayf(s.err, "note: the broker is paused: the operator restarts it when the pause ends")
			case resolved.Hibernated():
				sayf(s.err, "note: the broker hibernates: there is no pod to restart")
			case resolved.Persistence == nil:
				sayf(s.err, "note: the broker keeps nothing on a volume: sessions, queued and retained messages are lost")
			}
			return nil
		},
		ValidArgsFunction: brokerNames(open),
	}
	f.clusterFlags(c)
	return c
}
