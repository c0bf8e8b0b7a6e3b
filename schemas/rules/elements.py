"""Rules about the names of atom types and about indices into them."""

import json
from collections.abc import Iterator

from schemas.diagnostics import Group
from schemas.elements import SYMBOLS, symbol_like
from schemas.input import Input
from schemas.rules.data_folders import elements_of, missing_elements, roots
from schemas.rules.rule import Fault, rule, warning

OTHER_ELEMENTS = Group("elements of something else", "value")
_NAMES = Group("names that are no elements")
_WITHOUT = Group("no electron configuration")
_OUTSIDE = Group("indices outside type_map")
_NOTHING_LEFT = Group("systems of excluded types")


@rule("ZOO241", "each name appears once in type_map")
def types_are_distinct(config: Input) -> Iterator[Fault]:
    """Demand that no two types have the same name."""
    names = config.model.type_map
    for index, name in enumerate(names):
        first = names.index(name)
        if first < index:
            message = f'"{name}" is in type_map already, at index {first}'
            yield Fault(("model", "type_map", index), message, "remove it")


@rule("ZOO242", "names in type_map are elements")
def types_are_elements(config: Input) -> Iterator[Fault]:
    """Warn of a name that is no element; an error if the data's elements are then missing."""
    names = config.model.type_map
    for index, name in enumerate(names):
        if name in SYMBOLS:
            continue
        if not name.strip():
            message = "a type has no name"
            yield Fault(("model", "type_map", index), message, "give the symbol of an element")
            continue
        meant = symbol_like(name)
        hint = (
            f'did you mean "{meant}"?' if meant else "allowed, but check that the data say the same"
        )
        message = f'"{name}" is not an element'
        if name != name.strip():
            message = f'"{name}" has blanks around it'
        path = ("model", "type_map", index)
        fix = json.dumps(meant) if meant and meant not in names else None
        if meant and meant in missing_elements(config):
            message = f"{message}, and the data have {meant}"
            yield Fault(path, message, hint, fix=fix, group=_NAMES)
        else:
            yield Fault(path, message, hint, "warning", fix=fix, safe=False, group=_NAMES)


@rule("ZOO243", "use_econf_tebd needs elements")
def electron_configurations_exist(config: Input) -> Iterator[Fault]:
    """Demand elements where type embeddings are made from electron configurations."""
    if not config.model.descriptor.use_econf_tebd:
        return
    for index, name in enumerate(config.model.type_map):
        if name not in SYMBOLS:
            message = f'use_econf_tebd: "{name}" has no electron configuration'
            hint = "use the symbol of an element"
            yield Fault(("model", "type_map", index), message, hint, group=_WITHOUT)


@rule("ZOO244", "excluded types exist")
def excluded_types_exist(config: Input) -> Iterator[Fault]:
    """Demand that indices of excluded types are within type_map."""
    number = len(config.model.type_map)
    pairs = (
        (("model", "descriptor", "exclude_types"), config.model.descriptor.exclude_types),
        (("model", "pair_exclude_types"), config.model.pair_exclude_types),
        (("model", "atom_exclude_types"), [[index] for index in config.model.atom_exclude_types]),
    )
    for path, entries in pairs:
        for position, entry in enumerate(entries):
            for index in entry:
                if not 0 <= index < number:
                    message = f"type index {index} is outside type_map ({number} types)"
                    hint = f"indices go from 0 to {number - 1}"
                    yield Fault((*path, position), message, hint, group=_OUTSIDE)


@rule("ZOO380", "exclusions leave atoms in each system")
def atoms_are_left(config: Input) -> Iterator[Fault]:
    """Demand atoms of no excluded type: the energies of the others are 0, whatever is learned."""
    names = config.model.type_map
    excluded = {
        name for index, name in enumerate(names) if index in config.model.atom_exclude_types
    }
    if not excluded:
        return
    if not _types(config) - set(config.model.atom_exclude_types):
        message = "every atom of the data is of an excluded type: there is no energy to learn"
        hint = "leave out of the list the types whose energies the model is to learn"
        yield Fault("model.atom_exclude_types", message, hint)
        return
    for root in roots("training_data", config.training.training_data):
        for system in root.systems:
            present = elements_of(system)
            if present is not None and present <= excluded:
                message = f"every atom of {system} is of an excluded type: its loss is infinite"
                hint = "leave it out of `systems`"
                yield Fault(root.path, message, hint, group=_NOTHING_LEFT, for_deepmd="warning")


@rule("ZOO381", "exclusions leave neighbours")
def neighbors_are_left(config: Input) -> Iterator[Fault]:
    """Warn if no atom with an energy keeps a neighbour: such energies have no forces."""
    model, present = config.model, _types(config)
    lists = {
        ("model", "pair_exclude_types"): model.pair_exclude_types,
        ("model", "descriptor", "exclude_types"): model.descriptor.exclude_types,
    }
    gone = {frozenset(pair) for pairs in lists.values() for pair in pairs}
    kept = present - set(model.atom_exclude_types)
    if kept and all(frozenset((one, other)) in gone for one in kept for other in present):
        path = max(lists, key=lambda item: len(lists[item]))
        message = "every pair of the data's elements is excluded: energies depend on no distance"
        yield warning(path, message, "leave out of the list the pairs that are to interact")


def _types(config: Input) -> set[int]:
    """Return the types of the training data; all types where they cannot be told."""
    names = config.model.type_map
    present: set[str] = set()
    for root in roots("training_data", config.training.training_data):
        found = [elements_of(system) for system in root.systems]
        if not found or None in found:
            return set(range(len(names)))
        present = present.union(*(item for item in found if item is not None))
    return {index for index, name in enumerate(names) if name in present} or set(range(len(names)))
