// SPDX-License-Identifier: Apache-2.0

package topics

import "strings"

// position is a place in the order of topics, which is that of their bytes: the text head+tail, which nobody has to put
// together.
type position struct {
	head, tail string
}

// above tells whether a topic comes before the position.
func (p position) above(topic string) bool {
	if len(topic) <= len(p.head) {
		return topic < p.head || (len(topic) == len(p.head) && topic == p.head && p.tail != "")
	}

	if start := topic[:len(p.head)]; start != p.head {
		return start < p.head
	}

	return topic[len(p.head):] < p.tail
}

// search is the index of the first topic that is not before the position.
func (p position) search(topics []string) int {
	low, high := 0, len(topics)

	for low < high {
		if mid := int(uint(low+high) >> 1); p.above(topics[mid]) {
			low = mid + 1
		} else {
			high = mid
		}
	}

	return low
}

// scan is a walk through the sorted topics for one filter with wildcards.
type scan struct {
	levels []level
	from   position // what is before it has been looked at
	done   bool
}

// level is one of a filter.
type level struct {
	text string
	// open is the text with the slash behind it, or "" for the last level.
	open string
}

type verdict byte

const (
	next    verdict = iota // no match: look at the next topic
	matches                // a match, then the next topic
	leap                   // no match before scan.from
	over                   // no match from here on
)

func newScan(filter string) *scan {
	s := &scan{levels: make([]level, 0, strings.Count(filter, "/")+1)}
	plain := 0 // bytes before the first wildcard

	for pos := 0; pos <= len(filter); {
		l := level{text: filter[pos:]}

		if i := strings.IndexByte(l.text, '/'); i >= 0 {
			l = level{text: l.text[:i], open: l.text[:i+1]}
		}

		if plain == pos && l.text != "+" && l.text != "#" {
			plain += len(l.open)
		}

		s.levels = append(s.levels, l)
		pos += len(l.text) + 1
	}

	s.from = position{head: filter[:plain]}

	// The parent, which # matches too, comes before its children.
	if plain > 0 && filter[plain:] == "#" {
		s.from.head = filter[:plain-1]
	}

	return s
}

// judge compares a topic with the filter, level by level. If it says leap, it has moved from to the first text behind
// the topic that may match.
//
// What is below a level, and only that, lies between the level with a slash and the level with the byte behind the
// slash. Brothers whose text goes on with a lower byte than the slash lie before it: a, a!, a!/x, a/x, a0.
func (s *scan) judge(topic string) verdict {
	const (
		behindSlash  = "0"
		behindDollar = "%"
	)

	pos, plus := 0, -1 // plus is the end of the last level that a + stood for

	for i, l := range s.levels {
		if i == 0 && strings.HasPrefix(topic, "$") && (l.text == "+" || l.text == "#") { // [MQTT-4.7.2-1]
			s.from = position{tail: behindDollar}

			return leap
		}

		if l.text == "#" {
			return matches
		}

		if pos > len(topic) {
			return next // too short: its children may match
		}

		end := len(topic)
		if i := strings.IndexByte(topic[pos:], '/'); i >= 0 {
			end = pos + i
		}

		if l.text == "+" {
			plus = end
		} else if topic[pos:end] != l.text {
			switch rest := topic[pos:]; {
			case rest < l.text:
				s.from = position{topic[:pos], l.text}
			case rest < l.open:
				s.from = position{topic[:pos], l.open}
			case plus < 0:
				return over
			default:
				s.from = position{topic[:plus], behindSlash}
			}

			return leap
		}

		if l.open == "" && end < len(topic) { // too long
			if plus < 0 {
				return over
			}

			s.from = position{topic[:plus], behindSlash}

			return leap
		}

		pos = end + 1
	}

	return matches
}
