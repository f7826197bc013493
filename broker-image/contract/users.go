// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// scratch lends buffers for text that is compared before it is kept: of ten thousand users that differ in one, only the
// shard of the one is new.
var scratch = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func borrow() *bytes.Buffer {
	buffer, _ := scratch.Get().(*bytes.Buffer)
	buffer.Reset()
	return buffer
}

// userTexts are users as JSON without white space, in the order of their names.
type userTexts struct {
	names []string
	text  *bytes.Buffer
	// ends says where in text each user ends.
	ends []int
}

// textsOf writes each user once. The caller gives the result back with free.
func textsOf(users []User) (*userTexts, error) {
	order := make([]*User, len(users))
	for i := range users {
		order[i] = &users[i]
	}
	slices.SortStableFunc(order, func(a, b *User) int { return strings.Compare(a.Username, b.Username) })
	t := &userTexts{names: make([]string, len(order)), text: borrow(), ends: make([]int, len(order))}
	encoder := json.NewEncoder(t.text)
	for i, user := range order {
		if err := encoder.Encode(user); err != nil { //nolint:gosec // User.JWT names an issuer
			t.free()
			return nil, fmt.Errorf("user %q: %w", user.Username, err)
		}
		t.names[i], t.ends[i] = user.Username, t.text.Len()
	}
	return t, nil
}

func (t *userTexts) free() { scratch.Put(t.text) }

// of is the text of the i-th user.
func (t *userTexts) of(i int) []byte {
	begin := 0
	if i > 0 {
		begin = t.ends[i-1]
	}
	return t.text.Bytes()[begin : t.ends[i]-1] // the encoder ends each with a line break
}

// shards is what [Shards] says.
func (t *userTexts) shards(prior int) int {
	n := max(1, prior)
	for n < MaxShards && t.largest(n) > comfortableShardBytes {
		n *= 2
	}
	return min(n, MaxShards)
}

func (t *userTexts) largest(shards int) int {
	sizes := make([]int, shards)
	for i, name := range t.names {
		sizes[Shard(name, shards)] += len(t.of(i)) + 2
	}
	return slices.Max(sizes)
}

// addTo adds the shards of users to a bundle. A shard that prior holds word for word is prior's own.
func (t *userTexts) addTo(bundle Bundle, shards int, prior Bundle) error {
	of := make([]int, len(t.names))
	for i, name := range t.names {
		of[i] = Shard(name, shards)
	}
	text := borrow()
	defer scratch.Put(text)
	for n := range shards {
		text.Reset()
		if err := t.write(text, func(i int) bool { return of[i] == n }); err != nil {
			return fmt.Errorf("%s: %w", UsersFile(n), err)
		}
		if err := bundle.put(UsersFile(n), text.Bytes(), prior); err != nil {
			return err
		}
	}
	return nil
}

// write writes a file of users, as [Bundle.add] would write a usersPart with those that are in it.
func (t *userTexts) write(text *bytes.Buffer, isIn func(int) bool) error {
	text.WriteString("{\n \"users\": [")
	isEmpty := true
	for i := range t.names {
		if !isIn(i) {
			continue
		}
		if !isEmpty {
			text.WriteByte(',')
		}
		isEmpty = false
		text.WriteString("\n  ")
		if err := json.Indent(text, t.of(i), "  ", " "); err != nil {
			return err
		}
	}
	if !isEmpty {
		text.WriteString("\n ")
	}
	text.WriteString("]\n}\n")
	return nil
}
