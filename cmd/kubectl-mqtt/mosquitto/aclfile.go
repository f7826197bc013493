// SPDX-License-Identifier: Apache-2.0

package mosquitto

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
)

// access is what a line of an ACL file is about; none of it is what a deny line says.
type access struct{ read, write bool }

// entry is one topic or pattern line.
type entry struct {
	file   string
	line   int
	access access
	topic  string
}

func (e *entry) denies() bool { return !e.access.read && !e.access.write }

// actions of the rule that the line becomes.
func (e *entry) actions() []acl.Action {
	var actions []acl.Action
	if e.access.write || e.denies() {
		actions = append(actions, acl.Publish)
	}
	if e.access.read || e.denies() {
		actions = append(actions, acl.Subscribe)
	}
	return actions
}

// rule is the line with another filter.
func (e *entry) rule(filter string) acl.Rule {
	effect := acl.Allow
	if e.denies() {
		effect = acl.Deny
	}
	return acl.Rule{Effect: effect, Actions: e.actions(), Filter: filter}
}

// section are the lines of one user.
type section struct {
	username string
	line     int
	entries  []entry
}

// aclFile is an ACL file as Mosquitto reads it.
type aclFile struct {
	anonymous []entry
	sections  []*section // in the order of the file, each user once
	patterns  []entry
}

func (a *aclFile) section(username string) *section {
	for _, s := range a.sections {
		if s.username == username {
			return s
		}
	}
	return nil
}

// parseACL reads an ACL file. It fails where Mosquitto would not start with it.
func parseACL(f File) (*aclFile, error) {
	file := &aclFile{}
	var current *section
	for n, line := range lines(f.Text) {
		if !utf8.ValidString(line) {
			return nil, lineError(f.Name, n, "is not UTF-8: is this an ACL file of Mosquitto?")
		}
		line = strings.TrimRight(line, " \t\r\v\f")
		if line == "" || line[0] == '#' {
			continue
		}
		word, rest, _ := strings.Cut(strings.TrimLeft(line, " "), " ")
		rest = strings.Trim(rest, " \t")
		switch word {
		case "user":
			if rest == "" {
				return nil, lineError(f.Name, n, "user without a name: write user NAME")
			}
			if current = file.section(rest); current == nil {
				current = &section{username: rest, line: n}
				file.sections = append(file.sections, current)
			}
		case "topic", "pattern":
			e, err := parseEntry(f.Name, n, word, rest)
			switch {
			case err != nil:
				return nil, err
			case word == "pattern":
				file.patterns = append(file.patterns, *e)
			case current == nil:
				file.anonymous = append(file.anonymous, *e)
			default:
				current.entries = append(current.entries, *e)
			}
		default:
			return nil, lineError(f.Name, n, "%s is none of user, topic, pattern", shown(word))
		}
	}
	return file, nil
}

var accessWords = map[string]access{"read": {read: true}, "write": {write: true}, "readwrite": {read: true, write: true}, "deny": {}}

func parseEntry(file string, line int, word, rest string) (*entry, error) {
	e := &entry{file: file, line: line, access: accessWords["readwrite"], topic: rest}
	if first, topic, found := strings.Cut(rest, " "); found {
		about, known := accessWords[first]
		if !known {
			return nil, lineError(file, line, "%s is none of read, write, readwrite, deny; where the topic holds a space, one of them has to stand before it", shown(first))
		}
		e.access, e.topic = about, strings.Trim(topic, " \t")
	}
	if e.topic == "" {
		return nil, lineError(file, line, "%s without a topic: write %s [read|write|readwrite|deny] TOPIC", word, word)
	}
	// What is a token here is as valid as any other text.
	if err := acl.ValidateFilter(e.topic); err != nil && !strings.HasPrefix(e.topic, "$share/") {
		return nil, lineError(file, line, "%v", err)
	}
	return e, nil
}

// say gives the rules of an entry, of which tokens may be whole levels if it is a pattern; unsayable means that the user's
// name has to be put in first.
func (r *Result) say(e *entry, tokens bool) (rule *acl.Rule, perUser bool) {
	bad := func(level string) bool { return holdsToken(level) && !(tokens && isToken(level)) }
	levels := strings.Split(e.topic, "/")
	switch odd := levels[max(0, slices.IndexFunc(levels, bad))]; {
	case !bad(odd):
		return r.fit(e, e.topic), false
	case tokens && !slices.ContainsFunc(levels, func(level string) bool { return bad(level) && strings.Contains(level, acl.TokenClientID) }):
		return nil, true
	case tokens:
		return r.unsayable(e, wider(e.topic, bad), "a token is a whole level here, and "+shown(odd)+" is more; give the clients topics in which the client id is a level of its own"), false
	default:
		return r.unsayable(e, wider(e.topic, bad), "a topic line takes "+shown(odd)+" by letters, a rule takes it for a token; was pattern meant?"), false
	}
}

// expand puts a username into a pattern that holds it beside other text.
func (r *Result) expand(e *entry, username string) *acl.Rule {
	put := func(text string) string { return strings.ReplaceAll(text, acl.TokenUsername, username) }
	// The name may be a token, or become one with what stands before it: %%u and a user called u make %u.
	bad := func(level string) bool { return strings.Contains(level, acl.TokenUsername) && holdsToken(put(level)) }
	if !slices.ContainsFunc(strings.Split(e.topic, "/"), bad) {
		return r.fit(e, put(e.topic))
	}
	filter := wider(e.topic, bad)
	if filter != "" {
		filter = wider(put(filter), func(string) bool { return false }) // the name may be long
	}
	return r.unsayable(e, filter, "with the name of the user "+shown(username)+" in it, it would hold a token")
}

// fit is the rule of an entry whose filter needs no change but perhaps a shorter one, or less to say.
func (r *Result) fit(e *entry, filter string) *acl.Rule {
	never := func(string) bool { return false }
	first, _, _ := strings.Cut(filter, "/")
	switch {
	case first == "$share":
		r.reportf(e.file, e.line, "%s: no message has such a topic. The line is left out.", shown(filter))
		return nil
	case utf8.RuneCountInString(filter) > maxFilter:
		return r.unsayable(e, wider(filter, never), "the filter is longer than 1024 characters")
	case first == "$SYS" && e.access.write:
		r.reportf(e.file, e.line, "%s: nobody may publish below $SYS here. The permission to publish is left out.", shown(filter))
		if !e.access.read {
			return nil
		}
		rule := e.rule(filter)
		rule.Actions = []acl.Action{acl.Subscribe}
		return &rule
	}
	rule := e.rule(filter)
	return &rule
}

// unsayable leaves out what allows, and widens what denies, to the filter given.
func (r *Result) unsayable(e *entry, filter, why string) *acl.Rule {
	if !e.denies() {
		r.reportf(e.file, e.line, "%s: %s. It is left out, so it allows nobody anything.", shown(e.topic), why)
		return nil
	}
	if filter == "" {
		r.reportf(e.file, e.line, "%s: %s. It is left out; nothing is allowed there either.", shown(e.topic), why)
		return nil
	}
	r.reportf(e.file, e.line, "%s: %s. All of %s is denied instead, which is more.", shown(e.topic), why, shown(filter))
	rule := e.rule(filter)
	return &rule
}
