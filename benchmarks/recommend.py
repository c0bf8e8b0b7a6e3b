"""How often `zoo recommend` names the right branch of the bundled model, and what that costs.

    python benchmarks/recommend.py

Draws few held-out frames of the bundled water at each level of theory, many times, and asks which
branch suits them. Then times a recommendation in turns with the evaluation of one branch on the
same frames, both from opening the file on, in processor time. The last line is a JSON document.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

import dpa2
from dpa2.data.frames import Frames
from dpa2.data.systems import open_systems
from dpa2.evaluate.recommend import recommend
from zoo.resolve import model_file

WATER = Path(__file__).parents[1] / "examples" / "water"
LEVELS = {"gfn1": "H2O_GFN1-xTB", "gfn2": "H2O_GFN2-xTB"}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--frames", type=int, default=5, help="of a draw")
    parser.add_argument("--cost-frames", type=int, nargs="+", default=[5, 20])
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    model = Path(model_file("DPA2_water_tiny"))
    rng = np.random.default_rng(0)
    right = {}
    with tempfile.TemporaryDirectory() as name:
        for level, branch in LEVELS.items():
            (system,) = open_systems(str(WATER / level / "test"), ["O", "H"])
            right[level] = 0
            for draw in range(chosen.draws):
                picked = np.sort(rng.choice(system.num_frames, chosen.frames, replace=False))
                folder = Path(name) / f"{level}-{draw}"
                write_system(folder, system.frames(picked))
                right[level] += recommend(model, [str(folder)]).best.branch == branch
            print(f"{level}: {right[level]} of {chosen.draws} draws right", flush=True)
        costs = {}
        for number in chosen.cost_frames:
            folder = Path(name) / f"cost-{number}"
            frames = system.frames(np.linspace(0, system.num_frames - 1, number).astype(int))
            write_system(folder, frames)
            costs[number] = cost(model, folder, frames, chosen.rounds)
            print(f"{number} frames: {costs[number]:.2f} times the cost of one branch", flush=True)
    print(json.dumps({"right": right, "draws": chosen.draws, "costs": costs}))


def cost(model: Path, folder: Path, frames: Frames, rounds: int) -> float:
    """Return the processor time of a recommendation in units of one branch's evaluation."""

    def one_branch() -> None:
        potential = dpa2.load(model, LEVELS["gfn2"])
        potential.predict(frames.coord, frames.box, frames.atom_types, atomic=False)

    def all_branches() -> None:
        recommend(model, [str(folder)], num_frames=None)

    times: dict[str, list[float]] = {"one": [], "all": []}
    for turn in range(rounds + 1):
        for key, function in (("one", one_branch), ("all", all_branches)):
            start = time.process_time()
            function()
            if turn:  # the first warms up
                times[key].append(time.process_time() - start)
    return statistics.median(times["all"]) / statistics.median(times["one"])


def write_system(folder: Path, frames: Frames) -> None:
    """Write labelled frames as a system of their own."""
    (folder / "set.000").mkdir(parents=True)
    (folder / "type_map.raw").write_text("O\nH\n")
    np.savetxt(folder / "type.raw", frames.atom_types[0], fmt="%d")
    for key in ("coord", "box", "energy", "force"):
        values = getattr(frames, key).reshape(frames.num_frames, -1)
        np.save(folder / "set.000" / f"{key}.npy", values)


if __name__ == "__main__":
    main()
