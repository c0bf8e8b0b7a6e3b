"""The interface of everything that evaluates, and programs with deepmd-kit's lower interface.

TorchScript, AOTInductor, StableHLO and SavedModel differ in what runs the program, and in nothing
else: pairs become ghosts and lists here, and what the program says of ghosts goes to their atoms.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpa2.data.frames import each_frame
from dpa2.formats.facts import Facts
from dpa2.formats.structures import Evaluation, Structures, join, nothing
from dpa2.model.cutoffs import kept_pairs
from dpa2.model.neighbors import PairFinder, Pairs, pairs_within
from schemas.base.errors import CheckpointError, first_line

# Axes:  N atoms   M atoms and ghosts   E pairs   W longest list   K neighbour slots
#        P, Q parameters of frames, atoms   C components

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class Engine(ABC):
    """A model that can be evaluated.

    Args:
        facts: What is known of it.
        device: Where it computes.
    """

    def __init__(self, facts: Facts, device: torch.device) -> None:
        self.facts = facts
        self.device = device

    @abstractmethod
    def evaluate(
        self,
        structures: Structures,
        *,
        atomic: bool,
        descriptor: bool,
        find_pairs: PairFinder | None = None,
    ) -> tuple[Evaluation, int]:
        """Evaluate some frames; also return the number of neighbour pairs beyond `nsel`.

        Args:
            structures: Frames of equal numbers of atoms.
            atomic: Also virials of atoms, where the model has them.
            descriptor: Also the descriptor.
            find_pairs: What searches neighbours; None: a new search each time.

        Raises:
            CheckpointError: If the model does not give its descriptor.
        """

    def compile(self, backend: str) -> str | None:
        """Compile the network; return why not, or None where it was done."""
        del backend
        return "frozen models are compiled already; load the checkpoint (.pt) instead"

    def tensor(self, array: NDArray[Any] | None, *shape: int) -> Tensor | None:
        """Return an array on the model's device, in another shape where one is given."""
        if array is None:
            return None
        return torch.tensor(array.reshape(shape or array.shape), device=self.device)


def array_of(tensor: Tensor, *shape: int) -> NDArray[np.float64]:
    """Return a tensor as float64 on the CPU, in another shape where one is given."""
    array = tensor.detach().to("cpu", torch.float64).numpy()
    return np.asarray(array.reshape(shape or array.shape))


def with_ghosts(
    coord: Floats, box: Floats | None, pairs: Pairs
) -> tuple[Floats, Integers, Integers]:
    """Return a structure with one ghost for every image that is some atom's neighbour.

    Args:
        coord: (N, 3) Å.
        box: (3, 3) Å, rows are vectors; None: not periodic.
        pairs: (i, j, displacement (E, 3), distance (E,)), all ordered pairs.

    Returns:
        Positions (M, 3) Å, atoms first; the atom of which each is an image (M,); and the neighbours
        of the atoms (N, W), nearest first, -1 in empty slots.
    """
    i, j, displacement, distance = pairs
    num_atoms = len(coord)
    order = np.lexsort((distance, i))
    i, j, displacement = i[order], j[order], displacement[order]
    neighbor, mapping, everywhere = j, np.arange(num_atoms), coord
    if box is not None:
        between = displacement - (coord[j] - coord[i])
        shift = np.rint(between @ np.linalg.inv(box)).astype(np.int64)
        outside = shift.any(axis=1)
        images, found = np.unique(np.column_stack((j, shift))[outside], axis=0, return_inverse=True)
        neighbor = j.copy()
        neighbor[outside] = num_atoms + found.reshape(-1)
        ghosts = coord[images[:, 0]] + (images[:, 1:, None] * box).sum(axis=1)
        everywhere = np.concatenate((coord, ghosts))
        mapping = np.concatenate((mapping, images[:, 0]))
    counts = np.bincount(i, minlength=num_atoms)
    nlist = np.full((num_atoms, max(1, int(counts.max(initial=0)))), -1, dtype=np.int64)
    nlist[i, np.arange(len(i)) - np.repeat(np.cumsum(counts) - counts, counts)] = neighbor
    return everywhere, mapping.astype(np.int64), nlist


@dataclass(frozen=True, slots=True)
class LowerInput:
    """One frame, as a program takes it.

    Attributes:
        coord: (M, 3) Å; the N atoms come first.
        types: (M,) -1 where there is no atom.
        nlist: (N, K) neighbours among the M, nearest first, not more than the capacity; -1 in empty
            slots.
        mapping: (M,) the atom of which each is an image.
        fparam: (P,), or None where the model takes none.
        aparam: (N, Q), or None where the model takes none.
    """

    coord: Floats
    types: Integers
    nlist: Integers
    mapping: Integers
    fparam: Floats | None
    aparam: Floats | None

    def with_slots(self, count: int) -> Integers:
        """Return the list with at least so many slots."""
        lacking = max(0, count - self.nlist.shape[1])
        return np.pad(self.nlist, ((0, 0), (0, lacking)), constant_values=-1)


_NEEDED = ("energy", "energy_redu", "energy_derv_r", "energy_derv_c_redu", "energy_derv_c")

Program = Callable[[LowerInput, bool], Mapping[str, Floats]]
"""From a frame, and whether virials of atoms are wanted, to deepmd-kit's outputs by their names:

`energy` (N), `energy_redu`, `energy_derv_r` (M, 3), `energy_derv_c` (M, 9), `energy_derv_c_redu`
(9); axes of length one do not matter. Where the program adds ghosts, these come last.
"""


