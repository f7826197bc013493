// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// full is a user with something in every field, made anew each time.
func full(t testing.TB) *contract.User {
	t.Helper()

	const text = `{
		"username": "u", "verifiers": ["v"], "certificate": {"pins": ["p"]}, "jwt": "j", "serviceAccount": "n/s", "suspended": true,
		"clientIDs": {"exact": ["e"], "prefix": "p"},
		"quota": {"connections": 1, "publishRate": 2, "bytesRate": 3, "queuedMessages": 4, "sessionExpiry": 5},
		"acl": [{"effect": "allow", "actions": ["publish"], "filter": "f", "maxQoS": 1, "retain": true}], "policies": ["p"]
	}`

	u := &contract.User{}
	if err := json.Unmarshal([]byte(text), u); err != nil {
		t.Fatal(err)
	}

	return u
}

// TestSameUserSeesEveryField changes each field there is, however deep, and each must be seen. So a field that is added
// to the contract and not to sameUser fails here.
func TestSameUserSeesEveryField(t *testing.T) {
	if !sameUser(full(t), full(t)) {
		t.Fatal("two equal users differ")
	}

	count := 0

	var visit func(at string, pick func(u *contract.User) reflect.Value)

	visit = func(at string, pick func(u *contract.User) reflect.Value) {
		check := func(what string, change func(v reflect.Value)) {
			count++
			changed := full(t)
			change(pick(changed))

			if sameUser(full(t), changed) || sameUser(changed, full(t)) {
				t.Errorf("%s: %s is not seen", at, what)
			}
		}

		switch v := pick(full(t)); v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				visit(at+"."+v.Type().Field(i).Name, func(u *contract.User) reflect.Value { return pick(u).Field(i) })
			}
		case reflect.Pointer:
			if v.IsNil() {
				t.Fatalf("%s: fill it in full", at)
			}

			check("its absence", func(v reflect.Value) { v.SetZero() })
			visit(at, func(u *contract.User) reflect.Value { return pick(u).Elem() })
		case reflect.Slice:
			if v.Len() == 0 {
				t.Fatalf("%s: fill it in full", at)
			}

			check("one more", func(v reflect.Value) { v.Set(reflect.Append(v, v.Index(0))) })
			check("one less", func(v reflect.Value) { v.SetLen(v.Len() - 1) })
			visit(at+"[0]", func(u *contract.User) reflect.Value { return pick(u).Index(0) })
		default:
			if v.IsZero() {
				t.Fatalf("%s: fill it in full", at)
			}

			check("its change", func(v reflect.Value) { v.SetZero() })
		}
	}

	visit("user", func(u *contract.User) reflect.Value { return reflect.ValueOf(u).Elem() })

	if count < 30 {
		t.Errorf("only %d changes were tried", count)
	}
}
