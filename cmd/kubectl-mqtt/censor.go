// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/desired"
	"github.com/mqtt-operator/mqtt-operator/controllers/pki"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

const (
	// removed stands where a secret was.
	removed = "(removed)"
	// shortestSecret is the shortest value that is looked for: a shorter one is in every other word. What is built without
	// secrets does not hold it either.
	shortestSecret = 6
)

// censor removes values of Secrets from texts, in whatever form they stand there. It is the second net: what goes into a
// bundle is made without them.
type censor struct{ replace *strings.Replacer }

// newCensor learns what is secret from Secrets.
func newCensor(secrets []corev1.Secret) *censor {
	known := map[string]bool{}
	for i := range secrets {
		for key, value := range secrets[i].Data {
			if isPublic(&secrets[i], key) {
				continue
			}
			for _, part := range secretsIn(&secrets[i], key, value) {
				if part = strings.TrimSpace(part); len(part) >= shortestSecret {
					for _, form := range forms(part) {
						known[form] = true
					}
				}
			}
		}
	}
	// The longest first: one may be a part of another.
	values := slices.SortedFunc(maps.Keys(known), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b))
	})
	pairs := make([]string, 0, 2*len(values))
	for _, value := range values {
		pairs = append(pairs, value, removed)
	}
	return &censor{replace: strings.NewReplacer(pairs...)} // it goes through a text once, however many there are
}

// publicKeys are those whose values everybody may know who may read the Secret: certificates, names, and where things stand. By
// types of Secrets; those of the empty type are public wherever they are.
var publicKeys = map[corev1.SecretType][]string{
	"": {v1alpha1.BindingCA, v1alpha1.BindingCert, v1alpha1.BindingUsername, v1alpha1.DefaultCRLKey, desired.ClientCertKey},
	v1alpha1.SecretTypeBinding: {
		v1alpha1.BindingType, v1alpha1.BindingProvider, v1alpha1.BindingHost, v1alpha1.BindingPort, v1alpha1.BindingURI,
	},
	v1alpha1.SecretTypeCA:       {pki.NextCertKey, pki.OldCertKey, pki.GenerationKey, pki.PhaseKey, pki.SinceKey, pki.RotateKey},
	v1alpha1.SecretTypeVerifier: {verdict.PinKey, verdict.CertificateKey, verdict.IssuerKey, verdict.ServiceAccountKey},
}

func isPublic(secret *corev1.Secret, key string) bool {
	return slices.Contains(publicKeys[""], key) || slices.Contains(publicKeys[secret.Type], key)
}

// secretsIn are the secrets in a value: the configuration of a broker holds some among much that is none.
func secretsIn(secret *corev1.Secret, key string, value []byte) []string {
	if secret.Type != v1alpha1.SecretTypeConfig && !contract.IsFile(key) {
		return []string{string(value)}
	}
	var parsed any
	if json.Unmarshal(value, &parsed) != nil {
		return []string{string(value)}
	}
	var found []string
	collect(parsed, "", &found)
	return found
}

// collect finds the texts below the fields that hold secrets: keys, passwords and hashes.
func collect(value any, field string, found *[]string) {
	switch v := value.(type) {
	case map[string]any:
		for name, below := range v {
			collect(below, name, found)
		}
	case []any:
		for _, below := range v {
			collect(below, field, found)
		}
	case string:
		switch field {
		case "privateKey", "key", "password", "verifiers", "jwks":
			*found = append(*found, v)
		}
	}
}

// forms are the ways in which a secret may stand in a text: as it is, in base64 as in the YAML of a Secret, escaped in JSON or YAML,
// and line by line, however its lines are indented.
func forms(secret string) []string {
	all := []string{base64.StdEncoding.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte(secret + "\n")), base64.URLEncoding.EncodeToString([]byte(secret))}
	all = append(all, escapes(secret)...)
	if !strings.Contains(secret, "\n") {
		return all
	}
	for line := range strings.Lines(secret) {
		if line = strings.TrimSpace(line); len(line) >= shortestSecret && !strings.HasPrefix(line, "-----") {
			all = append(all, escapes(line)...)
		}
	}
	return all
}

// escapes are a text as it is, in JSON with and without what HTML asks for, and in single quotes of YAML.
func escapes(text string) []string {
	all := []string{text, strings.ReplaceAll(text, "'", "''")}
	for _, forHTML := range []bool{true, false} {
		var b strings.Builder
		encoder := json.NewEncoder(&b)
		encoder.SetEscapeHTML(forHTML)
		if err := encoder.Encode(text); err != nil {
			continue
		}
		quoted := strings.TrimSuffix(b.String(), "\n")
		all = append(all, quoted[1:len(quoted)-1])
	}
	return all
}

// remove is the text without what is secret.
func (c *censor) remove(text string) string { return c.replace.Replace(text) }
