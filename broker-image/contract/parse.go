// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
)

// Error is one fault of a bundle, with the place where a person can mend it.
type Error struct {
	// File of the bundle.
	File string
	// Line in the file, counted from 1; 0 when the fault is a field that is absent from the text.
	Line int
	// Field is the path of the field, such as listeners[1].address.
	Field string
	// Problem says what is wrong and what would be right.
	Problem string
}

// Error is file:line: field: problem, without the parts that are not known.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	b.WriteString(": ")
	if e.Field != "" {
		b.WriteString(e.Field + ": ")
	}
	b.WriteString(e.Problem)
	return b.String()
}

// Parse reads a bundle strictly, validates it and fills in the defaults of limits and persistence. Its errors are
// [Error] values, joined when there are several, or wrap [ErrInconsistent] when the parts are not those that
// broker.json names.
func Parse(bundle Bundle) (*Config, error) {
	broker, err := parseBroker(bundle)
	if err != nil {
		return nil, err
	}
	cfg := &Config{Broker: *broker, Pairs: map[string]KeyPair{}}
	for _, name := range slices.Sorted(maps.Keys(broker.Parts)) {
		if !IsFile(name) || name == BrokerFile {
			return nil, &Error{File: BrokerFile, Field: "parts", Problem: fmt.Sprintf("%q is no part of a bundle", name)}
		}
		content, found := bundle[name]
		if !found || DigestOf(content) != broker.Parts[name] {
			return nil, fmt.Errorf("%w: %s", ErrInconsistent, name)
		}
		if err := cfg.take(name, content); err != nil {
			return nil, err
		}
	}
	cfg.Limits, cfg.Persistence, cfg.Drain = cfg.Limits.Resolved(), cfg.Persistence.Resolved(), cfg.Drain.Resolved()
	return cfg, validate(cfg, bundle)
}

// take reads one part.
func (cfg *Config) take(name string, content []byte) error {
	switch name {
	case TLSFile:
		part := tlsPart{}
		if err := decode(name, content, &part); err != nil {
			return err
		}
		cfg.Pairs, cfg.Trust = part.Pairs, part.Trust
	case PoliciesFile:
		part := policiesPart{}
		if err := decode(name, content, &part); err != nil {
			return err
		}
		cfg.Policies = part.Policies
	default:
		users, err := ParseUsers(name, content)
		if err != nil {
			return err
		}
		cfg.Users = append(cfg.Users, users...)
	}
	return nil
}

// ParseUsers reads one shard of users strictly; it validates nothing beyond the types.
func ParseUsers(name string, content []byte) ([]User, error) {
	part := usersPart{}
	err := decode(name, content, &part)
	return part.Users, err
}

// VerifiersIn are the hashes by which the users files among files know a username, nil where they do not, or cannot be
// read. Only the shard that holds the name is read.
func VerifiersIn(files Bundle, username string) []string {
	shards := 0
	for shards < MaxShards && files[UsersFile(shards)] != nil {
		shards++
	}
	if shards == 0 {
		return nil
	}
	name := UsersFile(Shard(username, shards))
	users, err := ParseUsers(name, files[name])
	if err != nil {
		return nil
	}
	for i := range users {
		if users[i].Username == username {
			return users[i].Verifiers
		}
	}
	return nil
}

// ParsePairs reads tls.json strictly; it validates nothing beyond the types.
func ParsePairs(content []byte) (map[string]KeyPair, error) {
	part := tlsPart{}
	err := decode(TLSFile, content, &part)
	return part.Pairs, err
}

// ParseTrust reads the trust of tls.json strictly; it validates nothing beyond the types.
func ParseTrust(content []byte) (map[string]Trust, error) {
	part := tlsPart{}
	err := decode(TLSFile, content, &part)
	return part.Trust, err
}

// AuthenticationIn is what the broker.json of a bundle says about tokens; nothing where it cannot be read.
func AuthenticationIn(bundle Bundle) Authentication {
	broker, err := parseBroker(bundle)
	if err != nil {
		return Authentication{}
	}
	return broker.Authentication
}

// ParsePolicies reads policies.json strictly; it validates nothing beyond the types. No content is no policies.
func ParsePolicies(content []byte) (map[string][]acl.Rule, error) {
	if len(content) == 0 {
		return nil, nil
	}
	part := policiesPart{}
	err := decode(PoliciesFile, content, &part)
	return part.Policies, err
}

// Revision is the revision that the broker.json of a bundle names.
func Revision(bundle Bundle) (int64, error) {
	broker, err := parseBroker(bundle)
	if err != nil {
		return 0, err
	}
	return broker.Revision, nil
}

// Parts are the digests that the broker.json of a bundle names; the other files need not be there.
func Parts(bundle Bundle) (map[string]string, error) {
	broker, err := parseBroker(bundle)
	if err != nil {
		return nil, err
	}
	for name := range broker.Parts {
		if !IsFile(name) || name == BrokerFile {
			return nil, &Error{File: BrokerFile, Field: "parts", Problem: fmt.Sprintf("%q is no part of a bundle", name)}
		}
	}
	return broker.Parts, nil
}

