#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the images twice and compares: here, and from a copy of the sources elsewhere with nothing compiled before. The
# second time takes as long as a first build does. What hack/images tests in short, this shows in full.
#
#   ARCHES  architectures (default: this machine's)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-0}"
mkdir -p "$work/elsewhere/broker-image"
# What the build stages of both Dockerfiles copy.
cp -r go.mod go.sum Dockerfile api broker-image cmd controllers "$work/elsewhere/"

status=0
for arch in ${ARCHES:-$(go env GOARCH)}; do
	build=(go run -C hack/images . --version 0.0.0-reproduce --revision none --arch "$arch")
	"${build[@]}" --out "$work/here/$arch"
	# The command itself may come from the cache; the images may not.
	tool="$work/images"
	go build -C hack/images -o "$tool" .
	GOCACHE="$work/cache" "$tool" "${build[@]:5}" --source "$work/elsewhere" --out "$work/there/$arch"
	for file in operator.tar operator.spdx.json broker.tar broker.spdx.json; do
		if cmp --silent "$work/here/$arch/$file" "$work/there/$arch/$file"; then
			echo "same: linux/$arch $file"
		else
			echo "DIFFERS: linux/$arch $file" >&2
			status=1
		fi
	done
done
exit "$status"
