// SPDX-License-Identifier: Apache-2.0

// Package scram is the client's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), as an application writes it beside
// paho.golang. It computes by the standard library alone, so that it shares no mistake with the broker that it tests.
package scram

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/eclipse/paho.golang/paho"
)

// Method is the name of the authentication method.
const Method = "SCRAM-SHA-256"

// Client proves one time that it knows a password. It is what paho.golang takes as AuthHandler.
type Client struct {
	// Signature is what a broker sends in CONNACK that knows the verifier; empty before the challenge.
	Signature string

	password, bare, nonce string
}

// New takes a nonce that was never used before.
func New(name, password, nonce string) *Client {
	return &Client{password: password, nonce: nonce, bare: "n=" + name + ",r=" + nonce}
}

// Begin is the authentication data of CONNECT.
func (c *Client) Begin() []byte { return []byte("n,," + c.bare) }

// Authenticate answers the challenge.
func (c *Client) Authenticate(a *paho.Auth) *paho.Auth {
	challenge := string(a.Properties.AuthData)

	fields := strings.Split(challenge, ",")
	if len(fields) != 3 || !strings.HasPrefix(fields[0], "r="+c.nonce) {
		return &paho.Auth{ReasonCode: 0x18, Properties: &paho.AuthProperties{AuthMethod: Method}}
	}

	salt, _ := base64.StdEncoding.DecodeString(fields[1][2:])
	iterations, _ := strconv.Atoi(fields[2][2:])
	salted, _ := pbkdf2.Key(sha256.New, c.password, salt, iterations, sha256.Size)

	without := "c=biws," + fields[0]
	all := c.bare + "," + challenge + "," + without
	key := signed(salted, "Client Key")
	stored := sha256.Sum256(key)

	for i, b := range signed(stored[:], all) {
		key[i] ^= b
	}

	c.Signature = "v=" + base64.StdEncoding.EncodeToString(signed(signed(salted, "Server Key"), all))

	return &paho.Auth{ReasonCode: 0x18, Properties: &paho.AuthProperties{
		AuthMethod: Method, AuthData: []byte(without + ",p=" + base64.StdEncoding.EncodeToString(key)),
	}}
}

// Authenticated has nothing to do: whoever wants to know looks at what CONNACK holds.
func (c *Client) Authenticated() {}

func signed(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	_, _ = mac.Write([]byte(text))

	return mac.Sum(nil)
}
