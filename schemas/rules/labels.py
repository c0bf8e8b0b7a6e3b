"""Rules about what is learned and what the data have labels for."""

from collections.abc import Iterator
from pathlib import Path

from schemas.input import Input
from schemas.loss import PREFACTORS
from schemas.rules.data_folders import Root, has_label, roots, sections, sets_of
from schemas.rules.loss import term_is_on
from schemas.rules.rule import Fault, rule, warning

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
def labels_exist(config: Input) -> Iterator[Fault]:
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
def trained_energies_exist(config: Input) -> Iterator[Fault]:
    """Demand an energy somewhere: the energies of the elements are fitted to them."""
    systems = _systems(config)
    given = (has_label(system, name) for system in systems for name in ("energy", "atom_ener"))
    if systems and term_is_on(config.loss, "e") and not any(given):
        message = "energies are trained, but no training system has energy.npy"
        yield Fault("loss.start_pref_e", message, ADD_ENERGIES)


@rule("ZOO635", "the training data have some label that the loss trains")
def something_is_labelled(config: Input) -> Iterator[Fault]:
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
    yield Fault("loss", message, "add these labels, or give weight to one that the data have")


@rule("ZOO422", "energies and forces that the data have are learned")
def labels_are_learned(config: Input) -> Iterator[Fault]:
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
def parameters_exist(config: Input) -> Iterator[Fault]:
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
                yield Fault(f"model.fitting_net.{key}", message, hint)
                break
