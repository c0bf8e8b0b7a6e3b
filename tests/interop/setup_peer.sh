#!/usr/bin/env bash
# Build the environment in which deepmd-kit 3.2.0 runs, unless it is there. Several GB, a few minutes.
#
# It lives outside the project, because it has its own torch (2.11, what deepmd-kit's operators are
# built for) and is worth keeping between checkouts.
set -euo pipefail

version=3.2.0
folder="${XDG_CACHE_HOME:-$HOME/.cache}/dpa-zoo/deepmd-kit-$version"
packages=("deepmd-kit[torch,lmp,jax,cpu]==$version" nvidia-cuda-runtime-cu12 ase)
# The recipe is the stamp's content: a change of the recipe makes the environment stale.
recipe="${packages[*]}"
stamp="$folder/.complete"

is_complete() { [[ -f $stamp && $(<"$stamp") == "$recipe" ]]; }

is_complete && exit 0
mkdir -p "$(dirname "$folder")"
exec 9>"$folder.lock"
if command -v flock >/dev/null; then flock 9; fi
is_complete && exit 0

echo "building $folder: several GB, a few minutes" >&2
rm -rf "$folder"
"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/pip" install --quiet "${packages[@]}"
"$folder/bin/python" -c 'import deepmd.pt'
printf '%s\n' "$recipe" >"$stamp.new"
mv "$stamp.new" "$stamp"
