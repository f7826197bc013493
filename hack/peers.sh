#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Gets other people's brokers, for test/bridges: peers.sh NAME..., names as below (default: all). Debian packages are
# installed as root, without their services being started; programs of npm and Go go where the cache is, pinned by the
# lock files in hack/peers. What is there already is left alone. The last line is the directory of the programs.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null

cache="${MQTT_OPERATOR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mqtt-operator}/peers"
mkdir -p "$cache"
# Two runs at once would unpack into each other.
exec 9>"$cache/lock"
flock 9

say() { echo "[$SECONDS s] $*" >&2; }

debian() {
	local package missing=() policy=/usr/sbin/policy-rc.d made=""
	for package in "$@"; do
		[ "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
	done
	if [ "${#missing[@]}" -eq 0 ]; then return; fi
	if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
		echo "peers.sh: please install what Debian calls ${missing[*]}" >&2
		return 1
	fi
	say "Debian: ${missing[*]}"
	# Asked by every package before it starts its service.
	if [ ! -e "$policy" ]; then
		made="$policy"
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod +x "$policy"
	fi
	local status=0
	apt=(apt-get install -qq --yes --no-install-recommends "${missing[@]}")
	DEBIAN_FRONTEND=noninteractive "${apt[@]}" >/dev/null 2>&1 ||
		{ apt-get update -qq >&2 && DEBIAN_FRONTEND=noninteractive "${apt[@]}" >&2; } || status=$?
	[ -z "$made" ] || rm -f "$made"
	# It would start with the machine the next time.
	if [ -d /run/systemd/system ]; then
		for package in "${missing[@]}"; do systemctl disable "$package.service" >/dev/null 2>&1 || true; done
	fi
	return "$status"
}

node() {
	local name="$1" dir="$cache/$1" file
	command -v node >/dev/null || debian nodejs
	command -v npm >/dev/null || debian npm
	mkdir -p "$dir"
	if ! cmp -s "hack/peers/$name/package-lock.json" "$dir/installed"; then
		say "npm: $name"
		cp "hack/peers/$name/package.json" "hack/peers/$name/package-lock.json" "$dir/"
		npm ci --prefix "$dir" --no-audit --no-fund --ignore-scripts --silent >&2
		cp "$dir/package-lock.json" "$dir/installed"
	fi
	for file in "hack/peers/$name"/*.mjs; do cp "$file" "$dir/"; done
}

# The build cache knows what is up to date.
module() {
	[ -x "$cache/$2" ] || say "Go: $2"
	(cd "hack/peers/$1" && CGO_ENABLED=0 go build -trimpath -o "$cache/$2" "$3")
}

get_mosquitto() { debian mosquitto; }
get_rabbitmq() { debian rabbitmq-server; }
# The package of ActiveMQ has the MQTT connector, but not the codec that it needs.
get_activemq() { debian activemq libmqtt-client-java openssl; }
get_ejabberd() { debian ejabberd; }
get_aedes() { node aedes; }
get_mosca() { node mosca; }
get_nats() { module nats nats-server github.com/nats-io/nats-server/v2; }
get_mochi() { module mochi mochi .; }

if [ $# -eq 0 ]; then set -- mosquitto mochi nats aedes mosca rabbitmq activemq ejabberd; fi
for name in "$@"; do
	if ! declare -F "get_$name" >/dev/null; then
		echo "peers.sh: no broker $name" >&2
		exit 2
	fi
	"get_$name"
done
echo "$cache"