class LowerEngine(Engine):
    """Evaluates through a program that a file holds, frame by frame.

    Args:
        program: What is in the file.
        facts: What the file says about it.
        device: Where it computes.
    """

    def __init__(self, program: Program, facts: Facts, device: torch.device) -> None:
        super().__init__(facts, device)
        self.program = program

    def evaluate(
        self,
        structures: Structures,
        *,
        atomic: bool,
        descriptor: bool,
        find_pairs: PairFinder | None = None,
    ) -> tuple[Evaluation, int]:
        """Evaluate; virials of atoms are None where the program does not compute them."""
        if descriptor:
            raise CheckpointError(
                "a frozen model of this format does not give its descriptor",
                hint="use the checkpoint that it was made from",
            )
        atomic = atomic and self.facts.do_atomic_virial

        def evaluated(f: int) -> tuple[Evaluation, int]:
            return self._evaluate_frame(structures.frames(f, f + 1), find_pairs, atomic=atomic)

        parts, dropped = zip(*each_frame(structures.num_frames, evaluated), strict=True)
        return join(parts), sum(dropped)

    def _evaluate_frame(
        self, frame: Structures, find_pairs: PairFinder | None, *, atomic: bool
    ) -> tuple[Evaluation, int]:
        facts, coord, types = self.facts, frame.coord[0], frame.atom_types[0]
        box = None if frame.box is None else frame.box[0]
        num_atoms = len(coord)
        real = np.flatnonzero(types >= 0)
        if len(real) == 0:
            return nothing(1, num_atoms, 0.0, atomic=atomic), 0
        i, j, displacement, distance = (find_pairs or pairs_within)(coord[real], box, facts.rcut)
        pairs = (real[i], real[j], displacement, distance)
        coord_MX, mapping, nlist = with_ghosts(coord, box, pairs)
        types_M = types[mapping]
        nlist = nlist[:, : facts.nsel]
        keep_TT = kept_pairs(len(facts.type_map), facts.pair_exclude_types)
        if keep_TT is not None:  # as in training, after the cut
            nlist = np.where(keep_TT[types_M[:num_atoms, None], types_M[nlist]], nlist, -1)
        fparam = None if frame.fparam is None else frame.fparam[0]
        if fparam is None and facts.default_fparam:
            fparam = np.array(facts.default_fparam, dtype=np.float64)
        aparam = None if frame.aparam is None else frame.aparam[0]
        found = self.program(LowerInput(coord_MX, types_M, nlist, mapping, fparam, aparam), atomic)
        lacking = [name for name in _NEEDED[: 4 + atomic] if name not in found]
        if lacking:
            raise CheckpointError(
                f"the model's program does not return {', '.join(lacking)}",
                hint="give an energy model that was made by zoo or deepmd-kit",
            )

        def of_atoms(name: str) -> Floats:
            """Return what atoms and their images received (N, C); ghosts that fill up left out."""
            rows = found[name].reshape(-1, found[name].shape[-1])[: len(mapping)]
            columns = [np.bincount(mapping, column, num_atoms) for column in rows.T]
            return np.stack(columns, axis=-1)

        evaluation = Evaluation(
            energy=found["energy_redu"].reshape(1),
            force=of_atoms("energy_derv_r").reshape(1, num_atoms, 3),
            virial=found["energy_derv_c_redu"].reshape(1, 3, 3),
            atom_energy=found["energy"].reshape(1, num_atoms),
            atom_virial=of_atoms("energy_derv_c").reshape(1, num_atoms, 3, 3) if atomic else None,
        )
        return evaluation, count_dropped(i, facts.nsel)


def count_dropped(centers_E: Integers, nsel: int) -> int:
    """Return how many pairs are beyond the capacity of their centres' lists."""
    return int(np.maximum(np.bincount(centers_E) - nsel, 0).sum())


def cannot_run(path: Path, runtime: str, error: Exception, hint: str) -> CheckpointError:
    """Return the error of a program that a runtime refuses, in its own first words."""
    return CheckpointError(f"{runtime} cannot run {path}: {first_line(error)[:200]}", hint=hint)


_LEAST_GHOSTS = 64


def fixed_shapes(frame: LowerInput, facts: Facts) -> list[NDArray[Any]]:
    """Return the six arguments of such a program, in few different shapes.

    Compiling takes seconds, and the number of ghosts changes as atoms move. So there are ghosts
    that nobody is near, up to 64 or a quarter more: a simulation compiles once or twice.

    Returns:
        coord (1, M, 3), types (1, M) int32, nlist (1, N, nsel), mapping (1, M), fparam (1, P) and
        aparam (1, N, Q); the latter of no columns where the model takes none.
    """
    num_atoms = len(frame.nlist)
    num_ghosts = len(frame.mapping) - num_atoms
    step = max(_LEAST_GHOSTS, 1 << max(0, num_ghosts.bit_length() - 3))
    nobody = max(1, -(-num_ghosts // step)) * step - num_ghosts
    return [
        np.pad(frame.coord, ((0, nobody), (0, 0)))[None],
        np.pad(frame.types, (0, nobody), constant_values=-1).astype(np.int32)[None],
        frame.with_slots(facts.nsel)[None],
        np.pad(frame.mapping, (0, nobody))[None],
        np.zeros((1, 0)) if frame.fparam is None else frame.fparam[None],
        np.zeros((1, num_atoms, 0)) if frame.aparam is None else frame.aparam[None],
    ]
