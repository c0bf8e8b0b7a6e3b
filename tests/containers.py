"""Systems on disk, for tests: one writer for each container."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import lmdb
import msgpack
import numpy as np


def write_npy(
    folder: Path,
    arrays: Mapping[str, Any],
    types: Sequence[int],
    elements: str | None = "O H",
    sizes: Sequence[int] | None = None,
) -> Path:
    """Write frames as a folder of deepmd/npy.

    Args:
        folder: Of the system.
        arrays: By the names of their files, frames first; without `box` there is no cell.
        types: Type of each atom.
        elements: Names of the types; None writes no type_map.raw.
        sizes: Frames of each set; None makes one of all.
    """
    folder.mkdir(parents=True)
    (folder / "type.raw").write_text("\n".join(map(str, types)) + "\n")
    if elements is not None:
        (folder / "type_map.raw").write_text("\n".join(elements.split()) + "\n")
    if "box" not in arrays:
        (folder / "nopbc").touch()
    first = 0
    for number, size in enumerate(sizes or [len(arrays["coord"])]):
        part = folder / f"set.{number:03d}"
        part.mkdir()
        for name, values in arrays.items():
            rows = np.asarray(values)[first : first + size]
            np.save(part / f"{name}.npy", rows.reshape(size, -1))
        first += size
    return folder


def to_hdf5(folder: Path, file: Path, group: str = "/", **storage: Any) -> str:
    """Copy a system's folder into a group of an HDF5 file, and return how the group is named."""
    with h5py.File(file, "a") as out:
        root = out.require_group(group)
        root["type.raw"] = np.loadtxt(folder / "type.raw", dtype=int)
        root["type_map.raw"] = np.array((folder / "type_map.raw").read_text().split(), dtype="S")
        if (folder / "nopbc").exists():
            root["nopbc"] = True
        for array in folder.glob("set.*/*.npy"):
            name = f"{array.parent.name}/{array.name}"
            root.create_dataset(name, data=np.load(array), **storage)
    return f"{file}#/{group.strip('/')}"


def write_lmdb(path: Path, records: Sequence[Mapping[str, Any]], **metadata: Any) -> Path:
    """Write frames as deepmd-kit lays them out in an LMDB data base.

    Args:
        path: Of the data base.
        records: Arrays of each frame by their names; what is no array stands as it is.
        metadata: Beside the number of frames and the format of their numbers.
    """
    about = {"nframes": len(records), "frame_idx_fmt": "06d", **metadata}
    with lmdb.open(str(path), map_size=2**22) as environment, environment.begin(write=True) as out:
        out.put(b"__metadata__", msgpack.packb(about))
        for number, record in enumerate(records):
            packed = {name: _encoded(value) for name, value in record.items()}
            out.put(format(number, about["frame_idx_fmt"]).encode(), msgpack.packb(packed))
    return path


def _encoded(value: Any) -> Any:
    if not isinstance(value, np.ndarray | np.generic):
        return value
    array = np.ascontiguousarray(value) if np.ndim(value) else np.asarray(value)
    return {"type": array.dtype.str, "shape": list(array.shape), "data": array.tobytes()}
