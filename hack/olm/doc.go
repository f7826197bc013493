// SPDX-License-Identifier: Apache-2.0

// Package olm asks the operator-framework's own validators about the folder bundle/.
//
// It is a module of its own so that what they need is no part of the product. hack/bundle writes what is looked at here;
// that its rights are those of the chart is tested in test/chart.
package olm
