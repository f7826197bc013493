// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package main

// releaseProgram does nothing here.
func releaseProgram() {}
