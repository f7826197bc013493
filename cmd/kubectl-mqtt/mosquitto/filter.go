// SPDX-License-Identifier: Apache-2.0

package mosquitto

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
)

// maxFilter is the longest filter that the API takes, in characters.
const maxFilter = 1024

// holdsToken says whether a level would be taken for a token of ours, or be refused because it holds one. %cn begins
// with %c.
func holdsToken(level string) bool {
	return strings.Contains(level, acl.TokenUsername) || strings.Contains(level, acl.TokenClientID)
}

// isToken says whether a level is one of the two tokens that Mosquitto has.
func isToken(level string) bool { return level == acl.TokenUsername || level == acl.TokenClientID }

// wider is a filter that holds every topic of the given one, where each level that bad names stands for one level of
// unknown text. It is empty where no rule of ours could grant such a topic, so that nothing needs to be denied.
func wider(filter string, bad func(level string) bool) string {
	levels := strings.Split(filter, "/")
	if strings.HasPrefix(levels[0], "$") && (bad(levels[0]) || levels[0] == "$share" || utf8.RuneCountInString(levels[0]) > maxFilter) {
		return ""
	}
	for i, level := range levels {
		if bad(level) {
			levels[i] = "+"
		}
	}
	for n := len(levels); ; n-- {
		text := strings.Join(levels[:n], "/")
		if n < len(levels) {
			text = strings.Join(append(slices.Clone(levels[:n]), "#"), "/")
		}
		if utf8.RuneCountInString(text) <= maxFilter {
			return text
		}
	}
}

// intersect is the filter of the topics that both filters hold, and false where there is none. Neither holds tokens.
func intersect(a, b string) (string, bool) {
	x, y := strings.Split(a, "/"), strings.Split(b, "/")
	if wild(x[0]) && strings.HasPrefix(y[0], "$") || wild(y[0]) && strings.HasPrefix(x[0], "$") { // [MQTT-4.7.2-1]
		return "", false
	}
	var both []string
	for i := 0; ; i++ {
		switch {
		case i < len(x) && x[i] == "#": // holds the level before it, too: y may have ended
			return strings.Join(append(both, y[i:]...), "/"), true
		case i < len(y) && y[i] == "#":
			return strings.Join(append(both, x[i:]...), "/"), true
		case i == len(x) && i == len(y):
			return strings.Join(both, "/"), true
		case i == len(x) || i == len(y):
			return "", false
		case x[i] == "+":
			both = append(both, y[i])
		case y[i] == "+" || x[i] == y[i]:
			both = append(both, x[i])
		default:
			return "", false
		}
	}
}

func wild(level string) bool { return level == "+" || level == "#" }
