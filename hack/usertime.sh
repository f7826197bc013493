#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Measures the time from the apply of an MQTTUser to its first CONNECT over TLS: see hack/usertime/main.go.
#
#   hack/usertime.sh [-tries 20]
#
#   CLUSTER  devcluster (default), kind or current: see hack/cluster.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=hack/cluster.sh
. hack/cluster.sh

if [ -z "${USERTIME_BINARY:-}" ]; then
	mkdir -p dist
	go build -o dist/usertime ./hack/usertime
	export USERTIME_BINARY="$PWD/dist/usertime"
fi
enter_cluster "$PWD/hack/usertime.sh" "$@"
install_operator
"$USERTIME_BINARY" "$@"
