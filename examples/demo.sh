#!/usr/bin/env bash
# The main job on real input: which pretrained branch suits my data, fine-tune from it, and was that
# better than training from scratch? Everything it writes lands in demo-run/.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
mkdir -p demo-run/tuned demo-run/scratch
cd demo-run
for folder in . tuned scratch; do
  ln -sfn "$root/examples" "$folder/examples" # inputs name their data relative to the working directory
done

data=examples/water/clusters input=examples/water/clusters.json model=DPA2_water_tiny

say() { printf '\n\033[1m$ %s\033[0m\n' "$*" | { [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && cat || sed 's/\x1b\[[0-9;]*m//g'; }; }
run() { say "$@"; "$@"; }
run_in() { (cd "$1" && shift && run "$@"); }

run zoo branches $model
run zoo recommend $data/train -m $model
branch=$(zoo recommend $data/train -m $model --json --quiet | python -c 'import json, sys; print(json.load(sys.stdin)["recommended"])')

run zoo validate $input --finetune $model --branch "$branch"
run_in tuned zoo finetune $input -m $model --branch "$branch" --force # an earlier demo is written over
run_in scratch zoo train $input --force

for run in tuned scratch; do
  run zoo freeze -c $run/model.ckpt.pt -o $run/model.pth
done
run zoo compare scratch=scratch/model.pth tuned=tuned/model.pth -s $data/test
run zoo plot scratch=scratch/lcurve.out tuned=tuned/lcurve.out -o curves.png --quiet
printf '\nModel: demo-run/tuned/model.pth   Learning curves: demo-run/curves.png\n'
