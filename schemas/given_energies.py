"""Energies of elements that an input gives instead of leaving them to a fit: `preset_out_bias`."""

from collections.abc import Iterator
from typing import NamedTuple

from schemas.diagnostics import Path
from schemas.errors import ConfigError
from schemas.model import Model

OUTPUT = "energy"
"""The one output of an energy model that has a bias."""


class PresetFault(NamedTuple):
    """Why `preset_out_bias` cannot be used: where below `model`, what, what to write instead."""

    path: Path
    message: str
    hint: str | None = None


def preset_faults(model: Model) -> Iterator[PresetFault]:
    """Yield what is wrong with `preset_out_bias`; the validator and the trainer both ask here."""
    number = len(model.type_map)
    for name, values in (model.preset_out_bias or {}).items():
        path: Path = ("preset_out_bias", name)
        if name != OUTPUT:
            message = f"preset_out_bias names an output `{name}`, which an energy model lacks"
            hint = f"the output is called `{OUTPUT}`; under any other name the energies are ignored"
            yield PresetFault(path, message, hint)
            continue
        if len(values) != number:
            message = f"preset_out_bias has {len(values)} entries for {number} types"
            hint = "write an energy in eV, or null, for each type, in the order of type_map"
            yield PresetFault(path, message, hint)
        for index, value in enumerate(values):
            if isinstance(value, list) and len(value) != 1:
                message = f"an energy is one number, this entry has {len(value)}"
                yield PresetFault((*path, index), message, "write a number in eV, or null")


def preset_energies(model: Model) -> list[float | None] | None:
    """Return the energy of each type, eV, None for one to fit; None when no energy is given.

    Raises:
        ConfigError: When `preset_out_bias` has a fault.
    """
    for fault in preset_faults(model):
        raise ConfigError(f"model.{fault.message}", hint=fault.hint)
    given = (model.preset_out_bias or {}).get(OUTPUT)
    if given is None or all(value is None for value in given):
        return None
    return [value[0] if isinstance(value, list) else value for value in given]
