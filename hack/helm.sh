#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs the Helm that hack/tools/helm pins, in the current directory. The first call compiles it, which takes minutes;
# what is compiled lies in Go's cache and not in this tree.
set -euo pipefail
helm="$(go -C "$(dirname "${BASH_SOURCE[0]}")/tools/helm" tool -n helm)"
exec "$helm" "$@"
