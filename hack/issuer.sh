#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs what test/e2e/issuer needs from npm, once for each state of its lock file, and prints the directory.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../test/e2e/issuer"

cache="${MQTT_OPERATOR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mqtt-operator}"
home="$cache/issuer-$(cat package.json package-lock.json | sha256sum | cut -c1-16)"
if [ ! -d "$home/node_modules" ]; then
	command -v npm >/dev/null || { echo "issuer.sh: npm is missing; install what Debian calls nodejs and npm" >&2; exit 1; }
	mkdir -p "$cache"
	# Beside it first, so that what was broken off is never taken for whole.
	beside="$(mktemp -d "$cache/issuer-XXXXXX")"
	trap 'rm -rf "$beside"' EXIT
	cp package.json package-lock.json "$beside"
	(cd "$beside" && npm ci --ignore-scripts --no-audit --no-fund >&2)
	mv -T "$beside" "$home" 2>/dev/null || [ -d "$home/node_modules" ] # somebody else may have been faster
fi
echo "$home"
