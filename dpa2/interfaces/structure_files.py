"""Structure files: whatever ASE reads, and deepmd-kit's systems, as ASE structures."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import atomic_numbers

from dpa2.data.frames import PADDING, Frames
from dpa2.data.systems import open_systems
from dpa2.evaluate.evaluation import Evaluation
from dpa2.interfaces.ase import stress
from schemas.atomic import atomic_write
from schemas.errors import DataError

_FRAMES_PER_READ = 100


def read_structures(path: str, type_map: Sequence[str]) -> Iterator[Atoms]:
    """Read structures one after the other; `info["fparam"]` and `arrays["aparam"]` where given.

    Args:
        path: A file in a format that ASE knows, a folder with deepmd systems, `FILE.h5#/group` or
            an LMDB data base.
        type_map: Elements of the model, for the systems.

    Raises:
        DataError: If there is no such file, or it cannot be read.
    """
    if _is_system(path):
        for system in open_systems([path], type_map):
            for frames in system.chunks(_FRAMES_PER_READ, ["fparam", "aparam"]):
                yield from _from_frames(frames, type_map)
        return
    if not Path(path).is_file():
        raise DataError(f"{path}: no such file or folder")
    try:
        yield from ase.io.iread(path, index=":")
    except Exception as error:
        # ASE's readers raise whatever goes wrong inside them.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{path}: ASE cannot read structures from this file: {reason}",
            hint="name it with the ending of its format (.xyz, .cif, POSCAR, ...)",
        ) from error


def first_structure(path: str, type_map: Sequence[str]) -> Atoms:
    """Read the first structure of a file or system.

    Raises:
        DataError: If there is no such file, it cannot be read, or it is empty.
    """
    for atoms in read_structures(path, type_map):
        atoms.arrays.pop("type", None)
        return atoms
    raise DataError(f"{path} holds no structure")


def _is_system(path: str) -> bool:
    return Path(path).is_dir() or "#" in path or Path(path).suffix in {".h5", ".hdf5", ".lmdb"}


def _from_frames(frames: Frames, type_map: Sequence[str]) -> Iterator[Atoms]:
    symbols = np.array([name if name in atomic_numbers else "X" for name in type_map])
    for index in range(frames.num_frames):
        real = frames.atom_types[index] != PADDING
        types = frames.atom_types[index][real]
        box = None if frames.box is None else frames.box[index]
        atoms = Atoms(symbols[types], frames.coord[index][real], cell=box, pbc=box is not None)
        atoms.arrays["type"] = types
        if frames.fparam is not None:
            atoms.info["fparam"] = frames.fparam[index]
        if frames.aparam is not None:
            atoms.arrays["aparam"] = frames.aparam[index][real]
        yield atoms


def with_results(atoms: Atoms, evaluation: Evaluation, *, atomic: bool) -> Atoms:
    """Return a copy that carries a prediction: energy, forces, stress, virial, energies of atoms.

    Stress is ASE's: -virial / volume, in eV/Å³.
    """
    labelled: Atoms = atoms.copy()  # type: ignore[no-untyped-call]
    labelled.arrays.pop("type", None)
    results = {"energy": float(evaluation.energy[0]), "forces": evaluation.force[0]}
    if atoms.pbc.all():
        virial = evaluation.virial[0]
        results["stress"] = stress(virial, atoms.cell.volume)
        labelled.info["virial"] = virial
    if atomic and evaluation.atom_energy is not None:
        results["energies"] = evaluation.atom_energy[0]
    labelled.calc = SinglePointCalculator(labelled, **results)  # type: ignore[no-untyped-call]
    return labelled


def write_extxyz(path: str | os.PathLike[str], structures: Iterable[Atoms]) -> None:
    """Write structures as extended XYZ, one at a time; the file appears when all are written."""
    import io

    with atomic_write(Path(path)) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8")
        for atoms in structures:
            ase.io.write(text, atoms, format="extxyz")
        text.flush()
        text.detach()
