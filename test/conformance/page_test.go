// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

const pageFile = "../../docs/conformance.md"

const pageIntro = `# Conformance to MQTT

<!-- Written by go test ./test/conformance -run TestTables -update. -->

[test/conformance](../test/conformance) holds the broker against every normative statement of MQTT 5.0 and 3.1.1 that binds
a server, and against what is particular to 3.1. Each case speaks raw bytes over a real socket, so that any broker can be put
under it:

` + "```sh" + `
go test ./test/conformance                                  # ours, built and started by the test
MQTT_TARGET=mosquitto go test ./test/conformance            # Debian's Mosquitto with equal settings
MQTT_TARGET=192.0.2.7:1883 go test ./test/conformance       # any other
test/conformance/compare.sh                                 # both, and this page anew
` + "```" + `

Which case shows which statement stands in [mqtt5.tsv](../test/conformance/mqtt5.tsv) and
[mqtt311.tsv](../test/conformance/mqtt311.tsv); a statement without a case says why. A test fails when a statement has
neither.
`

// page writes docs/conformance.md from the tables and the results.
func page(all map[string]scenario) (string, error) {
	var b strings.Builder

	b.WriteString(pageIntro)
	b.WriteString("\n## What is covered\n\n| version | statements | bind clients alone | shown by cases | cannot be seen | cases |\n|---|---|---|---|---|---|\n")

	for _, t := range tables {
		rows, err := t.read()
		if err != nil {
			return "", err
		}

		var clients, shown, unseen int

		for _, r := range rows {
			switch {
			case r.binds == "client":
				clients++
			case r.reason != "":
				unseen++
			default:
				shown++
			}
		}

		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d |\n", versionNames[t.version], len(rows), clients, shown, unseen, count(all, t.version))
	}

	fmt.Fprintf(&b, "| %s | not numbered | | | | %d |\n", versionNames[v31], count(all, v31))

	found, err := readResults()
	if err != nil {
		return "", err
	}

	b.WriteString("\n## What was found\n\n" +
		"A case that *fails* shows that a broker breaks a rule. One that is *not as advised* shows that it keeps the rule, but not the\n" +
		"advice that goes with it: it closes a connection without saying why, or names another reason. One that is *silent* closes\n" +
		"without saying why where the specification leaves it the choice: after a wrong CONNECT. The test of our own broker allows\n" +
		"none of them.\n\n| broker | runs | pass | fail | not as advised | silent | left out |\n|---|---|---|---|---|---|---|\n")

	var abouts []result

	for _, r := range found {
		if r.kind == kindAbout {
			abouts = append(abouts, r)
		}
	}

	slices.SortFunc(abouts, func(x, y result) int { return strings.Compare(y.broker, x.broker) }) // ours first

	for _, about := range abouts {
		n := map[string]int{}

		for _, r := range found {
			if r.broker == about.broker {
				n[r.kind]++
			}
		}

		var runs int
		if _, err := fmt.Sscan(about.text, &runs); err != nil {
			return "", fmt.Errorf("%s: %w", resultsFile, err)
		}

		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d | %d |\n", about.name, runs,
			runs-n[kindMust]-n[kindShould]-n[kindMay]-n[kindLeftOut], n[kindMust], n[kindShould], n[kindMay], n[kindLeftOut])
	}

	for _, about := range abouts {
		for _, kind := range []string{kindMust, kindShould, kindMay, kindLeftOut} {
			heading := map[string]string{kindMust: "fails", kindShould: "not as advised", kindMay: "silent", kindLeftOut: "left out"}[kind]
			fmt.Fprintf(&b, "\n### %s: %s\n\n%s", about.name, heading, findings(all, found, about.broker, kind))
		}
	}

	return b.String(), nil
}

func count(all map[string]scenario, v byte) int {
	n := 0

	for _, c := range all {
		if slices.Contains(c.versions(), v) {
			n++
		}
	}

	return n
}

// findings is a table of one kind of results: a case stands once, with all versions in which the same happened.
func findings(all map[string]scenario, found []result, broker, kind string) string {
	type line struct{ name, text string }

	versions := map[line][]string{}

	for _, r := range found {
		if r.broker == broker && r.kind == kind {
			l := line{r.name, r.text}
			versions[l] = append(versions[l], r.version)
		}
	}

	if len(versions) == 0 {
		return "None.\n"
	}

	var b strings.Builder

	b.WriteString("| case | version | statements | what the broker did |\n|---|---|---|---|\n")

	lines := slices.SortedFunc(maps.Keys(versions), func(x, y line) int {
		return strings.Compare(x.name+"\x00"+x.text, y.name+"\x00"+y.text)
	})

	for _, l := range lines {
		slices.Sort(versions[l])

		ids := []string{}
		c := all[l.name]

		if slices.Contains(versions[l], versionNames[v311]) {
			ids = append(ids, strings.Fields(c.three)...)
		}

		if slices.Contains(versions[l], versionNames[v5]) {
			ids = append(ids, strings.Fields(c.five)...)
		}

		slices.Sort(ids)

		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", l.name, strings.Join(versions[l], ", "),
			strings.Join(slices.Compact(ids), " "), plain(l.text))
	}

	return b.String()
}

// plain keeps text from being markup.
func plain(text string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;", "*", `\*`, "[", `\[`, "]", `\]`).Replace(text)
}
