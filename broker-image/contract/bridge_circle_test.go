// SPDX-License-Identifier: Apache-2.0

package contract_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

func TestCirclesOfSeveralBridges(t *testing.T) {
	in, out, both := contract.In, contract.Out, contract.Both
	member := func(local, remote string, bare bool, routes ...contract.BridgeRoute) contract.Member {
		return contract.Member{Routes: routes, Local: []string{local}, Remote: strings.Fields(remote), Bare: bare}
	}
	one := func(name string, d contract.Direction, filter string) contract.BridgeRoute {
		return routeOf(name, d, "", "", filter)
	}

	for name, c := range map[string]struct {
		members []contract.Member
		circle  string
	}{
		"none":                   {},
		"a ring over a bare one": {[]contract.Member{member("A", "N", true, one("r0", out, "#")), member("B", "N", false, one("r1", in, "#")), member("B", "A", false, one("r2", out, "#"))}, "0 r0, 1 r1, 2 r2"},
		"a ring that all are marked in": {members: []contract.Member{
			member("A", "N", false, one("r0", out, "#")), member("B", "N", false, one("r1", in, "#")), member("B", "A", false, one("r2", out, "#")),
		}},
		"a chain":               {members: []contract.Member{member("A", "N", true, one("r0", out, "#")), member("B", "N", true, one("r1", in, "#")), member("B", "C", true, one("r2", out, "#"))}},
		"there and back by two": {[]contract.Member{member("A", "N", true, one("r0", out, "a/#")), member("A", "N", true, one("r1", in, "a/+"))}, "0 r0, 1 r1"},
		"other topics on the way back": {members: []contract.Member{
			member("A", "N", true, one("r0", out, "a/#")), member("A", "N", true, one("r1", in, "b/#")),
		}},
		"two that do both": {[]contract.Member{member("A", "N", true, one("r0", both, "#")), member("A", "N", true, one("r1", both, "#"))}, "0 r0, 1 r1"},
		"one alone":        {members: []contract.Member{member("A", "N", true, one("r0", both, "#"), one("r1", out, "b/#"))}},
		"any address will do": {[]contract.Member{
			member("A", "x:1 n:1", true, one("r0", out, "#")), member("A", "n:1 y:1", true, one("r1", in, "#")),
		}, "0 r0, 1 r1"},
		"prefixes that lead out of it": {members: []contract.Member{
			member("A", "N", true, routeOf("r0", out, "", "", "a/#")), member("A", "N", true, routeOf("r1", in, "a/c/", "a/b/", "#")),
		}},
		"prefixes that make topics longer each time": {[]contract.Member{
			member("A", "N", true, routeOf("r0", out, "", "x/", "#")), member("A", "N", true, routeOf("r1", in, "", "", "#")),
		}, "0 r0, 1 r1"},
		"a $ topic is not picked by #": {members: []contract.Member{
			member("A", "N", true, routeOf("r0", out, "", "$x/", "#")), member("A", "N", true, one("r1", in, "#")),
		}},
		"who is bare stands in the middle": {[]contract.Member{
			member("A", "B", false, one("r0", out, "#")), member("B", "C", false, one("r1", out, "#")), member("A", "C", true, one("r2", in, "#")),
		}, "0 r0, 1 r1, 2 r2"},
		"two circles with a route in common": {[]contract.Member{
			member("A", "N", true, one("r0", out, "#")), member("A", "N", false, one("r1", in, "#")), member("A", "N", false, one("r2", in, "#")),
		}, "0 r0, 1 r1; 2 r2, 0 r0"},
		"a tail of a circle": {[]contract.Member{
			member("A", "N", true, one("r0", out, "#")), member("A", "N", true, one("r1", in, "#")), member("B", "A", true, one("r2", out, "#")), member("N", "C", true, one("r3", out, "#")),
		}, "0 r0, 1 r1"},
	} {
		t.Run(name, func(t *testing.T) {
			var said []string

			for _, circle := range contract.Circles(c.members) {
				var steps []string
				for _, step := range circle {
					steps = append(steps, fmt.Sprint(step.Member, " ", step.Route))
				}

				said = append(said, strings.Join(steps, ", "))
			}

			if got := strings.Join(said, "; "); got != c.circle {
				t.Errorf("circles %q, want %q", got, c.circle)
			}
		})
	}
}

// TestCirclesAreBounded: what anybody may write must not cost much.
func TestCirclesAreBounded(t *testing.T) {
	long := strings.Repeat("x", 200) + "/"
	members := []contract.Member{
		{Local: []string{"A"}, Remote: []string{"N"}, Bare: true, Routes: []contract.BridgeRoute{routeOf("up", contract.Out, "", long, "#")}},
		{Local: []string{"A"}, Remote: []string{"N"}, Bare: true, Routes: []contract.BridgeRoute{routeOf("down", contract.In, "", "", "#")}},
	}
	for n := range 60 {
		members = append(members, contract.Member{Local: []string{"A"}, Remote: []string{fmt.Sprint("N", n)}, Bare: true, Routes: []contract.BridgeRoute{
			routeOf("feed", contract.In, "", "", "#"), routeOf("more", contract.In, "", long, "#"),
		}})
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	contract.Circles(members)
	runtime.ReadMemStats(&after)
	if took := (after.TotalAlloc - before.TotalAlloc) >> 20; took > 64 {
		t.Errorf("it took %d MiB of memory", took)
	}
}

// BenchmarkCircles is of a thousand bridges that have nothing to do with each other, and a star of two hundred.
func BenchmarkCircles(b *testing.B) {
	var apart, star []contract.Member
	for n := range 1000 {
		apart = append(apart, contract.Member{Bare: true, Local: []string{fmt.Sprint("l", n)}, Remote: []string{fmt.Sprint("r", n)}, Routes: []contract.BridgeRoute{routeOf("a", contract.Both, "", "", "#")}})
	}
	for n := range 200 {
		site := fmt.Sprint("site", n, "/")
		star = append(star, contract.Member{Bare: true, Local: []string{fmt.Sprint("l", n)}, Remote: []string{"hub"}, Routes: []contract.BridgeRoute{
			routeOf("up", contract.Out, "", site, "#"), routeOf("down", contract.In, "cmd/", site, "#"),
		}})
	}
	for name, members := range map[string][]contract.Member{"apart": apart, "star": star} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				contract.Circles(members)
			}
		})
	}
}
