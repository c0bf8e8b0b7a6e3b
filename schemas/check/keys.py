"""Rules about single keys: what the trainer refuses, what has no effect, numbers out of range."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from schemas.base.diagnostics import Finding, Group, Path
from schemas.check.data_folders import sections
from schemas.check.rule import fault, rule, warning
from schemas.check.schema_faults import shown
from schemas.input.refusals import DEMANDS, Demand
from schemas.input.root import Input
from schemas.input.section import NO_DEFAULT, Needs, Usual
from schemas.input.view import Field, fields, is_changed, marked, sound_value


def _refused(demands: Sequence[Demand], config: Input) -> Iterator[Finding]:
    """Yield what the trainer refuses, by the functions that it asks itself."""
    for demand in demands:
        for item in demand.refusals(getattr(config, demand.section)):
            yield replace(item, path=(demand.section, *item.path))


for _code in dict.fromkeys(demand.code for demand in DEMANDS):
    _same = [demand for demand in DEMANDS if demand.code == _code]
    rule(_code, _same[0].text, scope="single-task" if _same[0].of_single_task else "input")(
        partial(_refused, _same)
    )


_IGNORED: dict[str, dict[str, Any]] = {
    "model": {"data_bias_nsample": 10, "srtab_add_bias": True},
    "model.fitting_net": {"layer_name": None, "rcond": None},
    "learning_rate": {"scale_by_worker": "linear"},
    "training": {
        "acc_freq": 1,
        "mixed_precision": None,
        "enable_compile": False,
        "enable_tf32": False,
        "neighbor_graph_method": "auto",
    },
    "validating": {"compiled_infer": False, "tf32_infer": False, "amp_infer": False},
}
"""Keys that the PyTorch backend ignores, and their defaults."""


@rule("ZOO111", "keys have an effect")
def keys_have_effect(config: Input) -> Iterator[Finding]:
    """Warn of keys that are ignored: by the PyTorch backend, or because of another key."""
    for field, needs in marked(config, Needs):
        if field.given and field.value != field.default and unmet(field, needs):
            name, others = str(field.path[-1]), " or ".join(f"`{key}`" for key in needs.keys)
            message = f"`{name}` has no effect: it goes with {others}"
            yield warning(field.path, message, "remove it", at="key")
    for path, defaults in _IGNORED.items():
        section = sound_value(config, path)
        for name, default in defaults.items() if section is not None else ():
            idle = (None, False if default is None else default)
            if name in section.model_fields_set and sound_value(section, name) not in idle:
                message = f"`{name}` has no effect in the PyTorch backend"
                yield warning(f"{path}.{name}", message, "remove it", at="key")


def unmet(field: Field, needs: Needs) -> bool:
    """Return whether a key is without effect because of the other keys of its section."""
    return not any(getattr(field.section, key) for key in needs.keys)


@rule("ZOO343", "deepmd-kit makes batches by the same rule")
def batches_are_portable(config: Input) -> Iterator[Finding]:
    """Say that a rule for batches is ours alone."""
    for name, section in sections(config):
        if isinstance(section.batch_size, str) and section.batch_size.startswith("mixed:"):
            message = f"deepmd-kit's PyTorch backend does not know `{section.batch_size}`"
            hint = 'it trains here; for deepmd-kit write "auto:N" or "max:N"'
            path = f"training.{name}.batch_size"
            yield fault(path, message, hint, "note", for_deepmd="error")


@rule("ZOO360", "of two keys the one that counts is the only one")
def nothing_is_overridden(config: Input) -> Iterator[Finding]:
    """Warn of a key that another one makes count for nothing."""
    for name, section in sections(config):
        if section.sys_probs is not None and is_changed(section, "auto_prob"):
            yield _loses(("training", name), "auto_prob", "sys_probs")
    if config.loss.loss_func == "mae" and config.loss.use_huber:
        yield _loses(("loss",), "use_huber", "loss_func")
    for loser in ("max_ckpt_keep", "ema_ckpt_keep"):
        if config.training.ckpt_keep_ratio is not None and is_changed(config.training, loser):
            yield _loses(("training",), loser, "ckpt_keep_ratio")


def _loses(home: tuple[str, ...], loser: str, winner: str) -> Finding:
    message = f"`{loser}` has no effect: `{winner}` is given too, and counts"
    related = (("what counts", (*home, winner)),)
    hint = "keep the one that is meant"
    return warning((*home, loser), message, hint, at="key", related_paths=related)


_INT64, _SEED = 2**63 - 1, 2**32 - 1
_FLOAT32, _SMALLEST_FLOAT32 = 3.4028234663852886e38, 1.1754943508222875e-38
_MOST_ATOMS = 10**6
_BEYOND = Group("numbers beyond their type")


@rule("ZOO351", "numbers are within the usual")
def numbers_are_usual(config: Input) -> Iterator[Finding]:
    """Warn of numbers with which no run is known to train."""
    for field, usual in marked(config, Usual):
        if field.value == field.default or not field.given:
            continue
        name = str(field.path[-1])
        if usual.zero and (field.value in (0, [])):
            what = "empty" if field.value == [] else "0"
            yield warning(field.path, f"{name} is {what}: {usual.zero}")
        if isinstance(field.value, list) and usual.entries and len(field.value) > usual.entries:
            message = f"{name} has {len(field.value)} entries, the usual are up to {usual.entries}"
            yield warning(field.path, message)
        for path, number in _numbers(field.path, field.value):
            side = _outside(number, usual)
            if side is not None:
                why = f": {usual.why}" if usual.why else ""
                is_absurd = usual.limit is not None and number > usual.limit
                message = f"{name} ({shown(number)}) is far {side}{why}"
                yield fault(path, message, None, "error" if is_absurd else "warning")
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
def numbers_fit_their_type(config: Input) -> Iterator[Finding]:
    """Demand whole numbers of 64 bits, and real ones that are still one in float32."""
    for field in fields(config):
        if not field.given or str(field.path[-1]) == "info":
            continue
        name = str(field.path[-1])
        for path, number in _numbers(field.path, field.value):
            if isinstance(number, int) and not -_INT64 - 1 <= number <= _INT64:
                message = f"{name} ({shown(number)}) is beyond a whole number of 64 bits"
                hint = f"they go from {-_INT64 - 1} to {_INT64}"
                yield fault(path, message, hint, group=_BEYOND)
            elif isinstance(number, float) and abs(number) > _FLOAT32:
                message = f"{name} ({number:g}) is beyond float32: networks would see infinity"
                yield fault(path, message, "it goes up to 3.4e38", group=_BEYOND)
            elif isinstance(number, float) and 0 < abs(number) < _SMALLEST_FLOAT32:
                message = f"{name} ({number:g}) is too small for float32: networks would see 0"
                yield fault(path, message, "it begins at 1.2e-38; write 0 if that is meant")


def _numbers(path: Path, value: Any) -> Iterator[tuple[Path, float]]:
    """Yield the numbers in a value: itself, or those in lists and objects."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield path, value
    inside: Any = enumerate(value) if isinstance(value, list) else ()
    for key, item in value.items() if isinstance(value, dict) else inside:
        yield from _numbers((*path, key if isinstance(key, int) else str(key)), item)


