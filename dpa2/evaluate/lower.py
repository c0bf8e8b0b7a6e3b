"""Programs with deepmd-kit's lower interface: one frame with ghosts and a neighbour list at a time.

TorchScript, AOTInductor, StableHLO and SavedModel differ in what runs the program, and in nothing
else: pairs become ghosts and lists here, and what the program says of ghosts goes to their atoms.
"""

# Axes:  N atoms   M atoms and ghosts   K neighbour slots   P, Q parameters of frames, atoms

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

from dpa2.data.bad_frames import each_frame
from dpa2.evaluate.engine import Engine
from dpa2.evaluate.evaluation import Evaluation, join
from dpa2.evaluate.ghosts import folded, with_ghosts
from dpa2.evaluate.structures import ModelInputs, Structures
from dpa2.model.neighbors import PairFinder, pairs_within
from schemas.errors import CheckpointError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class LowerFacts(BaseModel):
    """What a file says about its program, in deepmd-kit's words.

    Attributes:
        type_map: Element of each type.
        rcut: Å.
        sel: Neighbour capacity, one entry for all types.
        dim_fparam: Frame parameters that it takes.
        dim_aparam: Parameters per atom that it takes.
        has_default_fparam: Whether `default_fparam` stands for frame parameters that are not given.
        model_output_type: What it predicts for atoms.
        mixed_types: Whether one neighbour list holds all types.
        dim_chg_spin: Conditions of charge and spin that it takes.
        pair_exclude_types: Pairs of types that the caller must leave out of the list.
        do_atomic_virial: Whether it can split the virial among atoms.
    """

    model_config = ConfigDict(extra="ignore")

    type_map: list[str] = Field(min_length=1)
    rcut: float = Field(gt=0, allow_inf_nan=False)
    sel: list[int] = Field(min_length=1)
    dim_fparam: int = Field(default=0, ge=0)
    dim_aparam: int = Field(default=0, ge=0)
    has_default_fparam: bool = False
    default_fparam: list[float] | None = None
    model_output_type: list[str] = ["energy"]
    mixed_types: bool = True
    dim_chg_spin: int = 0
    pair_exclude_types: list[tuple[NonNegativeInt, NonNegativeInt]] = []
    do_atomic_virial: bool = True

    @classmethod
    def parse(cls, said: Mapping[str, Any], path: object) -> Self:
        """Return what the file `path` says.

        Raises:
            CheckpointError: If it says nonsense, or is no energy model with one list for all types.
        """
        try:
            facts = cls.model_validate(said)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise CheckpointError(
                f"{path} describes itself wrongly: {place}: {first['msg']}",
                hint="the file is damaged or of a newer kind; make it again from the checkpoint",
            ) from error
        types = (number for pair in facts.pair_exclude_types for number in pair)
        if max(types, default=0) >= len(facts.type_map):
            raise CheckpointError(
                f"{path} leaves out pairs of types that it does not have",
                hint="the file is damaged; make it again from the checkpoint",
            )
        if "energy" not in facts.model_output_type:
            raise CheckpointError(
                f"{path} predicts {', '.join(facts.model_output_type)}, not energies",
                hint="give an energy model",
            )
        if not facts.mixed_types or facts.dim_chg_spin:
            needs = "conditions of charge and spin" if facts.mixed_types else "a list for each type"
            raise CheckpointError(
                f"{path} is no DPA-2 model: it takes {needs}", hint="evaluate it with deepmd-kit"
            )
        return facts

    @property
    def nsel(self) -> int:
        """Neighbour capacity."""
        return sum(self.sel)

    @property
    def inputs(self) -> ModelInputs:
        """What structures must bring."""
        return ModelInputs(
            tuple(self.type_map),
            dim_fparam=self.dim_fparam,
            dim_aparam=self.dim_aparam,
            has_default_fparam=self.has_default_fparam,
        )


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


