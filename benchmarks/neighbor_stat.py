"""Time `zoo validate` with its pass over the data against `dp --pt neighbor-stat`, interleaved.

python benchmarks/neighbor_stat.py DATA --type-map "O H"

`zoo validate` checks an input with three cutoffs against the data: exact neighbour counts at each,
and everything else it looks for. `dp --pt neighbor-stat` counts at one cutoff, the largest. Both
are processes from start to end with the same number of threads; they take turns, so that a busy
machine slows both, and the ratio is taken turn by turn. Both must find the same numbers.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parents[1]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dpa-zoo"
ZOO = [sys.executable, "-c", "from cli.main import main; main()", "validate", "--json"]


@dataclass
class Contestant:
    """A command and how long it took, wall and processor seconds."""

    name: str
    command: list[str]
    forgets: bool = False
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    output: str = ""


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with systems")
    parser.add_argument("--type-map", default="O H", help="elements")
    parser.add_argument("--rcut", type=float, default=6.0, help="largest of three cutoffs, Å")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--dp",
        default=str(CACHE / "deepmd-kit-3.2.0" / "bin" / "dp"),
        help="dp of an environment with deepmd-kit 3.2.0 (default: the one of make interop)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser.parse_args()


def write_input(path: Path, data: Path, type_map: Sequence[str], rcut: float) -> None:
    """Write an input whose `nsel` are too small: validation then says what the data need."""
    repinit = {
        "rcut": rcut, "rcut_smth": 0.5, "nsel": 4, "use_three_body": True,
        "three_body_rcut": rcut - 2, "three_body_rcut_smth": 0.5, "three_body_sel": 3,
    }  # fmt: skip
    document = {
        "model": {
            "type_map": list(type_map),
            "descriptor": {
                "type": "dpa2",
                "repinit": repinit,
                "repformer": {"rcut": rcut - 1.5, "rcut_smth": 0.5, "nsel": 3},
            },
            "fitting_net": {},
        },
        "learning_rate": {"start_lr": 0.001},
        "loss": {},
        "training": {"training_data": {"systems": str(data)}, "numb_steps": 1000},
    }
    path.write_text(json.dumps(document, indent=2))


def run(contestant: Contestant, environment: Mapping[str, str]) -> None:
    """Run a command once and note its time."""
    if contestant.forgets:
        shutil.rmtree(environment["ZOO_CACHE"], ignore_errors=True)
    before, start = os.times(), time.perf_counter()
    done = subprocess.run(
        contestant.command, env=environment, capture_output=True, text=True, check=False, cwd=ROOT
    )
    contestant.wall.append(time.perf_counter() - start)
    after = os.times()
    contestant.cpu.append(
        after.children_user + after.children_system - before.children_user - before.children_system
    )
    contestant.output = done.stdout + done.stderr
    if done.returncode not in (0, 1):
        sys.exit(f"{contestant.name} failed:\n{contestant.output}")


def most_neighbors(ours: str, theirs: str) -> tuple[int, int]:
    """Return the largest number of neighbours that each of the two found."""
    faults = json.loads(ours[: ours.rindex("}") + 1])["files"][0]["diagnostics"]
    words = next(item["message"] for item in faults if item["path"][-2:] == ["repinit", "nsel"])
    found = re.search(r"has (\d+) neighbours", words)
    listed = re.search(r"max_nbor_size: \[(\d+)", theirs)
    if found is None or listed is None:
        sys.exit(f"no number of neighbours in:\n{words}\n{theirs}")
    return int(found[1]), int(listed[1])


def main() -> None:
    """Measure and print."""
    given = arguments()
    data = given.data.resolve()
    type_map = given.type_map.split()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "input.json"
        write_input(path, data, type_map, given.rcut)
        environment = os.environ | {
            "ZOO_CACHE": str(Path(folder) / "cache"),
            "OMP_NUM_THREADS": str(given.threads),
            "DP_INTRA_OP_PARALLELISM_THREADS": str(given.threads),
            "DP_INTER_OP_PARALLELISM_THREADS": "1",
        }
        stat = ["-s", str(data), "-r", str(given.rcut), "-t", *type_map, "--mixed-type"]
        theirs = Contestant("dp --pt neighbor-stat", [given.dp, "--pt", "neighbor-stat", *stat])
        cold = Contestant("zoo validate", [*ZOO, str(path)], forgets=True)
        contestants = [
            theirs,
            cold,
            Contestant("zoo validate, data seen before", [*ZOO, str(path)]),
            Contestant("zoo validate --no-data", [*ZOO, "--no-data", str(path)]),
        ]
        for _ in range(given.repeats):
            for contestant in contestants:
                run(contestant, environment)
    report(contestants, most_neighbors(cold.output, theirs.output), as_json=given.json)


def report(contestants: Sequence[Contestant], most: tuple[int, int], *, as_json: bool) -> None:
    """Print a table, or one JSON document."""
    theirs = contestants[0]
    rows: list[dict[str, Any]] = [
        {
            "command": item.name,
            "wall_s": round(median(item.wall), 3),
            "cpu_s": round(median(item.cpu), 3),
            "faster_wall": round(
                median(t / o for t, o in zip(theirs.wall, item.wall, strict=True)), 1
            ),
            "faster_cpu": round(
                median(t / o for t, o in zip(theirs.cpu, item.cpu, strict=True)), 1
            ),
        }
        for item in contestants
    ]
    if as_json:
        print(json.dumps({"rows": rows, "most_neighbors": most}, indent=2))
        return
    print(f"{'':34}{'wall s':>9}{'cpu s':>9}{'x wall':>9}{'x cpu':>9}")
    for row in rows:
        times = f"{row['wall_s']:9.2f}{row['cpu_s']:9.2f}"
        print(f"{row['command']:34}{times}{row['faster_wall']:9.1f}{row['faster_cpu']:9.1f}")
    print(f"most neighbours within the largest cutoff: {most[0]} (dp: {most[1]})")


if __name__ == "__main__":
    main()
