// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/broker-image/engine"
)

// dev runs a broker to try things out with.
func dev(ctx context.Context, args []string, out, errs io.Writer) error {
	const defaultListen = "127.0.0.1:1883"

	flags := flag.NewFlagSet("dev", flag.ContinueOnError)
	address := flags.String("listen", defaultListen, "loopback address to listen on")
	data := flags.String("data", "", "directory that keeps sessions over a restart; empty keeps nothing")
	file := flags.String("config", "", "broker.json of a configuration to run instead, or its directory")

	if err := parse(flags, args, errs, 0); err != nil {
		return err
	}

	var err error

	config := devConfig(*address)

	switch {
	case *file != "" && *address != defaultListen:
		return errors.New("--listen and --config exclude one another: a configuration has its own listeners")
	case *file != "":
		_, config, err = load(*file)
	case !isLoopback(*address):
		err = fmt.Errorf("%s can be reached from outside, and this broker asks nobody for a password; "+
			"listen on 127.0.0.1, or say with --config who may come in", *address)
	}

	if err != nil {
		return err
	}

	logs := newLogs(errs)
	logs.set(config.Logging)

	broker, err := engine.New(engine.Options{Log: logs.logger(), DataDir: *data, Version: versionText()})
	if err != nil {
		return err
	}

	if err := broker.Apply(config); err != nil { //nolint:contextcheck // a socket is bound at once or not at all
		return errors.Join(err, stop(broker, defaultShutdown)) //nolint:contextcheck // see stop
	}

	for _, l := range broker.Status().Listeners {
		explain(out, l.Name, l.Address, *file == "")
	}

	<-ctx.Done()

	return stop(broker, defaultShutdown) //nolint:contextcheck // see stop
}

func explain(out io.Writer, name, address string, anonymous bool) {
	_, _ = fmt.Fprintf(out, "Listener %q is open on %s.\n", name, address)

	host, port, err := net.SplitHostPort(address)
	if err != nil || !anonymous {
		return
	}

	_, _ = fmt.Fprintf(out, `Anyone on this machine may use it. Try it in two other terminals:

  mosquitto_sub -h %[1]s -p %[2]s -t 'hello/#' -v
  mosquitto_pub -h %[1]s -p %[2]s -t hello/world -m 'it works'

Stop with Ctrl-C.
`, host, port)
}

func devConfig(address string) *contract.Config {
	rules := []acl.Rule{
		{Effect: acl.Allow, Actions: []acl.Action{acl.Publish, acl.Subscribe}, Filter: "#"},
		{Effect: acl.Allow, Actions: []acl.Action{acl.Subscribe}, Filter: "$SYS/#"},
	}

	return &contract.Config{Broker: contract.Broker{
		Format: contract.Format, Name: "dev", Revision: 1,
		Listeners: []contract.Listener{{
			Name: "dev", Protocol: contract.TCP, Address: address, Anonymous: &contract.Anonymous{ACL: rules},
		}},
		Limits:  contract.DefaultLimits(),
		Logging: contract.DefaultLogging(),
	}}
}

// isLoopback tells whether only this machine can reach the address. A name other than localhost is not asked for.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}

	ip := net.ParseIP(host)

	return host == "localhost" || (ip != nil && ip.IsLoopback())
}
