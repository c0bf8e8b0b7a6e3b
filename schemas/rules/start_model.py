"""Rules about the model of an input and that of the checkpoint from which it starts."""

from collections.abc import Iterator

from schemas.architecture import (
    Difference,
    auto_selections,
    descriptor_differences,
    fitting_differences,
    model_differences,
)
from schemas.departure import Departure, Target, is_empty
from schemas.diagnostics import dotted
from schemas.errors import ConfigError
from schemas.explain import shown
from schemas.model import Model
from schemas.partial import UnusableError
from schemas.rules.elements import OTHER_ELEMENTS
from schemas.rules.rule import Fault, note, rule, warning
from schemas.start import Source, Start


def _pairs(departure: Departure) -> Iterator[tuple[Target, Source, Model]]:
    """Yield each branch of the input with the one that it starts from."""
    for target in departure.targets:
        source = departure.sources.get(target.name)
        model = departure.models.get(source.branch) if source is not None else None
        if source is not None and isinstance(model, Model):
            yield target, source, model


def _differences(target: Target, source: Source, theirs: Model) -> list[Difference]:
    found: list[Difference] = []
    if ("model", "descriptor") in target.view.hidden:
        return found  # a rule says so
    try:
        found += descriptor_differences(target.sound.model.descriptor, theirs.descriptor)
        if not source.is_random:
            found += fitting_differences(target.sound.model.fitting_net, theirs.fitting_net)
            found += model_differences(target.sound.model, theirs)
    except UnusableError:
        return found
    return found


@rule("ZOO601", "the checkpoint is of a model that this engine runs", scope="start")
def checkpoint_is_ours(departure: Departure) -> Iterator[Fault]:
    """Demand a DPA-2 energy model."""
    start = departure.start
    for branch, model in departure.models.items():
        if isinstance(model, ConfigError) and start is not None:
            message = f"{start.file}, branch `{branch}`: {model.message}"
            yield Fault(start.path, message, model.hint)


@rule("ZOO602", "the networks are those of the checkpoint", scope="start")
def networks_are_equal(departure: Departure) -> Iterator[Fault]:
    """Demand networks in which the weights of the checkpoint mean the same.

    Seeds, initial values and whether something is trained may differ.
    """
    start = departure.start
    if start is None:
        return
    for target, source, theirs in _pairs(departure):
        differences = _differences(target, source, theirs)
        if start.option != "--finetune":
            grave = [item for item in differences if not item.is_mild]
            if grave:
                yield _does_not_fit(departure, target, grave)
            for item in differences:
                if item.is_mild:
                    yield _other_function(start, target, item)
            continue
        for item in differences:
            path = target.path("model", *item.parts)
            message = (
                f"`{item.parts[-1]}` is {_value(item.ours)} here and {_value(item.theirs)} in "
                f"the checkpoint"
            )
            if item.is_mild:
                yield warning(path, message, f"write {_value(item.theirs)} to keep it")
            else:
                hint = f"write {_value(item.theirs)}, or take it over with --use-pretrain-script"
                yield Fault(path, message, hint)


def _other_function(start: Start, target: Target, item: Difference) -> Fault:
    path = target.path("model", *item.parts)
    message = (
        f"`{item.parts[-1]}` is {_value(item.ours)} here and {_value(item.theirs)} in "
        f"{start.file}: another function of the same weights"
    )
    keep = f"write {_value(item.theirs)}"
    if start.option == "--restart":
        hint = f"{keep} to continue the run; a new one can begin with its weights: --init-model"
        return Fault(path, message, hint)
    return warning(path, message, f"{keep} to keep what was trained")


def _does_not_fit(departure: Departure, target: Target, grave: list[Difference]) -> Fault:
    assert departure.start is not None
    first = grave[0]
    where = dotted(target.path("model", *first.parts))
    others = f" (and {len(grave) - 1} more)" if len(grave) > 1 else ""
    message = (
        f"the checkpoint does not fit: {where} is {_value(first.ours)} in the input and "
        f"{_value(first.theirs)} in {departure.start.file}{others}"
    )
    return Fault(departure.start.path, message, "use the input that it was trained with")


