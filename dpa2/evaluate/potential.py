"""A trained model as people use it: structures in, energies and forces out; and how fast it is."""

import os
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from dpa2.data.frames import Fault, FrameError, Frames, named
from dpa2.formats.checkpoint import NetworkEngine
from dpa2.formats.conversion import in_precision
from dpa2.formats.engine import Engine
from dpa2.formats.pt2 import has_program
from dpa2.formats.structures import Evaluation, Structures, check_structures, join
from dpa2.formats.table import format_of
from dpa2.model.neighbors import PairFinder
from schemas.base.errors import CheckpointError
from schemas.checkpoint.kinds import check_name

_ATOMS_PER_CALL = {"cpu": 512, "cuda": 8192}


class DroppedNeighborsWarning(UserWarning):
    """Some atoms have more neighbours than the model takes (`nsel`): the farthest are ignored."""


class NotCompiledWarning(UserWarning):
    """`torch.compile` was asked for and cannot be used; the model runs without."""


class Potential:
    """A DPA-2 energy model, ready to evaluate.

    Args:
        engine: What computes; `load` makes one from a file.
        branches: Branches that the model's file holds.
        atoms_per_call: Frames are evaluated in groups of at most so many atoms (and at least one
            frame), which bounds the memory; None: 512 on a CPU, 8192 on a GPU.

    Attributes:
        num_dropped: Pairs within the cutoff so far that were ignored for being beyond `nsel`.
    """

    def __init__(
        self,
        engine: Engine,
        branches: Sequence[str],
        *,
        atoms_per_call: int | None = None,
    ) -> None:
        self._engine = engine
        self._branches = list(branches)
        self._atoms_per_call = atoms_per_call or _ATOMS_PER_CALL.get(engine.device.type, 512)
        self.num_dropped = 0

    @property
    def type_map(self) -> list[str]:
        """Element of each atom type."""
        return list(self._engine.facts.type_map)

    @property
    def rcut(self) -> float:
        """Cutoff of the neighbour search, Å."""
        return self._engine.facts.rcut

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self._engine.device

    @property
    def branches(self) -> list[str]:
        """Branches that the model's file holds; `["Default"]` for a single-task model."""
        return list(self._branches)

    @property
    def model_params(self) -> dict[str, Any]:
        """The `model` section that this branch was trained with."""
        return dict(self._engine.facts.model_params)

    @property
    def dim_fparam(self) -> int:
        """Frame parameters that the model takes."""
        return self._engine.facts.dim_fparam

    @property
    def dim_aparam(self) -> int:
        """Parameters per atom that the model takes."""
        return self._engine.facts.dim_aparam

    @property
    def parameters(self) -> list[str]:
        """Names of the parameters that the model takes: `fparam`, `aparam`."""
        widths = {"fparam": self.dim_fparam, "aparam": self.dim_aparam}
        return [name for name, width in widths.items() if width]

    @property
    def has_default_fparam(self) -> bool:
        """Whether fparam may be left out although the model takes it."""
        return self._engine.facts.has_default_fparam

    def predict(
        self,
        coord: ArrayLike,
        box: ArrayLike | None,
        atype: Sequence[object] | ArrayLike,
        fparam: ArrayLike | None = None,
        aparam: ArrayLike | None = None,
        atomic: bool = True,
        descriptor: bool = False,
        find_pairs: PairFinder | None = None,
    ) -> Evaluation:
        """Evaluate structures with the same number of atoms.

        Args:
            coord: (F, N, 3) Å; also (N, 3), or flat.
            box: (F, 3, 3) Å, rows are cell vectors; also (3, 3) or flat; None: not periodic.
            atype: (N,) or (F, N) indices into `type_map` (-1 = no atom in this place) or element
                symbols.
            fparam: (F, P), or (P,) for all frames.
            aparam: (F, N, Q), or (N, Q) for all frames.
            atomic: Also compute atomic virials, which takes three more passes. A compiled model
                (`.pt2`) has them only if it was frozen with them; they are None otherwise.
            descriptor: Also return the descriptor.
            find_pairs: What searches the neighbours of a structure; a
                `dpa2.model.neighbors.SkinSearch` for the structures of a trajectory; None: a new
                search each time.

        Returns:
            Numpy arrays in eV, eV/Å; always with energies of atoms.

        Raises:
            FrameError: If frames are bad: a number that is not finite, a cell without volume,
                atoms at one place.
            DataError: If a shape or an element is wrong, or a parameter missing.
        """
        structures = check_structures(self._engine.facts, coord, box, atype, fparam, aparam)
        num_atoms = structures.coord.shape[1]
        step = max(1, self._atoms_per_call // num_atoms)
        parts: list[Evaluation] = []
        start = 0
        while start < structures.num_frames:
            chunk = structures.frames(start, start + step)
            try:
                part, dropped = self._engine.evaluate(
                    chunk, atomic=atomic, descriptor=descriptor, find_pairs=find_pairs
                )
            except torch.OutOfMemoryError:
                if chunk.num_frames == 1:
                    raise
                step = max(1, chunk.num_frames // 2)
                self._atoms_per_call = step * num_atoms
                torch.cuda.empty_cache()
                continue
            except FrameError as error:
                if structures.num_frames == 1:
                    raise
                raise error.moved(start) from error
            self._note_dropped(dropped, chunk)
            parts.append(part)
            start += chunk.num_frames
        return join(parts)

    def compile(self, backend: str = "inductor") -> None:
        """Compile the network with `torch.compile`, or warn why it runs as it is.

        The compiler works at the first evaluation. Where it cannot, a `NotCompiledWarning` says so
        and the model goes on without.

        Args:
            backend: Of `torch.compile`.
        """
        reason = self._engine.compile(backend)
        if reason is not None:
            warnings.warn(
                f"the model runs without torch.compile: {reason}", NotCompiledWarning, stacklevel=2
            )

    def _note_dropped(self, dropped: int, structures: Structures) -> None:
        if dropped and not self.num_dropped:
            warnings.warn(
                f"the model ignores {dropped} neighbour pairs in {structures.num_frames} frames: "
                "atoms have more neighbours within the cutoff than its nsel, so energies may jump "
                "as atoms move",
                DroppedNeighborsWarning,
                stacklevel=3,
            )
        self.num_dropped += dropped


def predict_frames(potential: Potential, frames: Frames) -> Evaluation:
    """Return what a model says of frames of a data set, without virials of atoms.

    Parameters that the data have and the model does not take are left out.

    Args:
        potential: The model.
        frames: With atom types of that model.

    Raises:
        FrameError: If frames cannot be evaluated, or come out not finite; names them.
        DataError: If the frames lack what the model takes.
    """
    with named(frames):
        found = potential.predict(
            frames.coord,
            frames.box,
            frames.atom_types,
            fparam=frames.fparam if potential.dim_fparam else None,
            aparam=frames.aparam if potential.dim_aparam else None,
            atomic=False,
        )
        check_finite(found)
    return found


def check_finite(found: Evaluation) -> None:
    """Make sure that energies, forces and virials are finite.

    Raises:
        FrameError: If those of some frames are not.
    """
    faults: dict[int, Fault] = {}
    for name in ("energy", "force", "virial"):
        values = getattr(found, name).reshape(found.num_frames, -1)
        for frame in np.flatnonzero(~np.isfinite(values).all(axis=1)).tolist():
            faults.setdefault(frame, Fault(f"the model gives no finite {name}"))
    if faults:
        raise FrameError(faults)


def load(
    path: str | os.PathLike[str],
    branch: str | None = None,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype | None = None,
) -> Potential:
    """Open a model for evaluation.

    Args:
        path: A checkpoint (`.pt`), portable model (`.dp`, `.yaml`), frozen TorchScript model
            (`.pth`), compiled model (`.pt2`), TensorFlow SavedModel (`.savedmodel`, needs the extra
            `tensorflow`) or StableHLO (`.hlo`, needs the extra `jax`), of this project or of
            deepmd-kit. The last four are programs, which run: only open ones that you trust. What
            a file is, its name must say.
        branch: Which branch of a multi-task checkpoint; upper and lower case count the same, and
            the aliases of a branch are names too.
        device: `cpu`, `cuda`, `cuda:1` ...
        dtype: Compute in `float64` or `float32`; None: in the model's own precision. Positions,
            displacements, sums over atoms and results are float64 in any case. Not of the last
            four.

    Raises:
        CheckpointError: If the file is not such a model or not the one its name says, the branch
            is missing or unknown, what runs it is not installed, or the device is not there.
    """
    target = open_device(device)
    file = Path(path)
    check_name(file)
    known = format_of(file)
    if known.runs and (known.name != ".pt2" or not file.is_file() or has_program(file)):
        if branch is not None:
            raise CheckpointError(
                f"{path} is a frozen model: it has no branches to choose from",
                hint="leave the branch out",
            )
        if dtype is not None:
            raise CheckpointError(
                f"{path} is a frozen model: its precision is fixed",
                hint="leave dtype out, or load the checkpoint it was made from",
            )
        return Potential(known.run(file, target), ["Default"])
    portable = known.read(file, branch)
    if dtype is not None:
        portable = in_precision(portable, str(dtype).removeprefix("torch."))
    engine = NetworkEngine(portable.model.to(target), portable.model_params)
    return Potential(engine, portable.branches)


def open_device(device: str | torch.device) -> torch.device:
    """Return a device that is there.

    Raises:
        CheckpointError: If there is none of that name.
    """
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise CheckpointError(
            f"there is no device called {device}", hint="use cpu, cuda or cuda:0"
        ) from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise CheckpointError(
            f"the device {device} is not available: torch sees no GPU here", hint="use cpu"
        )
    return chosen


_WARM_UP = 2
"""Evaluations before the first that counts: compilers specialise and allocators fill up in them."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Wall times of one model.

    Attributes:
        num_atoms: Of the frame.
        seconds: Of each evaluation of energy, forces and virial, neighbour search included.
    """

    num_atoms: int
    seconds: list[float]

    @property
    def median(self) -> float:
        """Median, s."""
        return statistics.median(self.seconds)

    @property
    def microseconds_per_atom(self) -> float:
        """Median per atom, µs."""
        return 1e6 * self.median / self.num_atoms

    @property
    def nanoseconds_per_day(self) -> float:
        """Simulated time in a day at a time step of 0.5 fs, with nothing but the forces."""
        return 86400 / self.median * 0.5e-6


def measure(
    models: Mapping[str, Potential],
    frames: Mapping[str, Frames],
    repeats: int,
    progress: Callable[[int], None],
) -> dict[str, Timing]:
    """Evaluate a frame with every model in turns.

    Args:
        models: By name.
        frames: For each of them one frame, with the types of its model.
        repeats: Timed turns.
        progress: Told after each evaluation.
    """

    def once(name: str) -> float:
        start = time.perf_counter()
        predict_frames(models[name], frames[name])
        progress(1)
        return time.perf_counter() - start

    for name in models:
        for _ in range(_WARM_UP):
            once(name)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(repeats):
        for name, taken in seconds.items():
            taken.append(once(name))
    return {name: Timing(frames[name].num_atoms, taken) for name, taken in seconds.items()}


def num_evaluations(num_models: int, repeats: int) -> int:
    """Return how often `measure` evaluates."""
    return num_models * (_WARM_UP + repeats)
