// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqtt-operator/mqtt-operator/broker-image/admin"
	"github.com/mqtt-operator/mqtt-operator/broker-image/snapshot"
)

const (
	// toStdout is the name of a file that stands for standard output.
	toStdout = "-"
	// sayEvery is how often it is said how far something is.
	sayEvery = 5 * time.Second
	// beginPatience is how long a broker may take to begin anew after a restore.
	beginPatience = 2 * time.Minute
	askEvery      = 200 * time.Millisecond
)

func backup(s streams, open opener) *cobra.Command {
	f, file, pod, seal := connection{}, "", "", sealing{}
	c := &cobra.Command{
		Use:   "backup BROKER -o FILE",
		Short: "Save the sessions, queues and retained messages of a running broker to a file",
		Long: "Save what a broker keeps to a file, as it is at one moment: sessions with their subscriptions, queued and in-flight\n" +
			"messages, packet ids of QoS 2 and wills, and retained messages. Clients notice nothing. Users, rules and certificates\n" +
			"are not in it: they are objects of the cluster.\n\n" +
			"The file is whole or not there. It holds topics, payloads and names of clients: encrypt it with --encrypt-to or\n" +
			"--passphrase-file. Kubectl mqtt restore brings it into another broker.",
		Example: "  kubectl mqtt backup plant -n factory -o plant.backup\n" +
			"  kubectl mqtt backup plant -n factory -o plant.backup.age --encrypt-to \"$(cat recipient.txt)\"",
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if file == "" {
				return usage("say where to with -o FILE; - for standard output")
			}
			if file == toStdout && s.terminal {
				return usage("-o - is not for a terminal")
			}
			if _, err := os.Lstat(file); file != toStdout && err == nil {
				return &exit{exitNo, fmt.Errorf("%s is there already", file)}
			}
			if len(args) > 0 {
				f.broker = args[0]
			}
			r, one, err := reachOne(c.Context(), open, f, pod)
			if err != nil {
				return err
			}
			return r.backup(c.Context(), s, one, file, seal)
		},
		ValidArgsFunction: brokerNames(open),
	}
	f.flags(c)
	podFlag(c, &pod)
	c.Flags().StringVarP(&file, "output", "o", "", "the file to write, which must not be there yet; - for standard output")
	seal.flags(c)
	return c
}

func podFlag(c *cobra.Command, pod *string) {
	c.Flags().StringVar(pod, "pod", "", "number or name of the pod; may be left out where the broker has one alone")
}

// one is a pod of a broker, and its admin endpoint.
type one struct {
	*admin.Client

	name string
}

// reachOne finds a pod of a broker.
func reachOne(ctx context.Context, open opener, f connection, pod string) (*reached, one, error) {
	r, err := reach(ctx, open, f)
	if err != nil {
		return nil, one{}, err
	}
	admins, err := r.admins(ctx)
	if err != nil {
		return nil, one{}, err
	}
	var names []string
	for i := range r.pods {
		name := r.pods[i].Name
		if name == pod || pod != "" && strings.HasSuffix(name, "-"+pod) && isNumber(pod) || pod == "" && len(r.pods) == 1 {
			return r, one{admins[i], name}, nil
		}
		names = append(names, name)
	}
	if pod == "" {
		return nil, one{}, usage("say which pod with --pod: %s", strings.Join(names, ", "))
	}
	return nil, one{}, &exit{exitUnknown, fmt.Errorf("no pod %s of broker %s/%s runs; there are: %s", shown(pod), r.broker.Namespace, r.broker.Name, strings.Join(names, ", "))}
}

func isNumber(text string) bool {
	_, err := strconv.ParseUint(text, 10, 32)
	return err == nil
}

