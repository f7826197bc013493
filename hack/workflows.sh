#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs the actionlint that hack/tools/actionlint pins on the workflows of GitHub. It asks no other linter, so that it says
# the same wherever it runs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

actionlint="$(go -C hack/tools/actionlint tool -n actionlint)"
"$actionlint" -shellcheck= -pyflakes= .github/workflows/*.yaml
echo "the workflows are well-formed"