def evaluate_frame(
    program: Program,
    facts: LowerFacts,
    frame: Structures,
    find_pairs: PairFinder | None,
    *,
    atomic: bool,
) -> tuple[Evaluation, int]:
    """Evaluate one frame; also return the number of neighbour pairs beyond the capacity."""
    coord, types = frame.coord[0], frame.atom_types[0]
    box = None if frame.box is None else frame.box[0]
    num_atoms = len(coord)
    real = np.flatnonzero(types >= 0)
    if len(real) == 0:
        return _nothing(num_atoms, atomic=atomic), 0
    i, j, displacement, distance = (find_pairs or pairs_within)(coord[real], box, facts.rcut)
    counts = np.bincount(i)
    dropped = int(np.maximum(counts - facts.nsel, 0).sum())
    extended = with_ghosts(coord, box, (real[i], real[j], displacement, distance))
    types_M = types[extended.mapping]
    nlist = _without_excluded(facts, types_M, extended.nlist[:, : facts.nsel])
    fparam = None if frame.fparam is None else frame.fparam[0]
    if fparam is None and facts.default_fparam:
        fparam = np.array(facts.default_fparam, dtype=np.float64)
    aparam = None if frame.aparam is None else frame.aparam[0]
    lower_input = LowerInput(extended.coord, types_M, nlist, extended.mapping, fparam, aparam)
    found = program(lower_input, atomic)
    lacking = [name for name in _NEEDED[: 4 + atomic] if name not in found]
    if lacking:
        raise CheckpointError(
            f"the model's program does not return {', '.join(lacking)}",
            hint="give an energy model that was made by zoo or deepmd-kit",
        )

    def of_atoms(name: str) -> Floats:
        rows = found[name].reshape(-1, found[name].shape[-1])
        # There may be rows for ghosts that only fill up.
        return folded(rows[: len(extended.mapping)], extended.mapping, num_atoms)

    evaluation = Evaluation(
        energy=found["energy_redu"].reshape(1),
        force=of_atoms("energy_derv_r").reshape(1, num_atoms, 3),
        virial=found["energy_derv_c_redu"].reshape(1, 3, 3),
        atom_energy=found["energy"].reshape(1, num_atoms),
        atom_virial=of_atoms("energy_derv_c").reshape(1, num_atoms, 3, 3) if atomic else None,
    )
    return evaluation, dropped


class LowerEngine(Engine):
    """Evaluates through a program that a file holds, frame by frame.

    Args:
        program: What is in the file.
        facts: What the file says about it.
        device: Where it computes.
        model_params: The `model` section that the file holds.
    """

    def __init__(
        self,
        program: Program,
        facts: LowerFacts,
        device: torch.device,
        model_params: dict[str, Any],
    ) -> None:
        super().__init__(facts.inputs, facts.rcut, device, model_params)
        self.program = program
        self.facts = facts

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
            frame = structures.frames(f, f + 1)
            return evaluate_frame(self.program, self.facts, frame, find_pairs, atomic=atomic)

        parts, dropped = zip(*each_frame(structures.num_frames, evaluated), strict=True)
        return join(parts), sum(dropped)


def _without_excluded(facts: LowerFacts, types_M: Integers, nlist_NK: Integers) -> Integers:
    """Empty the slots of pairs that the caller must leave out; as in training, after the cut."""
    if not facts.pair_exclude_types:
        return nlist_NK
    num_types = len(facts.type_map)
    keep_TT = np.ones((num_types, num_types), dtype=np.bool_)
    for a, b in facts.pair_exclude_types:
        keep_TT[a, b] = keep_TT[b, a] = False
    centers_N1 = types_M[: len(nlist_NK), None]
    return np.where(keep_TT[centers_N1, types_M[nlist_NK]], nlist_NK, -1)


def _nothing(num_atoms: int, *, atomic: bool) -> Evaluation:
    return Evaluation(
        energy=np.zeros(1),
        force=np.zeros((1, num_atoms, 3)),
        virial=np.zeros((1, 3, 3)),
        atom_energy=np.zeros((1, num_atoms)),
        atom_virial=np.zeros((1, num_atoms, 3, 3)) if atomic else None,
    )