func (r *reached) backup(ctx context.Context, s streams, pod one, name string, seal sealing) error {
	file, err := create(s, name)
	if err != nil {
		return err
	}
	defer file.giveUp()
	var to io.Writer = file
	sealed, err := seal.wrap(file)
	if err != nil {
		return err
	}
	if sealed != nil {
		to = sealed
	}
	in, err := r.draw(ctx, s, pod, to)
	if err == nil && sealed != nil {
		err = sealed.Close()
	}
	if err == nil {
		err = file.finish()
	}
	if err != nil {
		return &exit{exitUnknown, fmt.Errorf("pod %s: %w", pod.name, err)}
	}
	say := s.out
	if name == toStdout {
		say = s.err
	}
	sayf(say, "%s holds broker %s as it was at %s: %s", name, in.Header.Broker, in.Header.Taken.UTC().Format(time.RFC3339), contents(&in.Footer().Totals))
	if sealed == nil {
		sayf(s.err, "note: the file is not encrypted, and holds topics, payloads and names of clients")
	}
	return nil
}

// draw writes a snapshot, and reads it while it passes by.
func (r *reached) draw(ctx context.Context, s streams, pod one, to io.Writer) (*snapshot.Reader, error) {
	body, err := pod.Backup(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }()
	return readAll(io.TeeReader(body, to), r.progress(s, "saved"))
}

// readAll reads a snapshot to its end.
func readAll(from io.Reader, p *progress) (*snapshot.Reader, error) {
	in, err := snapshot.NewReader(from)
	for err == nil {
		if _, _, err = in.Next(); err == nil {
			p.at(in.Read())
		}
	}
	if !errors.Is(err, io.EOF) {
		return nil, err
	}
	return in, nil
}

// progress says on standard error how far something is, now and then.
type progress struct {
	s    streams
	now  func() time.Time
	next time.Time
	what string
}

func (s *site) progress(to streams, what string) *progress {
	return &progress{s: to, now: s.now, next: s.now().Add(sayEvery), what: what}
}

func (p *progress) at(bytes int64) {
	if now := p.now(); !now.Before(p.next) {
		p.next = now.Add(sayEvery)
		sayf(p.s.err, "note: %s %s so far", inBytes(float64(bytes)), p.what)
	}
}

// contents are totals in words.
func contents(t *snapshot.Totals) string {
	var words []string
	for _, part := range []struct {
		n          int64
		what, more string
	}{
		{t.Sessions, "session", ""},
		{t.Subscriptions, "subscription", ""},
		{t.Queued, "message", " queued or in flight"},
		{t.Received, "message", " of QoS 2 half received"},
		{t.Wills, "will", ""},
		{t.Retained, "retained message", ""},
	} {
		if part.n > 0 {
			words = append(words, plural(int(part.n), part.what)+part.more)
		}
	}
	switch n := len(words); n {
	case 0:
		return "nothing"
	case 1:
		return words[0]
	default:
		return strings.Join(words[:n-1], ", ") + " and " + words[n-1]
	}
}

// outFile is a file that is whole or not there, or standard output.
type outFile struct {
	io.Writer

	file *os.File // nil: standard output
	name string
}

func create(s streams, name string) (*outFile, error) {
	if name == toStdout {
		return &outFile{Writer: s.out, name: name}, nil
	}
	file, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*.partial") // readable by its owner alone
	if err != nil {
		return nil, &exit{exitUnknown, err}
	}
	return &outFile{Writer: file, file: file, name: name}, nil
}

func (f *outFile) finish() error {
	if f.file == nil {
		return nil
	}
	if err := errors.Join(f.file.Sync(), f.file.Close()); err != nil {
		return err
	}
	return os.Rename(f.file.Name(), f.name)
}

// giveUp removes what was not finished.
func (f *outFile) giveUp() {
	if f.file != nil {
		_ = f.file.Close()
		_ = os.Remove(f.file.Name()) // fails where it was finished
	}
}

