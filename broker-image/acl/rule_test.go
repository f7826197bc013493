// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"strings"
	"testing"
)

func TestRuleValidate(t *testing.T) {
	both := []Action{Publish, Subscribe}
	cases := map[string]struct {
		reason string
		rule   Rule
		want   string // what the error begins with; empty for none
	}{
		"a plain rule":             {"", Rule{Effect: Allow, Actions: both, Filter: "a/+/#"}, ""},
		"a rule with tokens":       {"", Rule{Effect: Deny, Actions: both, Filter: "%u/%c/%cn/x"}, ""},
		"a rule with its limits":   {"", Rule{Effect: Allow, Actions: both, Filter: "a", MaxQoS: new(byte(2)), Retain: new(false)}, ""},
		"no effect":                {"nothing is guessed", Rule{Actions: both, Filter: "a"}, "effect: is missing"},
		"a wrong effect":           {"", Rule{Effect: "permit", Actions: both, Filter: "a"}, "effect: "},
		"no action":                {"a rule about nothing is a mistake", Rule{Effect: Allow, Filter: "a"}, "actions: "},
		"a wrong action":           {"", Rule{Effect: Allow, Actions: []Action{"read"}, Filter: "a"}, "actions[0]: "},
		"an action twice":          {"", Rule{Effect: Allow, Actions: []Action{Publish, Publish}, Filter: "a"}, "actions[1]: "},
		"an empty filter":          {"[MQTT-4.7.3-1]", Rule{Effect: Allow, Actions: both}, "filter: must not be empty"},
		"a token inside a level":   {"a token is a whole level", Rule{Effect: Allow, Actions: both, Filter: "dev-%u/x"}, "filter: "},
		"a share group":            {"the group plays no part", Rule{Effect: Allow, Actions: both, Filter: "$share/g/a"}, "filter: "},
		"the bare share word":      {"it could never match", Rule{Effect: Allow, Actions: both, Filter: "$share"}, "filter: "},
		"a QoS that is none":       {"", Rule{Effect: Allow, Actions: both, Filter: "a", MaxQoS: new(byte(3))}, "maxQoS: "},
		"a QoS on deny":            {"it would say nothing", Rule{Effect: Deny, Actions: both, Filter: "a", MaxQoS: new(byte(1))}, "maxQoS: "},
		"retain on deny":           {"it would say nothing", Rule{Effect: Deny, Actions: both, Filter: "a", Retain: new(true)}, "retain: "},
		"retain without publish":   {"it would say nothing", Rule{Effect: Allow, Actions: []Action{Subscribe}, Filter: "a", Retain: new(true)}, "retain: "},
		"a filter that is no UTF8": {"[MQTT-1.5.4-1]", Rule{Effect: Allow, Actions: both, Filter: "\xff"}, "filter: "},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			err := c.rule.Validate()

			switch {
			case c.want == "" && err != nil:
				t.Errorf("%s\ngot %q, want no error", c.reason, err)
			case c.want != "" && err == nil:
				t.Errorf("%s\ngot no error, want one that begins with %q", c.reason, c.want)
			case c.want != "" && !strings.HasPrefix(err.Error(), c.want):
				t.Errorf("%s\ngot %q, want it to begin with %q", c.reason, err, c.want)
			}

			if _, compileErr := Compile([]Rule{allowAll("ok"), c.rule}); (compileErr == nil) != (err == nil) {
				t.Errorf("Compile says %v and Validate %v", compileErr, err)
			} else if err != nil && compileErr.Error() != "[1]."+err.Error() {
				t.Errorf("Compile must name the rule: %v", compileErr)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	long := strings.Repeat("a", maxTopicBytes)
	cases := map[string]struct {
		text          string
		filter, topic bool
	}{
		"empty":                      {"", false, false},
		"one level":                  {"a", true, true},
		"one slash":                  {"/", true, true},
		"a leading slash":            {"/a", true, true},
		"a space":                    {"a b/ ", true, true},
		"a $ tree":                   {"$SYS/x", true, true},
		"many levels":                {"a/#", true, false},
		"all":                        {"#", true, false},
		"single":                     {"+/a/+", true, false},
		"# before the end":           {"a/#/b", false, false},
		"# beside text":              {"a#", false, false},
		"# beside text at the end":   {"a/b#", false, false},
		"## ":                        {"a/##", false, false},
		"+ beside text":              {"a+/b", false, false},
		"+#":                         {"+#", false, false},
		"null":                       {"a\x00", false, false},
		"broken UTF-8":               {"a\xc3", false, false},
		"a surrogate":                {"\xed\xa0\x80", false, false},
		"as long as can be":          {long, true, true},
		"one too long":               {long + "a", false, false},
		"shared":                     {"$share/g/a/#", true, false},
		"shared without filter":      {"$share/g/", false, true},
		"shared without group":       {"$share//a", false, true},
		"shared, group is wildcard":  {"$share/#/a", false, false},
		"shared, filter breaks rule": {"$share/g/a+", false, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if err := ValidateFilter(c.text); (err == nil) != c.filter {
				t.Errorf("ValidateFilter: %v, want valid %t", err, c.filter)
			}

			if err := ValidateTopic(c.text); (err == nil) != c.topic {
				t.Errorf("ValidateTopic: %v, want valid %t", err, c.topic)
			}
		})
	}
}
