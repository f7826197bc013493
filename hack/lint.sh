#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs golangci-lint, built from hack/tools/golangci-lint with the linter for Kubernetes APIs inside. Arguments are
# packages (default: all of the root module).
set -euo pipefail
cd "$(dirname "$0")/.."

linter="$PWD/.cache/tools/golangci-lint"
go build -C hack/tools/golangci-lint -o "$linter" .

if [ $# -eq 0 ]; then
	set -- ./...
fi
exec "$linter" run --timeout=30m "$@"
