// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// resultsFile holds what each broker did that it should not: broker, case, version, kind, what happened.
const resultsFile = "results.tsv"

const resultsHead = "broker\tcase\tversion\tkind\twhat happened"

// Kinds of results. A row of kind about holds a broker's name for readers, and how many runs of cases there were.
const (
	kindAbout   = "about"
	kindMust    = "must"
	kindShould  = "should"
	kindMay     = "may"
	kindLeftOut = "left out"
)

type result struct{ broker, name, version, kind, text string }

func (r result) row() string {
	return strings.Join([]string{r.broker, r.name, r.version, r.kind, r.text}, "\t")
}

// ledger keeps outcomes for the comparison.
type ledger struct {
	mu   sync.Mutex
	runs int
	all  []result
}

var results ledger

func (l *ledger) note(name string, v byte, o outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.runs++

	// The gravest counts.
	for _, r := range []result{
		{kind: kindMust, text: o.failed}, {kind: kindShould, text: o.should}, {kind: kindMay, text: o.may}, {kind: kindLeftOut, text: o.skipped},
	} {
		if r.text != "" {
			l.all = append(l.all, result{broker.name, name, versionNames[v], r.kind, oneLine(r.text)})

			return
		}
	}
}

func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")

	const most = 160
	if r := []rune(text); len(r) > most {
		text = string(r[:most]) + "…"
	}

	return text
}

func readResults() ([]result, error) {
	content, err := os.ReadFile(resultsFile)
	if err != nil {
		return nil, err
	}

	var out []result

	for i, line := range strings.Split(strings.TrimSpace(string(content)), "\n") {
		f := strings.Split(line, "\t")
		if len(f) != 5 {
			return nil, fmt.Errorf("%s:%d has %d columns", resultsFile, i+1, len(f))
		}

		if i > 0 {
			out = append(out, result{f[0], f[1], f[2], f[3], f[4]})
		}
	}

	return out, nil
}

// record writes what happened in this run in the place of what the file knew of this broker.
func (l *ledger) record() error {
	old, err := readResults()
	if err != nil {
		return err
	}

	all := slices.DeleteFunc(old, func(r result) bool { return r.broker == broker.name })
	all = append(all, l.all...)
	all = append(all, result{broker.name, called(broker.name), "", kindAbout, strconv.Itoa(l.runs)})

	rows := make([]string, 0, len(all))
	for _, r := range all {
		rows = append(rows, r.row())
	}

	slices.Sort(rows)

	return os.WriteFile(resultsFile, []byte(resultsHead+"\n"+strings.Join(rows, "\n")+"\n"), 0o644)
}

// called gives a broker's name for readers.
func called(name string) string {
	switch name {
	case "ours":
		return "mqtt-broker"
	case "mosquitto":
		// It ends with an error after it has said which version it is.
		out, _ := exec.Command("mosquitto", "-h").Output()
		first, _, _ := strings.Cut(string(out), "\n")

		return "Mosquitto " + strings.TrimPrefix(first, "mosquitto version ")
	default:
		return name
	}
}
