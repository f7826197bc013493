// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/mqtt-operator/mqtt-operator/broker-image/bridge/program"
)

// version is set by the linker.
var version = ""

const usage = `mqtt-broker is an MQTT broker (3.1, 3.1.1 and 5.0).

  mqtt-broker dev                    try it: anonymous, on 127.0.0.1:1883, nothing to configure
  mqtt-broker serve --config-dir DIR run under the configuration in DIR
  mqtt-broker check-config DIR|FILE  say whether a configuration is good, and if not, where
  mqtt-broker bridge --config FILE   move messages between two brokers instead of being one
  mqtt-broker ping --url URL         send a message through a broker and wait for it to come back
  mqtt-broker version                say which version this is

Each command explains its flags with --help.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)

	stop()
	os.Exit(code)
}

// errUsage says that the message is out already.
var errUsage = errors.New("wrong use")

// run is main without the process, so that tests can call it.
func run(ctx context.Context, args []string, out, errs io.Writer) int {
	if len(args) > 0 && args[0] == "bridge" {
		return program.Run(ctx, version, args[1:], out, errs)
	}

	err := command(ctx, args, out, errs)

	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		return 2
	default:
		_, _ = fmt.Fprintln(errs, "mqtt-broker:", err)

		return 1
	}
}

func command(ctx context.Context, args []string, out, errs io.Writer) error {
	name := ""
	if len(args) > 0 {
		name, args = args[0], args[1:]
	}

	switch name {
	case "serve":
		return serve(ctx, args, errs)
	case "dev":
		return dev(ctx, args, out, errs)
	case "check-config", "--check-config", "-check-config":
		return checkConfig(args, out, errs)
	case "ping":
		return ping(ctx, args, out, errs)
	case "version", "--version", "-version":
		_, _ = fmt.Fprintln(out, "mqtt-broker", versionText())

		return nil
	case "help", "--help", "-help", "-h":
		_, _ = fmt.Fprint(out, usage)

		return nil
	case "":
		_, _ = fmt.Fprint(errs, usage)

		return errUsage
	default:
		_, _ = fmt.Fprintf(errs, "mqtt-broker: there is no command %q\n\n%s", name, usage)

		return errUsage
	}
}

// parse reads the flags of one command, which takes a number of further arguments.
func parse(flags *flag.FlagSet, args []string, errs io.Writer, further int) error {
	flags.SetOutput(errs)

	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return err
	case err != nil:
		return errUsage // the flag set has said why
	case flags.NArg() != further:
		_, _ = fmt.Fprintf(errs, "mqtt-broker %s: got %d arguments, want %d\n", flags.Name(), flags.NArg(), further)

		return errUsage
	}

	return nil
}

func versionText() string {
	if version != "" {
		return version
	}

	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}

	return "(unknown)"
}
