"""Time from a command to its first training step, or to its end, beside deepmd-kit's.

Every command runs in turn, in a process and a folder of its own, with the programs in the operating
system's cache of files. The first step is done when `lcurve.out` has its row; nothing is
subtracted. Ratios are taken turn by turn. Needs deepmd-kit 3.2.0 (`make interop` builds it).

python benchmarks/startup.py DATA --model small
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from workload import input_file

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dpa-zoo"
ZOO = [sys.executable, "-m", "cli.main"]
PREDICT = """
from deepmd.infer import DeepPot
import numpy as np
frame = np.load("../frame.npz")
DeepPot("../model.pt").eval(frame["coord"], frame["box"], frame["types"])
"""


@dataclass
class Command:
    """A command, and how long it took: wall seconds to its mark, processor seconds to its end."""

    words: list[str]
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


@dataclass
class Work:
    """What both do: ours, theirs (None: they have no such command)."""

    name: str
    ours: Command
    theirs: Command | None
    trains: bool = False


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with systems, the last one for validation")
    parser.add_argument("--model", choices=["small", "medium"], default="small")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="work with one of these words")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peer", type=Path, default=CACHE / "deepmd-kit-3.2.0" / "bin")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser.parse_args()


def prepare(folder: Path, size: str, data: Path) -> None:
    """Write `input.json` (one step), `two.json` (two), one frame as `frame.npz` and `frame.xyz`."""
    *systems, last = sorted(path for path in data.iterdir() if path.is_dir())
    document = input_file(size, data)
    document["training"] |= {
        "training_data": {"systems": [str(path) for path in systems], "batch_size": 1},
        "validation_data": {"systems": [str(last)], "batch_size": 1},
        "disp_freq": 1,
        "numb_steps": 1,
    }
    document["learning_rate"]["decay_steps"] = 1
    (folder / "input.json").write_text(json.dumps(document))
    document["training"]["numb_steps"] = 2
    (folder / "two.json").write_text(json.dumps(document))
    coord, box = (np.load(last / "set.000" / f"{name}.npy")[:1] for name in ("coord", "box"))
    types = np.loadtxt(last / "type.raw", dtype=int)
    np.savez(folder / "frame.npz", coord=coord, box=box, types=types)
    names = (last / "type_map.raw").read_text().split()
    lines = [str(len(types)), f'Lattice="{" ".join(map(str, box[0]))}" pbc="T T T"']
    lines += [
        f"{names[kind]} {x} {y} {z}"
        for kind, (x, y, z) in zip(types, coord.reshape(-1, 3), strict=True)
    ]
    (folder / "frame.xyz").write_text("\n".join(lines) + "\n")


def all_work(peer: Path, data: Path) -> list[Work]:
    """Return what is timed; all run in a folder beside the files of `prepare`."""
    test = str(max(path for path in data.iterdir() if path.is_dir()))

    def work(name: str, ours: str, theirs: str, *, trains: bool = False) -> Work:
        command = Command([str(peer / "dp"), "--pt", *theirs.split()])
        return Work(name, Command([*ZOO, *ours.split()]), command, trains=trains)

    predict = Command([*ZOO, "predict", "-m", "../model.pt", "../frame.xyz", "-o", "out.xyz"])
    return [
        work("train", "train ../input.json", "train ../input.json", trains=True),
        work(
            "train --skip-neighbor-stat",
            "train ../input.json --skip-neighbor-stat",
            "train ../input.json --skip-neighbor-stat",
            trains=True,
        ),
        work(
            "restart",
            "train ../two.json --restart ../model.pt",
            "train ../two.json --skip-neighbor-stat --restart ../model.pt",
            trains=True,
        ),
        work(
            "finetune",
            "finetune ../input.json --model ../model.pt",
            "train ../input.json --skip-neighbor-stat --finetune ../model.pt",
            trains=True,
        ),
        work("freeze", "freeze -c ../model.pt -o f.pth", "freeze -c ../model.pt -o f.pth"),
        work("test", f"test -m ../model.pt -s {test} -n 1", f"test -m ../model.pt -s {test} -n 1"),
        Work("predict", predict, Command([str(peer / "python"), "-c", PREDICT])),
        Work("import", Command([sys.executable, "-c", "import dpa2"]), None),
    ]


def commands(works: Sequence[Work]) -> list[Command]:
    """Return ours and theirs, in turn."""
    return [command for work in works for command in (work.ours, work.theirs) if command]


def run(command: Command, folder: Path, threads: int, *, to_first_step: bool) -> None:
    """Run a command once in a new folder and note its time."""
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "OMP_NUM_THREADS": str(threads),
        "DP_INTRA_OP_PARALLELISM_THREADS": str(threads),
        "DP_INTER_OP_PARALLELISM_THREADS": "1",
    }
    with TemporaryDirectory(dir=folder) as place, (folder / "log").open("w") as log:
        before, start = os.times(), time.perf_counter()
        process = subprocess.Popen(
            command.words, cwd=place, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        curve = Path(place) / "lcurve.out"
        while to_first_step and process.poll() is None and not has_row(curve):
            time.sleep(0.005)
        seconds = time.perf_counter() - start
        if process.wait() != 0:
            sys.exit(f"{' '.join(command.words)} failed:\n{(folder / 'log').read_text()}")
        command.wall.append(seconds if to_first_step else time.perf_counter() - start)
    after = os.times()
    command.cpu.append(sum(after[2:4]) - sum(before[2:4]))


def has_row(curve: Path) -> bool:
    """Return whether a learning curve has its first row."""
    return curve.exists() and any(not line.startswith("#") for line in curve.open())


def rows(works: Sequence[Work]) -> list[dict[str, Any]]:
    """Return medians, and medians of the turns' ratios."""
    found = []
    for work in works:
        row: dict[str, Any] = {"work": work.name}
        for kind in ("wall", "cpu"):
            ours = getattr(work.ours, kind)
            row[f"ours_{kind}_s"] = round(median(ours), 3)
            if work.theirs is not None:
                theirs = getattr(work.theirs, kind)
                row[f"theirs_{kind}_s"] = round(median(theirs), 3)
                ratios = [t / o for t, o in zip(theirs, ours, strict=True)]
                row[f"ratio_{kind}"] = round(median(ratios), 2)
        found.append(row)
    return found


