#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Upgrades the operator from an earlier commit to this tree, with clients at work, and back: TestUpgrade of test/e2e. Chart and
# images of the earlier commit are made here. Arguments go to the test binary.
#
#   FROM      the earlier commit (default: the last tag; without one, the commit before the last that changed what is
#             released, or the last one where this tree has changes that are not committed)
#   CLUSTER   devcluster (default) or kind: see hack/cluster.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=hack/cluster.sh
. hack/cluster.sh
case "${1:-}" in -h | --help | help)
	sed -n '4,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" && echo && sed -n '/^# CLUSTER says/,/^$/{s/^# \{0,1\}//;p}' hack/cluster.sh
	exit
	;;
esac

released=(api broker-image cmd controllers charts config go.mod go.sum Dockerfile)

# before is the commit to upgrade from.
before() {
	local last
	if [ -n "${FROM:-}" ]; then
		git rev-parse --verify "$FROM^{commit}"
		return
	fi
	if last="$(git describe --tags --abbrev=0 --match='v[0-9]*' 2>/dev/null)"; then
		git rev-parse --verify "$last^{commit}"
		return
	fi
	if [ -n "$(git status --porcelain -- "${released[@]}")" ]; then
		git rev-parse --verify HEAD
		return
	fi
	last="$(git log -1 --format=%H -- "${released[@]}")"
	git rev-parse --verify "$last~1"
}

# make_before leaves the images of the commit in dist/ and its chart beside them, and sets BEFORE_TAG and BEFORE_CHART.
make_before() {
	local commit tree
	commit="$(before)"
	say "making chart and images of $(git log -1 --format='%h, %s' "$commit")"
	tree="$(mktemp -d)"
	git worktree add --quiet --detach "$tree" "$commit"
	# shellcheck disable=SC2064 # the tree of now
	trap "git worktree remove --force '$tree'" EXIT
	# Its own script knows how its images are made and what they are called.
	# shellcheck disable=SC2016 # to be expanded there
	BEFORE_TAG="$(cd "$tree" && mkdir -p "$OLDPWD/dist" && ln -sfn "$OLDPWD/dist" dist && bash -c '. hack/cluster.sh && build_images >&2 && echo "$IMAGE_TAG"')"
	rm -rf "dist/$BEFORE_TAG/chart"
	cp -R "$tree/charts/mqtt-operator" "dist/$BEFORE_TAG/chart"
	BEFORE_CHART="$PWD/dist/$BEFORE_TAG/chart"
	export BEFORE_TAG BEFORE_CHART
	git worktree remove --force "$tree"
	trap - EXIT
}

if [ -z "${E2E_BINARY:-}" ]; then
	[ "${CLUSTER:-devcluster}" != current ] || fail "CLUSTER=current: this cluster cannot be given the images of before"
	make_before
	say "compiling the story"
	mkdir -p dist
	go test -c -tags e2e -o dist/e2e.test ./test/e2e
	export E2E_BINARY="$PWD/dist/e2e.test"
fi
enter_cluster "$PWD/hack/upgrade.sh" "$@"
(CHART="$BEFORE_CHART" IMAGE_TAG="$BEFORE_TAG" install_operator)

say "the story begins"
export NOW_TAG="$IMAGE_TAG" NOW_CHART="$PWD/charts/mqtt-operator"
cd test/e2e
"$E2E_BINARY" -test.v -test.timeout 30m -test.run '^TestUpgrade$' "$@"
say "the upgrade disturbed nobody"
