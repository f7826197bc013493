// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	agelib "filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/mqtt-operator/mqtt-operator/broker-image/snapshot"
)

// ageLine is how a file begins that age has encrypted.
const ageLine = "age-encryption.org/v1\n"

// sealing says for whom a file is encrypted.
type sealing struct {
	recipients []string
	passphrase string
}

func (s *sealing) flags(c *cobra.Command) {
	c.Flags().StringArrayVar(&s.recipients, "encrypt-to", nil, "a recipient of age (age1…) for whom the file is encrypted; may be given more than once")
	c.Flags().StringVar(&s.passphrase, "passphrase-file", "", "file that holds a passphrase to encrypt with; - for standard input")
}

// wrap encrypts what is written to the answer, which must be closed; nil if nothing is to be encrypted.
func (s *sealing) wrap(to io.Writer) (io.WriteCloser, error) {
	var all []agelib.Recipient
	for _, text := range s.recipients {
		found, err := agelib.ParseRecipients(strings.NewReader(text))
		if err != nil {
			return nil, usage("--encrypt-to %s is no recipient of age", shown(text))
		}
		all = append(all, found...)
	}
	switch {
	case s.passphrase != "" && len(all) > 0:
		return nil, usage("--encrypt-to and --passphrase-file exclude one another")
	case s.passphrase != "":
		word, err := passphraseOf(s.passphrase)
		if err != nil {
			return nil, err
		}
		recipient, err := agelib.NewScryptRecipient(word)
		if err != nil {
			return nil, usage("--passphrase-file: %v", err)
		}
		all = append(all, recipient)
	case len(all) == 0:
		return nil, nil
	}
	sealed, err := agelib.Encrypt(to, all...)
	if err != nil {
		return nil, &exit{exitUnknown, fmt.Errorf("encrypt: %w", err)}
	}
	return sealed, nil
}

// passphraseOf is the first line of a file.
func passphraseOf(name string) (string, error) {
	from := os.Stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return "", &exit{exitNo, err}
		}
		defer func() { _ = file.Close() }()
		from = file
	}
	line, err := bufio.NewReader(io.LimitReader(from, 64<<10)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", &exit{exitNo, err}
	}
	if line = strings.TrimRight(line, "\r\n"); line == "" {
		return "", &exit{exitNo, fmt.Errorf("%s: its first line, the passphrase, is empty", name)}
	}
	return line, nil
}

// unsealing says by what a file is decrypted.
type unsealing struct {
	identities []string
	passphrase string

	keys []agelib.Identity // read once
}

func (u *unsealing) flags(c *cobra.Command) {
	c.Flags().StringArrayVar(&u.identities, "identity", nil, "file with an identity of age (AGE-SECRET-KEY-…) that opens the file; may be given more than once")
	c.Flags().StringVar(&u.passphrase, "passphrase-file", "", "file that holds the passphrase that the file was encrypted with; - for standard input")
}

func (u *unsealing) read() error {
	for _, name := range u.identities {
		text, err := os.ReadFile(name)
		if err != nil {
			return &exit{exitNo, err}
		}
		found, err := agelib.ParseIdentities(bytes.NewReader(text))
		if err != nil { // its words could repeat a key
			return &exit{exitNo, fmt.Errorf("%s holds no identity of age", name)}
		}
		u.keys = append(u.keys, found...)
	}
	if u.passphrase == "" {
		return nil
	}
	word, err := passphraseOf(u.passphrase)
	if err != nil {
		return err
	}
	key, err := agelib.NewScryptIdentity(word)
	if err != nil {
		return usage("--passphrase-file: %v", err)
	}
	u.keys = append(u.keys, key)
	return nil
}

// unwrap decrypts a file, if it is encrypted.
func (u *unsealing) unwrap(from io.Reader) (io.Reader, error) {
	file := bufio.NewReader(from)
	if begin, _ := file.Peek(len(ageLine)); string(begin) != ageLine { // what cannot be read is said by who reads on
		return file, nil
	}
	if len(u.keys) == 0 {
		return nil, &exit{exitUsage, errors.New("the file is encrypted: say --identity or --passphrase-file")}
	}
	opened, err := agelib.Decrypt(file, u.keys...)
	if wrong := (*agelib.NoIdentityMatchError)(nil); errors.As(err, &wrong) {
		return nil, &exit{exitNo, errors.New("none of these keys opens the file")}
	}
	if err != nil {
		return nil, &exit{exitNo, fmt.Errorf("%w: it cannot be decrypted: %w", snapshot.ErrDamaged, err)}
	}
	return unsealed{opened}, nil
}

// unsealed says of what cannot be decrypted that it is damaged: where it is not whole, or was changed.
type unsealed struct{ io.Reader }

func (u unsealed) Read(b []byte) (int, error) {
	n, err := u.Reader.Read(b)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("%w: it cannot be decrypted: %w", snapshot.ErrDamaged, err)
	}
	return n, err
}
