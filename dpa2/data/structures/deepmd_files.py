"""Systems of deepmd-kit in any of their forms, as structures."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from dpa2.data.frames import LABELS, PADDING
from dpa2.data.structures.structure import FileReport, ReadOptions, Structure
from dpa2.data.system import System
from dpa2.data.systems import open_systems
from schemas.base.errors import DataError

_FRAMES_PER_READ = 256
_TAKEN = ("energy", "force", "virial")
# What a model needs to know of a frame beside its atoms.
_PARAMETERS = {"fparam", "aparam"}


def is_deepmd(path: Path) -> bool:
    """Return whether a path looks like deepmd data by its name, or is a group in a file."""
    return is_group(path) or path.suffix in {".h5", ".hdf5", ".lmdb"}


def is_group(path: Path) -> bool:
    """Return whether a path is that of a group in a file that is there: `FILE.h5#/group`."""
    file, sign, _ = str(path).partition("#")
    return bool(sign) and not path.exists() and Path(file).is_file()


def read(path: str, options: ReadOptions, report: FileReport) -> Iterator[Structure]:
    """Yield the frames of all systems below a folder, in an HDF5 file or an LMDB data base.

    Raises:
        DataError: If there is no system, one is faulty, or one does not name its elements.
    """
    for system in open_systems(path, options.deepmd_names, keep_bad_frames=True):
        report.format_name = "deepmd"
        for text in system.warnings:
            report.note(text)
        if options.keys is not None and (others := _other_arrays(system)):
            report.note(f"{system.name}: {', '.join(others)} is not read and left out")
        names = options.deepmd_names or system.type_map or options.type_names
        if not names:
            raise DataError(
                f"{system.name} has no type_map.raw",
                hint="write one: the element of type 0, 1, ..., one a line; or --type-map 'O H'",
            )
        yield from _frames(system, names, options, report)


def _other_arrays(system: System) -> list[str]:
    """Return the names of arrays of a folder that mean nothing here: dipole.npy, spin.npy."""
    known = {"coord", "box", "real_atom_types"}
    known |= {stem for label in LABELS.values() for stem in label.stems}
    files = system.path.glob("set.*/*.npy") if system.path.is_dir() else ()
    return sorted({file.name for file in files if file.stem not in known})


def _frames(
    system: System, names: Sequence[str], options: ReadOptions, report: FileReport
) -> Iterator[Structure]:
    wanted = set(system.labels) if options.keys is not None else system.labels & _PARAMETERS
    for frames in system.chunks(_FRAMES_PER_READ, sorted(wanted)):
        for i in range(frames.num_frames):
            real = frames.atom_types[i] != PADDING
            labels = {}
            for name in wanted:
                value = getattr(frames, name)[i]
                labels[name] = value[real] if LABELS[name].per_atom else value
                if name in _TAKEN:
                    report.take(name, LABELS[name].stems[0])
            periodic = frames.box is not None
            yield Structure(
                source=f"{system.name} frame {frames.indices[i]}",
                symbols=tuple(names[kind] for kind in frames.atom_types[i][real]),
                coord=frames.coord[i][real],
                box=None if frames.box is None else frames.box[i],
                labels=labels,
                pbc=(periodic, periodic, periodic),
            )
