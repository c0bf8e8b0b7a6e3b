"""Writing systems in the deepmd/npy layout, standard or mixed-type."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dpa2.data.labels import LABELS
from dpa2.data.structures.structure import Structure


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
