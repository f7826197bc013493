// SPDX-License-Identifier: Apache-2.0

package mosquitto

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"k8s.io/apimachinery/pkg/runtime"
)

// File is a text with the name by which reports speak of it.
type File struct {
	Name string
	Text []byte
}

// Options are what the files do not say.
type Options struct {
	// Broker is the name of the MQTTBroker that shall know the users; required.
	Broker string
	// Namespace of the objects; empty leaves it to whoever applies them.
	Namespace string
	// Prefix of the names of all objects: lower-case letters, digits and '-', at most 30, beginning with a letter or digit.
	Prefix string
}

const (
	maxPrefix = 30
	maxBroker = 40
)

var prefixPattern = regexp.MustCompile(`^[a-z0-9][-a-z0-9]*$`)

// Validate says what is wrong with the options.
func (o *Options) Validate() error {
	switch {
	case o.Broker == "":
		return errors.New("the name of the broker is missing: say which MQTTBroker shall know the users")
	case len(o.Broker) > maxBroker || !prefixPattern.MatchString(o.Broker):
		return fmt.Errorf("%q is no name of an MQTTBroker: lower-case letters, digits and '-', at most %d", o.Broker, maxBroker)
	case o.Prefix != "" && (len(o.Prefix) > maxPrefix || !prefixPattern.MatchString(o.Prefix)):
		return fmt.Errorf("%q is no prefix of a name: lower-case letters, digits and '-', at most %d, beginning with a letter or digit", o.Prefix, maxPrefix)
	}
	return nil
}

// Result is what became of the files.
type Result struct {
	// Notes stand above the objects: where this broker differs from Mosquitto.
	Notes []string
	// Hints are what the reader has to do by hand, with an example in YAML.
	Hints []string
	// Objects in the order in which they are to be applied.
	Objects []Object
	// Reports are what the objects do not say, in the order of the files.
	Reports []Report
}

// Complete says whether everything was carried over.
func (r *Result) Complete() bool { return len(r.Reports) == 0 }

// Object is a Secret, MQTTUser or MQTTAccessPolicy with the comments that stand above it.
type Object struct {
	runtime.Object

	Comments []string
}

// Report is something that was not carried over. It never holds a password or a hash.
type Report struct {
	File string
	// Line counts from 1.
	Line    int
	Problem string
}

// String is file:line: problem.
func (r Report) String() string { return fmt.Sprintf("%s:%d: %s", shown(r.File), r.Line, r.Problem) }

func (r *Result) reportf(file string, line int, format string, args ...any) {
	r.Reports = append(r.Reports, Report{File: file, Line: line, Problem: fmt.Sprintf(format, args...)})
}

// lineError is a fault of a file that makes the whole of it unreadable.
func lineError(file string, line int, format string, args ...any) error {
	return errors.New(Report{File: file, Line: line, Problem: fmt.Sprintf(format, args...)}.String())
}

// shown is text as it can stand in one line of a terminal or of a comment.
func shown(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}
