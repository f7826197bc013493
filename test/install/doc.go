// SPDX-License-Identifier: Apache-2.0

// Package install holds tests of what installs the product against a real API server: Helm brings the kinds up to date and
// leaves them when it goes, and what kustomize and OLM apply is accepted. test/chart says what is in them.
package install
