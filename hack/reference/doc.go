// SPDX-License-Identifier: Apache-2.0

// Command reference writes docs/reference: every field of the four kinds, as the API server knows it.
//
// In: the CustomResourceDefinitions in config/crd/bases, which controller-gen makes of the Go types, and what a change of a
// broker's field does, from api/v1alpha1. Out: a page for each kind. An object gets a section of its own, a small one rows in
// the section of the object that holds it. What Kubernetes itself describes is named and not repeated. A field without a
// description is refused, so nothing stays undocumented.
//
// How a kind is used stands on the pages that people write; those link here.
package main
