#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the Dockerfiles with buildah and compares the images with those of hack/images: platform, user, entrypoint,
# labels and each file, the binaries bit by bit. Needs no registry and no network beyond what Debian's packages need:
# golang:1.26 is stood in for by a busybox with this machine's Go and its build cache; modules come from this machine's module cache.
#
# Arguments: architectures (default: this machine's).
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(id -u)" -ne 0 ]; then
	echo "dockerfiles.sh: buildah's chroot isolation needs root" >&2
	exit 1
fi
missing=()
command -v buildah >/dev/null || missing+=(buildah)
[ -x /bin/busybox ] || missing+=(busybox-static)
if [ "${#missing[@]}" -ne 0 ]; then
	echo "installing ${missing[*]}"
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends "${missing[@]}" >/dev/null
fi

host="$(go env GOHOSTARCH)"
if [ $# -eq 0 ]; then
	set -- "$host"
fi

# Storage, temporary files and configuration of its own: nothing of it outlives the script, and no image that lies on
# this machine can be taken for a stand-in.
work="$(mktemp -d)"
mkdir "$work/tmp"
export TMPDIR="$work/tmp"
trap 'b rm --all >/dev/null 2>&1 || true; rm -rf "$work"' EXIT
b() {
	buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs "$@"
}

echo "== a stand-in for golang:1.26"
base="$(b from scratch)"
b copy --quiet "$base" /bin/busybox /bin/busybox >/dev/null
b copy --quiet "$base" /bin/busybox /bin/sh >/dev/null
b copy --quiet "$base" /bin/busybox /bin/mkdir >/dev/null
mkdir "$work/tmp/folder"
b copy --quiet "$base" "$work/tmp/folder" /tmp >/dev/null
b config --env PATH=/usr/local/go/bin:/bin --env HOME=/root --env GOPATH=/go --env GOCACHE=/gocache \
	--env GOTOOLCHAIN=local --env GOPROXY=file:///goproxy --env GOSUMDB=off "$base"
b commit --quiet "$base" docker.io/library/golang:1.26 >/dev/null
b rm "$base" >/dev/null

go mod download
version=0.0.0-dockerfiles
revision=0000000000000000000000000000000000000000
for arch in "$@"; do
	echo "== hack/images, linux/$arch"
	go run -C hack/images . --arch "$arch" --version "$version" --revision "$revision" --out "$work/$arch"

	for image in operator broker; do
		dockerfile=Dockerfile
		if [ "$image" = broker ]; then dockerfile=broker-image/Dockerfile; fi
		echo "== $dockerfile, linux/$arch"
		# This buildah does not know the platform arguments by itself; docker does.
		b build --quiet --isolation chroot --pull-never --file "$dockerfile" --tag "$image" \
			--platform "linux/$arch" --build-arg "BUILDPLATFORM=linux/$host" \
			--build-arg TARGETOS=linux --build-arg "TARGETARCH=$arch" \
			--build-arg "VERSION=$version" --build-arg "REVISION=$revision" \
			--volume "$(go env GOROOT):/usr/local/go:ro" \
			--volume "$(go env GOMODCACHE)/cache/download:/goproxy:ro" \
			--volume "$(go env GOCACHE):/gocache" .
		b push --quiet "$image" "docker-archive:$work/$arch/$image-docker.tar:$image"
		go run -C hack/images ./compare "$work/$arch/$image.tar" "$work/$arch/$image-docker.tar"
	done
done
echo "the Dockerfiles and hack/images make the same images"
