#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The long form of what "make test" does in short: soak.sh [TIME], such as soak.sh 30m (default) or soak.sh 30s. First the
# faults with 100 kills and all else in full, then random input for that time. TIME says nothing about the faults: they
# take about five minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null

fuzz="${1:-30m}"
begin=$SECONDS

echo "[1/2] faults, long form"
FAULTS=long go test -v -count 1 -timeout 60m ./test/faults
echo "[2/2] random input for $fuzz ($(((SECONDS - begin) / 60)) min so far)"
hack/fuzz.sh "$fuzz"
echo "passed after $(((SECONDS - begin) / 60)) min $(((SECONDS - begin) % 60)) s"
