// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"cmp"
	"net/url"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// Tokens is what became of spec.authentication.
type Tokens struct {
	contract.Authentication
	// Faults are why an issuer's keys are not those that the spec asks for, in the order of the spec.
	Faults []Finding
	// Stale says why the cluster's keys are those of before.
	Stale *Finding
}

// judgeTokens finds the keys of everybody whose tokens are to be believed. Keys that cannot be used leave those of
// before in force.
func judgeTokens(f *Facts) Tokens {
	tokens, prior := Tokens{}, contract.AuthenticationIn(f.Bundle())
	for i := range f.Spec.Tokens.Issuers {
		spec := &f.Spec.Tokens.Issuers[i]
		issuer := contract.TokenIssuer{Issuer: spec.Issuer, Audiences: spec.Audiences, ACLClaim: spec.ACLClaim}
		if spec.UsernameClaim != contract.DefaultUsernameClaim {
			issuer.UsernameClaim = spec.UsernameClaim
		}
		fault := issuerKeys(f, spec, &issuer)
		if fault != nil {
			end := " Until then its tokens are refused."
			for k := range prior.JWT {
				if had := &prior.JWT[k]; had.Issuer == spec.Issuer && staysInForce(spec, had) {
					issuer.JWKS, issuer.JWKSURL, issuer.Authorities = had.JWKS, had.JWKSURL, had.Authorities
					end = " Until then the keys that the broker had stay in force."
				}
			}
			fault.Message = "Issuer " + spec.Issuer + ": " + fault.Message + end
			tokens.Faults = append(tokens.Faults, *fault)
		}
		if issuer.JWKS != "" || issuer.JWKSURL != "" {
			tokens.JWT = append(tokens.JWT, issuer)
		}
	}
	if len(f.Spec.Tokens.ServiceAccounts) > 0 {
		judgeServiceAccounts(f, prior.ServiceAccounts, &tokens)
	}
	return tokens
}

// staysInForce tells whether the way to the keys of before may serve while that of the spec cannot be used. Whoever asks for
// CAs of his own no longer wants the word of the public ones: keys fetched on that would be more than he allows.
func staysInForce(spec *v1alpha1.ResolvedJWTIssuer, had *contract.TokenIssuer) bool {
	return spec.CA.Name == "" || had.JWKSURL == "" || had.Authorities != ""
}

// issuerKeys puts the keys of an issuer, or the way to them, into its place.
func issuerKeys(f *Facts, spec *v1alpha1.ResolvedJWTIssuer, issuer *contract.TokenIssuer) *Finding {
	var (
		text  string
		where string
		fault *Finding
	)
	switch {
	case spec.URL != "":
		// The schema refuses these at the door; a broker would refuse all of its configuration for one.
		if u, err := url.Parse(spec.URL); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
			return find(v1alpha1.ReasonJWKSInvalid, "jwks.url is no https address: correct it.")
		}
		if spec.CA.Name != "" {
			if issuer.Authorities, fault = issuerAuthorities(f, spec.CA); fault != nil {
				return fault
			}
		}
		issuer.JWKSURL = spec.URL
		return nil
	case spec.ConfigMap.Name != "":
		where = "ConfigMap " + spec.ConfigMap.Name + ": " + spec.ConfigMap.Key
		text, fault = configMapText(f, spec.ConfigMap)
	default:
		where = "Secret " + spec.Secret.Name + ": " + spec.Secret.Key
		text, fault = referencedText(f, spec.Secret, v1alpha1.ReasonJWKSNotUsable)
	}
	if fault != nil {
		return fault
	}
	if problem := jwksProblem(text); problem != "" {
		return find(v1alpha1.ReasonJWKSInvalid, "%s %s: put the JSON Web Key Set of the issuer there.", where, problem)
	}
	issuer.JWKS = text
	return nil
}

// issuerAuthorities are the CAs that vouch for the address of an issuer.
func issuerAuthorities(f *Facts, ref v1alpha1.ResolvedKey) (string, *Finding) {
	text, fault := referencedText(f, ref, v1alpha1.ReasonIssuerCANotUsable)
	if fault != nil {
		return "", fault
	}
	const hint = "put the CA certificates of the issuer there, PEM, at most 64 KiB, and no keys."
	if len(text) > contract.MaxAuthoritiesBytes {
		return "", find(v1alpha1.ReasonIssuerCAInvalid, "Secret %s: %s has %d bytes: %s", ref.Name, ref.Key, len(text), hint)
	}
	if _, err := contract.ParseAuthorities(text); err != nil {
		return "", find(v1alpha1.ReasonIssuerCAInvalid, "Secret %s: %s cannot be used (%v): %s", ref.Name, ref.Key, err, hint)
	}
	return text, nil
}

func configMapText(f *Facts, ref v1alpha1.ResolvedKey) (string, *Finding) {
	configMap := f.ConfigMaps[ref.Name]
	if configMap == nil {
		return "", find(v1alpha1.ReasonJWKSNotUsable, "ConfigMap %s does not exist, or lacks the label that lets the operator read it: create it, or label it "+
			"(kubectl -n %s label configmap %s %s=%s).", ref.Name, f.Broker.Namespace, ref.Name, v1alpha1.LabelAllow, v1alpha1.AllowReference)
	}
	text, found := configMap.Data[ref.Key]
	if binary, isBinary := configMap.BinaryData[ref.Key]; isBinary {
		text, found = string(binary), true
	}
	if !found {
		return "", find(v1alpha1.ReasonSecretKeyMissing, "ConfigMap %s has no key %s: add it.", ref.Name, ref.Key)
	}
	return text, nil
}

// judgeServiceAccounts takes the cluster's own keys, or those that the broker had of it.
func judgeServiceAccounts(f *Facts, prior *contract.TokenIssuer, tokens *Tokens) {
	keys := f.Cluster
	if keys.Problem == nil && keys.Issuer == "" {
		keys.Problem = find(v1alpha1.ReasonServiceAccountKeysUnavailable, "The API server names no issuer of ServiceAccount tokens: set its flag --service-account-issuer.")
	}
	if problem := jwksProblem(keys.JWKS); keys.Problem == nil && problem != "" {
		keys.Problem = find(v1alpha1.ReasonServiceAccountKeysUnavailable, "The key set of the API server %s: see kubectl get --raw /openid/v1/jwks.", problem)
	}
	if keys.Issuer == "" && prior != nil {
		keys.Issuer, keys.JWKS = prior.Issuer, prior.JWKS
	}
	isKnown := keys.Issuer != "" && jwksProblem(keys.JWKS) == ""
	if isKnown {
		tokens.ServiceAccounts = &contract.TokenIssuer{Issuer: keys.Issuer, Audiences: f.Spec.Tokens.ServiceAccounts, JWKS: keys.JWKS}
	}
	if keys.Problem == nil {
		return
	}
	fault := *keys.Problem
	fault.Message = cmp.Or(fault.Message, "The API server does not answer.")
	if isKnown {
		fault.Message += " Until then the keys that were read before stay in force."
		tokens.Stale = &fault
		return
	}
	fault.Message += " Until then tokens of ServiceAccounts are refused."
	tokens.Faults = append(tokens.Faults, fault)
}
