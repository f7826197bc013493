// SPDX-License-Identifier: Apache-2.0

// Command bundle writes what the Operator Lifecycle Manager (OLM) installs from.
//
// In: config/default/operator.yaml, which is what the chart renders with its defaults, config/crd/bases and
// config/samples. Out: the folder bundle/, with the kinds, a ClusterServiceVersion and the metadata of the package. So
// the three ways to install have one source, and hack/verify.sh tells when the bundle is older than it. hack/release.sh gives
// another operator.yaml, with the version of the release.
//
// OLM makes the ServiceAccount and its bindings itself, from rules in the ClusterServiceVersion. Rules that the chart
// binds in the namespaces that are looked after become "permissions", which OLM grants in the namespaces of its
// OperatorGroup or in all; others become "clusterPermissions". What is bound to nobody, such as the roles of people, stays
// an object of its own.
package main
