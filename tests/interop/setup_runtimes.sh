#!/usr/bin/env bash
# Build the environment in which torch-sim and i-PI run our models, unless it is there.
#
# It needs Python 3.12 or newer: for 3.11 there is only an old torch-sim with another interface. Where
# `python3.12`, `python3.13` or `python3.14` is not on the PATH, or pyenv's, name one: RUNTIMES_PYTHON.
set -euo pipefail

folder="${XDG_CACHE_HOME:-$HOME/.cache}/dpa-zoo/runtimes"
# torch-sim's own choice of torch would be its newest; ours is tested.
packages=("torch==${TORCH_VERSION:-2.13.0}" "torch-sim-atomistic>=0.6,<0.7" "ipi==3.3.1")
packages+=(ase vesin 'pydantic>=2.11' pyyaml h5py dpdata filelock platformdirs)
recipe="${packages[*]}"
stamp="$folder/.complete"

is_complete() { [[ -f $stamp && $(<"$stamp") == "$recipe" ]]; }

find_python() {
  local candidate
  for candidate in "${RUNTIMES_PYTHON:-}" python3.14 python3.13 python3.12 python3 \
    "$HOME"/.pyenv/versions/3.1[2-9]*/bin/python; do
    if [[ -n $candidate ]] && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "torch-sim needs Python 3.12 or newer; say where: RUNTIMES_PYTHON=/path/to/python3.12" >&2
  exit 1
}

is_complete && exit 0
mkdir -p "$(dirname "$folder")"
exec 9>"$folder.lock"
if command -v flock >/dev/null; then flock 9; fi
is_complete && exit 0

echo "building $folder: several GB, a few minutes" >&2
python="$(find_python)"
rm -rf "$folder"
"$python" -m venv "$folder"
"$folder/bin/pip" install --quiet "${packages[@]}"
"$folder/bin/python" -c 'import torch_sim'
printf '%s\n' "$recipe" >"$stamp.new"
mv "$stamp.new" "$stamp"
