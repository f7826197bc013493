#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Gives every fuzz target of the module its share of a time: fuzz.sh 30s, fuzz.sh 30m. Ends at the first failure; Go then
# has written the input that fails beside the test. "fuzz.sh list" prints package:target, one a line; a test of test/docs
# compares that with what Go takes for a target.
set -euo pipefail
cd "$(dirname "$0")/.."

# Modules of their own, and what is no source of this one, are left out.
mapfile -t targets < <(
	grep -rhoH --include='*_test.go' --exclude-dir='.?*' --exclude-dir=dist --exclude-dir=hack '^func Fuzz[A-Za-z0-9_]*' . |
		sed 's|^\./||; s|/[^/]*:func |:|' | sort -u
)

total="${1:-30s}"
case "$total" in
list)
	printf '%s\n' "${targets[@]}"
	exit
	;;
*m) seconds=$((${total%m} * 60)) ;;
*s) seconds="${total%s}" ;;
*)
	echo "fuzz.sh: give a time such as 30s or 30m, or list" >&2
	exit 2
	;;
esac

log="$(mktemp)"
trap 'rm -f "$log"' EXIT
share=$((seconds / ${#targets[@]}))
if [ "$share" -lt 1 ]; then share=1; fi
at=0
for target in "${targets[@]}"; do
	at=$((at + 1))
	echo "[$at/${#targets[@]}] ${target#*:} in ${target%%:*}: $share s"
	for try in 1 2 3; do
		# Minimizing an input has no bound of its own, and could take all of the time.
		if go test -run '^$' -fuzz "^${target#*:}\$" -fuzztime "${share}s" -fuzzminimizetime 10x "./${target%%:*}" >"$log" 2>&1; then
			tail -n 1 "$log"
			break
		fi
		# On a busy machine the time may be over before the seeds are through, which Go calls a failure too:
		# that alone is tried again.
		if [ "$try" -eq 3 ] || grep -Eq 'Failing input|panic|fatal error|_test.go:' "$log"; then
			cat "$log"
			exit 1
		fi
	done
done
