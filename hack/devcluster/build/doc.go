// SPDX-License-Identifier: Apache-2.0

// Package build makes the programs that a development node runs.
//
// In: the Go modules under components/, each pinned by its own go.mod and go.sum. Out: one cache directory per
// component, named by a digest of everything that can change its content, so an unchanged component is built once per
// user and a changed one never meets a stale binary. Directories appear by rename, complete or not at all.
//
// The few programs that no Go module offers (runc, the CNI plugins, nft) come from the system's packages.
package build
