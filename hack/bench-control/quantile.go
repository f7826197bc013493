// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// quantile is the smallest of values that at least the share q of them do not exceed; 0 where there are none.
func quantile(values []time.Duration, q float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

// spread is what is told of a series of times.
type spread struct{ p50, p99, most time.Duration }

func spreadOf(values []time.Duration) spread {
	return spread{quantile(values, 0.5), quantile(values, 0.99), quantile(values, 1)}
}

// bucket of a histogram: count is how many were not above the bound.
type bucket struct{ bound, count float64 }

// histogram reads the buckets of a metric, less those of before, which may be nil. labels is what stands in front of le.
func histogram(now, before map[string]float64, name, labels string) []bucket {
	prefix := name + "_bucket{" + labels + `,le="`
	var buckets []bucket
	for series, count := range now {
		text, found := strings.CutPrefix(series, prefix)
		if !found {
			continue
		}
		bound, err := strconv.ParseFloat(strings.TrimSuffix(text, `"}`), 64)
		if err == nil {
			buckets = append(buckets, bucket{bound, count - before[series]})
		}
	}
	slices.SortFunc(buckets, func(a, b bucket) int { return cmp.Compare(a.bound, b.bound) })
	return buckets
}

// within says how many there were and the bound of the bucket below which the share q of them lies.
func within(buckets []bucket, q float64) (count, bound float64) {
	if len(buckets) == 0 {
		return 0, 0
	}
	count = buckets[len(buckets)-1].count
	for _, b := range buckets {
		if count > 0 && b.count >= q*count {
			return count, b.bound
		}
	}
	return count, 0
}

// seconds writes a bound.
func seconds(bound float64) string {
	if math.IsInf(bound, 1) {
		return "> 60 s"
	}
	return "≤ " + fmt.Sprintf("%g ms", bound*1000)
}
