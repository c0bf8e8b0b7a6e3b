"""Time ours against deepmd-kit 3.2.0, interleaved in one run.

python benchmarks/compare.py --model medium --what train,infer

Every contestant is a process of its own with the same number of threads. They take turns (A B C A
B C ...), so that a busy machine slows all alike; ratios are taken turn by turn. In each turn one
repetition warms up and the next is timed. A training step is
forward pass, forces, loss, backward pass and Adam; inference is energy, forces and virial from
numpy arrays, neighbour search included. deepmd-kit's fastest mode is the one that counts.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from protocol import Worker
from workload import prepare

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dpa-zoo"
MODES = {"train": ["eager", "pt-expt"], "infer": ["torchscript", "eager", "pt-expt"]}


@dataclass
class Contestant:
    """One worker and what was measured of it."""

    name: str
    worker: Worker
    seconds: list[float] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    peak_mb: float = 0.0


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="medium", help="small, medium or both: small,medium")
    parser.add_argument("--what", default="train,infer", help="train, infer or both")
    parser.add_argument("--modes", default="", help="deepmd-kit modes to run (default: all)")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--busy",
        type=int,
        default=0,
        metavar="N",
        help="compete with N processes that only compute",
    )
    parser.add_argument("--without-ours", action="store_true", help="time deepmd-kit alone")
    parser.add_argument(
        "--deepmd",
        default=str(CACHE / "deepmd-kit-3.2.0" / "bin" / "python"),
        help="Python of an environment with deepmd-kit 3.2.0 (default: the one of make interop)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser.parse_args()


def environment(threads: int) -> dict[str, str]:
    """Return the environment of every worker."""
    return os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "DP_INTRA_OP_PARALLELISM_THREADS": str(threads),
        "DP_INTER_OP_PARALLELISM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": f"{HERE.parent}",
    }


def prepared_folder(size: str, options: argparse.Namespace) -> Path:
    """Return the folder with the system, the input and the checkpoint; made once per size."""
    folder = CACHE / "benchmarks" / size
    folder.mkdir(parents=True, exist_ok=True)
    prepare(folder, size)
    if not (folder / "model.pt").exists():
        command = [options.deepmd, str(HERE / "worker_deepmd.py"), "checkpoint", str(folder)]
        with (folder / "checkpoint.log").open("w") as log:
            env = environment(options.threads)
            subprocess.run(command, check=True, env=env, stdout=log, stderr=log)
    return folder


def start(size: str, what: str, folder: Path, options: argparse.Namespace) -> list[Contestant]:
    """Start the workers one after the other, so that preparations do not compete."""
    deepmd, ours = str(HERE / "worker_deepmd.py"), str(HERE / "worker_ours.py")
    commands = {} if options.without_ours else {"ours": [sys.executable, ours, what, str(folder)]}
    for mode in MODES[what]:
        if not options.modes or mode in options.modes.split(","):
            commands[mode] = [options.deepmd, deepmd, mode, what, str(folder)]
    contestants = []
    for name, command in commands.items():
        say(f"{size} {what}: preparing {name}")
        log = folder / f"{what}-{name}.log"
        contestant = Contestant(name, Worker(name, command, environment(options.threads), log))
        contestant.facts = contestant.worker.read()
        contestants.append(contestant)
    return contestants


@contextmanager
def competitors(count: int) -> Iterator[None]:
    """Run that many processes that compute without end meanwhile, as others on the machine do."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def measure(size: str, what: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run one comparison; returns what goes into the JSON document."""
    contestants = start(size, what, prepared_folder(size, options), options)
    with competitors(options.busy):
        for turn in range(options.repeats):
            say(f"{size} {what}: turn {turn + 1} of {options.repeats}")
            for contestant in contestants:
                contestant.seconds.append(contestant.worker.run())
    for contestant in contestants:
        contestant.peak_mb = contestant.worker.stop()
    return {
        "model": size,
        "what": what,
        "threads": options.threads,
        "competitors": options.busy,
        "contestants": {item.name: summary(item, contestants[0]) for item in contestants},
    }


def summary(item: Contestant, first: Contestant) -> dict[str, Any]:
    """Return one contestant's numbers; ratios say how much longer it takes than the first."""
    ratios = [mine / theirs for mine, theirs in zip(item.seconds, first.seconds, strict=True)]
    found: dict[str, Any] = {
        "median_s": median(item.seconds),
        "seconds": item.seconds,
        "ratio": {"median": median(ratios), "min": min(ratios), "max": max(ratios)},
        "peak_mb": item.peak_mb,
        "setup_s": item.facts["setup_s"],
    }
    if "force" in item.facts and "force" in first.facts:
        pairs = zip(item.facts["force"], first.facts["force"], strict=True)
        found["max_force_difference"] = max(abs(mine - theirs) for mine, theirs in pairs)
        found["energy_difference"] = abs(item.facts["energy"] - first.facts["energy"])
    return found


def table(result: dict[str, Any]) -> str:
    """Return one comparison as text."""
    step = "training step" if result["what"] == "train" else "energy + force + virial"
    threads = f"{result['threads']} threads"
    if result["competitors"]:
        threads += f" beside {result['competitors']} busy processes"
    titles = ("median", "ratio", "min", "max", "peak MB", "set-up", "max dF")
    widths = (10, 10, 8, 8, 9, 9, 10)
    lines = [
        f"{result['model']} DPA-2, 192 water atoms, float64, {threads}: {step}",
        " " * 14
        + "".join(f"{title:>{width}s}" for title, width in zip(titles, widths, strict=True)),
    ]
    for name, row in result["contestants"].items():
        ratio = row["ratio"]
        force = row.get("max_force_difference")
        lines.append(
            f"{name:14s}{row['median_s']:9.3f}s{ratio['median']:10.2f}{ratio['min']:8.2f}"
            f"{ratio['max']:8.2f}{row['peak_mb']:9.0f}{row['setup_s']:8.0f}s"
            + ("" if force is None else f"{force:10.1e}")
        )
    theirs = {name: row for name, row in result["contestants"].items() if name != "ours"}
    if "ours" in result["contestants"] and theirs:
        best = min(theirs, key=lambda name: theirs[name]["median_s"])
        least = min(row["peak_mb"] for row in theirs.values())
        ratio = theirs[best]["ratio"]["median"]
        memory = result["contestants"]["ours"]["peak_mb"] / least
        lines.append(
            f"ours is {ratio:.2f} times as fast as deepmd-kit's best mode ({best}) "
            f"and takes {memory:.2f} of its least memory"
        )
    return "\n".join(lines)


def say(message: str) -> None:
    """Report progress on stderr."""
    print(message, file=sys.stderr, flush=True)


def main() -> int:
    """Run all comparisons that were asked for."""
    options = arguments()
    if not Path(options.deepmd).exists():
        say(f"no deepmd-kit at {options.deepmd}: run `make interop` once, or give --deepmd PYTHON")
        return 2
    results = []
    try:
        for size in options.model.split(","):
            for what in options.what.split(","):
                results.append(measure(size, what, options))
                if not options.json:
                    print(table(results[-1]) + "\n", flush=True)
    except RuntimeError as error:
        say(str(error))
        return 1
    if options.json:
        print(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
