// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"slices"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// sameUser tells whether nothing of a user has changed. Ten thousand are compared for each change of one, for which
// package reflect is too slow; a test sees to it that no field is left out.
func sameUser(a, b *contract.User) bool {
	return a.Username == b.Username && a.JWT == b.JWT && a.ServiceAccount == b.ServiceAccount && a.Suspended == b.Suspended &&
		slices.Equal(a.Verifiers, b.Verifiers) && slices.Equal(a.Policies, b.Policies) &&
		slices.EqualFunc(a.ACL, b.ACL, sameRule) &&
		samePointed(a.Certificate, b.Certificate, func(a, b *contract.CertificateLogin) bool { return slices.Equal(a.Pins, b.Pins) }) &&
		samePointed(a.ClientIDs, b.ClientIDs, func(a, b *contract.ClientIDs) bool {
			return a.Prefix == b.Prefix && slices.Equal(a.Exact, b.Exact)
		}) &&
		samePointed(a.Quota, b.Quota, sameQuota)
}

func sameQuota(a, b *contract.Quota) bool {
	return a.Connections == b.Connections && a.PublishRate == b.PublishRate && a.BytesRate == b.BytesRate &&
		a.QueuedMessages == b.QueuedMessages && samePointed(a.SessionExpiry, b.SessionExpiry, equal)
}

func sameRule(a, b acl.Rule) bool {
	return a.Effect == b.Effect && a.Filter == b.Filter && slices.Equal(a.Actions, b.Actions) &&
		samePointed(a.MaxQoS, b.MaxQoS, equal) && samePointed(a.Retain, b.Retain, equal)
}

// samePointed tells whether neither is there, or both are and are the same.
func samePointed[T any](a, b *T, same func(a, b *T) bool) bool {
	return a == b || a != nil && b != nil && same(a, b)
}

func equal[T comparable](a, b *T) bool { return *a == *b }
