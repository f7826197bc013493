// SPDX-License-Identifier: Apache-2.0

package mosquitto

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
)

// The types of rules that the plugin knows, in lower case: it compares without regard to it.
const (
	typeSend               = "publishclientsend"
	typeReceive            = "publishclientreceive"
	typeSubscribeLiteral   = "subscribeliteral"
	typeSubscribePattern   = "subscribepattern"
	typeUnsubscribeLiteral = "unsubscribeliteral"
	typeUnsubscribePattern = "unsubscribepattern"
)

// placed is a rule with its line.
type placed struct {
	dynsecACL

	line int
}

// readRoles brings the rules of all roles into the order in which they are asked, in words of ours.
func (d *director) readRoles() {
	d.banned = map[string]bool{}
	for i := range d.config.Roles {
		for _, a := range d.config.Roles[i].ACLs {
			if first, _, _ := strings.Cut(a.Topic, "/"); strings.HasPrefix(first, "$") && !slices.Contains(d.dollars, first) && first != "$share" && !holdsToken(first) {
				d.dollars = append(d.dollars, first)
			}
			if strings.EqualFold(a.Type, typeSubscribeLiteral) && !a.Allow && strings.ContainsAny(a.Topic, "+#") {
				d.banned[a.Topic] = true
			}
		}
	}
	for i := range d.config.Roles {
		r := &d.config.Roles[i]
		line := d.at("roles[%d]", i)
		if d.roles[r.Name] != nil {
			d.reportf(d.file, line, "the role %s stands in the file twice. This one is left out: remove the one that is wrong.", shown(r.Name))
			continue
		}
		if r.AllowWildcardSubs != nil && !*r.AllowWildcardSubs {
			d.reportf(d.file, line, "the role %s forbids filters with wildcards. That cannot be said here: who may read topics may also subscribe to them by a wildcard.", shown(r.Name))
		}
		d.roles[r.Name] = d.readRole(r, i, line)
	}
}

func (d *director) readRole(config *dynsecRole, index, line int) *role {
	byType := map[string][]placed{}
	for i, a := range config.ACLs {
		kind := strings.ToLower(a.Type)
		place := d.at("roles[%d].acls[%d]", index, i)
		switch kind {
		case typeSend, typeReceive, typeSubscribeLiteral, typeSubscribePattern:
			byType[kind] = append(byType[kind], placed{a, place})
		case typeUnsubscribeLiteral, typeUnsubscribePattern:
			if !a.Allow {
				d.reportf(d.file, place, "%s: a client may always unsubscribe here.", shown(a.Topic))
			}
		default:
			d.reportf(d.file, place, "%s is no type of rule that is known here. The rule is left out.", shown(a.Type))
		}
	}
	for _, list := range byType {
		slices.SortStableFunc(list, func(a, b placed) int { return cmp.Compare(priority(b.Priority), priority(a.Priority)) })
	}
	r := &role{name: config.Name, line: line}
	for _, a := range byType[typeSend] {
		r.publish = append(r.publish, d.rules(a, acl.Publish, false)...)
	}
	for _, a := range byType[typeReceive] {
		r.receive = append(r.receive, d.rules(a, acl.Subscribe, false)...)
	}
	for _, a := range byType[typeSubscribeLiteral] {
		r.subscribe = append(r.subscribe, d.literal(a)...)
	}
	for _, a := range byType[typeSubscribePattern] {
		r.subscribe = append(r.subscribe, d.rules(a, acl.Subscribe, true)...)
	}
	return r
}

// literal is about one filter, letter by letter. One with wildcards that is refused says nothing about messages: each of
// its topics may be asked for by another filter.
func (d *director) literal(a placed) []acl.Rule {
	switch {
	case !strings.ContainsAny(a.Topic, "+#"):
		return d.rules(a, acl.Subscribe, false)
	case !a.Allow:
		d.reportf(d.file, a.line, "%s: that this one filter is refused, and narrower ones are not, cannot be said here. The rule is left out.", shown(a.Topic))
		return nil
	case d.banned[a.Topic]:
		d.reportf(d.file, a.line, "%s: this filter is refused by another rule for exactly this filter. The rule is left out.", shown(a.Topic))
		return nil
	}
	return d.rules(a, acl.Subscribe, false)
}

