#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Writes what the chart takes from elsewhere: the kinds and the rights from config/, README and schema from
# values.yaml, alerts and dashboard from controllers/desired. Then writes config/default/operator.yaml, which is the chart for people without Helm. hack/generate.sh
# calls it at its end.
set -euo pipefail
cd "$(dirname "$0")/.."

chart=charts/mqtt-operator

mkdir -p "$chart/files/crd" "$chart/files/rbac"
rm -f "$chart"/files/crd/*.yaml "$chart"/files/rbac/*.yaml
cp config/crd/bases/*.yaml "$chart/files/crd/"
cp config/rbac/role.yaml config/rbac/*_role.yaml "$chart/files/rbac/"

go run ./hack/chartdoc "$chart"

# The operator's own alerts and dashboard.
mkdir -p "$chart/files/monitoring"
go run ./hack/chartwatch "$chart/files/monitoring"

{
	echo "# SPDX-License-Identifier: Apache-2.0"
	echo "# Written by hack/chart.sh: what charts/mqtt-operator renders with its defaults, without the kinds."
	hack/helm.sh template mqtt-operator "$chart" --namespace mqtt-operator-system --set crds.install=false |
		sed -e '/^# Source: /d' -e '/^ *helm\.sh\/chart: /d' -e '/^ *app\.kubernetes\.io\/managed-by: Helm$/d'
} >config/default/operator.yaml
