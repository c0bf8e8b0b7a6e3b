"""Rules about labels, batches and the probabilities of systems."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice

from schemas.base.diagnostics import Finding, Group
from schemas.check.data_folders import Folder, roots, sections, systems
from schemas.check.rule import fault, rule, warning
from schemas.input.optimization import LABEL_FILES, PREFACTORS, prefactors, term_is_on
from schemas.input.refusals import (
    SystemSize,
    batch_size_faults,
    block_faults,
    overlap_faults,
    probability_faults,
    systems_left,
)
from schemas.input.root import Input
from schemas.input.training import DataSection, parse_blocks

ADD_ENERGIES = (
    "add energies; or set start_pref_e and limit_pref_e to 0, to train without: energies of the "
    "model then have no meaning, their differences along a path have"
)


def _trained(config: Input) -> list[Folder]:
    """Return the systems of the training data with sets; none if some are no folders."""
    if not all(root.is_folder for root in roots(config, "training_data")):
        return []
    return [system for _, system in systems(config, "training_data") if system.sets]


@rule("ZOO421", "the data have what the loss learns")
def labels_exist(config: Input) -> Iterator[Finding]:
    """Warn of a term without labels: everywhere at its weight, in some systems at these."""
    trained = _trained(config)
    for suffix, file in LABEL_FILES.items():
        if not trained or not term_is_on(config.loss, suffix):
            continue
        without = [system for system in trained if not system.has(file)]
        is_needless = suffix == "pf" and config.loss.use_default_pf
        if is_needless or (len(without) == len(trained) and suffix == "e"):
            continue  # another rule speaks of energies
        given = f"start_pref_{suffix}" in config.loss.model_fields_set
        if len(without) == len(trained) and suffix not in ("e", "f") and given:
            message = f"no system has {file}.npy: the {PREFACTORS[suffix]} term has no effect"
            hint = f"add {file}.npy, or set start_pref_{suffix} and limit_pref_{suffix} to 0"
            yield warning(f"loss.start_pref_{suffix}", message, hint)
            continue
        if suffix == "v" and len(without) < len(trained):  # molecules without a cell have none
            without = [system for system in without if not (system.path / "nopbc").exists()]
        for root in roots(config, "training_data"):
            if any(system in without for system in root.systems):
                lost = f"its {PREFACTORS[suffix]} is not learned"
                yield warning(root.path, f"{root.written} has no {file}.npy: {lost}")


@rule("ZOO634", "the training data have energies, if energies are trained")
def trained_energies_exist(config: Input) -> Iterator[Finding]:
    """Demand an energy somewhere: the energies of the elements are fitted to them."""
    trained = _trained(config)
    given = (system.has("energy") or system.has("atom_ener") for system in trained)
    if trained and term_is_on(config.loss, "e") and not any(given):
        message = "energies are trained, but no training system has energy.npy"
        yield fault("loss.start_pref_e", message, ADD_ENERGIES)


@rule("ZOO635", "the training data have some label that the loss trains")
def something_is_labelled(config: Input) -> Iterator[Finding]:
    """Demand a label of a term of the loss; another rule speaks of energies."""
    trained = _trained(config)
    terms = [suffix for suffix in LABEL_FILES if term_is_on(config.loss, suffix)]
    if not trained or not terms or "e" in terms:
        return
    needed = {suffix: [file] for suffix, file in LABEL_FILES.items()}
    needed["pf"] = ["force"] if config.loss.use_default_pf else ["force", "atom_pref"]
    needed["gf"] = ["force", "drdq"]
    for suffix in terms:
        if any(all(system.has(file) for file in needed[suffix]) for system in trained):
            return
    names = ", ".join(f"{LABEL_FILES[suffix]}.npy" for suffix in terms)
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
        if any(prefactors(loss, suffix)) or term_is_on(loss, instead):
            continue  # another rule speaks of half a weight
        if any(system.has(LABEL_FILES[suffix]) for system in _trained(config)):
            what = "energies" if suffix == "e" else "forces"
            message = (
                f"the data have {what}, but the {PREFACTORS[suffix]} prefactors are 0: {loses}"
            )
            hint = f"give start_pref_{suffix} and limit_pref_{suffix} a weight"
            yield warning(f"loss.start_pref_{suffix}", message, hint)


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
        found = (system for _, system in systems(config) if system.sets and not system.has(file))
        for system in islice(found, 1):
            message = f"{key} is {number}, but {system} has no {file}.npy"
            hint = f"add {file}.npy to each set, or set {key} to 0"
            yield fault(f"model.fitting_net.{key}", message, hint)


def _number_of_systems(config: Input, name: str, *, left: bool = False) -> int | None:
    """Return how many systems a section expands to, None if that cannot be seen here.

    Args:
        config: The input.
        name: The section.
        left: Count only those that the batch size leaves.
    """
    entries = list(roots(config, name))
    if any(not entry.is_folder or not entry.systems for entry in entries):
        return None
    found = [_size(system) for entry in entries for system in entry.systems]
    if not left:
        return len(found)
    return len(systems_left(getattr(config.training, name).batch_size, found)) or None


def _size(system: Folder) -> SystemSize:
    return SystemSize(str(system), system.frames, len(system.indices or ()))


_Faults = Callable[[Input, str, DataSection], Iterable[Finding]]


def _batch_size(config: Input, name: str, section: DataSection) -> Iterable[Finding]:
    folders = [_size(system) for _, system in systems(config, name)]
    known = _number_of_systems(config, name) is not None
    if known or (folders and isinstance(section.batch_size, int)):
        return batch_size_faults(section.batch_size, folders)
    return ()


def _blocks(config: Input, name: str, section: DataSection) -> Iterable[Finding]:
    return block_faults(section.auto_prob, _number_of_systems(config, name, left=True))


def _overlaps(_: Input, __: str, section: DataSection) -> Iterable[Finding]:
    return overlap_faults(section.auto_prob) if section.sys_probs is None else ()


def _probabilities(config: Input, name: str, section: DataSection) -> Iterable[Finding]:
    if section.sys_probs is None:
        return ()
    number = _number_of_systems(config, name, left=True)
    return probability_faults(section.sys_probs, number)


def _sampling(code: str, faults: _Faults, config: Input) -> Iterator[Finding]:
    """Yield the faults under a code of each data section; of batch sizes the first."""
    for name, section in sections(config):
        found = [item for item in faults(config, name, section) if item.code == code]
        for item in found[:1] if faults is _batch_size else found:
            yield replace(item, path=("training", name, *item.path))


for _code, _demand, _faults in (
    ("ZOO411", "a list of batch sizes has one for each system", _batch_size),
    ("ZOO412", "batches are no larger than systems", _batch_size),
    ("ZOO416", "filter:N leaves systems", _batch_size),
    ("ZOO414", "blocks of auto_prob are within the systems", _blocks),
    ("ZOO425", "blocks of auto_prob do not overlap", _overlaps),
    ("ZOO415", "sys_probs has one for each system and sums to 1", _probabilities),
):
    rule(_code, _demand)(partial(_sampling, _code, _faults))


@rule("ZOO413", "mix:N is for LMDB")
def mixed_batches_need_lmdb(config: Input) -> Iterator[Finding]:
    """Demand a data base where batches mix frames of different sizes."""
    for name, section in sections(config):
        folders = all(root.is_folder for root in roots(config, name))
        if str(section.batch_size).startswith("mix:") and folders:
            hint = 'use "auto:N", "max:N" or "mixed:N"'
            yield fault(f"training.{name}.batch_size", "`mix:N` works for LMDB data only", hint)


_NEVER = Group("systems that are never drawn")
_MANY = 10**6


@rule("ZOO424", "every system is drawn")
def systems_are_drawn(config: Input) -> Iterator[Finding]:
    """Warn of systems with probability 0: they are read, and never trained on."""
    for name, section in sections(config):
        number = _number_of_systems(config, name)
        for index, value in enumerate(section.sys_probs or ()):
            if value == 0:
                message = f"system {index} has probability 0: it is never drawn"
                place = ("training", name, "sys_probs", index)
                yield warning(place, message, "remove it from `systems`", group=_NEVER)
        blocks = parse_blocks(section.auto_prob) if section.sys_probs is None else []
        path = ("training", name, "auto_prob")
        for first, end, weight in blocks:
            if weight == 0:
                message = f"block {first}:{end} has weight 0: its systems are never drawn"
                yield warning(path, message, "remove them from `systems`")
        drawn = {index for first, end, _ in blocks for index in range(first, min(end, _MANY))}
        left_out = [index for index in range(number or 0) if index not in drawn]
        if blocks and left_out:
            message = f"{_listed(left_out)} of {number} systems in no block: never drawn"
            yield warning(path, message, "give them a block, or remove them from `systems`")


def _listed(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return f"system {numbers[0]} is"
    shown = ", ".join(map(str, numbers[:6])) + (", ..." if len(numbers) > 6 else "")
    return f"systems {shown} are"
