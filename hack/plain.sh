#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Prints what a chart renders with its defaults for people without Helm: without the kinds, which stand in config/crd, without
# what helm test makes, and without what only Helm needs to know.
#
#   hack/plain.sh CHART
set -euo pipefail
chart="$1"

"$(dirname "${BASH_SOURCE[0]}")/helm.sh" template mqtt-operator "$chart" --namespace mqtt-operator-system \
	--set crds.install=false --skip-tests |
	sed -e '/^# Source: /d' -e '/^ *helm\.sh\/chart: /d' -e '/^ *app\.kubernetes\.io\/managed-by: Helm$/d'
