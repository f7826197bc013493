// SPDX-License-Identifier: Apache-2.0

package topics

import (
	"fmt"
	"runtime"
	"testing"
)

var sizes = []int{1_000, 10_000, 100_000, 1_000_000}

// shapes of filters, and a topic that matches the i-th.
var shapes = []struct {
	name          string
	filter, topic func(i int) string
}{
	{"flat", deviceFlat, deviceFlat},
	{"deep", deviceDeep, deviceDeep},
	{"below", func(i int) string { return fmt.Sprintf("dev/%d/#", i) }, deviceDeep},
	{"plus", func(i int) string { return fmt.Sprintf("dev/%d/+", i) }, deviceDeep},
	{"first", func(i int) string { return fmt.Sprintf("+/%d/state", i) }, deviceDeep},
}

func deviceFlat(i int) string { return fmt.Sprintf("dev/%d", i) }

func deviceDeep(i int) string { return fmt.Sprintf("dev/%d/state", i) }

// scattered are n different numbers below n, in an order without a pattern; n is no multiple of 7919.
func scattered(n int, text func(int) string) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = text(i * 7919 % n)
	}

	return all
}

func BenchmarkSubscribe(b *testing.B) {
	for _, shape := range shapes {
		b.Run(shape.name, func(b *testing.B) {
			filters := scattered(b.N, shape.filter)
			x := New[*int]()
			s := new(int)

			before := heap()

			b.ReportAllocs()
			b.ResetTimer()

			for _, f := range filters {
				x.Subscribe(f, s, Options{QoS: 1})
			}

			b.StopTimer()
			b.ReportMetric(float64(heap()-before)/float64(b.N), "B/subscription")
			runtime.KeepAlive(x)
			runtime.KeepAlive(filters)
		})
	}
}

func heap() uint64 {
	runtime.GC()

	var m runtime.MemStats

	runtime.ReadMemStats(&m)

	return m.HeapAlloc
}

func BenchmarkUnsubscribe(b *testing.B) {
	filters := scattered(b.N, deviceDeep)
	x := New[*int]()
	s := new(int)

	for _, f := range filters {
		x.Subscribe(f, s, Options{})
	}

	b.ResetTimer()

	for _, f := range filters {
		x.Unsubscribe(f, s)
	}
}

func BenchmarkMatch(b *testing.B) {
	for _, shape := range shapes {
		for _, n := range sizes {
			b.Run(fmt.Sprintf("%s/%d", shape.name, n), func(b *testing.B) {
				x := New[*int]()
				s := new(int)

				for _, f := range scattered(n, shape.filter) {
					x.Subscribe(f, s, Options{QoS: 1})
				}

				asked := scattered(n, shape.topic)

				b.ReportAllocs()
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					var r Result[*int]

					for i := 0; pb.Next(); i++ {
						x.Match(asked[i%n], &r)

						if len(r.Entries) != 1 {
							b.Errorf("%q reached %d subscribers, want 1", asked[i%n], len(r.Entries))
						}
					}
				})
			})
		}
	}
}

// BenchmarkCrowd has many subscribers of one filter.
func BenchmarkCrowd(b *testing.B) {
	for _, n := range []int{500, 100_000} {
		subscribers := make([]int, n)
		x := New[*int]()

		for i := range subscribers {
			x.Subscribe("news", &subscribers[i], Options{QoS: 1})
		}

		var r Result[*int]

		b.Run(fmt.Sprintf("match/%d", n), func(b *testing.B) {
			for b.Loop() {
				x.Match("news", &r)
			}
		})
		b.Run(fmt.Sprintf("come and go/%d", n), func(b *testing.B) {
			one := new(int)

			for b.Loop() {
				x.Subscribe("news", one, Options{})
				x.Unsubscribe("news", one)
			}
		})
		b.Run(fmt.Sprintf("come, match, go, match/%d", n), func(b *testing.B) {
			one := new(int)

			for b.Loop() {
				x.Subscribe("news", one, Options{})
				x.Match("news", &r)
				x.Unsubscribe("news", one)
				x.Match("news", &r)
			}
		})
		b.Run(fmt.Sprintf("match beside a wildcard/%d", n), func(b *testing.B) {
			x.Subscribe("#", &subscribers[0], Options{})

			for b.Loop() {
				x.Match("news", &r)
			}
		})
	}
}

func BenchmarkRetained(b *testing.B) {
	for _, n := range sizes[1:] {
		r := NewRetained[*int]()
		m := new(int)
		all := scattered(n, deviceDeep)

		before := heap()

		for _, topic := range all {
			r.Set(topic, m)
		}

		bytes := float64(heap()-before) / float64(n)

		for i := range 100 {
			r.Set(fmt.Sprintf("site/%d", i), m)
			r.Set(fmt.Sprintf("site/%d/deeper/%d", i, i), m)
		}

		b.Run(fmt.Sprintf("set again/%d", n), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				r.Set(all[i%n], m)
			}

			b.ReportMetric(bytes, "B/topic")
		})

		for _, ask := range []struct {
			name   string
			filter func(i int) string
			want   int
		}{
			{"exact", func(i int) string { return all[i%n] }, 1},
			{"plus of 100", func(int) string { return "site/+" }, 100},
			{"prefix of 1", func(i int) string { return all[i%n][:len(all[i%n])-len("state")] + "#" }, 1},
			{"prefix of 200", func(int) string { return "site/#" }, 200},
			{"plus of all", func(int) string { return "dev/+/state" }, n},
			{"prefix of all", func(int) string { return "dev/#" }, n},
		} {
			b.Run(fmt.Sprintf("%s/%d", ask.name, n), func(b *testing.B) {
				for i := 0; b.Loop(); i++ {
					got := 0

					r.Match(ask.filter(i), func(string, *int) bool {
						got++

						return true
					})

					if got != ask.want {
						b.Fatalf("%d topics, want %d", got, ask.want)
					}
				}
			})
		}
	}
}
