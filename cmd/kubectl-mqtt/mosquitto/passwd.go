// SPDX-License-Identifier: Apache-2.0

package mosquitto

import (
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// account is a user with a hash of the password.
type account struct {
	username, hash string
	file           string
	line           int
}

// maxIterations is the most that Mosquitto itself takes in a hash.
const maxIterations = 1<<31 - 1

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

// hashProblem says why a hash cannot be imported. It never says a part of the text, which may be a password.
func hashProblem(hash string) error {
	parts := strings.Split(hash, "$")
	switch {
	case hash == "":
		return errors.New("there is no password. The user is left out")
	case strings.HasPrefix(hash, "$argon2id$") && len(parts) == 6:
		return nil // the broker's own form, which Mosquitto writes from version 2.1 on
	case strings.HasPrefix(hash, "$7$") && len(parts) == 5:
		if n, err := strconv.Atoi(parts[2]); err != nil || n < 1 || n > maxIterations {
			return errors.New("the hash has no number of iterations. The user is left out: set its password again by mosquitto_passwd")
		}
		return bytesProblem(parts[3], parts[4])
	case strings.HasPrefix(hash, "$6$") && len(parts) == 4:
		return bytesProblem(parts[2], parts[3])
	case hash[0] == '$':
		return errors.New("the hash is none that Mosquitto writes ($7$, $6$, $argon2id$). The user is left out: set its password again by mosquitto_passwd")
	}
	return errors.New("the password stands there in plain text. The user is left out: hash the file by mosquitto_passwd -U, and import again")
}

func bytesProblem(salt, sum string) error {
	_, err1 := base64.StdEncoding.DecodeString(salt)
	bytes, err2 := base64.StdEncoding.DecodeString(sum)
	if err1 != nil || err2 != nil || salt == "" || len(bytes) != sha512.Size {
		return errors.New("salt or hash are damaged. The user is left out: set its password again by mosquitto_passwd")
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
