// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"
)

var (
	update = flag.Bool("update", false, "write the tables and the page")
	only   = flag.Bool("offline", false, "start no broker: only what needs none")
	keep   = flag.Bool("record", false, "write what happened to results.tsv")
)

// broker is what all cases run against.
var broker *target

func TestMain(m *testing.M) {
	flag.Parse()

	code, err := withBroker(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)

		code = 1
	}

	os.Exit(code)
}

func withBroker(m *testing.M) (int, error) {
	// Cases wait for clocks far more than they compute.
	if err := flag.Set("test.parallel", "64"); err != nil {
		return 0, err
	}

	if *only {
		return m.Run(), nil
	}

	t, err := choose(context.Background())
	if err != nil {
		return 0, err
	}

	defer t.stop()

	broker = t
	code := m.Run()

	if *keep {
		return code, results.record()
	}

	return code, nil
}

// versionNames as they stand in names of tests.
var versionNames = map[byte]string{v31: "3.1", v311: "3.1.1", v5: "5.0"}

// cases gives every case there is.
func cases() map[string]scenario {
	out := map[string]scenario{}

	for _, some := range []map[string]scenario{
		connectCases, willCases, sessionCases, publishCases, qosCases, retainCases, subscribeCases, sharedCases, flowCases,
		limitCases, propertyCases, errorCases(), authCases, topicCases, websocketCases,
	} {
		for name, c := range some {
			if _, twice := out[name]; twice {
				panic("two cases are called " + name)
			}

			out[name] = c
		}
	}

	return out
}

func TestConformance(t *testing.T) {
	if broker == nil {
		t.Skip("no broker")
	}

	all := cases()

	for _, name := range slices.Sorted(maps.Keys(all)) {
		for _, v := range all[name].versions() {
			t.Run(name+"/"+versionNames[v], func(t *testing.T) {
				t.Parallel()

				o := play(all[name], v, broker)
				results.note(name, v, o)

				if o.failed != "" {
					t.Error(o.failed)
				}

				if o.should != "" {
					t.Error(o.should)
				}

				if o.may != "" {
					t.Error(o.may)
				}

				if o.skipped != "" {
					t.Skip(o.skipped)
				}
			})
		}
	}
}