@rule("ZOO325", "seeds are not negative")
def seeds_are_natural(config: Input) -> Iterator[Finding]:
    """Warn of negative seeds, which not every generator takes."""
    for path, seed in (
        ("training.seed", config.training.seed),
        ("model.descriptor.seed", config.model.descriptor.seed),
        ("model.fitting_net.seed", config.model.fitting_net.seed),
    ):
        if isinstance(seed, int) and seed < 0:
            yield warning(path, f"seed ({seed}) should be >= 0")


@rule("ZOO353", "seeds are whole numbers of 32 bits")
def seeds_are_not_cut(config: Input) -> Iterator[Finding]:
    """Warn of seeds of which only some bits count, and of lists, which deepmd-kit refuses."""
    for field in fields(config):
        if field.path[-1] != "seed" or not field.given:
            continue
        if isinstance(field.value, list):
            message = "the seed is a list: deepmd-kit refuses that in an input"
            yield warning(field.path, message, "write one whole number")
        elif isinstance(field.value, int) and _SEED < field.value <= _INT64:
            is_cut = field.path[0] == "training"
            does = f": it does the same as {field.value & _SEED}" if is_cut else ""
            message = f"seed ({field.value}) has more than 32 bits{does}"
            yield warning(field.path, message, f"seeds go from 0 to {_SEED}")


_NULL_IS_READ = frozenset({"seed", "numb_steps", "numb_epoch", "relative_f"})
"""Keys without a default that may be null, or of whose absence another rule speaks."""


@rule("ZOO362", "null is written only where deepmd-kit reads it")
def nulls_are_read(config: Input) -> Iterator[Finding]:
    """Warn of a key that is null where deepmd-kit wants a value or no key."""
    for field in fields(config):
        name = str(field.path[-1])
        is_null = field.given and field.value is None and NO_DEFAULT in field.marks
        if is_null and name not in _NULL_IS_READ:
            message = f"{name} is null: it counts as not given here, deepmd-kit refuses it"
            yield warning(field.path, message, "remove the key", at="key")
