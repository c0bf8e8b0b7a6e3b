"""Rules about the names of atom types and about indices into them."""

import json
from collections.abc import Iterator

from schemas.diagnostics import Group
from schemas.elements import SYMBOLS, symbol_like
from schemas.input import Input
from schemas.rules.data_folders import missing_elements
from schemas.rules.rule import Fault, rule

OTHER_ELEMENTS = Group("elements of something else", "value")
_NAMES = Group("names that are no elements")
_WITHOUT = Group("no electron configuration")
_OUTSIDE = Group("indices outside type_map")


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
