"""The file of statistics: read, write, and recognise one that is of other data."""

import hashlib
import io
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpa2.data.preflight.opened import Surveyed
from dpa2.data.sampler import apply_batch_size
from dpa2.data.system import System, fingerprint
from schemas.base.diagnostics import Finding
from schemas.base.diagnostics import Path as JsonPath
from schemas.base.errors import DataError
from schemas.base.foreign_files import refuse_special, why_unreadable
from schemas.base.writing import atomic_write
from schemas.input.refusals import preset_energies

Array = NDArray[Any]

FINGERPRINT = "dpa_zoo_fingerprint"
SHORTEST = "dpa_zoo_min_nbor_dist"
_HDF5_SUFFIXES = {".h5", ".hdf5"}
_MOST_BYTES = 64 * 2**20


class StatisticsFile:
    """Named arrays below the folder (or group) of a type map.

    Args:
        path: An HDF5 file or a folder; need not exist in update mode.
        type_map: The model's element names.
        read_only: Mode `read`: whatever is missing is an error.

    Raises:
        DataError: When the file cannot be read, is a device or a pipe, or is missing in mode
            `read`.
    """

    def __init__(self, path: Path, type_map: Sequence[str], *, read_only: bool) -> None:
        refuse_special(path, DataError)
        self.path = path
        self.root = " ".join(type_map)
        self.read_only = read_only
        self.is_folder = path.is_dir() or (
            not path.exists() and path.suffix.lower() not in _HDF5_SUFFIXES
        )
        if read_only and not path.exists():
            raise DataError(
                f"the statistics file {path} does not exist and stat_file_mode is `read`",
                hint="set training.stat_file_mode to `update` to compute it",
            )

    def read(self, names: Sequence[str]) -> dict[str, Array] | None:
        """Return the entries of these names; None when any of them is missing.

        Raises:
            DataError: When one is missing in mode `read`, or the file is damaged.
        """
        found = self.find(names)
        missing = [name for name in names if name not in found]
        if not missing:
            return found
        if self.read_only:
            raise DataError(
                f"the statistics file {self.path} has no {', '.join(missing)} for the elements "
                f"{self.root}, and stat_file_mode is `read`",
                hint="set training.stat_file_mode to `update` to compute what is missing",
            )
        return None

    def find(self, names: Sequence[str]) -> dict[str, Array]:
        """Return those entries of these names that are there.

        Raises:
            DataError: When the file is damaged.
        """
        return self._read_folder(names) if self.is_folder else self._read_hdf5(names)

    def write(self, entries: Mapping[str, Array]) -> None:
        """Add or replace entries, all of them or none."""
        if self.is_folder:
            for name, array in entries.items():
                target = (self.path / self.root / name).with_suffix(".npy")
                target.parent.mkdir(parents=True, exist_ok=True)
                buffer = io.BytesIO()
                np.save(buffer, array)
                with atomic_write(target) as stream:
                    stream.write(buffer.getvalue())
            return
        self._write_hdf5(entries)

    def check_fingerprint(self, expected: str) -> bool:
        """Return whether the file says which data it is from; False for deepmd-kit's own files.

        Raises:
            DataError: When it is from other data.
        """
        stored = self.find([FINGERPRINT]).get(FINGERPRINT)
        if stored is None:
            return False
        if stored.ravel()[0].decode() != expected:
            raise DataError(
                f"the statistics in {self.path} are of other data or settings than this run's",
                hint="delete the file or name another one in training.stat_file",
            )
        return True

    def _read_folder(self, names: Sequence[str]) -> dict[str, Array]:
        found: dict[str, Array] = {}
        for name in names:
            file = (self.path / self.root / name).with_suffix(".npy")
            if file.is_file():
                try:
                    # mapped: a header may claim more numbers than there are
                    found[name] = np.array(np.load(file, mmap_mode="r", allow_pickle=False))
                except (ValueError, OSError, EOFError, SyntaxError, OverflowError) as error:
                    damaged = f"{file} is damaged: {error}", "delete the statistics folder"
                    message, hint = why_unreadable(file, error) or damaged
                    raise DataError(message, hint=hint) from error
        return found

    def _read_hdf5(self, names: Sequence[str]) -> dict[str, Array]:
        import h5py

        if not self.path.exists():
            return {}
        try:
            with h5py.File(self.path, "r") as file:
                group = file.get(self.root, {})
                return {name: self._stored(group, name) for name in names if name in group}
        except OSError as error:
            damaged = (
                f"the statistics file {self.path} cannot be read: {error}",
                "delete it; it will be computed again",
            )
            message, hint = why_unreadable(self.path, error) or damaged
            raise DataError(message, hint=hint) from error

    def _stored(self, group: Any, name: str) -> Array:
        link, item = group.get(name, getlink=True), group.get(name)
        size = getattr(item, "nbytes", None)
        if type(link).__name__ != "HardLink" or size is None or item.external or item.is_virtual:
            raise DataError(
                f"{name} in {self.path} is no array of this file", hint="delete the file"
            )
        if size > _MOST_BYTES:
            raise DataError(f"{name} in {self.path} claims {size:,} bytes", hint="delete the file")
        return np.asarray(item[()])

    def _write_hdf5(self, entries: Mapping[str, Array]) -> None:
        import h5py

        self.path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{self.path.name}.", dir=self.path.parent) as folder:
            copy = Path(folder) / "statistics"
            if self.path.exists():
                shutil.copyfile(self.path, copy)
            with h5py.File(copy, "a") as file:
                group = file.require_group(self.root)
                for name, array in entries.items():
                    if name in group:
                        del group[name]
                    group.create_dataset(name, data=array)
            with atomic_write(self.path) as stream:
                stream.write(copy.read_bytes())


