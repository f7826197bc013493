#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs every case against our broker and against Debian's Mosquitto, which it installs where it may, and writes
# results.tsv and docs/conformance.md. That cases fail is what it is for; it fails only when it cannot run them.
set -euo pipefail
cd "$(dirname "$0")"

if ! command -v mosquitto >/dev/null; then
	if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
		echo "please install what Debian calls mosquitto" >&2
		exit 1
	fi
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends mosquitto >/dev/null
	# The package starts a service, which nobody asked for.
	if [ -d /run/systemd/system ]; then systemctl disable --now mosquitto.service; fi
fi

for target in "" mosquitto; do
	before="$(date +%s)"
	MQTT_TARGET="$target" go test . -count 1 -run TestConformance -record >/dev/null || true
	if [ "$(stat -c %Y results.tsv)" -lt "$before" ]; then
		echo "no results of ${target:-ours}" >&2
		exit 1
	fi
done

go test . -count 1 -offline -run TestTables -update
