// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 holds the words of the API: the four kinds as people write them, the conditions and reasons with
// which the operator answers, the names of every object that it makes, and the facts that follow from a spec.
//
// Comes in: YAML that the schema and the CEL rules below have let through. Goes out: typed objects, and through
// Resolved() the same objects with every default filled in. Defaults are never written back into a spec.
//
// Every room may import this package; it imports k8s.io/api and k8s.io/apimachinery only.
//
// A field whose behaviour does not exist yet is refused by a rule that stands beside it under the comment
// "not alive:". The change that brings the field to life removes that rule.
//
// +kubebuilder:object:generate=true
// +groupName=mqtt-operator.io
package v1alpha1
