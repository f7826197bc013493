// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxTopicBytes is the longest UTF-8 string that MQTT can carry [MQTT-4.7.3-3].
const maxTopicBytes = 65535

const sharePrefix = "$share/"

// ValidateTopic says what is wrong with a topic name, the thing that a message is published to.
func ValidateTopic(topic string) error {
	if err := validateText(topic); err != nil {
		return err
	}

	// [MQTT-3.3.2-2] and [MQTT-4.7.0-1]: wildcards are for filters only.
	if i := strings.IndexAny(topic, "+#"); i >= 0 {
		return fmt.Errorf("a topic name must not hold the wildcard %q", topic[i])
	}

	return nil
}

// ValidateFilter says what is wrong with a topic filter, the thing that a client subscribes to. The filter of a shared
// subscription ($share/group/filter) is valid if its group and its inner filter are.
func ValidateFilter(filter string) error {
	if group, inner, shared := SplitShare(filter); shared {
		if err := validateText(filter); err != nil {
			return err
		}

		// [MQTT-4.8.2-1] and [MQTT-4.8.2-2]: the share name has at least one character and no wildcard, and a filter
		// follows it.
		if group == "" || strings.ContainsAny(group, "+#") {
			return fmt.Errorf("%q is not the name of a share group: it must not be empty or hold + or #", group)
		}

		if inner == "" {
			return errors.New("a filter must follow the share group")
		}

		filter = inner
	}

	if err := validateText(filter); err != nil {
		return err
	}

	return validateWildcards(filter)
}

// SplitShare takes the filter of a shared subscription apart. For any other filter it returns it whole, and false.
// It validates neither part.
func SplitShare(filter string) (group, inner string, shared bool) {
	rest, shared := strings.CutPrefix(filter, sharePrefix)
	if !shared {
		// The bare word is a share without a group, not a topic of its own.
		if filter == sharePrefix[:len(sharePrefix)-1] {
			return "", "", true
		}

		return "", filter, false
	}

	group, inner, _ = strings.Cut(rest, "/")

	return group, inner, true
}

func validateText(s string) error {
	switch {
	case s == "": // [MQTT-4.7.3-1]
		return errors.New("must not be empty")
	case len(s) > maxTopicBytes: // [MQTT-4.7.3-3]
		return fmt.Errorf("is %d bytes long; MQTT carries %d at most", len(s), maxTopicBytes)
	case strings.IndexByte(s, 0) >= 0: // [MQTT-4.7.3-2]
		return errors.New("must not hold the null character")
	case !utf8.ValidString(s): // [MQTT-1.5.4-1]
		return errors.New("is not well-formed UTF-8")
	}

	return nil
}

func validateWildcards(filter string) error {
	walk := walker{rest: filter}

	for level, ok := walk.next(); ok; level, ok = walk.next() {
		switch {
		case level == "#" && !walk.done: // [MQTT-4.7.1-1]
			return fmt.Errorf("%q has a # before its last level", filter)
		case level == "#", level == "+":
		case strings.ContainsAny(level, "#+"): // [MQTT-4.7.1-1] and [MQTT-4.7.1-2]
			return fmt.Errorf("%q has a wildcard beside other text; + and # must be whole levels", filter)
		}
	}

	return nil
}

// walker goes through the levels of a topic or filter without allocating.
type walker struct {
	rest string
	done bool
}

// next returns the next level, or false behind the last.
func (w *walker) next() (string, bool) {
	if w.done {
		return "", false
	}

	if i := strings.IndexByte(w.rest, '/'); i >= 0 {
		level := w.rest[:i]
		w.rest = w.rest[i+1:]

		return level, true
	}

	w.done = true

	return w.rest, true
}
