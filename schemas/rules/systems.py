"""Rules about the systems: that they exist, are whole and fit the model."""

import re
from collections.abc import Iterator
from math import prod
from pathlib import Path

from schemas.diagnostics import Group
from schemas.elements import SYMBOLS, symbol_like
from schemas.input import Input
from schemas.rules.data_folders import (
    Root,
    array_header,
    exists,
    is_container,
    names_of_types,
    roots,
    sections,
    sets_of,
    type_indices,
)
from schemas.rules.elements import OTHER_ELEMENTS
from schemas.rules.rule import Fault, rule, warning
from schemas.unreadable import why_unreadable

_COLUMNS = {"box": 9, "virial": 9, "energy": 1}
_SET = re.compile(r"/set\.[^/]*/")
_PER_ATOM = {"coord": 3, "force": 3, "atom_ener": 1}


@rule("ZOO401", "each path of systems exists")
def paths_exist(config: Input) -> Iterator[Fault]:
    """Demand that each entry of systems exists, relative to the current folder."""
    for name, section in sections(config):
        for root in roots(name, section):
            place = Path(root.written.partition("#")[0])
            if exists(place):
                continue
            hint = f"paths are relative to the current folder, {Path.cwd()}"
            if any(mark in root.written for mark in "*?["):
                hint = "globs are not expanded here; give the folder above and rglob_patterns"
            yield Fault(root.path, f"{place} does not exist", hint)


@rule("ZOO402", "each folder has systems")
def folders_have_systems(config: Input) -> Iterator[Fault]:
    """Demand a system in or below each folder; deepmd-kit leaves such folders out silently."""
    for name, section in sections(config):
        for root in roots(name, section):
            folder = Path(root.written)
            if root.systems or not root.is_folder or not exists(folder):
                continue
            message = f"{folder} has no system: there is no type.raw in or below it"
            if folder.is_file():
                message = f"{folder} is a file, not a system"
                hint = "convert other formats with `zoo data convert`"
                yield Fault(root.path, message, hint)
            elif (folder.parent / "type.raw").is_file():
                hint = f"this is a set; give the folder above it, {folder.parent}"
                yield Fault(root.path, message, hint)
            else:
                yield Fault(root.path, message, "convert data with `zoo data convert`")


@rule("ZOO403", "each system is whole")
def systems_are_whole(config: Input) -> Iterator[Fault]:
    """Demand coordinates, cells and arrays of the right shapes."""
    for name, section in sections(config):
        for root in roots(name, section):
            for system in root.systems:
                for message, hint in _defects(system):
                    group = _group(root) or Group(_SET.sub("/", message), "value")
                    yield Fault(root.path, message, hint, group=group)


def _group(root: Root) -> Group | None:
    """Return the group of faults below a folder of several systems: the entry is at fault once."""
    return Group("systems", "value") if len(root.systems) > 1 else None


def _defects(system: Path) -> Iterator[tuple[str, str | None]]:
    indices = type_indices(system)
    names = names_of_types(system)
    if indices is None or not indices:
        faulty = f"{system}/type.raw does not list a type index for each atom", None
        yield why_unreadable(system / "type.raw") or faulty
        return
    if names is not None and not names:
        yield f"{system}/type_map.raw is empty", "write the element of each type index"
    elif names is not None and max(indices) >= len(names):
        message = f"{system}/type.raw has index {max(indices)}, type_map.raw {len(names)} types"
        yield message, "indices count from 0"
    if min(indices) < 0:
        yield f"{system}/type.raw has a negative index", "indices count from 0"
    sets = sets_of(system)
    if not sets:
        yield f"{system} has no set.*", "put the arrays into a folder set.000"
    for folder in sets:
        if not (folder / "coord.npy").is_file():
            yield f"{folder} has no coord.npy", None
        if not (folder / "box.npy").is_file() and not (system / "nopbc").exists():
            hint = "write box.npy, or an empty file nopbc if the system is not periodic"
            yield f"{folder} has no box.npy and the system no nopbc", hint
        yield from _misshapen(folder, len(indices))


