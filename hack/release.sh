#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Makes what a release consists of, in a folder, and pushes images and chart.
#
#   hack/release.sh --dry-run 1.2.3 dist/release   makes everything and pushes nothing
#   hack/release.sh 1.2.3 dist/release             pushes too, as whom docker login and helm registry login have stored
#
# In the folder then lie
#
#   images/ARCH/{operator,broker}.tar            the images, each with its bill of materials beside it (.spdx.json)
#   images.txt                                   a line for each image: by which digest it is pulled, and its bill of materials,
#                                                or - for what joins those of one name
#   mqtt-operator-1.2.3.tgz                      the chart
#   mqtt-operator-1.2.3.yaml                     kinds and operator for kubectl apply
#   mqtt-operator-bundle-1.2.3.tar.gz            the bundle for the Operator Lifecycle Manager
#   kubectl-mqtt_1.2.3_OS_ARCH.tar.gz, mqtt.yaml the plugin, and the manifest by which krew installs it
#   *.spdx.json                                  the bills of materials once more, by names of their own
#   checksums.txt                                the sums of all but the images
#
#   REGISTRY           where images and chart go (default ghcr.io/mqtt-operator)
#   ARCHES             architectures of the images (default "amd64 arm64")
#   PLATFORMS          platforms of the plugin, separated by commas (default: those of hack/release)
#   REVISION           the commit that the images name (default: what git says)
#   SOURCE_DATE_EPOCH  when the sources were (default: when the commit was made)
set -euo pipefail
here="$PWD"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

push=(--push)
if [ "${1:-}" = --dry-run ]; then
	push=()
	shift
fi
if [ $# -ne 2 ]; then
	echo "usage: hack/release.sh [--dry-run] VERSION FOLDER" >&2
	exit 2
fi
version="$1"
out="$2"
case "$version" in
v*) echo "release.sh: the version is to be without a v" >&2 && exit 2 ;;
esac
case "$out" in
/*) ;;
*) out="$here/$out" ;;
esac
registry="${REGISTRY:-ghcr.io/mqtt-operator}"
if [ -e "$out" ] && [ -n "$(ls -A "$out")" ]; then
	echo "release.sh: $out is not empty: what lies there would be taken for a part of the release" >&2
	exit 1
fi
mkdir -p "$out"

say() { printf '== %s\n' "$*"; }

say "the plugin"
go run ./hack/release --version "$version" --out "$out" ${PLATFORMS:+--platforms "$PLATFORMS"}

say "the images"
for arch in ${ARCHES:-amd64 arm64}; do
	go run -C hack/images . --arch "$arch" --version "$version" ${REVISION:+--revision "$REVISION"} --out "$out/images/$arch"
	cp "$out/images/$arch/operator.spdx.json" "$out/mqtt-operator_${version}_linux_$arch.spdx.json"
	cp "$out/images/$arch/broker.spdx.json" "$out/mqtt-broker_${version}_linux_$arch.spdx.json"
done
for name in operator broker; do
	go run -C hack/images ./index --repository "$registry/mqtt-$name" --tag "$version" "${push[@]}" "$out"/images/*/"$name.tar" |
		while read -r what reference; do
			case "$what" in
			index) echo "$reference -" ;;
			*) echo "$reference images/${what#linux/}/$name.spdx.json" ;;
			esac
		done >>"$out/images.txt"
done
cat "$out/images.txt"

say "the chart"
hack/helm.sh package charts/mqtt-operator --version "$version" --app-version "$version" --destination "$out" >/dev/null
chart="$out/mqtt-operator-$version.tgz"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
hack/plain.sh "$chart" >"$work/operator.yaml"
for part in config/default/namespace.yaml config/crd/bases/*.yaml "$work/operator.yaml"; do
	echo "---"
	cat "$part"
done >"$out/mqtt-operator-$version.yaml"

say "the bundle"
go run ./hack/bundle --install "$work/operator.yaml" --out "$work/bundle"
tar --create --directory="$work" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX bundle |
	gzip --no-name >"$out/mqtt-operator-bundle-$version.tar.gz"

say "the sums"
(cd "$out" && sha256sum -- *.tgz *.tar.gz *.yaml *.spdx.json >checksums.txt && cat checksums.txt)

if [ ${#push[@]} -eq 0 ]; then
	say "nothing was pushed"
	exit
fi
say "pushing the chart"
plain=()
case "$registry" in
127.0.0.1:* | localhost:*) plain=(--plain-http) ;;
esac
hack/helm.sh push "$chart" "oci://$registry/charts" "${plain[@]}"
