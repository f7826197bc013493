// SPDX-License-Identifier: Apache-2.0

package mosquitto

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

const (
	// maxName keeps names to what also fits a label.
	maxName = 63
	maxSlug = 20
	hashLen = 8
)

// objectNames gives each text a name of its own that Kubernetes takes: prefix and the text itself where that is a name,
// else what is left of it with a part of its SHA-256 sum. The order of the texts plays no part, so a file that is imported
// again after lines were moved gives the same names.
func objectNames(prefix string, texts []string) map[string]string {
	names, taken := map[string]string{}, map[string]bool{}
	texts = slices.Compact(slices.Sorted(slices.Values(texts)))
	for _, text := range texts {
		if name := prefix + text; len(name) <= maxName && len(validation.IsDNS1123Subdomain(name)) == 0 {
			names[text], taken[name] = name, true
		}
	}
	for _, text := range texts {
		sum := sha256.Sum256([]byte(text))
		digits := hex.EncodeToString(sum[:])
		for n := hashLen; names[text] == ""; n++ {
			if name := prefix + slug(text) + "-" + digits[:n]; !taken[name] {
				names[text], taken[name] = name, true
			}
		}
	}
	return names
}

// slug is what a name can keep of a text, and never empty.
func slug(text string) string {
	words := strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') })
	s := strings.Join(words, "-")
	s = strings.Trim(s[:min(len(s), maxSlug)], "-")
	if s == "" {
		return "x"
	}
	return s
}
