"""Rules about labels, batches and the probabilities of systems."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from schemas.base.diagnostics import Finding, Group
from schemas.check.data_folders import (
    Root,
    array_header,
    has_label,
    roots,
    sections,
    sets_of,
    type_indices,
)
from schemas.check.rule import fault, rule, warning
from schemas.input.loss import PREFACTORS, term_is_on
from schemas.input.root import Input
from schemas.input.training import DataSection, parse_blocks

_FILES = {
    "e": "energy",
    "f": "force",
    "v": "virial",
    "ae": "atom_ener",
    "pf": "atom_pref",
    "gf": "drdq",
    "h": "hessian",
}

ADD_ENERGIES = (
    "add energies; or set start_pref_e and limit_pref_e to 0, to train without: energies of the "
    "model then have no meaning, their differences along a path have"
)


def _training_roots(config: Input) -> list[Root]:
    found = roots("training_data", config.training.training_data)
    return found if all(root.is_folder for root in found) else []


def _systems(config: Input) -> list[Path]:
    found = [system for root in _training_roots(config) for system in root.systems]
    return [system for system in found if sets_of(system)]


@rule("ZOO421", "the data have what the loss learns")
def labels_exist(config: Input) -> Iterator[Finding]:
    """Warn of a term without labels: everywhere at its weight, in some systems at these."""
    systems = _systems(config)
    for suffix, file in _FILES.items():
        if not systems or not term_is_on(config.loss, suffix):
            continue
        if suffix == "pf" and config.loss.use_default_pf:
            continue
        without = [system for system in systems if not has_label(system, file)]
        if len(without) == len(systems) and suffix == "e":
            continue  # another rule speaks of that
        given = f"start_pref_{suffix}" in config.loss.model_fields_set
        if len(without) == len(systems) and suffix not in ("e", "f") and given:
            message = f"no system has {file}.npy: the {PREFACTORS[suffix]} term has no effect"
            hint = f"add {file}.npy, or set start_pref_{suffix} and limit_pref_{suffix} to 0"
            yield warning(f"loss.start_pref_{suffix}", message, hint)
            continue
        if suffix == "v" and len(without) < len(systems):  # molecules without a cell have none
            without = [system for system in without if not (system / "nopbc").exists()]
        for root in _training_roots(config):
            if any(system in without for system in root.systems):
                message = (
                    f"{root.written} has no {file}.npy: its {PREFACTORS[suffix]} is not learned"
                )
                yield warning(root.path, message)


@rule("ZOO634", "the training data have energies, if energies are trained")
def trained_energies_exist(config: Input) -> Iterator[Finding]:
    """Demand an energy somewhere: the energies of the elements are fitted to them."""
    systems = _systems(config)
    given = (has_label(system, name) for system in systems for name in ("energy", "atom_ener"))
    if systems and term_is_on(config.loss, "e") and not any(given):
        message = "energies are trained, but no training system has energy.npy"
        yield fault("loss.start_pref_e", message, ADD_ENERGIES)


@rule("ZOO635", "the training data have some label that the loss trains")
def something_is_labelled(config: Input) -> Iterator[Finding]:
    """Demand a label of a term of the loss; another rule speaks of energies."""
    systems = _systems(config)
    trained = [suffix for suffix in _FILES if term_is_on(config.loss, suffix)]
    if not systems or not trained or "e" in trained:
        return
    weighted = not config.loss.use_default_pf
    needed = {"pf": ["force", "atom_pref"] if weighted else ["force"], "gf": ["force", "drdq"]}
    for suffix in trained:
        files = needed.get(suffix, [_FILES[suffix]])
        if any(all(has_label(system, file) for file in files) for system in systems):
            return
    names = ", ".join(f"{_FILES[suffix]}.npy" for suffix in trained)
    message = f"no training system has what the loss trains ({names}): nothing would be trained"
    yield fault("loss", message, "add these labels, or give weight to one that the data have")


@rule("ZOO422", "energies and forces that the data have are learned")
def labels_are_learned(config: Input) -> Iterator[Finding]:
    """Warn if there are energies or forces and the loss leaves them out."""
    loss = config.loss
    if not any(term_is_on(loss, suffix) for suffix in PREFACTORS):
        return  # another rule speaks of that
    for suffix, instead, loses in (
        ("e", "ae", "they are not learned, and energies of the model mean nothing"),
        ("f", "pf", "they are not learned"),
    ):
        start, limit = f"start_pref_{suffix}", f"limit_pref_{suffix}"
        half_on = getattr(loss, start) or getattr(loss, limit)  # another rule speaks of that
        if half_on or term_is_on(loss, instead):
            continue
        if any(has_label(system, _FILES[suffix]) for system in _systems(config)):
            what = "energies" if suffix == "e" else "forces"
            message = (
                f"the data have {what}, but the {PREFACTORS[suffix]} prefactors are 0: {loses}"
            )
            hint = f"give {start} and {limit} a weight"
            yield warning(f"loss.{start}", message, hint)


@rule("ZOO423", "the data have the parameters that the model takes")
def parameters_exist(config: Input) -> Iterator[Finding]:
    """Demand frame and atom parameters in every system where the model takes them."""
    fitting = config.model.fitting_net
    for number, key, file in (
        (fitting.numb_fparam, "numb_fparam", "fparam"),
        (fitting.numb_aparam, "numb_aparam", "aparam"),
    ):
        if number == 0 or (file == "fparam" and fitting.default_fparam is not None):
            continue
        for name, section in sections(config):
            systems = [system for root in roots(name, section) for system in root.systems]
            lacking = [item for item in systems if sets_of(item) and not has_label(item, file)]
            if lacking:
                message = f"{key} is {number}, but {lacking[0]} has no {file}.npy"
                hint = f"add {file}.npy to each set, or set {key} to 0"
                yield fault(f"model.fitting_net.{key}", message, hint)
                break


_ROUNDING = 1e-8


def _number_of_systems(name: str, section: DataSection) -> int | None:
    """Return how many systems a section expands to, None if that cannot be seen here."""
    entries = roots(name, section)
    if any(not entry.is_folder or not entry.systems for entry in entries):
        return None
    return sum(len(entry.systems) for entry in entries)


@rule("ZOO411", "a list of batch sizes has one for each system")
def batch_sizes_fit(config: Input) -> Iterator[Finding]:
    """Demand as many batch sizes as there are systems."""
    for name, section in sections(config):
        number = _number_of_systems(name, section)
        sizes = section.batch_size
        if isinstance(sizes, list) and number is not None and len(sizes) != number:
            message = f"{len(sizes)} batch sizes for {number} systems"
            hint = "write one for each system, or a single number for all"
            yield fault(f"training.{name}.batch_size", message, hint)


@rule("ZOO412", "batches are no larger than systems")
def batches_are_filled(config: Input) -> Iterator[Finding]:
    """Warn of a batch size that no system has frames for."""
    for name, section in sections(config):
        given = section.batch_size
        systems = [system for root in roots(name, section) for system in root.systems]
        if isinstance(given, str) or (isinstance(given, list) and len(given) != len(systems)):
            continue
        sizes = given if isinstance(given, list) else [given] * len(systems)
        for index, (size, system) in enumerate(zip(sizes, systems, strict=True)):
            frames = sum(_frames(folder) for folder in sets_of(system))
            if 0 < frames < size:
                place = (index,) if isinstance(given, list) else ()
                message = f"batch_size ({size}) is more than the {frames} frames of {system}"
                yield warning(("training", name, "batch_size", *place), message)
                break


def _frames(folder: object) -> int:
    header = array_header(folder / "coord.npy")  # type: ignore[operator]
    return header.shape[0] if header is not None and header.shape else 0


@rule("ZOO416", "filter:N leaves systems")
def systems_are_left(config: Input) -> Iterator[Finding]:
    """Demand a system that is small enough; warn of those that are left out."""
    for name, section in sections(config):
        rule_name, _, limit = str(section.batch_size).partition(":")
        systems = [system for root in roots(name, section) for system in root.systems]
        if rule_name != "filter" or not limit.isdigit() or not systems:
            continue
        atoms = [len(type_indices(system) or ()) for system in systems]
        dropped = sum(number > int(limit) for number in atoms)
        path = f"training.{name}.batch_size"
        if dropped == len(systems):
            message = f"every system has more than {limit} atoms: none is left"
            yield fault(path, message, f"the smallest has {min(atoms)} atoms")
        elif dropped:
            message = f"{dropped} of {len(systems)} systems have more than {limit} atoms"
            yield warning(path, f"{message}: they are left out")


@rule("ZOO413", "mix:N is for LMDB")
def mixed_batches_need_lmdb(config: Input) -> Iterator[Finding]:
    """Demand a data base where batches mix frames of different sizes."""
    for name, section in sections(config):
        rule_name = section.batch_size if isinstance(section.batch_size, str) else ""
        folders = all(root.is_folder for root in roots(name, section))
        if rule_name.startswith("mix:") and folders:
            hint = 'use "auto:N", "max:N" or "mixed:N"'
            yield fault(f"training.{name}.batch_size", "`mix:N` works for LMDB data only", hint)


@rule("ZOO414", "blocks of auto_prob are within the systems")
def blocks_exist(config: Input) -> Iterator[Finding]:
    """Demand that the blocks of systems are in order and there."""
    for name, section in sections(config):
        path = f"training.{name}.auto_prob"
        blocks = parse_blocks(section.auto_prob)
        number = _number_of_systems(name, section)
        for first, end, _ in blocks:
            if first >= end:
                yield fault(path, f"block {first}:{end} is empty", "a block is first:end:weight")
            elif number is not None and end > number:
                yield fault(path, f"block {first}:{end} exceeds the {number} systems")
        if blocks and sum(weight for _, _, weight in blocks) <= 0:
            yield fault(path, "the weights of all blocks are 0")


@rule("ZOO415", "sys_probs has one for each system and sums to 1")
def probabilities_fit(config: Input) -> Iterator[Finding]:
    """Demand probabilities that can be drawn from; negative entries share the rest."""
    for name, section in sections(config):
        given = section.sys_probs
        if given is None:
            continue
        path = ("training", name, "sys_probs")
        number = _number_of_systems(name, section)
        if number is not None and len(given) != number:
            hint = "write one for each system; an entry of -1 takes the rest"
            yield fault(path, f"{len(given)} probabilities for {number} systems", hint)
        fixed = sum(value for value in given if value >= 0)
        negative = [index for index, value in enumerate(given) if value < 0]
        if negative and fixed >= 1 - _ROUNDING:
            message = f"negative probability: it takes the rest, but the others sum to {fixed:g}"
            yield fault((*path, negative[0]), message)
        elif fixed > 1 + _ROUNDING or (not negative and fixed < 1 - _ROUNDING):
            hint = "they must sum to 1; an entry of -1 takes the rest"
            yield fault(path, f"the probabilities sum to {fixed:g}", hint)


@rule("ZOO424", "every system is drawn")
def systems_are_drawn(config: Input) -> Iterator[Finding]:
    """Warn of systems with probability 0: they are read, and never trained on."""
    for name, section in sections(config):
        number = _number_of_systems(name, section)
        if section.sys_probs is not None:
            for index, value in enumerate(section.sys_probs):
                if value == 0:
                    message = f"system {index} has probability 0: it is never drawn"
                    place = ("training", name, "sys_probs", index)
                    yield fault(place, message, "remove it from `systems`", "warning", group=_NEVER)
            continue
        blocks = parse_blocks(section.auto_prob)
        path = ("training", name, "auto_prob")
        for first, end, weight in blocks:
            if weight == 0:
                message = f"block {first}:{end} has weight 0: its systems are never drawn"
                yield fault(path, message, "remove them from `systems`", "warning")
        drawn = {index for first, end, _ in blocks for index in range(first, min(end, _MANY))}
        left_out = [index for index in range(number or 0) if index not in drawn]
        if blocks and left_out:
            message = f"{_listed(left_out)} of {number} systems in no block: never drawn"
            yield warning(path, message, "give them a block, or remove them from `systems`")


_NEVER = Group("systems that are never drawn")
_MANY = 10**6


def _listed(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return f"system {numbers[0]} is"
    shown = ", ".join(map(str, numbers[:6])) + (", ..." if len(numbers) > 6 else "")
    return f"systems {shown} are"


@rule("ZOO425", "blocks of auto_prob do not overlap")
def blocks_are_distinct(config: Input) -> Iterator[Finding]:
    """Refuse a system in two blocks: the later one silently counts."""
    for name, section in sections(config):
        if section.sys_probs is not None:
            continue
        blocks = sorted(parse_blocks(section.auto_prob))
        for (first, end, _), (other, last, _) in pairwise(blocks):
            if other < end and first < end and other < last:
                message = f"blocks {first}:{end} and {other}:{last} overlap"
                hint = "a block ends before its `end`: 0:2 are systems 0 and 1"
                yield fault(f"training.{name}.auto_prob", message, hint)
