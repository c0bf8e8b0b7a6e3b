"""Rules about elements and systems of the data: that these exist, are whole and fit the model."""

import json
import re
from collections.abc import Iterator
from math import prod
from pathlib import Path

from schemas.base.diagnostics import Finding, Group
from schemas.base.foreign_files import why_unreadable
from schemas.base.names import SYMBOLS, symbol_like
from schemas.check.data_folders import (
    Folder,
    Root,
    array_header,
    exists,
    is_container,
    roots,
    systems,
)
from schemas.check.rule import fault, rule, warning
from schemas.input.root import Input

OTHER_ELEMENTS = Group("elements of something else", "value")


@rule("ZOO241", "each name appears once in type_map")
def types_are_distinct(config: Input) -> Iterator[Finding]:
    """Demand that no two types have the same name."""
    names = config.model.type_map
    for index, name in enumerate(names):
        first = names.index(name)
        if first < index:
            message = f'"{name}" is in type_map already, at index {first}'
            yield fault(("model", "type_map", index), message, "remove it")


@rule("ZOO242", "names in type_map are elements")
def types_are_elements(config: Input) -> Iterator[Finding]:
    """Warn of a name that is no element; an error if the data's elements are then missing."""
    names = config.model.type_map
    group = Group("names that are no elements")
    for index, name in enumerate(names):
        path = ("model", "type_map", index)
        if name in SYMBOLS:
            continue
        if not name.strip():
            yield fault(path, "a type has no name", "give the symbol of an element")
            continue
        meant = symbol_like(name)
        hint = (
            f'did you mean "{meant}"?' if meant else "allowed, but check that the data say the same"
        )
        message = f'"{name}" is not an element'
        if name != name.strip():
            message = f'"{name}" has blanks around it'
        fix = json.dumps(meant) if meant and meant not in names else None
        missing = (set(system.names or ()) - set(names) for _, system in systems(config))
        if meant and any(meant in items for items in missing):
            yield fault(path, f"{message}, and the data have {meant}", hint, fix=fix, group=group)
        else:
            yield warning(path, message, hint, fix=fix, safe=False, group=group)


@rule("ZOO243", "use_econf_tebd needs elements")
def electron_configurations_exist(config: Input) -> Iterator[Finding]:
    """Demand elements where type embeddings are made from electron configurations."""
    group = Group("no electron configuration")
    for index, name in enumerate(config.model.type_map):
        if config.model.descriptor.use_econf_tebd and name not in SYMBOLS:
            message = f'use_econf_tebd: "{name}" has no electron configuration'
            hint = "use the symbol of an element"
            yield fault(("model", "type_map", index), message, hint, group=group)


@rule("ZOO244", "excluded types exist")
def excluded_types_exist(config: Input) -> Iterator[Finding]:
    """Demand that indices of excluded types are within type_map."""
    model, number = config.model, len(config.model.type_map)
    group = Group("indices outside type_map")
    for path, entries in (
        (("model", "descriptor", "exclude_types"), model.descriptor.exclude_types),
        (("model", "pair_exclude_types"), model.pair_exclude_types),
        (("model", "atom_exclude_types"), [[index] for index in model.atom_exclude_types]),
    ):
        for position, entry in enumerate(entries):
            for index in entry:
                if not 0 <= index < number:
                    message = f"type index {index} is outside type_map ({number} types)"
                    hint = f"indices go from 0 to {number - 1}"
                    yield fault((*path, position), message, hint, group=group)


@rule("ZOO380", "exclusions leave atoms in each system")
def atoms_are_left(config: Input) -> Iterator[Finding]:
    """Demand atoms of no excluded type: the energies of the others are 0, whatever is learned."""
    names, gone = config.model.type_map, set(config.model.atom_exclude_types)
    excluded = {name for index, name in enumerate(names) if index in gone}
    if excluded and not _types(config) - gone:
        message = "every atom of the data is of an excluded type: there is no energy to learn"
        hint = "leave out of the list the types whose energies the model is to learn"
        yield fault("model.atom_exclude_types", message, hint)
        return
    group = Group("systems of excluded types")
    for root, system in systems(config, "training_data") if excluded else ():
        if system.elements is not None and system.elements <= excluded:
            message = f"every atom of {system} is of an excluded type: its loss is infinite"
            hint = "leave it out of `systems`"
            yield fault(root.path, message, hint, group=group, for_deepmd="warning")