func restore(s streams, open opener) *cobra.Command {
	f, pod, key, o := connection{}, "", unsealing{}, admin.RestoreOptions{}
	c := &cobra.Command{
		Use:   "restore FILE",
		Short: "Bring a backup into a broker that is new",
		Long: "Bring what kubectl mqtt backup has saved into a broker that has no sessions and no retained messages: all of it or,\n" +
			"whatever happens, nothing. The file is read to its end before anything is sent. Then the broker disconnects who is\n" +
			"connected and begins anew with what the file holds; its pod is not restarted.\n\n" +
			"A broker that has something refuses it, unless --replace says that all of that may go. Time that has passed since the\n" +
			"backup counts for what expires, as if the broker had been down; with --stop-clocks it does not.\n\n" +
			"The exit code is 1 where the file is damaged or the broker refuses it.",
		Example: "  kubectl mqtt restore plant.backup --broker plant -n factory\n" +
			"  kubectl mqtt restore plant.backup.age --broker plant -n factory --identity key.txt",
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := key.read(); err != nil {
				return err
			}
			file, err := os.Open(args[0])
			if err != nil {
				return &exit{exitNo, err}
			}
			defer func() { _ = file.Close() }()
			r, one, err := reachOne(c.Context(), open, f, pod)
			if err != nil {
				return err
			}
			return r.restore(c.Context(), s, one, file, &key, o)
		},
	}
	f.flags(c)
	podFlag(c, &pod)
	key.flags(c)
	c.Flags().BoolVar(&o.Replace, "replace", false, "throw away the sessions and retained messages that the broker has")
	c.Flags().BoolVar(&o.StopClocks, "stop-clocks", false, "let nothing expire by the time since the backup")
	return c
}

func (r *reached) restore(ctx context.Context, s streams, pod one, file *os.File, key *unsealing, o admin.RestoreOptions) error {
	from, err := key.unwrap(file)
	if err == nil {
		_, err = readAll(from, r.progress(s, "checked"))
	}
	if err != nil {
		return ofFile(file.Name(), err)
	}
	before, err := pod.Status(ctx)
	if err != nil {
		return &exit{exitUnknown, fmt.Errorf("pod %s: %w", pod.name, err)}
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return &exit{exitUnknown, err}
	}
	if from, err = key.unwrap(file); err != nil {
		return ofFile(file.Name(), err)
	}
	restored, err := pod.Restore(ctx, &counted{from: from, p: r.progress(s, "sent")}, o)
	switch {
	case errors.Is(err, admin.ErrHasState):
		return &exit{exitNo, fmt.Errorf("pod %s: %w; restore into a new broker, or say --replace if all of that may go", pod.name, err)}
	case errors.Is(err, snapshot.ErrDamaged), errors.Is(err, snapshot.ErrOther):
		return &exit{exitNo, fmt.Errorf("pod %s: %w", pod.name, err)}
	case err != nil:
		return &exit{exitUnknown, fmt.Errorf("pod %s: %w; its log says whether it has all of the file or what it had before", pod.name, err)}
	}
	sayf(s.out, "broker %s/%s has what %s had at %s: %s", r.broker.Namespace, r.broker.Name, restored.Header.Broker,
		restored.Header.Taken.UTC().Format(time.RFC3339), contents(&restored.Totals))
	return r.beginsAnew(ctx, s, pod, before.Started)
}

// ofFile is an error about the file.
func ofFile(name string, err error) error {
	if known := (*exit)(nil); errors.As(err, &known) {
		return &exit{known.code, fmt.Errorf("%s: %w", name, known.err)}
	}
	return &exit{exitNo, fmt.Errorf("%s: %w", name, err)}
}

// counted counts what passes by.
type counted struct {
	from io.Reader
	p    *progress
	n    int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.from.Read(b)
	c.n += int64(n)
	c.p.at(c.n)
	return n, err
}

// beginsAnew waits until the broker answers that runs with what was restored.
func (r *reached) beginsAnew(ctx context.Context, s streams, pod one, before time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, beginPatience)
	defer cancel()
	for {
		status, err := pod.statusSoon(ctx)
		if err == nil && !status.Started.Equal(before) && status.Revision > 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			sayf(s.err, "note: the broker does not answer yet: see kubectl mqtt status %s -n %s", r.broker.Name, r.broker.Namespace)
			return &exit{code: exitUnknown}
		case <-time.After(askEvery):
		}
	}
}

func (o one) statusSoon(ctx context.Context) (admin.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, reachPatience)
	defer cancel()
	return o.Status(ctx)
}
