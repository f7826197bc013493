// SPDX-License-Identifier: Apache-2.0

// Command coredns answers the development node's cluster names, and nothing else.
//
// It links only the plugins the node's Corefile uses: the full set brings the client libraries of every large cloud.
package main

import (
	"log"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/template"
)

func main() {
	// The order is the order in which a query meets the plugins.
	if err := dnsserver.SetDirectives([]string{
		"bind", "health", "ready", "errors", "template", "kubernetes",
	}); err != nil {
		log.Fatal(err)
	}
	coremain.Run()
}