@rule("ZOO381", "exclusions leave neighbours")
def neighbors_are_left(config: Input) -> Iterator[Finding]:
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
    for root in roots(config, "training_data"):
        found = [system.elements for system in root.systems]
        if not found or None in found:
            return set(range(len(names)))
        present = present.union(*(item for item in found if item is not None))
    return {index for index, name in enumerate(names) if name in present} or set(range(len(names)))


@rule("ZOO401", "each path of systems exists")
def paths_exist(config: Input) -> Iterator[Finding]:
    """Demand that each entry of systems exists, relative to the current folder."""
    for root in roots(config):
        place = Path(root.written.partition("#")[0])
        if not exists(place):
            hint = f"paths are relative to the current folder, {Path.cwd()}"
            if any(mark in root.written for mark in "*?["):
                hint = "globs are not expanded here; give the folder above and rglob_patterns"
            yield fault(root.path, f"{place} does not exist", hint)


@rule("ZOO402", "each folder has systems")
def folders_have_systems(config: Input) -> Iterator[Finding]:
    """Demand a system in or below each folder; deepmd-kit leaves such folders out silently."""
    for root in roots(config):
        folder = Path(root.written)
        if root.systems or not root.is_folder or not exists(folder):
            continue
        message = f"{folder} has no system: there is no type.raw in or below it"
        hint = "convert data with `zoo data convert`"
        if folder.is_file():
            message = f"{folder} is a file, not a system"
            hint = "convert other formats with `zoo data convert`"
        elif (folder.parent / "type.raw").is_file():
            hint = f"this is a set; give the folder above it, {folder.parent}"
        yield fault(root.path, message, hint)


_Defect = tuple[str, str | None]
_COUNT = "indices count from 0"
_SET = re.compile(r"/set\.[^/]*/")


@rule("ZOO403", "each system is whole")
def systems_are_whole(config: Input) -> Iterator[Finding]:
    """Demand coordinates, cells and arrays of the right shapes."""
    for root, system in systems(config):
        for message, hint in _defects(system):
            group = _group(root) or Group(_SET.sub("/", message), "value")
            yield fault(root.path, message, hint, group=group)


def _group(root: Root) -> Group | None:
    """Return the group of faults below a folder of several systems: the entry is at fault once."""
    return Group("systems", "value") if len(root.systems) > 1 else None


def _defects(system: Folder) -> Iterator[_Defect]:
    indices, names = system.indices, system.names
    if not indices:
        faulty = f"{system}/type.raw does not list a type index for each atom", None
        yield why_unreadable(system.path / "type.raw") or faulty
        return
    if names is not None and not names:
        yield f"{system}/type_map.raw is empty", "write the element of each type index"
    elif names is not None and max(indices) >= len(names):
        message = f"{system}/type.raw has index {max(indices)}, type_map.raw {len(names)} types"
        yield message, _COUNT
    if min(indices) < 0:
        yield f"{system}/type.raw has a negative index", _COUNT
    if not system.sets:
        yield f"{system} has no set.*", "put the arrays into a folder set.000"
    for folder in system.sets:
        if not (folder / "coord.npy").is_file():
            yield f"{folder} has no coord.npy", None
        if not (folder / "box.npy").is_file() and not (system.path / "nopbc").exists():
            hint = "write box.npy, or an empty file nopbc if the system is not periodic"
            yield f"{folder} has no box.npy and the system no nopbc", hint
        yield from _misshapen(folder, len(indices))


_KINDS = {"U": "texts", "S": "texts", "c": "complex numbers", "O": "objects"}


