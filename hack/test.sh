#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs the steps of "make test" in order and stops at the first that fails. Arguments: names of steps (default: all).
# What is missing is installed on the way: Debian packages as root, all else from Go modules.
#
#   CLUSTER  where e2e runs: the development node (default), kind or current
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null

all=(packages verify unit conformance clients faults bridges monitoring fuzz apitest nested node chart docs lint e2e)

declare -A what=(
	[packages]="programs that tests call"
	[verify]="generated files are what the generators write"
	[unit]="tests that need nothing but Go"
	[conformance]="every statement of MQTT 5.0 and 3.1.1 that binds a server, byte by byte"
	[clients]="real MQTT clients against the broker"
	[faults]="crashes, full disks, slow and hostile peers, in their short form"
	[monitoring]="alerts under promtool, and every query against a real scrape"
	[bridges]="the bridge with other brokers, in its short form"
	[fuzz]="half a minute of random input"
	[apitest]="tests against a real API server"
	[nested]="tests of the modules under hack/"
	[node]="the development node comes up, and leaves nothing behind"
	[chart]="tests of the Helm chart, of config/ and of bundle/"
	[docs]="the site of docs/ is made, and every link in it leads somewhere"
	[lint]="all linters, of the code and of the workflows of GitHub"
	[e2e]="the whole product on a cluster: ${CLUSTER:-the development node}"
)

# Packages whose tests start an API server say so in a test file.
with_server() {
	grep -rl --include='*_test.go' --exclude-dir=hack --exclude-dir=e2e KUBEBUILDER_ASSETS . | xargs -n1 dirname | sort -u
}

without_server() {
	local module servers
	module="$(go list -m)"
	servers="$(with_server | sed "s|^\.|$module|")"
	go list ./... | grep -v "^$module/test/" | grep -vxF -e "${servers:-none}"
}

step_packages() {
	local missing=()
	command -v mosquitto_pub >/dev/null || missing+=(mosquitto-clients)
	command -v mosquitto >/dev/null || missing+=(mosquitto)
	# Debian's Python has Debian's modules, whatever else is called python3 here.
	/usr/bin/python3 -c 'import paho.mqtt.client' 2>/dev/null || missing+=(python3-paho-mqtt)
	command -v node >/dev/null || missing+=(nodejs)
	command -v npm >/dev/null || missing+=(npm)
	command -v promtool >/dev/null || missing+=(prometheus)
	if [ "${#missing[@]}" -eq 0 ]; then
		echo "nothing is missing"
		return
	fi
	if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
		echo "please install what Debian calls ${missing[*]}" >&2
		return 1
	fi
	echo "installing ${missing[*]}"
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends "${missing[@]}" >/dev/null
	# These packages start a service, which nobody asked for.
	local service
	for service in mosquitto prometheus; do
		if [[ " ${missing[*]} " == *" $service "* ]] && [ -d /run/systemd/system ]; then systemctl disable --now "$service.service"; fi
	done
}

step_verify() { hack/verify.sh; }

step_unit() {
	# shellcheck disable=SC2046 # one word for each package
	go test -timeout 20m $(without_server)
}

step_apitest() {
	local packages
	mapfile -t packages < <(with_server)
	KUBEBUILDER_ASSETS="${KUBEBUILDER_ASSETS:-$(go run -C hack/devcluster . assets)}"
	# The operator reads its cache without copies: whoever changes what he read is caught.
	export KUBEBUILDER_ASSETS KUBE_CACHE_MUTATION_DETECTOR=true
	go test -timeout 20m "${packages[@]}"
}

step_conformance() { go test -timeout 10m -count 1 ./test/conformance; }

step_clients() { go test -timeout 10m -count 1 ./test/clients; }

step_faults() { go test -timeout 10m -count 1 ./test/faults; }

step_monitoring() { go test -timeout 10m -count 1 ./test/monitoring ./test/promql; }

step_bridges() { go test -timeout 10m -count 1 ./test/bridges; }

step_fuzz() { hack/fuzz.sh 30s; }

# Not the modules further down: tools that are only pinned, and programs of the development node.
step_nested() {
	local module
	for module in hack/*/go.mod; do
		module="${module%/go.mod}"
		echo "-- $module"
		go -C "$module" vet ./...
		go -C "$module" test -timeout 20m ./...
	done
}

# As root only: it makes namespaces, mounts and control groups, has processes killed, and compares before and after.
step_node() {
	if [ "$(id -u)" -ne 0 ]; then
		echo "left out: it needs root"
		return
	fi
	go -C hack/devcluster test -timeout 20m -count 1 -tags live -run 'TestLife|TestInterruptedUp|TestSideBySide' .
}

step_chart() {
	hack/helm.sh version --short
	go test -timeout 20m ./test/chart/...
}

step_docs() { hack/site.sh; }

step_lint() {
	hack/lint.sh
	hack/workflows.sh
}

step_e2e() { hack/e2e.sh; }

logs="$(mktemp -d)"
trap 'rm -rf "$logs"' EXIT
if [ $# -eq 0 ]; then set -- "${all[@]}"; fi
for name in "$@"; do
	if [ -z "${what[$name]:-}" ]; then
		echo "test.sh: no step $name; there are: ${all[*]}" >&2
		exit 2
	fi
done

declare -A took=()
at=0
for name in "$@"; do
	at=$((at + 1))
	echo
	echo "[$at/$#] $name: ${what[$name]} ($((SECONDS / 60)) min $((SECONDS % 60)) s so far)"
	begin=$SECONDS
	# A subshell with its own errexit: a function called in a condition would run on after its first failure.
	set +e
	(
		set -euo pipefail
		"step_$name"
	) 2>&1 | tee "$logs/$name"
	status=${PIPESTATUS[0]}
	set -e
	took[$name]=$((SECONDS - begin))
	if [ "$status" -ne 0 ]; then
		echo
		echo "FAILED: step $name ($at of $#) after ${took[$name]} s; again: hack/test.sh $name" >&2
		exit 1
	fi
done

echo
echo "passed:"
for name in "$@"; do
	printf '  %5d s  %-9s %s\n' "${took[$name]}" "$name" "${what[$name]}"
done
printf '  %5d s  in all\n' "$SECONDS"
for name in "$@"; do
	grep -hE '^ok[[:space:]]' "$logs/$name" || true
	# The stories of e2e run from a compiled binary, which names each test instead.
	if stories="$(grep -cE '^--- PASS: ' "$logs/$name")"; then
		printf 'ok  \t%s\t%d stories\n' "$name" "$stories"
	fi
done