func parseBroker(bundle Bundle) (*Broker, error) {
	content, found := bundle[BrokerFile]
	if !found {
		return nil, &Error{File: BrokerFile, Problem: "is missing"}
	}
	broker := &Broker{}
	if err := decode(BrokerFile, content, broker); err != nil {
		return nil, err
	}
	return broker, nil
}

// decode reads exactly one JSON value of the type of into; unknown and duplicate keys are refused.
func decode(file string, content []byte, into any) error {
	if _, err := scan(content, reflect.TypeOf(into)); err != nil {
		return locate(file, content, err)
	}
	if err := json.Unmarshal(content, into); err != nil {
		return locate(file, content, err)
	}
	return nil
}

// locate turns the errors of encoding/json and of scan into an [Error].
func locate(file string, content []byte, err error) error {
	var (
		syntax    *json.SyntaxError
		wrongType *json.UnmarshalTypeError
		wrongKey  *keyError
	)
	switch {
	case errors.As(err, &syntax):
		return &Error{File: file, Line: lineAt(content, syntax.Offset), Problem: syntax.Error()}
	case errors.As(err, &wrongType):
		return &Error{File: file, Line: lineAt(content, wrongType.Offset), Field: wrongType.Field, Problem: fmt.Sprintf("a %s does not fit here (want %s)", wrongType.Value, wrongType.Type)}
	case errors.As(err, &wrongKey):
		return &Error{File: file, Line: lineAt(content, wrongKey.offset), Field: wrongKey.path, Problem: wrongKey.problem}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &Error{File: file, Line: lineAt(content, int64(len(content))), Problem: "the text ends too early"}
	default:
		return &Error{File: file, Problem: err.Error()}
	}
}

func lineAt(content []byte, offset int64) int {
	offset = min(max(offset, 0), int64(len(content)))
	return 1 + bytes.Count(content[:offset], []byte{'\n'})
}

// places maps the path of every value of a JSON text to the offset of its end.
type places map[string]int64

func (p places) line(content []byte, path string) int {
	offset, found := p[path]
	if !found {
		return 0
	}
	return lineAt(content, offset)
}

// keyError is a key that may not stand where it stands.
type keyError struct {
	path, problem string
	offset        int64
}

func (e *keyError) Error() string { return e.path + ": " + e.problem }

// scan walks the text once and remembers where each value stands. It refuses what encoding/json forgives: a duplicate
// key (the last would win), a key that differs in case from the field of typ, text after the value. typ may be nil:
// then any key is known. It recurses no deeper than maxDepth.
func scan(content []byte, typ reflect.Type) (places, error) {
	s := &scanner{dec: json.NewDecoder(bytes.NewReader(content)), found: places{}}
	s.dec.UseNumber()
	if err := s.value("", typ, 0); err != nil {
		return nil, err
	}
	if _, err := s.dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is text after the closing brace")
	}
	return s.found, nil
}

const maxDepth = 16

type scanner struct {
	dec   *json.Decoder
	found places
}

func (s *scanner) value(path string, typ reflect.Type, depth int) error {
	if depth > maxDepth {
		return errors.New("nested too deeply")
	}
	for typ != nil && typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	token, err := s.dec.Token()
	if err != nil {
		return err
	}
	s.found[path] = s.dec.InputOffset()
	switch token {
	case json.Delim('{'):
		return s.object(path, typ, depth)
	case json.Delim('['):
		var element reflect.Type
		if typ != nil && typ.Kind() == reflect.Slice {
			element = typ.Elem()
		}
		for i := 0; s.dec.More(); i++ {
			if err := s.value(fmt.Sprintf("%s[%d]", path, i), element, depth+1); err != nil {
				return err
			}
		}
		_, err = s.dec.Token()
	}
	return err
}

func (s *scanner) object(path string, typ reflect.Type, depth int) error {
	for s.dec.More() {
		token, err := s.dec.Token()
		if err != nil {
			return err
		}
		key, _ := token.(string)
		child := strings.TrimPrefix(path+"."+key, ".")
		if _, twice := s.found[child]; twice {
			return &keyError{path: child, problem: "the key stands here twice", offset: s.dec.InputOffset()}
		}
		childType, known := member(typ, key)
		if !known {
			return &keyError{path: child, problem: "unknown field; is it misspelt, or from a newer version?", offset: s.dec.InputOffset()}
		}
		if err := s.value(child, childType, depth+1); err != nil {
			return err
		}
	}
	_, err := s.dec.Token()
	return err
}

// member is the type of what stands under key in a value of typ. Where typ is unknown, or no struct and no map, any
// key is known: the decoder will refuse the object as a whole.
func member(typ reflect.Type, key string) (reflect.Type, bool) {
	switch {
	case typ == nil:
		return nil, true
	case typ.Kind() == reflect.Map:
		return typ.Elem(), true
	case typ.Kind() != reflect.Struct:
		return nil, true
	}
	for _, field := range reflect.VisibleFields(typ) {
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name == key {
			return field.Type, true
		}
	}
	return nil, false
}