def _misshapen(folder: Path, num_atoms: int) -> Iterator[tuple[str, str | None]]:
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
    wanted = _COLUMNS | {key: width * num_atoms for key, width in _PER_ATOM.items()}
    for name, columns in wanted.items():
        path = folder / f"{name}.npy"
        if not path.is_file():
            continue
        header = array_header(path)
        if header is None:
            yield why_unreadable(path) or (f"{path} is not an array file of numpy", None)
            continue
        if header.dtype[1:2] not in ("f", "i", "u"):
            yield f"{path} holds {_kind(header.dtype)}, not real numbers", None
            continue
        size = prod(header.shape[1:])
        if frames == 1 and prod(header.shape) == columns:
            continue
        if frames is not None and header.shape and header.shape[0] != frames:
            yield f"{path} has {header.shape[0]} frames, coord.npy has {frames}", None
        elif size != columns:
            yield f"{path} has {size} columns, {columns} expected", None


def _other_number_of_atoms(folder: Path, num_atoms: int) -> int | None:
    """Return the number of atoms on which coordinates and forces agree against type.raw."""
    columns = {
        header.shape[1]
        for name in ("coord", "force")
        if (header := array_header(folder / f"{name}.npy")) is not None and len(header.shape) == 2
    }
    both = (folder / "force.npy").is_file()
    if not both or len(columns) != 1 or (size := columns.pop()) == 3 * num_atoms or size % 3:
        return None
    return size // 3


def _kind(dtype: str) -> str:
    return {"U": "texts", "S": "texts", "c": "complex numbers", "O": "objects"}.get(
        dtype[1:2], f"values of type {dtype}"
    )


@rule("ZOO404", "each element of the data is in type_map")
def elements_are_known(config: Input) -> Iterator[Fault]:
    """Demand that the model knows every name in type_map.raw, used by an atom or not.

    An element that a misspelt name of type_map probably means is left to the rule about names.
    """
    known = {*config.model.type_map, *filter(None, map(_meant, config.model.type_map))}
    present = {
        item
        for name, section in sections(config)
        for root in roots(name, section)
        for system in root.systems
        for item in names_of_types(system) or ()
    }
    if present and not present & known:
        message = f"no element of the data ({', '.join(sorted(present))}) is in type_map"
        hint = "list the elements of the data"
        yield Fault("model.type_map", message, hint, group=OTHER_ELEMENTS)
        return
    for name, section in sections(config):
        for root in roots(name, section):
            for system in root.systems:
                extra = [item for item in names_of_types(system) or () if item not in known]
                if extra:
                    message = f"{system} has {', '.join(extra)}, which type_map has not"
                    hint = "add it to model.type_map"
                    cause = Group(f"{sorted(extra)} not in {config.model.type_map}", "file")
                    yield Fault(root.path, message, hint, group=_group(root) or cause)
                    break


def _meant(name: str) -> str | None:
    return None if name in SYMBOLS else symbol_like(name)


@rule("ZOO405", "each system is listed once")
def systems_are_distinct(config: Input) -> Iterator[Fault]:
    """Warn of a system that counts twice."""
    for name, section in sections(config):
        seen: dict[Path, str] = {}
        for root in roots(name, section):
            for system in _identities(root):
                if system in seen:
                    message = f"{root.written} is listed twice: it weighs double"
                    if seen[system] != root.written:
                        message = f"{root.written} is in {seen[system]} already: it weighs double"
                    yield warning(root.path, message)
                    break
                seen[system] = root.written


@rule("ZOO406", "validation data are not training data")
def validation_is_independent(config: Input) -> Iterator[Fault]:
    """Warn of a system that is in both."""
    named = dict(sections(config))
    if "validation_data" not in named:
        return
    trained = {
        system
        for root in roots("training_data", named["training_data"])
        for system in _identities(root)
    }
    for root in roots("validation_data", named["validation_data"]):
        if any(system in trained for system in _identities(root)):
            message = f"{root.written} is in training_data too: its error says nothing"
            yield warning(root.path, message)


def _identities(root: Root) -> list[Path]:
    """Return what tells systems apart: their absolute paths."""
    if is_container(root.written):
        return [Path(root.written)]
    return [system.resolve() for system in root.systems]
