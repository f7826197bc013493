// SPDX-License-Identifier: Apache-2.0

package bridges

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

const (
	pageFile  = "../../docs/bridges.md"
	pageBegin = "<!-- Written by make bridges: from here. -->\n"
	pageEnd   = "<!-- Written by make bridges: to here. -->\n"
)

// writePage puts the tables into the page, between its two marks.
func writePage() error {
	if !full {
		return errors.New("only the full form is written to the page: BRIDGES=full")
	}

	text, err := os.ReadFile(pageFile)
	if err != nil {
		return err
	}

	before, rest, found1 := strings.Cut(string(text), pageBegin)
	_, after, found2 := strings.Cut(rest, pageEnd)

	if !found1 || !found2 {
		return fmt.Errorf("%s: the marks are gone between which the tables stand", pageFile)
	}

	return os.WriteFile(pageFile, []byte(before+pageBegin+"\n"+tables()+"\n"+pageEnd+after), 0o600)
}

// tables are all that was counted, in the order of the peers.
func tables() string {
	var b strings.Builder

	passTable(&b)

	for _, story := range []struct{ name, title, text string }{
		{"cut", "The line is cut under load", "The peer lives on and remembers; nothing may be lost. 400 messages a second of QoS 1 go each way, the line is gone for ten seconds."},
		{"restart", "The peer is restarted under load", "It is asked to end, and started again with the same directory. What a peer forgets with its process, it loses: that is the column *lost* of those that keep nothing."},
		{"away", "The peer is away for a minute under load", "As above, with a minute between. What is published for it meanwhile waits in our broker."},
		{"kills", "Everything is killed", "Bridge, source and destination in turn, with SIGKILL; both brokers are ours."},
		{"backlog", "Published while the remote is away", "As fast as our broker takes it, while the destination, which is ours too, does not run."},
	} {
		storyTable(&b, story.name, story.title, story.text)
	}

	cannotList(&b)

	return b.String()
}

func passTable(b *strings.Builder) {
	b.WriteString("### Messages pass\n\nEach number is how many messages were sent, and arrived once, in order. A QoS behind it is what they arrived with, if that is less.\n\n")
	b.WriteString("| peer | MQTT | out 0 | out 1 | out 2 | in 0 | in 1 | in 2 | TLS out | TLS in | retained out | retained in |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n")

	for _, p := range peers {
		for _, version := range p.mqtt {
			cells := []string{p.title + ", " + p.version(), versionName(version)}

			for _, way := range []string{"out", "in"} {
				for qos := range byte(3) {
					cells = append(cells, passCell(find(p.name, version, "passes", way, qos)))
				}
			}

			for _, story := range []string{"tls", "retained"} {
				for _, way := range []string{"out", "in"} {
					cells = append(cells, passCell(find(p.name, version, story, way, 1)))
				}
			}

			fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | "))
		}
	}
}

func passCell(r *result) string {
	switch {
	case r == nil:
		return "–"
	case r.story == "retained":
		return "yes"
	}

	text := thousands(r.counts.Received)
	if r.counts.Received != r.counts.Sent {
		text += " of " + thousands(r.counts.Sent)
	}

	if r.counts.Twice > 0 {
		text += fmt.Sprintf(", %s twice", thousands(r.counts.Twice))
	}

	if r.counts.Disordered > 0 {
		text += fmt.Sprintf(", %s late", thousands(r.counts.Disordered))
	}

	if r.arrives < r.qos {
		text += fmt.Sprintf(", QoS %d", r.arrives)
	}

	return text
}

func storyTable(b *strings.Builder, story, title, about string) {
	var rows []result

	for _, r := range results.list {
		if r.story == story {
			rows = append(rows, r)
		}
	}

	if len(rows) == 0 {
		return
	}

	place := func(r result) int { return slices.IndexFunc(peers, func(p *peer) bool { return p.name == r.peer }) }
	slices.SortStableFunc(rows, func(x, y result) int {
		return cmp.Or(cmp.Compare(place(x), place(y)), cmp.Compare(y.version, x.version), -cmp.Compare(x.way, y.way))
	})

	fmt.Fprintf(b, "\n### %s\n\n%s\n\n", title, about)
	b.WriteString("| peer | MQTT | way | sent | received | twice | lost | out of order | bridge's memory |\n|---|---|---|---|---|---|---|---|---|\n")

	for _, r := range rows {
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s | %s | %.0f MiB |\n", peers[place(r)].title, versionName(r.version), r.way, thousands(r.counts.Sent),
			thousands(r.counts.Received), thousands(r.counts.Twice), thousands(r.counts.Lost), thousands(r.counts.Disordered), float64(r.peak)/1024)
	}
}

func cannotList(b *strings.Builder) {
	b.WriteString("\n### What each peer cannot do\n\n| peer | what |\n|---|---|\n")

	for _, p := range peers {
		for _, sentence := range p.cannot {
			fmt.Fprintf(b, "| %s | %s |\n", p.title, sentence)
		}
	}
}

func find(peer string, version int, story, way string, qos byte) *result {
	for i := range results.list {
		r := &results.list[i]
		if r.peer == peer && r.version == version && r.story == story && r.way == way && r.qos == qos {
			return r
		}
	}

	return nil
}

func thousands(n int64) string {
	text := strconv.FormatInt(n, 10)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}

	return text
}
