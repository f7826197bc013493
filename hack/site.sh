#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Makes the site of docs/ with the Hugo that hack/tools/hugo pins, and checks it: every link and anchor in it leads somewhere, every
# page is at its side, and it loads nothing from any other host. Once Hugo is built, no network is needed.
#
#   hack/site.sh [DIR]        writes the site into DIR (default: dist/site), which may be opened from there in a browser
#   hack/site.sh serve [PORT] shows it on http://127.0.0.1:1313, and anew when a page changes
set -euo pipefail
cd "$(dirname "$0")/.."

hugo="$PWD/.cache/tools/hugo"
# Without cgo: the SCSS that it would bring is not used.
CGO_ENABLED=0 go build -C hack/tools/hugo -o "$hugo" github.com/gohugoio/hugo
# It asks nobody for anything: it has no modules to fetch, and keeps what it caches here.
run_hugo() { HUGO_CACHEDIR="$PWD/.cache/hugo" HUGO_ENABLEGITINFO=false "$hugo" "$@" --noBuildLock --source hack/site; }

if [ "${1:-}" = serve ]; then
	run_hugo server --bind 127.0.0.1 --port "${2:-1313}" --disableFastRender --renderToMemory
	exit
fi

out="${1:-dist/site}"
mkdir -p "$out"
out="$(cd "$out" && pwd)"
run_hugo build --quiet --panicOnWarning --cleanDestinationDir --destination "$out"
go run -C hack/sitecheck . "$out"
