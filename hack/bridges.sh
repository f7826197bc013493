#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The long form of test/bridges: all peers are installed and started, each is away for a minute, fifty kills, a hundred
# thousand messages for a remote that is away. The tables go into docs/bridges.md, good or bad. Arguments go to go test,
# such as -run 'TestPeers/rabbitmq'; then no table is written.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null

export BRIDGES=full
if [ $# -eq 0 ]; then set -- -args -write; fi
# What is away for a minute leaves the machine to the others.
exec go test -v -count 1 -timeout 80m -parallel 6 ./test/bridges "$@"
