// SPDX-License-Identifier: Apache-2.0

// Command kubectl-mqtt is what a person asks and does about brokers: kubectl finds it as "kubectl mqtt" once it lies on the
// PATH. It reads the cluster with the rights of the person who calls it, and has none of its own.
//
// One file holds one verb; live.go reads what a broker runs, rules.go asks it, reach.go talks to pods through the API server,
// print.go prints.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// version is set by the build.
var version = "dev"

// Exit codes. They are part of the interface: scripts rely on them.
const (
	exitYes        = 0 // done; can-i: yes
	exitNo         = 1 // can-i: no; status: not as it should be; kick: nobody there; import, restore: a file cannot be read, or the broker refuses it; diff: changes
	exitUsage      = 2 // the command line is wrong
	exitIncomplete = 3 // import, support-bundle: written, but something is missing; diff: an object is refused
	exitUnknown    = 4 // the question could not be answered
)

// exit is an error with its code. Without a message everything has been said.
type exit struct {
	code int
	err  error
}

func (e *exit) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func usage(format string, args ...any) error { return &exit{exitUsage, fmt.Errorf(format, args...)} }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	terminal := term.IsTerminal(int(os.Stdout.Fd()))
	code := run(ctx, os.Args[1:], streams{out: os.Stdout, err: os.Stderr, terminal: terminal, colour: coloured(terminal, os.Getenv)}, cluster)
	stop()
	os.Exit(code)
}

// run is main with everything passed in.
func run(ctx context.Context, args []string, s streams, open opener) int {
	root := &cobra.Command{
		Use:   "kubectl-mqtt",
		Short: "Look at MQTT brokers, talk to them, and bring users to them",
		Long: "Look at the brokers of the mqtt-operator, talk to them, and bring users to them.\n\n" +
			"Exit codes: 0 done, or yes; 1 no, a file that cannot be read, or changes; 2 a wrong command line; 3 an import or a\n" +
			"bundle that is incomplete, or a refused object; 4 a question that could not be answered.",
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl mqtt"},
		SilenceErrors: true, SilenceUsage: true,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	//nolint:contextcheck // cobra hands the context on
	root.AddCommand(
		status(s, open), top(s, open), clients(s, open), kick(s, open), trace(s, open), pub(s, open), sub(s, open), cert(s, open),
		restart(s, open), diff(s, open), backup(s, open), restore(s, open), supportBundle(s, open), canI(s, open), whoCan(s, open), bridges(s, open), importer(s), versionOf(s),
	)
	completeFlags(root, open) //nolint:contextcheck // as above
	root.SetArgs(args)
	root.SetOut(s.out)
	root.SetErr(s.err)
	err := root.ExecuteContext(ctx)
	var known *exit
	switch {
	case err == nil:
		return exitYes
	case errors.As(err, &known):
		if known.err != nil {
			sayf(s.err, "error: %v", known.err)
		}
		return known.code
	default: // cobra's own errors are all about the command line
		sayf(s.err, "error: %v; see kubectl mqtt --help", err)
		return exitUsage
	}
}

// streams are where output goes.
type streams struct {
	out, err io.Writer
	// terminal says that a person looks at out, colour that colours are wanted there.
	terminal, colour bool
}
