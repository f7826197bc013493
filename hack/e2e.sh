#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs the operator on a cluster and lives through the stories of test/e2e there. Arguments go to the test binary:
#
#   hack/e2e.sh                               every story
#   hack/e2e.sh -test.run 'TestHibernate'     one of them
#   hack/e2e.sh -test.list .                  their names
#
#   CLUSTER   devcluster (default), kind or current: see hack/cluster.sh
#   E2E_CLIENT_IMAGE  with CLUSTER=current: the image of test/e2e/client; without it, stories that need it are left out
#   PARALLEL  how many stories are told at the same time (default 8)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=hack/cluster.sh
. hack/cluster.sh
case "${1:-}" in -h | --help | help)
	sed -n '4,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" && echo && sed -n '/^# CLUSTER says/,/^$/{s/^# \{0,1\}//;p}' hack/cluster.sh
	exit
	;;
esac

# Compiled before the network is left: modules may have to be fetched.
if [ -z "${E2E_BINARY:-}" ]; then
	command -v prometheus >/dev/null || hack/test.sh packages # a story has one scrape
	say "compiling the stories"
	mkdir -p dist
	go test -c -tags e2e -o dist/e2e.test ./test/e2e
	export E2E_BINARY="$PWD/dist/e2e.test"
	go build -o dist/kubectl-mqtt ./cmd/kubectl-mqtt
	export PLUGIN="$PWD/dist/kubectl-mqtt"
	say "making the image of the application that stories run in pods"
	build_test_image
	say "installing the OpenID provider that stories about tokens start"
	ISSUER_MODULES="$(hack/issuer.sh)"
	export ISSUER_MODULES
fi
enter_cluster "$PWD/hack/e2e.sh" "$@"
install_operator

say "the stories begin"
cd test/e2e
status=0
# Upgrades and chaos bring their own operator: hack/upgrade.sh and hack/chaos.sh.
"$E2E_BINARY" -test.v -test.parallel "${PARALLEL:-8}" -test.timeout 20m -test.skip '^Test(Upgrade|Chaos)$' "$@" || status=$?
if [ "$status" -eq 0 ]; then
	say "all stories ended well"
else
	if [ -s "${NODE_LOG:-}" ]; then
		say "the node's own last words:"
		tail -n 20 "$NODE_LOG"
	fi
	say "some stories went wrong: see above"
fi
exit "$status"