def main() -> None:
    """Measure and print."""
    given = arguments()
    data = given.data.resolve()
    works = all_work(given.peer, data)
    with TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, given.model, data)
        make = [*works[1].ours.words, "--output-dir", str(folder / "made"), "--quiet"]
        run(Command(make), folder, given.threads, to_first_step=False)
        (folder / "made" / "model.ckpt-1.pt").rename(folder / "model.pt")
        for command in commands(works[-2:]):  # fills the cache of files
            run(replace(command, wall=[], cpu=[]), folder, given.threads, to_first_step=False)
        if given.only:
            works = [work for work in works if set(given.only) & set(work.name.split())]
        for _ in range(given.repeats):
            for work in works:
                for command in commands([work]):
                    run(command, folder, given.threads, to_first_step=work.trains)
    if given.json:
        print(json.dumps({"model": given.model, "rows": rows(works)}, indent=2))
        return
    print(f"{given.model} DPA-2, {data}, {given.threads} threads: seconds")
    print(f"{'':28}{'ours':>8}{'dp':>8}{'ratio':>8}{'ours cpu':>10}{'dp cpu':>8}{'ratio':>8}")
    for row in rows(works):
        cells = [row.get(f"{key}") for key in list(row)[1:]]
        if len(cells) == 2:
            cells = [cells[0], None, None, cells[1], None, None]
        print(
            f"{row['work']:28}"
            + "".join(
                f"{'-' if cell is None else f'{cell:.2f}':>{width}}"
                for cell, width in zip(cells, (8, 8, 8, 10, 8, 8), strict=True)
            )
        )


if __name__ == "__main__":
    main()
