// SPDX-License-Identifier: Apache-2.0

package mosquitto

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/mqtt-operator/mqtt-operator/broker-image/auth"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// account is a user with a hash of the password.
type account struct {
	username, hash string
	file           string
	line           int
}

// accounts reads a password file. Lines that cannot be used are reported; it fails where the text is no password file.
func (r *Result) accounts(f File) ([]account, error) {
	var all []account
	first := map[string]int{}
	for n, line := range lines(f.Text) {
		if !utf8.ValidString(line) {
			return nil, lineError(f.Name, n, "is not UTF-8: is this a password file of Mosquitto?")
		}
		line = strings.TrimRight(line, " \t\r\v\f")
		if line == "" || line[0] == '#' {
			continue
		}
		username, hash, found := strings.Cut(line, ":")
		if !found {
			return nil, lineError(f.Name, n, "has no colon: a line of a password file is username:hash")
		}
		hash, _, _ = strings.Cut(hash, ":")
		problem := hashProblem(hash)
		if text := contract.UsernameProblem(username); text != "" {
			problem = fmt.Errorf("the username %q %s. The user is left out: give it another name, and its clients, too", username, text)
		} else if earlier := first[username]; earlier > 0 {
			problem = fmt.Errorf("the user %q stands in line %d already. This line is left out: remove the one that is wrong", username, earlier)
		} else if problem != nil {
			problem = fmt.Errorf("user %q: %w", username, problem)
		}
		if problem != nil {
			r.reportf(f.Name, n, "%v.", problem)
			continue
		}
		first[username] = n
		all = append(all, account{username: username, hash: hash, file: f.Name, line: n})
	}
	return all, nil
}

// hashProblem says why a hash cannot be imported: what the broker would not take is not written. It never says a part of
// the text, which may be a password.
func hashProblem(hash string) error {
	if hash == "" {
		return errors.New("there is no password. The user is left out")
	}
	if hash[0] != '$' {
		return errors.New("the password stands there in plain text. The user is left out: hash the file by mosquitto_passwd -U, and import again")
	}
	if !slices.ContainsFunc([]string{"$7$", "$6$", "$argon2id$"}, func(form string) bool { return strings.HasPrefix(hash, form) }) {
		return errors.New("the hash is none that Mosquitto writes ($7$, $6$, $argon2id$). The user is left out: set its password again by mosquitto_passwd")
	}
	if _, err := auth.Parse(hash); err != nil {
		return fmt.Errorf("the hash is none that the broker takes: %s. The user is left out: set its password again by mosquitto_passwd", strings.TrimPrefix(err.Error(), "verifier: "))
	}
	return nil
}

// lines are the lines of a text with their numbers, from 1 on.
func lines(text []byte) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		n := 0
		for line := range strings.SplitSeq(string(text), "\n") {
			n++
			if !yield(n, line) {
				return
			}
		}
	}
}
