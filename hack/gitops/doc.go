// SPDX-License-Identifier: Apache-2.0

// Package gitops holds tests of docs/gitops.md: objects of ours, as they come from an API server, are judged by kstatus in the
// versions of its authors and of Flux, and by the Lua that the page gives to Argo CD; and what the pages show of the kinds of
// Argo CD, Flux and cert-manager is held against their own definitions.
//
// It is a module of its own, so that none of these is in the product's. testdata is written by a test of the controllers.
package gitops
