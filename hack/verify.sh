#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Says which generated files are stale. Every generator runs in a copy of the tree; the tree itself is only read.
set -euo pipefail
cd "$(dirname "$0")/.."

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# Files that git knows or would add, as they lie here: a file that is deleted but not yet committed stays away.
git ls-files -z --cached --others --exclude-standard --deduplicate |
	while IFS= read -r -d '' file; do
		if [ -e "$file" ] || [ -L "$file" ]; then printf '%s\0' "$file"; fi
	done >"$work/files"
mkdir "$work/before"
tar --create --null --files-from="$work/files" | tar --extract --directory="$work/before"
cp --archive "$work/before" "$work/after"

"$work/after/hack/generate.sh"

if ! diff --recursive --unified --new-file "$work/before" "$work/after" >"$work/difference"; then
	echo "stale generated files:" >&2
	(cd "$work" && diff --recursive --brief --new-file before after || true) |
		sed -n 's/^Files before\/\(.*\) and after\/.* differ$/  \1/p' >&2
	sed "s|$work/||g" "$work/difference" | head -n 60 >&2
	echo "renew them with: hack/generate.sh" >&2
	exit 1
fi
echo "generated files are up to date"
