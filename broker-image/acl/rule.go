// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"errors"
	"fmt"
	"strings"
)

// Effect says what a rule does with what it matches.
type Effect string

// Action is what a client wants to do with a topic.
type Action string

// The two effects and the two actions.
const (
	Allow Effect = "allow"
	Deny  Effect = "deny"

	Publish   Action = "publish"
	Subscribe Action = "subscribe"
)

// The tokens that a rule's filter may hold as whole levels.
const (
	TokenUsername   = "%u"
	TokenClientID   = "%c"
	TokenCommonName = "%cn"
)

// maxQoS is the highest quality of service that MQTT knows.
const maxQoS = 2

// Rule is one line of an access list.
type Rule struct {
	// Effect is what happens with what the rule matches.
	Effect Effect `json:"effect"`
	// Actions that the rule speaks about: publish, subscribe or both.
	Actions []Action `json:"actions"`
	// Filter is a topic filter that may hold tokens.
	Filter string `json:"filter"`
	// MaxQoS is the highest QoS that an allow rule grants; nil grants all.
	MaxQoS *byte `json:"maxQoS,omitempty"`
	// Retain says whether an allow rule grants publishing retained messages; nil grants them.
	Retain *bool `json:"retain,omitempty"`
}

// Validate says what is wrong with the rule. Its error begins with the name of the field.
func (r Rule) Validate() error {
	switch r.Effect {
	case Allow, Deny:
	case "":
		return errors.New("effect: is missing; write allow or deny")
	default:
		return fmt.Errorf("effect: %q is neither allow nor deny", r.Effect)
	}

	publishes, err := r.validateActions()
	if err != nil {
		return err
	}

	if err := validateRuleFilter(r.Filter); err != nil {
		return fmt.Errorf("filter: %w", err)
	}

	switch {
	case r.MaxQoS == nil:
	case r.Effect == Deny:
		return errors.New("maxQoS: belongs to allow rules only; a deny rule refuses every QoS")
	case *r.MaxQoS > maxQoS:
		return fmt.Errorf("maxQoS: %d is not 0, 1 or 2", *r.MaxQoS)
	}

	switch {
	case r.Retain == nil:
	case r.Effect == Deny:
		return errors.New("retain: belongs to allow rules only; a deny rule refuses retained messages too")
	case !publishes:
		return errors.New("retain: speaks about publishing, which is not among the actions")
	}

	return nil
}

// validateActions tells whether publish is among the actions.
func (r Rule) validateActions() (bool, error) {
	if len(r.Actions) == 0 {
		return false, errors.New("actions: is empty; name publish, subscribe or both")
	}

	var publishes, subscribes bool

	for i, a := range r.Actions {
		seen := &publishes

		switch a {
		case Publish:
		case Subscribe:
			seen = &subscribes
		default:
			return false, fmt.Errorf("actions[%d]: %q is neither publish nor subscribe", i, a)
		}

		if *seen {
			return false, fmt.Errorf("actions[%d]: %q is there twice", i, a)
		}

		*seen = true
	}

	return publishes, nil
}

func validateRuleFilter(filter string) error {
	if _, _, shared := SplitShare(filter); shared {
		return fmt.Errorf("%q names a share group; write the filter alone, it covers shared subscriptions too", filter)
	}

	if err := ValidateFilter(filter); err != nil {
		return err
	}

	for level := range strings.SplitSeq(filter, "/") {
		switch level {
		case TokenUsername, TokenClientID, TokenCommonName:
			continue
		}

		for _, token := range []string{TokenUsername, TokenClientID} { // %cn begins with %c
			if strings.Contains(level, token) {
				return fmt.Errorf("%q holds %s beside other text; a token must be a whole level", filter, token)
			}
		}
	}

	return nil
}