@rule("ZOO603", "the type_map goes with that of the checkpoint", scope="start")
def types_are_known(departure: Departure) -> Iterator[Fault]:
    """Compare the elements: none in common is an error, new ones are drawn at random."""
    start = departure.start
    if start is None:
        return
    for target, _, model in _pairs(departure):
        try:
            ours = target.sound.model.type_map
        except UnusableError:
            continue
        theirs, path = model.type_map, target.path("model", "type_map")
        if ours == theirs:
            continue
        if start.option != "--finetune":
            message = f"type_map is {_value(ours)} here and {_value(theirs)} in {start.file}"
            hint = f"write {_value(theirs)}; --finetune can change it"
            yield Fault(path, message, hint)
            continue
        new = [name for name in ours if name not in theirs]
        dropped = [name for name in theirs if name not in ours]
        where = f"the checkpoint's type_map ({', '.join(theirs)})"
        if len(new) == len(ours):
            message = f"no element is in {where}: there is nothing to fine-tune"
            yield Fault(path, message, group=OTHER_ELEMENTS)
        elif new:
            message = f"{', '.join(new)}: not in {where}; what belongs to it starts at random"
            yield warning(path, message, "the data must teach it from scratch")
        else:
            message = f"taken over by name from {where}"
            message += f"; {', '.join(dropped)} dropped" if dropped else ""
            yield note(path, message)


@rule("ZOO604", "what is taken from the checkpoint", scope="start")
def weights_are_taken(departure: Departure) -> Iterator[Fault]:
    """Say what is loaded and what is drawn at random."""
    start = departure.start
    if start is None or start.option != "--finetune":
        return
    for target, source, _ in _pairs(departure):
        if departure.is_undecided(target):
            continue  # a rule says so
        whose = f"branch `{source.branch}` of {start.file}" if start.has_branches else start.file
        what = "descriptor and fitting net are loaded"
        if source.is_random:
            what = "the descriptor is loaded, the fitting net is random"
        what += f", the energy bias {_bias(start, source)}"
        if start.use_pretrain_script:
            sections = (
                "section of the descriptor is" if source.is_random else "sections of both are"
            )
            what += f"; the input's {sections} replaced by the checkpoint's"
        prefix = f"branch `{target.name}` starts from " if departure.is_multitask else ""
        yield note(start.path, f"{prefix}{whose}: {what}")


def _bias(start: Start, source: Source) -> str:
    """Return what becomes of the energies of the elements."""
    match start.bias_of(source):
        case "change":
            return "is shifted to the data"
        case "set":
            return "is fitted anew to the data"
        case "none":
            return "is not fitted" if source.is_random else "is loaded as it is"


@rule("ZOO605", "an empty descriptor needs --use-pretrain-script", scope="start")
def descriptor_is_given(departure: Departure) -> Iterator[Fault]:
    """Demand a descriptor, or the options that take over a checkpoint's."""
    start = departure.start
    hint = "add --use-pretrain-script to take over the checkpoint's"
    if start is None:
        hint = "to take over a pretrained model's: --finetune FILE --use-pretrain-script"
    elif start.option == "--restart":
        hint = f"use the complete input of that run, which is beside {start.file} as out.json"
    elif start.use_pretrain_script:
        return
    for target in departure.targets:
        model = target.view.data.get("model")
        if isinstance(model, dict) and is_empty(model.get("descriptor")):
            message = "the descriptor is empty: nothing says what the network is like"
            yield Fault(target.path("model", "descriptor"), message, hint)


@rule("ZOO606", "numbers of neighbours are those of the checkpoint", scope="start")
def selections_are_known(departure: Departure) -> Iterator[Fault]:
    """Warn of `auto`, which may come out other than in the checkpoint."""
    for target, _, theirs in _pairs(departure):
        try:
            chosen = list(auto_selections(target.sound.model.descriptor))
        except UnusableError:
            continue
        for _, block, key in chosen:
            number = getattr(getattr(theirs.descriptor, block), key)
            message = f"`{key}` is taken from the data here; the checkpoint has {number}"
            path = target.path("model", "descriptor", block, key)
            yield warning(path, message, f"write {number}: results depend on it")


def _value(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(shown(item) for item in value) + "]"
    return shown(value)
