"""The parts of the benchmark: which contests it consists of."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from contest import PEER, PRODUCT, STREAM, Contest, Contestant, Entry
from lammps import Simulation, frozen_models
from protocol import Worker
from water_box import Peer
from workload import Work, prepare

from dpa2.training.run import train

HERE = Path(__file__).parent
# Compiled for minutes before the first evaluation; `--full` waits for it.
COMPILED = "pt-expt"


@dataclass(frozen=True)
class Options:
    """What the command line asks for.

    Attributes:
        full: Also what takes long.
        turns: How often each contestant is timed, if it does not take long.
        threads: Of every process.
        device: `cpu` or `cuda`.
        peer: deepmd-kit's environment, or None.
        modes: Of deepmd-kit; empty: all, the compiled one if `full`.
    """

    full: bool
    turns: int
    threads: int
    device: str
    peer: Peer | None
    modes: tuple[str, ...]

    def work(self, what: str = "infer", **changes: object) -> Work:
        """Return a work on this device with this number of threads."""
        return replace(Work(what, threads=self.threads, device=self.device), **changes)

    def ours(self, work: Work) -> Entry:
        """Return our side of a work, or a limit of the machine."""
        return self._worker("ours", [sys.executable, str(HERE / "worker_ours.py")], work)

    def limits(self, precision: str = "float64") -> dict[str, Entry]:
        """Return the limits of the machine."""
        product = self.work("product", precision=precision)
        return {PRODUCT: self.ours(product), STREAM: self.ours(self.work("stream"))}

    def theirs(self, work: Work) -> dict[str, Entry]:
        """Return deepmd-kit's modes; none without deepmd-kit."""
        if self.peer is None:
            return {}
        known = ["eager", COMPILED] if work.what == "train" else ["eager", "torchscript", COMPILED]
        exported = work.what == "infer" and (work.folder / "model.pt2").exists()
        modes = [mode for mode in known if mode != COMPILED or self.full or exported]
        command = [str(self.peer.folder / "bin" / "python"), str(HERE / "worker_deepmd.py")]
        return {
            PEER + mode: self._worker(mode, [*command, mode], work)
            for mode in (self.modes or modes)
            if mode in known
        }

    def _worker(self, name: str, command: list[str], work: Work) -> Entry:
        threads = str(work.threads)
        environment = os.environ | {
            "OMP_NUM_THREADS": threads,
            "DP_INTRA_OP_PARALLELISM_THREADS": threads,
            "DP_INTER_OP_PARALLELISM_THREADS": "1",
            "PYTHONPATH": f"{HERE.parent}",
        }
        if work.device == "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = ""

        def start() -> Contestant:
            write_model(work)
            log = work.folder / f"{name}-{'-'.join(map(str, asdict(work).values()))}.log"
            return Worker(name, [*command, json.dumps(asdict(work))], environment, log)

        if work.is_limit:
            return Entry(start)
        return Entry(start, {"work": asdict(work), "atoms": work.atoms})


def write_model(work: Work) -> None:
    """Write input, data and a checkpoint after one step, which makes the statistics; once."""
    work.folder.mkdir(parents=True, exist_ok=True)
    if not work.is_limit and not (work.folder / "model.pt").exists():
        prepare(work)
        steps = ["training.numb_steps=1", "training.save_freq=1"]
        folder = work.folder / "one_step"
        made = train(
            work.folder / "input.json",
            overrides=steps,
            output_dir=folder,
            force=True,
            device="cpu",
            progress=False,
        )
        made.checkpoint.replace(work.folder / "model.pt")


def infer(options: Options, what: str = "infer") -> Iterator[Contest]:
    """Yield inference of both published models."""
    step = "training step" if what == "train" else "energy, forces and virial"
    for size in ("small", "medium"):
        work = options.work(what, model=size)
        entries = {"ours": options.ours(work), **options.theirs(work), **options.limits()}
        title = f"{size} DPA-2, {work.atoms} water atoms, float64: {step}"
        yield Contest(what, title, entries, options.turns)


def train_step(options: Options) -> Iterator[Contest]:
    """Yield training steps of both published models."""
    return infer(options, "train")


