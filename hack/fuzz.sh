#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Gives every fuzz target of the broker its share of a time: fuzz.sh 30s, fuzz.sh 30m. Ends at the first failure; Go then
# has written the input that fails beside the test.
set -euo pipefail
cd "$(dirname "$0")/.."

total="${1:-30s}"
case "$total" in
*m) seconds=$((${total%m} * 60)) ;;
*s) seconds="${total%s}" ;;
*)
	echo "fuzz.sh: give a time such as 30s or 30m" >&2
	exit 2
	;;
esac

mapfile -t targets < <(grep -rhoH --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' broker-image | sed 's|/[^/]*:func |:|' | sort -u)
share=$((seconds / ${#targets[@]}))
if [ "$share" -lt 1 ]; then share=1; fi
at=0
for target in "${targets[@]}"; do
	at=$((at + 1))
	echo "[$at/${#targets[@]}] ${target#*:} in ${target%%:*}: $share s"
	# Minimizing an input has no bound of its own, and could take all of the time.
	go test -run '^$' -fuzz "^${target#*:}\$" -fuzztime "${share}s" -fuzzminimizetime 10x "./${target%%:*}" | tail -n 2
done