def environment_key(num_types: int, rcut: float, rcut_smth: float, nsel: int) -> str:
    """Return deepmd-kit's name for the statistics of a descriptor block: a hash of its shape."""
    shape = {
        "type": "se_a",
        "ntypes": num_types,
        "rcut": round(rcut, 2),
        "rcut_smth": round(rcut_smth, 2),
        "nsel": nsel,
        "sel": [nsel],
        "mixed_types": True,
    }
    return hashlib.sha1(json.dumps(shape).encode(), usedforsecurity=False).hexdigest()


def statistics_fingerprint(systems: Sequence[System], config: Any) -> str:
    """Return a hash of the training data and of the options that change their statistics.

    Args:
        systems: The training systems.
        config: The `model` section; options that are part of the names of entries do not count.
    """
    settings = {
        "data_stat_nbatch": config.data_stat_nbatch,
        "env_protection": config.descriptor.env_protection,
        "exclude_types": config.descriptor.exclude_types,
        "pair_exclude_types": config.pair_exclude_types,
        "atom_exclude_types": config.atom_exclude_types,
        "preset_out_bias": preset_energies(config),
    }
    text = json.dumps([fingerprint(systems), settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def open_statistics(
    path: Path, config: Any, systems: Sequence[System], *, read_only: bool
) -> StatisticsFile:
    """Open the statistics of a model and its data; a new file is marked as theirs.

    Args:
        path: The file or folder.
        config: The `model` section.
        systems: The training systems.
        read_only: Whether `stat_file_mode` is `read`.

    Raises:
        DataError: When the file is of other data, damaged, or missing in mode `read`.
    """
    store = StatisticsFile(path, config.type_map, read_only=read_only)
    mark = statistics_fingerprint(systems, config)
    if not store.check_fingerprint(mark) and not read_only:
        store.write({FINGERPRINT: np.array([mark], dtype="S")})
    return store


_OFF = 1.0
"""eV per atom; the fit of energies per element leaves much less in the data it was made from."""


def check_stat_file(
    stat_file: Path,
    config: Any,
    systems: Sequence[Surveyed],
    batch_size: Any,
    path: JsonPath,
    *,
    read_only: bool = False,
) -> Iterator[Finding]:
    """Yield a finding if the trainer would refuse the file, or use energies of other data.

    Args:
        stat_file: The file or folder; it need not exist.
        config: The `model` section.
        systems: All training systems.
        batch_size: That of the training data: `filter:N` leaves out systems.
        path: Where the file is named in the input.
        read_only: Whether `stat_file_mode` is `read`.
    """
    if not systems or not (stat_file.exists() or read_only):
        return
    try:
        store = StatisticsFile(stat_file, config.type_map, read_only=read_only)
        used = apply_batch_size([item.system for item in systems], batch_size).systems
        if store.check_fingerprint(statistics_fingerprint(used, config)):
            return
        stored = StatisticsFile(stat_file, config.type_map, read_only=False).read(
            ["bias_atom_energy"]
        )
    except DataError as error:
        yield Finding("ZOO447", path, str(error), error.hint)
        return
    if stored is None:
        return
    bias = np.asarray(stored["bias_atom_energy"], dtype=np.float64).reshape(-1)
    for item in systems:
        off = _difference(item, bias)
        if abs(off) > _OFF:
            message = (
                f"{stat_file} was made from other data: by its energies of elements, "
                f"{item.name} is off by {off:+.3g} eV per atom"
            )
            hint = "delete the file, or name another one; it will be computed again"
            yield Finding("ZOO447", path, message, hint)
            return


def _difference(item: Surveyed, bias: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """Return energies minus what the elements alone have: the median in eV per atom."""
    facts = item.facts
    if not len(facts.energy) or facts.composition.shape[1] != len(bias):
        return 0.0
    atoms = np.maximum(facts.composition.sum(axis=1), 1)
    left = (facts.energy - facts.composition @ bias) / atoms
    left = left[np.isfinite(left)]
    return float(np.median(left)) if len(left) else 0.0