def _misshapen(folder: Path, num_atoms: int) -> Iterator[_Defect]:
    """Compare shapes and types of the arrays of a set with what they should be."""
    coord = array_header(folder / "coord.npy")
    frames = None if coord is None or not coord.shape else coord.shape[0]
    if coord is not None and len(coord.shape) == 1:
        frames = 1  # a single frame, saved without its axis
    other = _other_number_of_atoms(folder, num_atoms)
    if other is not None:
        message = (
            f"{folder.parent}/type.raw lists {num_atoms} atoms, {folder}/coord.npy has {other}"
        )
        yield message, "a line (or word) of type.raw for each atom, in the order of coord.npy"
        num_atoms = other
    wanted = {"box": 9, "virial": 9, "energy": 1, "coord": 3 * num_atoms, "force": 3 * num_atoms}
    for name, columns in (wanted | {"atom_ener": num_atoms}).items():
        path = folder / f"{name}.npy"
        if not path.is_file():
            continue
        header = array_header(path)
        if header is None:
            yield why_unreadable(path) or (f"{path} is not an array file of numpy", None)
        elif (kind := header.dtype[1:2]) not in ("f", "i", "u"):
            held = _KINDS.get(kind, f"values of type {header.dtype}")
            yield f"{path} holds {held}, not real numbers", None
        elif frames == 1 and prod(header.shape) == columns:
            continue
        elif frames is not None and header.shape and header.shape[0] != frames:
            yield f"{path} has {header.shape[0]} frames, coord.npy has {frames}", None
        elif (size := prod(header.shape[1:])) != columns:
            yield f"{path} has {size} columns, {columns} expected", None


def _other_number_of_atoms(folder: Path, num_atoms: int) -> int | None:
    """Return the number of atoms on which coordinates and forces agree against type.raw."""
    headers = [array_header(folder / f"{name}.npy") for name in ("coord", "force")]
    columns = {item.shape[1] for item in headers if item is not None and len(item.shape) == 2}
    both = (folder / "force.npy").is_file()
    if not both or len(columns) != 1 or (size := columns.pop()) == 3 * num_atoms or size % 3:
        return None
    return size // 3


@rule("ZOO404", "each element of the data is in type_map")
def elements_are_known(config: Input) -> Iterator[Finding]:
    """Demand that the model knows every name in type_map.raw, used by an atom or not.

    An element that a misspelt name of type_map probably means is left to the rule about names.
    """
    names = config.model.type_map
    meant = {symbol_like(name) for name in names if name not in SYMBOLS}
    known = {*names, *filter(None, meant)}
    present = {name for _, system in systems(config) for name in system.names or ()}
    if present and not present & known:
        message = f"no element of the data ({', '.join(sorted(present))}) is in type_map"
        hint = "list the elements of the data"
        yield fault("model.type_map", message, hint, group=OTHER_ELEMENTS)
        return
    for root in roots(config):
        for system in root.systems:
            extra = [name for name in system.names or () if name not in known]
            if extra:
                message = f"{system} has {', '.join(extra)}, which type_map has not"
                cause = _group(root) or Group(f"{sorted(extra)} not in {names}", "file")
                yield fault(root.path, message, "add it to model.type_map", group=cause)
                break


@rule("ZOO405", "each system is listed once")
def systems_are_distinct(config: Input) -> Iterator[Finding]:
    """Warn of a system that counts twice."""
    seen: dict[tuple[str, Path], str] = {}
    for root in roots(config):
        for system in _identities(root):
            first = seen.get((root.section, system))
            if first is not None:
                message = f"{root.written} is listed twice: it weighs double"
                if first != root.written:
                    message = f"{root.written} is in {first} already: it weighs double"
                yield warning(root.path, message)
                break
            seen[root.section, system] = root.written


@rule("ZOO406", "validation data are not training data")
def validation_is_independent(config: Input) -> Iterator[Finding]:
    """Warn of a system that is in both."""
    trained = {place for root in roots(config, "training_data") for place in _identities(root)}
    for root in roots(config):
        if root.section == "validation_data" and trained & set(_identities(root)):
            message = f"{root.written} is in training_data too: its error says nothing"
            yield warning(root.path, message)


def _identities(root: Root) -> list[Path]:
    """Return what tells systems apart: their absolute paths."""
    if is_container(root.written):
        return [Path(root.written)]
    return [system.path.resolve() for system in root.systems]
