// SPDX-License-Identifier: Apache-2.0

// Command release makes the archives of the kubectl plugin and the manifest by which krew installs them.
//
// In: the code of cmd/kubectl-mqtt, a version, a list of platforms, and the template krew.yaml beside this file. Out:
// kubectl-mqtt_VERSION_OS_ARCH.tar.gz with the program and the licence, and mqtt.yaml with the address and the sum of each.
// Equal input gives equal bytes: times are zero, owners too, and a binary says only the version it was told.
//
// hack/release.sh runs it, after the images and the chart.
package main
