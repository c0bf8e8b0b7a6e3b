"""Fit the energies of the elements to other data, network unchanged.

docs/deepmd-format.md, 5.3, 6.9.
"""

# Axes:  F frames   N atoms   T types

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpa2.data.bad_frames import named
from dpa2.data.checks import check_labels
from dpa2.data.frames import Frames
from dpa2.model.energy import EnergyModel, tensors_to
from dpa2.training.statistics import StatisticsBuilder, change_bias
from schemas.errors import CheckpointError, DataError
from schemas.given_energies import preset_energies
from schemas.start import BiasMode


@dataclass(frozen=True)
class BiasShift:
    """How the energies of the elements have changed.

    Attributes:
        mode: How they were fitted.
        type_map: Elements.
        before: (T,) eV.
        after: (T,) eV.
        observed: Whether each element occurs in the data.
        num_frames: Frames that were looked at.
        preset: Whether `preset_out_bias` gives the energy of each element; empty: of none.
    """

    mode: BiasMode
    type_map: list[str]
    before: list[float]
    after: list[float]
    observed: list[bool]
    num_frames: int
    preset: tuple[bool, ...] = ()

    @property
    def shift(self) -> list[float]:
        """Differences (T,) in eV."""
        return [new - old for old, new in zip(self.before, self.after, strict=True)]

    def document(self) -> dict[str, Any]:
        """Return the numbers for `--json`, eV."""
        return {
            "mode": self.mode,
            "frames": self.num_frames,
            "elements": {
                name: {
                    "before": self.before[i],
                    "after": self.after[i],
                    "shift": self.shift[i],
                    "in_data": self.observed[i],
                    **({"preset": True} if self.preset and self.preset[i] else {}),
                }
                for i, name in enumerate(self.type_map)
            },
        }


def adjust_bias(model: EnergyModel, batches: Sequence[Frames], mode: BiasMode) -> BiasShift:
    """Fit the energies of the elements of a model to labelled frames.

    Args:
        model: Its buffers are changed.
        batches: Frames with energies.
        mode: Whether to add, to replace, or to do nothing.

    Raises:
        DataError: When the frames have no energies, lack fparam or aparam, or are not finite.
        CheckpointError: When the model gives no numbers for right frames.
    """
    before = model.out_bias.tolist()
    given = preset_energies(model.config) or ()
    if mode != "none":
        for frames in batches:
            check_labels(frames)
    if mode == "change":
        _check_inputs(model, batches)
        change_bias(model, batches, lambda frames: atomic_energies(model, frames))
    elif mode == "set":
        _statistics(model, batches).fit_bias()
    if mode != "none" and not model.out_bias.isfinite().all():
        raise CheckpointError(
            "the model gives no numbers for these frames: energies of the elements would be nan",
            hint="its weights hold nan or inf; look at an earlier checkpoint of its run",
        )
    seen = {int(kind) for frames in batches for kind in np.unique(frames.atom_types)}
    return BiasShift(
        mode,
        list(model.type_map),
        before,
        model.out_bias.tolist(),
        [kind in seen for kind in range(len(model.type_map))],
        sum(frames.num_frames for frames in batches),
        tuple(energy is not None for energy in given) if mode != "none" else (),
    )


def normalise_parameters(model: EnergyModel, batches: Sequence[Frames]) -> None:
    """Normalise fparam and aparam, where the model takes them, by these frames.

    For a fitting net that has not learned yet; one that has relies on the statistics it knows.

    Raises:
        DataError: When the frames have none.
    """
    _statistics(model, batches).normalise_parameters()


def _statistics(model: EnergyModel, batches: Sequence[Frames]) -> StatisticsBuilder:
    return StatisticsBuilder(model, lambda: batches, None, lambda _: None)


def _check_inputs(model: EnergyModel, batches: Sequence[Frames]) -> None:
    fitting = model.fitting
    wanted = {"fparam": fitting.num_fparam, "aparam": fitting.num_aparam}
    for name, width in wanted.items():
        optional = name == "fparam" and fitting.has_default_fparam
        for frames in batches:
            values = getattr(frames, name)
            found = 0 if values is None else values.shape[-1]
            if width and found != width and not (optional and values is None):
                raise DataError(
                    f"{frames.system} has {found or 'no'} {name}; the model takes {width}",
                    hint=f"add {name}.npy to every set",
                )


def atomic_energies(model: EnergyModel, frames: Frames) -> NDArray[np.float64]:
    """Return the model's atomic energies (F, N) in eV; one frame at a time, for the memory."""
    parts = []
    for f in range(frames.num_frames):
        one = frames.select(np.array([f]))
        with named(one):
            graph = model.graph(one.coord, one.box, one.atom_types)
        fparam, aparam = (tensors_to(model.device, v) for v in (one.fparam, one.aparam))
        parts.append(model(graph, fparam, aparam).atom_energy.cpu().numpy())
    return np.concatenate(parts)
