"""What the bundled pretrained model saves: a fine-tuned model against one from scratch.

    python benchmarks/transfer.py DATA -o runs     # about a quarter of an hour on two cores

DATA is a folder with the systems data_0 to data_3 of DFT water that deepmd-kit's examples contain
(examples/water/data). Both models have one architecture, one input and one number of steps; they
learn from data_0, data_1 and data_2 and are tested on all frames of data_3. Printed are the errors,
their ratios and, as the last line, a JSON document; the learning curves of both are in one plot.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

INPUT = Path(__file__).parents[1] / "examples" / "water" / "clusters.json"
MODEL = "DPA2_water_tiny"
RUNS = ("scratch", "tuned")


def main() -> None:
    """Train both, test both, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with data_0 ... data_3")
    parser.add_argument("-o", "--output", type=Path, default=Path("transfer"))
    parser.add_argument("--branch", default="H2O_GFN2-xTB", help="of " + MODEL)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--start-lr", type=float, default=5e-4)
    parser.add_argument("--stop-lr", type=float, default=1e-6)
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=RUNS)
    parser.add_argument("--plot", type=Path, help="default: curves.svg in the output folder")
    chosen = parser.parse_args()
    chosen.output.mkdir(parents=True, exist_ok=True)
    config = chosen.output.resolve() / "input.json"
    config.write_text(json.dumps(water_input(chosen), indent=2))
    for name in chosen.runs:
        folder = chosen.output / name
        folder.mkdir(exist_ok=True)
        command = ["train", config]
        if name == "tuned":
            command = ["finetune", config, "--model", MODEL, "--branch", chosen.branch]
        zoo(*command, "--quiet", cwd=folder)
    if not all((chosen.output / name / "model.ckpt.pt").exists() for name in RUNS):
        raise SystemExit(f"{chosen.output} has one run so far; --runs makes the other")
    test = chosen.data / "data_3"
    errors = {name: test_errors(chosen.output / name / "model.ckpt.pt", test) for name in RUNS}
    plot = chosen.plot or chosen.output / "curves.svg"
    curves = [f"{name}={chosen.output / name / 'lcurve.out'}" for name in RUNS]
    zoo("plot", *curves, "-o", plot, "--quiet")
    print(f"{chosen.steps} steps, tested on {test.name}; learning curves: {plot}")
    for name, found in errors.items():
        print(f"  {name:8s} energy {found['energy']:.4f} eV   force {found['force']:.4f} eV/Å")
    ratios = {key: errors["scratch"][key] / errors["tuned"][key] for key in errors["tuned"]}
    print(f"  ratio    energy {ratios['energy']:.2f}        force {ratios['force']:.2f}")
    print(json.dumps({"errors": errors, "ratios": ratios}))


def water_input(chosen: argparse.Namespace) -> dict[str, Any]:
    """Return the input of both runs: the model of the bundled example, the data of the user."""
    config: dict[str, Any] = json.loads(INPUT.read_text())
    systems = [str(chosen.data.resolve() / f"data_{k}") for k in range(4)]
    config["learning_rate"] = {
        "type": "exp",
        "start_lr": chosen.start_lr,
        "stop_lr": chosen.stop_lr,
        "decay_steps": 10,
    }
    config["training"].update(
        training_data={"systems": systems[:3], "batch_size": 1},
        validation_data={"systems": systems[3:], "batch_size": 1, "numb_btch": 10},
        numb_steps=chosen.steps,
        disp_freq=20,
        save_freq=chosen.steps,
        seed=10,
        # Else most of the energy's error is one constant, of the few steps in which it was fitted.
        change_bias_after_training=True,
    )
    return config


def test_errors(model: Path, system: Path) -> dict[str, float]:
    """Return the RMSE of the energy of a frame (eV) and of forces (eV/Å)."""
    report = json.loads(zoo("test", "-m", model, "-s", system, "--json", "--quiet"))
    return {key: report["total"]["errors"][key]["rmse"] for key in ("energy", "force")}


def zoo(*words: object, cwd: Path | None = None) -> str:
    """Run a command of this project; returns what it printed."""
    command = [sys.executable, "-P", "-m", "cli.main", *map(str, words)]
    root = str(Path(__file__).parents[1])
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": root},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"zoo {words[0]} ended with exit code {done.returncode}")
    return done.stdout


if __name__ == "__main__":
    main()
