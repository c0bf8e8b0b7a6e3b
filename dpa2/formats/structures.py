"""Structures that a model takes, brought to one form, and the evaluation that it gives."""

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpa2.data.cells import find_bad_cells
from dpa2.data.frames import PADDING, Fault, FrameError
from dpa2.formats.facts import Facts
from schemas.base.errors import DataError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Predictions for F frames of N atoms.

    Attributes:
        energy: (F,) eV.
        force: (F, N, 3) eV/Å, -dE/dcoord; zero for padding.
        virial: (F, 3, 3) eV, -dE/dstrain.
        atom_energy: (F, N) eV; zero for padding.
        atom_virial: (F, N, 3, 3) eV, None unless asked for.
        descriptor: (F, N, D), None unless asked for.
    """

    energy: FloatArray
    force: FloatArray
    virial: FloatArray
    atom_energy: FloatArray | None = None
    atom_virial: FloatArray | None = None
    descriptor: FloatArray | None = None

    @property
    def num_frames(self) -> int:
        """Number of frames F."""
        return int(self.energy.shape[0])


def nothing(
    num_frames: int, num_atoms: int, value: float = np.nan, *, atomic: bool = False
) -> Evaluation:
    """Return one value for everything: NaN for frames that cannot be evaluated."""

    def filled(*shape: int) -> FloatArray:
        return np.full((num_frames, *shape), value)

    return Evaluation(
        energy=filled(),
        force=filled(num_atoms, 3),
        virial=filled(3, 3),
        atom_energy=filled(num_atoms),
        atom_virial=filled(num_atoms, 3, 3) if atomic else None,
    )


def join(parts: Sequence[Evaluation]) -> Evaluation:
    """Join evaluations of consecutive frames; what the first part lacks stays None."""
    joined: dict[str, Any] = {}
    for field in fields(Evaluation):
        arrays = [getattr(part, field.name) for part in parts]
        joined[field.name] = None if arrays[0] is None else np.concatenate(arrays)
    return Evaluation(**joined)


IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Structures:
    """Checked input for F frames of N atoms; contiguous float64 and int64 arrays.

    Attributes:
        coord: (F, N, 3) Å.
        box: (F, 3, 3) Å, rows are cell vectors, or None without periodic boundaries.
        atom_types: (F, N) indices into the type_map, -1 = padding.
        fparam: (F, P) or None.
        aparam: (F, N, Q) or None.
    """

    coord: FloatArray
    box: FloatArray | None
    atom_types: IntArray
    fparam: FloatArray | None
    aparam: FloatArray | None

    @property
    def num_frames(self) -> int:
        """Number of frames F."""
        return int(self.coord.shape[0])

    def frames(self, start: int, stop: int) -> "Structures":
        """Return the frames from `start` up to but without `stop`."""

        def cut(array: FloatArray | None) -> FloatArray | None:
            return None if array is None else array[start:stop]

        return Structures(
            self.coord[start:stop],
            cut(self.box),
            self.atom_types[start:stop],
            cut(self.fparam),
            cut(self.aparam),
        )


def check_structures(
    facts: Facts,
    coord: ArrayLike,
    box: ArrayLike | None,
    atype: Sequence[object] | ArrayLike,
    fparam: ArrayLike | None = None,
    aparam: ArrayLike | None = None,
) -> Structures:
    """Bring arrays of any accepted shape to one form.

    Args:
        facts: What is known of the model.
        coord: (F, N, 3), (N, 3), (F, 3 N) or flat, Å.
        box: (F, 3, 3), (3, 3), (F, 9) or flat, Å; one cell serves all frames; None: not periodic.
        atype: (N,) or (F, N) type numbers (-1 = no atom here) or element symbols.
        fparam: (F, P), or (P,) for all frames.
        aparam: (F, N, Q), or (N, Q), or (N,) where Q = 1.

    Raises:
        FrameError: On a number that is not finite or a cell without volume; has all such frames.
        DataError: On a wrong shape, an element that the model does not know, or a missing
            parameter.
    """
    types = _types(facts.type_map, atype)
    coord_FNX = _coord(coord, types.shape[-1])
    num_frames, num_atoms = coord_FNX.shape[:2]
    if types.ndim == 1:
        types = np.broadcast_to(types, (num_frames, num_atoms))
    if types.shape != (num_frames, num_atoms):
        raise DataError(
            f"atype has {types.shape[0]} frames and coord has {num_frames}",
            hint="give atype as (N,) where all frames share it, else as (F, N)",
        )
    return Structures(
        coord_FNX,
        _box(box, num_frames),
        np.ascontiguousarray(types),
        _parameter(
            "fparam", fparam, (num_frames, facts.dim_fparam), optional=facts.has_default_fparam
        ),
        _parameter("aparam", aparam, (num_frames, num_atoms, facts.dim_aparam)),
    )


def _numbers(name: str, values: ArrayLike) -> FloatArray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} is not an array of numbers: {error}") from error


def _coord(coord: ArrayLike, num_atoms: int) -> FloatArray:
    array = _numbers("coord", coord)
    wanted = f"(F, {num_atoms}, 3), ({num_atoms}, 3) or flat frames of {3 * num_atoms} numbers"
    fits = {
        1: array.size % (3 * num_atoms) == 0,
        2: array.shape == (num_atoms, 3) or array.shape[-1:] == (3 * num_atoms,),
        3: array.shape[1:] == (num_atoms, 3),
    }
    if array.size == 0 or not fits.get(array.ndim, False):
        raise DataError(
            f"coord has the shape {array.shape}; with {num_atoms} atoms in atype "
            f"it must be {wanted}"
        )
    array = np.ascontiguousarray(array.reshape(-1, num_atoms, 3))
    if not np.isfinite(array).all():
        faults = {
            frame: Fault(
                f"coord of atom {atom} is not a finite number: {array[frame, atom].tolist()}"
            )
            for frame, atom, _ in np.argwhere(~np.isfinite(array))[::-1].tolist()
        }
        raise FrameError(faults)
    return array


def _box(box: ArrayLike | None, num_frames: int) -> FloatArray | None:
    if box is None:
        return None
    array = _numbers("box", box)
    if array.size not in (9, 9 * num_frames) or array.shape[-1:] not in ((3,), (9,), (array.size,)):
        raise DataError(
            f"box has the shape {array.shape}; with {num_frames} frames it must be "
            f"({num_frames}, 3, 3), or (3, 3) where all share one cell",
            hint="rows are the cell vectors in Å; leave box out (None) without periodic boundaries",
        )
    array = np.ascontiguousarray(np.broadcast_to(array.reshape(-1, 3, 3), (num_frames, 3, 3)))
    bad = find_bad_cells(array)
    if bad:
        hint = "leave box out (None) without periodic boundaries"
        raise FrameError(
            {
                frame: Fault(f"the box has no volume: {array[frame].tolist()}", hint)
                if np.isfinite(array[frame]).all()
                else Fault("the box holds a number that is not finite")
                for frame in bad
            }
        )
    return array


def _types(type_map: list[str], atype: Sequence[object] | ArrayLike) -> IntArray:
    try:
        array = np.asarray(atype)
    except ValueError as error:
        raise DataError("atype has rows of unequal length") from error
    if array.ndim not in (1, 2) or array.size == 0:
        raise DataError(f"atype has the shape {array.shape}; it must be (N,) or (F, N)")
    if array.dtype.kind in "UO" and all(isinstance(symbol, str) for symbol in array.flat):
        return _types_of_symbols(type_map, array)
    if array.dtype.kind not in "iu":
        raise DataError(
            f"atype holds {array.dtype.name} values", hint="give integers or element symbols"
        )
    low, high = int(array.min()), int(array.max())
    if low < PADDING or high >= len(type_map):
        bad = low if low < PADDING else high
        raise DataError(
            f"atype {bad} does not exist: the model has {len(type_map)} types, "
            f"0 to {len(type_map) - 1} ({_shortened(type_map)})",
            hint="atype counts in the model's type_map; element symbols are safer",
        )
    return array.astype(np.int64)


def _types_of_symbols(type_map: list[str], symbols: NDArray[np.generic]) -> IntArray:
    index = {name: number for number, name in enumerate(type_map)}
    unknown = sorted({str(symbol) for symbol in symbols.flat} - set(index))
    if unknown:
        near = difflib.get_close_matches(unknown[0].capitalize(), type_map, n=1)
        raise DataError(
            f"the model does not know {', '.join(unknown)}; it knows {_shortened(type_map)}",
            hint=f"did you mean {near[0]}?" if near else None,
        )
    numbers = [index[str(symbol)] for symbol in symbols.flat]
    return np.array(numbers, dtype=np.int64).reshape(symbols.shape)


def _shortened(type_map: list[str], limit: int = 20) -> str:
    shown = " ".join(type_map[:limit])
    return shown if len(type_map) <= limit else f"{shown} and {len(type_map) - limit} more"


def _parameter(
    name: str, given: ArrayLike | None, shape: tuple[int, ...], *, optional: bool = False
) -> FloatArray | None:
    """Return parameters in a shape; those of one frame serve all."""
    width = shape[-1]
    if given is None:
        if width and not optional:
            each = "frame" if len(shape) == 2 else "atom"
            raise DataError(f"the model needs {name}: {width} numbers per {each}")
        return None
    if not width:
        raise DataError(f"the model takes no {name}", hint=f"leave {name} out")
    array = _numbers(name, given)
    if array.size not in (math.prod(shape), math.prod(shape[1:])):
        raise DataError(f"{name} has the shape {array.shape}, expected {shape}")
    array = np.ascontiguousarray(np.broadcast_to(array.reshape(-1, *shape[1:]), shape))
    bad = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
    if bad.any():
        fault = Fault(f"{name} holds a number that is not finite")
        raise FrameError(dict.fromkeys(np.flatnonzero(bad).tolist(), fault))
    return array
