// SPDX-License-Identifier: Apache-2.0

// Package apply is the only one that writes to the cluster. In come an owner and the objects that it should have, in
// order; out go server-side applies with one field owner ([KEP-555]), and nothing at all where the world is already as
// wanted.
//
// It never adopts: an object of a wanted name that the owner does not control is left as it is, and a
// [ConflictError] says so. It writes no field that another writer changed away from what is wanted without owning it
// afterwards: drift in what we want is corrected, what we do not speak of is left alone.
//
// [KEP-555]: https://github.com/kubernetes/enhancements/tree/master/keps/sig-api-machinery/555-server-side-apply
package apply
