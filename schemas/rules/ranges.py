"""Rules about numbers: within what is usual, and within what a computer holds."""

from collections.abc import Iterator
from typing import Any

from schemas.diagnostics import Group, Path
from schemas.explain import shown
from schemas.fields import fields, marked
from schemas.input import Input
from schemas.marks import Usual
from schemas.rules.rule import Fault, rule, warning
from schemas.section import NO_DEFAULT

_INT64 = 2**63 - 1
_FLOAT32 = 3.4028234663852886e38
_SMALLEST_FLOAT32 = 1.1754943508222875e-38
_SEED = 2**32 - 1
_MOST_ATOMS = 10**6
_BEYOND = Group("numbers beyond their type")


@rule("ZOO351", "numbers are within the usual")
def numbers_are_usual(config: Input) -> Iterator[Fault]:
    """Warn of numbers with which no run is known to train."""
    for field, usual in marked(config, Usual):
        if field.value == field.default or not field.given:
            continue
        name = str(field.path[-1])
        if field.value == 0 and usual.zero:
            yield warning(field.path, f"{name} is 0: {usual.zero}")
        elif field.value == [] and usual.zero:
            yield warning(field.path, f"{name} is empty: {usual.zero}")
        if isinstance(field.value, list) and usual.entries and len(field.value) > usual.entries:
            message = f"{name} has {len(field.value)} entries, the usual are up to {usual.entries}"
            yield warning(field.path, message)
        for path, number in _numbers(field.path, field.value):
            side = _outside(number, usual)
            if side is not None:
                why = f": {usual.why}" if usual.why else ""
                message = f"{name} ({shown(number)}) is far {side}{why}"
                is_absurd = usual.limit is not None and number > usual.limit
                yield Fault(path, message, severity="error" if is_absurd else "warning")
        if name == "batch_size" and isinstance(field.value, str):
            atoms = field.value.partition(":")[2]
            if atoms.isdigit() and int(atoms) > _MOST_ATOMS:
                yield warning(field.path, f"{name} ({field.value}): no batch has that many atoms")


def _outside(number: float, usual: Usual) -> str | None:
    if number == 0:
        return None
    if usual.low is not None and number < usual.low:
        return f"below the usual, {usual.low:g} and more"
    if usual.high is not None and number > usual.high:
        return f"above the usual, up to {usual.high:g}"
    return None


@rule("ZOO352", "numbers are within their type")
def numbers_fit_their_type(config: Input) -> Iterator[Fault]:
    """Demand whole numbers of 64 bits, and real ones that are still one in float32."""
    for field in fields(config):
        if not field.given or str(field.path[-1]) == "info":
            continue
        for path, number in _numbers(field.path, field.value):
            name = str(field.path[-1])
            if isinstance(number, int) and not -_INT64 - 1 <= number <= _INT64:
                message = f"{name} ({shown(number)}) is beyond a whole number of 64 bits"
                hint = f"they go from {-_INT64 - 1} to {_INT64}"
                yield Fault(path, message, hint, group=_BEYOND)
            elif isinstance(number, float) and abs(number) > _FLOAT32:
                message = f"{name} ({number:g}) is beyond float32: networks would see infinity"
                yield Fault(path, message, "it goes up to 3.4e38", group=_BEYOND)
            elif isinstance(number, float) and 0 < abs(number) < _SMALLEST_FLOAT32:
                message = f"{name} ({number:g}) is too small for float32: networks would see 0"
                yield Fault(path, message, "it begins at 1.2e-38; write 0 if that is meant")


@rule("ZOO353", "seeds are whole numbers of 32 bits")
def seeds_are_not_cut(config: Input) -> Iterator[Fault]:
    """Warn of seeds of which only some bits count, and of lists, which deepmd-kit refuses."""
    for field in fields(config):
        if field.path[-1] != "seed" or not field.given:
            continue
        if isinstance(field.value, list):
            message = "the seed is a list: deepmd-kit refuses that in an input"
            yield warning(field.path, message, "write one whole number")
        elif isinstance(field.value, int) and _SEED < field.value <= _INT64:
            if field.path[0] == "training":
                cut = field.value & _SEED
                message = f"seed ({field.value}) has more than 32 bits: it does the same as {cut}"
                yield warning(field.path, message, f"seeds go from 0 to {_SEED}")
            else:
                message = f"seed ({field.value}) has more than 32 bits"
                yield warning(field.path, message, f"seeds go from 0 to {_SEED}")


@rule("ZOO362", "null is written only where deepmd-kit reads it")
def nulls_are_read(config: Input) -> Iterator[Fault]:
    """Warn of a key that is null where deepmd-kit wants a value or no key."""
    for field in fields(config):
        if field.given and field.value is None and NO_DEFAULT in field.marks:
            name = str(field.path[-1])
            if name in _NULL_IS_READ:
                continue
            message = f"{name} is null: it counts as not given here, deepmd-kit refuses it"
            yield Fault(field.path, message, "remove the key", "warning", at="key")


_NULL_IS_READ = frozenset({"seed", "numb_steps", "numb_epoch", "relative_f"})
"""Keys without a default that may be null, or of whose absence another rule speaks."""


def _numbers(path: Path, value: Any) -> Iterator[tuple[Path, float]]:
    """Yield the numbers in a value: itself, or those in lists and objects."""
    if isinstance(value, bool):
        return
    if isinstance(value, int | float):
        yield path, value
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _numbers((*path, index), item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _numbers((*path, str(key)), item)
