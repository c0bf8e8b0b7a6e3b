"""Conversion of any format into systems in the deepmd/npy layout, split for validation."""

import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dpa2.data.frames import LABELS
from dpa2.data.structures.reader import readable, split_index
from dpa2.data.structures.structure import (
    VACUUM,
    LabelKeys,
    Reading,
    RefusedFile,
    Structure,
)
from dpa2.data.structures.systems import Key, formula, grouped, in_a_box
from schemas.base.errors import DataError
from schemas.base.writing import destination


def write_system(
    folder: Path, structures: Sequence[Structure], type_map: Sequence[str], *, mixed: bool
) -> None:
    """Write structures of one size, with the same boundaries and labels, as one system.

    Args:
        folder: New folder of the system.
        structures: The frames; without `mixed` their elements are equal atom by atom.
        type_map: Element names; becomes `type_map.raw`.
        mixed: Write the types of each frame to `real_atom_types.npy`.
    """
    number = {element: i for i, element in enumerate(type_map)}
    types = np.array([[number[s] for s in x.symbols] for x in structures], dtype=np.int32)
    stored = np.zeros_like(types[0]) if mixed else types[0]
    set_folder = folder / "set.000"
    set_folder.mkdir(parents=True)
    _write_text(folder / "type.raw", [str(t) for t in stored])
    _write_text(folder / "type_map.raw", list(type_map))
    frames = len(structures)
    arrays: dict[str, np.ndarray[Any, Any]] = {
        "coord": np.array([x.coord for x in structures]).reshape(frames, -1)
    }
    if structures[0].box is None:
        _write_text(folder / "nopbc", [])
    else:
        arrays["box"] = np.array([x.box for x in structures]).reshape(frames, 9)
    for name in structures[0].labels:
        values = np.array([x.labels[name] for x in structures])
        stem = LABELS[name].stems[0]
        arrays[stem] = values if name == "energy" else values.reshape(frames, -1)
    if mixed:
        arrays["real_atom_types"] = types
    for stem, array in arrays.items():
        with (set_folder / f"{stem}.npy").open("wb") as file:
            np.save(file, array, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())