def busy(options: Options) -> Iterator[Contest]:
    """Yield inference beside one other process, and beside as many as there are threads."""
    work = options.work()
    alone = {"ours, 1 worker": options.ours(replace(work, threads=1))}
    for count in sorted({1, options.threads}):
        entries = {"ours": options.ours(work), **alone, **options.theirs(work)}
        title = f"medium, {work.atoms} atoms, beside {count} processes that only compute"
        yield Contest("busy", title, entries, options.turns, busy=count)


def atoms(options: Options) -> Iterator[Contest]:
    """Yield one evaluation of ever larger systems, in a process of its own each."""
    works = [
        options.work(copies=copies, once=copies > 1) for copies in (1, 2, 4, 8)[: 3 + options.full]
    ]
    entries = {f"{work.atoms} atoms": options.ours(work) for work in works}
    yield Contest("atoms", "medium, growing system", entries, 1, together=False)


def batch(options: Options) -> Iterator[Contest]:
    """Yield inference of several frames at once."""
    works = [options.work(frames=frames) for frames in (1, 2, 4, 8)]
    entries = {f"{work.frames} frames": options.ours(work) for work in works}
    yield Contest("batch", "medium, frames of 192 atoms in one call", entries, options.turns)


def layers(options: Options) -> Iterator[Contest]:
    """Yield inference with more layers."""
    works = [options.work(layers=layers) for layers in (3, 6, 12)]
    entries = {f"{work.layers} layers": options.ours(work) for work in works}
    yield Contest("layers", "medium, 192 atoms, more layers", entries, options.turns)


def workers(options: Options) -> Iterator[Contest]:
    """Yield both works with ever more threads."""
    counts = [1 << k for k in range(options.threads.bit_length())]
    for what in ("infer", "train"):
        works = [options.work(what, threads=count) for count in counts]
        entries = {f"{work.threads} threads": options.ours(work) for work in works}
        yield Contest("workers", f"medium, 192 atoms, {what}", entries, options.turns)


def precision(options: Options) -> Iterator[Contest]:
    """Yield both works in float32 and float64, and the matrix products."""
    for what in ("infer", "train"):
        entries = {
            precision: options.ours(options.work(what, precision=precision))
            for precision in ("float32", "float64")
        }
        for limit in ("float32", "float64"):
            entries[f"{PRODUCT} {limit}"] = options.limits(limit)[PRODUCT]
        yield Contest("precision", f"medium, 192 atoms, {what}", entries, options.turns)


def lammps(options: Options) -> Iterator[Contest]:
    """Yield molecular dynamics: against deepmd-kit's frozen file, and on more ranks than cores."""
    if options.peer is None:
        return
    peer, work = options.peer, Work(copies=2, threads=options.threads)
    write_model(work)
    models = frozen_models(peer, work)
    turns = options.turns if options.full else 2
    entries = {name: simulation(Simulation(peer, path, work)) for name, path in models.items()}
    title = f"medium, {work.atoms} atoms in LAMMPS, {work.threads} threads, seconds a step"
    yield Contest("lammps", title, entries, turns)
    single = replace(work, threads=1)
    entries = {
        f"ours, {ranks} ranks": simulation(Simulation(peer, models["ours"], single, ranks))
        for ranks in (options.threads, 2 * options.threads)
    }
    yield Contest("lammps", f"medium, {work.atoms} atoms in LAMMPS on ranks", entries, turns)


def simulation(contestant: Simulation) -> Entry:
    """Return its entry."""
    return Entry(lambda: contestant, {"atoms": contestant.work.atoms})


def gpu(options: Options) -> Iterator[Contest]:
    """Yield large systems in both precisions, as a GPU wants them."""
    for copies in (2, 4):
        for precision in ("float64", "float32"):
            work = options.work(copies=copies, precision=precision)
            entries = {"ours": options.ours(work), **options.theirs(work)}
            entries |= options.limits(precision)
            title = f"medium, {work.atoms} atoms, {precision}, {options.device}"
            yield Contest("gpu", title, entries, options.turns)


PARTS: dict[str, Callable[[Options], Iterator[Contest]]] = {
    "infer": infer,
    "train": train_step,
    "busy": busy,
    "atoms": atoms,
    "batch": batch,
    "layers": layers,
    "workers": workers,
    "precision": precision,
    "lammps": lammps,
    "gpu": gpu,
}