// rules is one rule in words of ours. dollar says that a wildcard as the first level speaks of $ topics, too; where that
// denies, it has to be said.
func (d *director) rules(a placed, action acl.Action, dollar bool) []acl.Rule {
	e := &entry{file: d.file, line: a.line, topic: a.Topic}
	if a.Allow {
		e.access = access{read: action == acl.Subscribe, write: action == acl.Publish}
	}
	if err := acl.ValidateFilter(a.Topic); err != nil && !strings.HasPrefix(a.Topic, "$share/") {
		d.reportf(d.file, a.line, "%s: %v. The rule is left out.", shown(a.Topic), err)
		return nil
	}
	if first, _, _ := strings.Cut(a.Topic, "/"); first == "$CONTROL" {
		d.reportf(d.file, a.line, "%s: there is no $CONTROL here, users are changed by their objects. The rule is left out.", shown(a.Topic))
		return nil
	}
	var rule *acl.Rule
	if slices.ContainsFunc(strings.Split(a.Topic, "/"), holdsToken) {
		rule = d.unsayable(e, wider(a.Topic, holdsToken), "version 2.0 of the plugin takes %u and %c by letters, a rule takes them for tokens; write it by hand")
	} else {
		rule = d.fit(e, a.Topic)
	}
	if rule == nil {
		return nil
	}
	rule.Actions = []acl.Action{action}
	rules := []acl.Rule{*rule}
	if first, rest, _ := strings.Cut(rule.Filter, "/"); dollar && !a.Allow && wild(first) {
		for _, name := range d.dollars {
			more := *rule
			more.Filter = name + "/#"
			if first == "+" {
				more.Filter = strings.TrimSuffix(name+"/"+rest, "/")
			}
			rules = append(rules, more)
		}
	}
	return rules
}

// scan gives the line of each object of a JSON text by its path, such as roles[0].acls[2].
func scan(f File) (map[string]int, error) {
	dec := json.NewDecoder(bytes.NewReader(f.Text))
	places := map[string]int{}
	if err := walk(dec, f, "", places, 0); err != nil {
		return nil, located(f, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, lineError(f.Name, lineAt(f, dec.InputOffset()), "there is text behind the closing brace")
	}
	return places, nil
}

// deepest is more than any configuration of the plugin has.
const deepest = 16

func walk(dec *json.Decoder, f File, path string, places map[string]int, depth int) error {
	if depth > deepest {
		return errors.New("nested too deeply")
	}
	token, err := dec.Token()
	if err != nil {
		return err
	}
	delim, isDelim := token.(json.Delim)
	switch {
	case depth == 0 && token != json.Delim('{'):
		return errors.New("is not the configuration of the dynamic security plugin: it has to be a JSON object")
	case !isDelim:
		return nil
	}
	places[path] = lineAt(f, dec.InputOffset())
	for i := 0; dec.More(); i++ {
		child := fmt.Sprintf("%s[%d]", path, i)
		if delim == '{' {
			key, err := dec.Token()
			if err != nil {
				return err
			}
			name, _ := key.(string) // what encoding/json compares without regard to case
			child = strings.TrimPrefix(path+"."+strings.ToLower(name), ".")
		}
		if err := walk(dec, f, child, places, depth+1); err != nil {
			return err
		}
	}
	_, err = dec.Token()
	return err
}

func lineAt(f File, offset int64) int {
	return 1 + bytes.Count(f.Text[:min(max(offset, 0), int64(len(f.Text)))], []byte{'\n'})
}

// located gives an error of encoding/json its line. It never holds a value of the file.
func located(f File, err error) error {
	var (
		syntax *json.SyntaxError
		kind   *json.UnmarshalTypeError
	)
	switch {
	case errors.As(err, &syntax):
		return lineError(f.Name, lineAt(f, syntax.Offset), "%v", syntax)
	case errors.As(err, &kind):
		return lineError(f.Name, lineAt(f, kind.Offset), "%s: a %s does not fit here (want %s)", kind.Field, strings.Fields(kind.Value)[0], kind.Type)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return lineError(f.Name, lineAt(f, int64(len(f.Text))), "the text ends too early")
	}
	return lineError(f.Name, 1, "%v", err)
}