def _write_text(path: Path, words: Sequence[str]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write("".join(f"{word}\n" for word in words))
        file.flush()
        os.fsync(file.fileno())


_PARTS = {"train", "validation"}


@dataclass(frozen=True, slots=True)
class ConvertedSystem:
    """What became of the frames of one composition.

    Attributes:
        name: Folder below `train/` and `validation/`.
        num_atoms: Atoms per frame.
        periodic: Whether the frames have a cell.
        labels: Labels written.
        num_train: Frames for training.
        num_validation: Frames for validation.
    """

    name: str
    num_atoms: int
    periodic: bool
    labels: tuple[str, ...]
    num_train: int
    num_validation: int


@dataclass(frozen=True, slots=True)
class Conversion:
    """The outcome of `convert`.

    Attributes:
        output: The folder written.
        type_map: Elements, in the order of `type_map.raw`.
        systems: One entry per system written.
        files: What was read from each file: frames, keys of the labels, frames left out.
        refused: Files that could not be read; the others were written.
        warnings: What a person should know, one sentence each.
    """

    output: Path
    type_map: list[str]
    systems: list[ConvertedSystem]
    files: list[Reading]
    refused: list[RefusedFile]
    warnings: list[str]


def convert(
    inputs: Sequence[str | Path],
    output: Path,
    *,
    format_name: str | None = None,
    type_map: Sequence[str] | None = None,
    keys: LabelKeys | None = None,
    vacuum: float = VACUUM,
    train_fraction: float = 0.9,
    seed: int = 0,
    mixed: bool = False,
    force: bool = False,
) -> Conversion:
    """Convert files into `output/train/*` and `output/validation/*`.

    Frames with the same elements in the same order, boundaries and labels become one system; atoms
    keep their order. Frames are dealt to the two parts at random, each system in the same ratio.
    The folder appears complete or not at all. A file that cannot be read is left out and named.

    Args:
        inputs: Files, folders, prefixes; `@INDEX` behind one takes some of its frames.
        output: The folder to write.
        format_name: A format of dpdata or ASE, or `deepmd`; None goes by name and content.
        type_map: Elements of `type_map.raw`; None takes those found, sorted by name.
        keys: Which keys of the files hold the labels; None: by their names.
        vacuum: Å between images of what is periodic in some directions only.
        train_fraction: Part of the frames for training, above 0 and at most 1.
        seed: Seed of the split.
        mixed: Write mixed-type systems, one per number of atoms.
        force: Replace an existing folder.

    Raises:
        DataError: If no input can be read, an element is not in `type_map`, or `output` exists.
    """
    if not 0 < train_fraction <= 1:
        raise DataError(
            f"the training part {train_fraction:g} is not above 0 and at most 1",
            hint="write --split 0.9/0.1",
        )
    if not inputs:
        raise DataError("there is nothing to convert", hint="name at least one file")
    _check_output([Path(split_index(str(item))[0]) for item in inputs], output, force=force)
    files = [
        Reading(str(item), format_name, type_map, type_map or (), keys=keys or LabelKeys())
        for item in inputs
    ]
    structures, files, refused = _read(files, vacuum)
    elements = _elements(structures, type_map)
    groups = grouped(structures, mixed=mixed)
    names = _names(list(groups))
    systems: list[ConvertedSystem] = []
    parts: list[tuple[str, list[Structure]]] = []
    counts = _share([len(group) for group in groups.values()], 1.0 - train_fraction)
    rng = np.random.default_rng(seed)
    for (key, group), name, num_validation in zip(groups.items(), names, counts, strict=True):
        order = rng.permutation(len(group))
        validation, train = np.sort(order[:num_validation]), np.sort(order[num_validation:])
        parts.append((f"train/{name}", [group[i] for i in train]))
        parts.append((f"validation/{name}", [group[i] for i in validation]))
        systems.append(
            ConvertedSystem(
                name=name,
                num_atoms=len(group[0].symbols),
                periodic=key[1],
                labels=tuple(sorted(key[2])),
                num_train=len(train),
                num_validation=len(validation),
            )
        )
    _write(output, [part for part in parts if part[1]], elements, mixed=mixed)
    notes = [text for report in files for text in report.sentences()]
    given = Counter(map(str, inputs))
    notes += [f"{file} is given {n} times and weighs more" for file, n in given.items() if n > 1]
    return Conversion(output, elements, systems, files, refused, notes + _warnings(systems))


def _read(
    readings: Sequence[Reading], vacuum: float
) -> tuple[list[Structure], list[Reading], list[RefusedFile]]:
    """Read all files, those that cannot be read apart.

    Raises:
        DataError: If none can be read.
    """
    structures: list[Structure] = []
    files: list[Reading] = []
    refused: list[RefusedFile] = []
    for reading in readings:
        before = len(refused)
        found = [in_a_box(x, vacuum, reading) for x in readable(reading, refused)]
        if len(refused) == before:
            structures += found
            files.append(reading)
    if not structures:
        raise DataError("; ".join(item.reason for item in refused), hint=refused[0].hint)
    return structures, files, refused


def parse_split(text: str) -> float:
    """Return the training part of `0.9/0.1`, `90/10` or `0.9`.

    Raises:
        DataError: If these are no positive numbers.
    """
    words = text.split("/")
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = []
    fine = len(values) in {1, 2} and all(0 <= value < float("inf") for value in values)
    if not fine or values[0] <= 0 or (len(values) == 1 and values[0] > 1):
        raise DataError(f"--split {text} is no split", hint="write --split 0.9/0.1")
    return values[0] if len(values) == 1 else values[0] / sum(values)


def _elements(structures: Iterable[Structure], type_map: Sequence[str] | None) -> list[str]:
    """Return the type map, having looked for every structure's elements in it."""
    found: Counter[str] = Counter()
    for structure in structures:
        found.update(structure.symbols)
    if type_map is None:
        return sorted(found)
    missing = [
        f"{element} ({found[element]} atoms)" for element in found if element not in type_map
    ]
    if missing:
        raise DataError(
            f"the input has {', '.join(missing)}, not in the type map ({' '.join(type_map)})",
            hint="add the element to --type-map",
        )
    if len(set(type_map)) < len(type_map):
        raise DataError(f"the type map names an element twice: {' '.join(type_map)}")
    return list(type_map)


def _names(keys: Sequence[Key]) -> list[str]:
    """Name systems by formula, or by number of atoms where they are mixed."""
    names: list[str] = []
    for atoms, _, _ in keys:
        base = str(atoms) if isinstance(atoms, int) else formula(atoms)
        used = sum(name == base or name.startswith(f"{base}_") for name in names)
        names.append(f"{base}_{used}" if used else base)
    return names


def _share(sizes: Sequence[int], fraction: float) -> list[int]:
    """Deal round(total * fraction) frames to systems in proportion (largest remainder).

    At least one frame is dealt and one kept where there are two and a fraction above 0.
    """
    total = sum(sizes)
    wanted = round(total * fraction)
    if fraction > 0 and total >= 2:
        wanted = min(max(wanted, 1), total - 1)
    exact = [size * wanted / total for size in sizes]
    shares = [int(value) for value in exact]
    by_remainder = sorted(range(len(sizes)), key=lambda i: (shares[i] - exact[i], i))
    for i in by_remainder[: wanted - sum(shares)]:
        shares[i] += 1
    return shares


def _check_output(inputs: Sequence[Path], output: Path, *, force: bool) -> None:
    """Make sure that writing the output destroys nothing but an earlier conversion."""
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not force:
        raise DataError(
            f"{output} exists", hint="choose another folder, or replace it with --force"
        )
    if not output.is_dir() or {entry.name for entry in output.iterdir()} - _PARTS:
        raise DataError(
            f"{output} holds more than train/ and validation/ and is not replaced",
            hint="choose another folder",
        )
    for path in inputs:
        if path.resolve().is_relative_to(output.resolve()):
            raise DataError(f"the input {path} lies in the output {output}, which --force replaces")


def _write(
    output: Path, parts: Sequence[tuple[str, list[Structure]]], elements: list[str], *, mixed: bool
) -> None:
    """Write into a temporary folder beside the output and move it into place."""
    output = destination(output, folder=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as temporary:
        fresh = Path(temporary) / "new"
        for name, structures in parts:
            write_system(fresh / name, structures, elements, mixed=mixed)
        old = Path(temporary) / "old"
        if output.exists():
            output.rename(old)
        try:
            fresh.rename(output)
        except OSError:
            if old.exists():
                old.rename(output)
            raise


def _warnings(systems: Sequence[ConvertedSystem]) -> list[str]:
    notes = []
    for label in ("energy", "force"):
        lacking = [system.name for system in systems if label not in system.labels]
        if lacking:
            notes.append(f"no {label} in {', '.join(lacking)}: it cannot be trained on there")
    flags = {system.periodic for system in systems}
    if len(flags) > 1:
        notes.append("some systems are periodic and some are not")
    return notes
