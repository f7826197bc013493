// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// measureACL runs the Go benchmark of a list of 50 rules whose last one decides.
func (b *bench) measureACL(ctx context.Context) error {
	text, err := b.command(ctx, nil, "go", "test", "-run", "^$", "-bench", "^BenchmarkPolicy$", "-benchmem", "-benchtime", "0.5s", "./broker-image/acl")
	if err != nil {
		return err
	}
	results := parseBenchmark(text)
	if len(results) == 0 {
		return errors.New("no result of BenchmarkPolicy:\n" + text)
	}
	words, good := []string{}, true
	for _, r := range results {
		words = append(words, fmt.Sprintf("%s %.0f ns, %d allocations", r.name, r.nanoseconds, r.allocations))
		good = good && r.nanoseconds <= 1000 && r.allocations == 0
	}
	b.report.row("an access check, 50 rules, the last decides", "≤ 1 µs, 0 allocations", strings.Join(words, "; "), judge(good))
	return nil
}

// benchmark is one line of the output of go test -bench.
type benchmark struct {
	name        string
	nanoseconds float64
	allocations int
}

var benchmarkLine = regexp.MustCompile(`(?m)^Benchmark\w+/(\S+?)(?:-\d+)?\s+\d+\s+([0-9.]+) ns/op.*?\s(\d+) allocs/op`)

// parseBenchmark reads the lines of sub-benchmarks, by name.
func parseBenchmark(text string) (results []benchmark) {
	for _, found := range benchmarkLine.FindAllStringSubmatch(text, -1) {
		nanoseconds, _ := strconv.ParseFloat(found[2], 64)
		allocations, _ := strconv.Atoi(found[3])
		results = append(results, benchmark{found[1], nanoseconds, allocations})
	}
	slices.SortFunc(results, func(a, b benchmark) int { return strings.Compare(a.name, b.name) })
	return results
}
