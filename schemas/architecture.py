"""Where two models differ in what their weights mean."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from schemas.continuing import effect_of_key
from schemas.descriptor import Descriptor, Repformer, Repinit
from schemas.fitting import EnergyFitting
from schemas.model import Model
from schemas.network import canonical_precision
from schemas.partial import UnusableError
from schemas.section import Section

_SECTIONS = ("type_map", "descriptor", "fitting_net", "repinit", "repformer")
"""What is compared on its own."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A key with another value in the checkpoint.

    Args:
        parts: The key and the sections above it, from the network on.
        ours: The value in the input.
        theirs: The value in the checkpoint.
        is_mild: Whether the weights still make sense: they make another function.
    """

    parts: tuple[str, ...]
    ours: Any
    theirs: Any
    is_mild: bool = False


def descriptor_differences(ours: Descriptor, theirs: Descriptor) -> Iterator[Difference]:
    """Yield where two descriptors differ, of which the first may be partial."""
    yield from _compare(Descriptor, ours, theirs, ("descriptor",))
    for name, section in (("repinit", Repinit), ("repformer", Repformer)):
        try:
            block = getattr(ours, name)
        except UnusableError:
            continue
        yield from _compare(section, block, getattr(theirs, name), ("descriptor", name))


def fitting_differences(ours: EnergyFitting, theirs: EnergyFitting) -> Iterator[Difference]:
    """Yield where two fitting nets differ, of which the first may be partial."""
    yield from _compare(EnergyFitting, ours, theirs, ("fitting_net",))


def model_differences(ours: Model, theirs: Model) -> Iterator[Difference]:
    """Yield where two models differ around their networks, of which the first may be partial."""
    yield from _compare(Model, ours, theirs, ())


def _compare(
    section: type[Section], ours: Any, theirs: Any, parts: tuple[str, ...]
) -> Iterator[Difference]:
    for name in section.model_fields:
        effect = effect_of_key(section, name)
        if effect not in ("weights", "function") or name in _SECTIONS or not _used(name, theirs):
            continue
        try:
            mine = _plain(name, getattr(ours, name))
        except UnusableError:
            continue
        other = _plain(name, getattr(theirs, name))
        if mine != other and not (isinstance(mine, str) and mine.startswith("auto")):
            yield Difference((*parts, name), mine, other, effect == "function")


def _used(name: str, block: Any) -> bool:
    """Return whether a key has an effect in a block of a sound model."""
    if name.startswith("three_body_"):
        return bool(block.use_three_body)
    if name.startswith("attn1_"):
        return bool(block.update_g1_has_attn)
    if name.startswith("attn2_"):
        return bool(block.update_g2_has_attn or block.update_h2)
    return True


def _plain(name: str, value: Any) -> Any:
    """Return a value in the one spelling of several that mean the same."""
    if name == "precision" and isinstance(value, str):
        return canonical_precision(value)
    if name == "ln_eps" and value is None:
        return 1e-5
    if name == "atom_ener":  # only whether there is a number counts
        return [item for item in value if item is not None][:1] and ["a number"]
    return value.lower() if name == "activation_function" and isinstance(value, str) else value


def auto_selections(ours: Descriptor) -> Iterator[tuple[str, ...]]:
    """Yield the keys of numbers of neighbours that are left to the data."""
    for block, key in (("repinit", "nsel"), ("repinit", "three_body_sel"), ("repformer", "nsel")):
        try:
            if isinstance(getattr(getattr(ours, block), key), str):
                yield ("descriptor", block, key)
        except UnusableError:
            continue
