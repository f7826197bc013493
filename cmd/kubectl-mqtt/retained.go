// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/admin"
)

func retained(s streams, open opener) *cobra.Command {
	c := &cobra.Command{
		Use:   "retained",
		Short: "Export and import retained messages as files",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(exportRetained(s, open), importRetained(s, open))
	return c
}

// portion are the flags of both.
type portion struct {
	connection

	pod, filter string
}

func (p *portion) flags(c *cobra.Command) {
	p.connection.flags(c)
	podFlag(c, &p.pod)
	c.Flags().StringVar(&p.filter, "filter", "#", "only what this topic filter matches")
}

func (p *portion) check() error {
	if err := acl.ValidateFilter(p.filter); err != nil {
		return usage("--filter %s: %v", shown(p.filter), err)
	}
	if _, _, shared := acl.SplitShare(p.filter); shared {
		return usage("--filter %s: give it without its share group", shown(p.filter))
	}
	return nil
}

func exportRetained(s streams, open opener) *cobra.Command {
	p, file := portion{}, toStdout
	c := &cobra.Command{
		Use:   "export [BROKER]",
		Short: "Write the retained messages of a broker, one in a line",
		Long: "Write the retained messages of a running broker, one JSON object in a line, by topic: topic, QoS, payload (in base64\n" +
			"where it is not UTF-8), properties, and how many seconds are left until it expires. What changes meanwhile may be there\n" +
			"or not; kubectl mqtt backup is of one moment. A file is whole or not there.",
		Example: "  kubectl mqtt retained export plant -n factory --filter 'config/#' > config.jsonl\n" +
			"  kubectl mqtt retained export plant -n factory -o retained.jsonl",
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := p.check(); err != nil {
				return err
			}
			if _, err := os.Lstat(file); file != toStdout && err == nil {
				return &exit{exitNo, fmt.Errorf("%s is there already", file)}
			}
			if len(args) > 0 {
				p.broker = args[0]
			}
			_, one, err := reachOne(c.Context(), open, p.connection, p.pod)
			if err != nil {
				return err
			}
			return one.exportRetained(c.Context(), s, file, p.filter)
		},
		ValidArgsFunction: brokerNames(open),
	}
	p.flags(c)
	c.Flags().StringVarP(&file, "output", "o", file, "the file to write, which must not be there yet; - for standard output")
	return c
}

func (o one) exportRetained(ctx context.Context, s streams, name, filter string) error {
	file, err := create(s, name)
	if err != nil {
		return err
	}
	defer file.giveUp()
	n, err := o.copyRetained(ctx, file, filter)
	if err == nil {
		err = file.finish()
	}
	if err != nil {
		return &exit{exitUnknown, fmt.Errorf("pod %s: %w", o.name, err)}
	}
	sayf(s.err, "note: %s", plural(n, "retained message"))
	return nil
}

func (o one) copyRetained(ctx context.Context, to io.Writer, filter string) (n int, err error) {
	body, err := o.Retained(ctx, filter)
	if err != nil {
		return 0, err
	}
	defer func() { _ = body.Close() }()
	in := admin.NewRetainedReader(io.TeeReader(body, to))
	for {
		if _, err := in.Next(); errors.Is(err, io.EOF) {
			return n, nil
		} else if err != nil {
			return n, err
		}
		n++
	}
}

func importRetained(s streams, open opener) *cobra.Command {
	p := portion{}
	c := &cobra.Command{
		Use:   "import FILE",
		Short: "Have a broker retain the messages of a file",
		Long: "Have a running broker retain the messages of a file that kubectl mqtt retained export has written, or anybody else. Each\n" +
			"is published as by a client that may do everything: it takes the place of one that is retained on its topic, and who\n" +
			"has subscribed gets it. The file is read to its end before anything is sent. - is standard input, which is sent as it\n" +
			"comes.\n\n" +
			"The exit code is 1 where the file cannot be read, or the broker does not take one of its messages; those before it\n" +
			"are retained.",
		Example: "  kubectl mqtt retained import config.jsonl --broker plant -n factory",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := p.check(); err != nil {
				return err
			}
			from, err := openList(args[0])
			if err != nil {
				return &exit{exitNo, err}
			}
			defer func() { _ = from.Close() }()
			r, one, err := reachOne(c.Context(), open, p.connection, p.pod)
			if err != nil {
				return err
			}
			n, err := one.Retain(c.Context(), p.filter, from)
			if err != nil {
				return &exit{exitNo, fmt.Errorf("pod %s: %w", one.name, err)}
			}
			sayf(s.out, "broker %s/%s has retained %s", r.broker.Namespace, r.broker.Name, plural(n, "message"))
			return nil
		},
	}
	p.flags(c)
	return c
}

// openList opens a file of retained messages that can be read to its end.
func openList(name string) (*os.File, error) {
	if name == toStdout {
		return os.Stdin, nil
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	in := admin.NewRetainedReader(file)
	for err == nil {
		_, err = in.Next()
	}
	if errors.Is(err, io.EOF) {
		_, err = file.Seek(0, io.SeekStart)
	} else {
		err = fmt.Errorf("%s: %w", name, err)
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}
