#!/usr/bin/env bash
# The main job on real input: check an input, train a small DPA-2 on water, freeze it, test it.
# Everything it writes lands in demo-run/.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
mkdir -p demo-run
cd demo-run
ln -sfn "$root/examples" examples # inputs name their data relative to the working directory

say() { printf '\n\033[1m$ %s\033[0m\n' "$*" | { [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && cat || sed 's/\x1b\[[0-9;]*m//g'; }; }
run() { say "$@"; "$@"; }

run zoo validate examples/water/input.json
run zoo train examples/water/input.json
run zoo plot lcurve.out -o lcurve.png
run zoo freeze -c model.ckpt.pt -o water.pth
run zoo test -m water.pth -s examples/water/gfn1/test --plot parity.png
printf '\nModel: demo-run/water.pth   Curves: demo-run/lcurve.png   Parity: demo-run/parity.png\n'
