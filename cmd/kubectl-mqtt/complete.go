// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

// completePatience is how long somebody who has pressed Tab waits for the cluster.
const completePatience = 3 * time.Second

// completion is a function that completes an argument or a flag.
type completion = func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective)

// brokerNames completes the first argument with the names of the namespace's brokers.
func brokerNames(open opener) completion {
	names := namesOf(open, func() client.ObjectList { return &v1alpha1.MQTTBrokerList{} })
	return func(c *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return names(c, args, begun)
	}
}

// namesOf completes with the names of a kind of object. Where the cluster does not answer, there is nothing to complete.
func namesOf(open opener, list func() client.ObjectList) completion {
	return func(c *cobra.Command, _ []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		const nothing = cobra.ShellCompDirectiveNoFileComp
		at, namespace, err := open(connectionOf(c))
		if err != nil {
			return nil, nothing
		}
		ctx, cancel := context.WithTimeout(c.Context(), completePatience)
		defer cancel()
		found := list()
		if err := at.List(ctx, found, client.InNamespace(namespace)); err != nil {
			return nil, nothing
		}
		var names []cobra.Completion
		for _, name := range namesIn(found) {
			if strings.HasPrefix(name, begun) {
				names = append(names, name)
			}
		}
		return names, nothing
	}
}

// connectionOf is what the flags of a command say so far.
func connectionOf(c *cobra.Command) connection {
	flag := func(name string) string {
		text, _ := c.Flags().GetString(name) // fails for unknown flags alone
		return text
	}
	return connection{kubeconfig: flag("kubeconfig"), context: flag("context"), namespace: flag("namespace")}
}

// completeFlags completes the flags that name objects, wherever they are.
func completeFlags(c *cobra.Command, open opener) {
	for flag, list := range map[string]func() client.ObjectList{
		"broker":  func() client.ObjectList { return &v1alpha1.MQTTBrokerList{} },
		"as-user": func() client.ObjectList { return &v1alpha1.MQTTUserList{} },
	} {
		_ = c.RegisterFlagCompletionFunc(flag, namesOf(open, list)) // fails where there is no such flag
	}
	for _, child := range c.Commands() {
		completeFlags(child, open)
	}
}

func namesIn(list client.ObjectList) (names []string) {
	switch list := list.(type) {
	case *v1alpha1.MQTTBrokerList:
		for i := range list.Items {
			names = append(names, list.Items[i].Name)
		}
	case *v1alpha1.MQTTUserList:
		for i := range list.Items {
			names = append(names, list.Items[i].Name)
		}
	case *v1alpha1.MQTTBridgeList:
		for i := range list.Items {
			names = append(names, list.Items[i].Name)
		}
	}
	return names
}
