#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Lets the operator and its way to the API server fail at random for a while, with clients at work and people who change
# things: TestChaos of test/e2e. Arguments go to the test binary.
#
#   MINUTES   how long (default 3)
#   SEED      of what is drawn (default: the time); a run prints its own
#   CLUSTER   devcluster (default), kind or current: see hack/cluster.sh. Pods must reach the address of the node at which this
#             script runs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=hack/cluster.sh
. hack/cluster.sh
case "${1:-}" in -h | --help | help)
	sed -n '4,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" && echo && sed -n '/^# CLUSTER says/,/^$/{s/^# \{0,1\}//;p}' hack/cluster.sh
	exit
	;;
esac

if [ -z "${E2E_BINARY:-}" ]; then
	say "compiling the story"
	mkdir -p dist
	go test -c -tags e2e -o dist/e2e.test ./test/e2e
	export E2E_BINARY="$PWD/dist/e2e.test"
fi
enter_cluster "$PWD/hack/chaos.sh" "$@"
install_operator

say "the chaos begins"
cd test/e2e
export CHAOS_MINUTES="${MINUTES:-3}" CHAOS_SEED="${SEED:-}"
"$E2E_BINARY" -test.v -test.timeout "$((CHAOS_MINUTES + 20))m" -test.run '^TestChaos$' "$@"
say "it disturbed nobody"
