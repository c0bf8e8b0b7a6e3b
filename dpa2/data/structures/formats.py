"""Which reader reads a file: by the format's name, the file's name, or what is in it."""

import re
from difflib import get_close_matches
from pathlib import Path

from dpa2.data.structures.deepmd_files import is_deepmd
from schemas.errors import DataError

# Names of dpdata's and ASE's that one reader of ours reads.
ALIASES = {
    **dict.fromkeys(
        ("extxyz", "xyz", "mace/xyz", "nequip/xyz", "gpumd/xyz", "quip/gap/xyz",
         "quip/gap/xyz_file"), "extxyz"),
    **dict.fromkeys(("lammps/dump", "dump", "lammps-dump-text"), "lammps/dump"),
    **dict.fromkeys(("lammps/lmp", "lmp", "lammps-data", "lammps/data"), "lammps/lmp"),
    **dict.fromkeys(("vasp/outcar", "outcar", "vasp-out"), "vasp/outcar"),
    **dict.fromkeys(
        ("vasp/poscar", "vasp/contcar", "poscar", "contcar", "vasp"), "vasp/poscar"),
    **dict.fromkeys(("vasp/xml", "xml", "vasp-xml"), "vasp/xml"),
    **dict.fromkeys(
        ("deepmd", "deepmd/npy", "deepmd/comp", "deepmd/npy/mixed", "deepmd/hdf5",
         "deepmd/hdf5/mixed", "deepmd/lmdb", "lmdb"), "deepmd"),
}  # fmt: skip

# What ASE reads better than dpdata: every frame, constraints, elements of its own.
_OF_ASE = {
    "ase/traj": "traj", "ase/structure": "",
    # dpdata's takes another energy than that of the forces, and no molecules.
    "fhi_aims/md": "aims-output", "fhi_aims/scf": "aims-output",
}  # fmt: skip

_BY_NAME = (
    (r".*\.(ext)?xyz", "extxyz"),
    (r".*OUTCAR.*", "vasp/outcar"),
    (r"(.*[._-])?vasprun.*\.xml", "vasp/xml"),
    (r".*(POSCAR|CONTCAR|CENTCAR).*|.*\.(vasp|poscar)", "vasp/poscar"),
    (r".*\.traj", "ase:traj"),
    (r".*\.(dump|lammpstrj)|dump\..*", "lammps/dump"),
    (r".*\.(lmp|lammps-data)", "lammps/lmp"),
)  # fmt: skip

_BY_CONTENT = (
    (rb"\s*ITEM: (TIMESTEP|UNITS|TIME)\b", "lammps/dump"),
    (rb"\s*vasp\.\d[\s\S]*(POTCAR:|INCAR:)", "vasp/outcar"),
    (rb"<\?xml[\s\S]{0,200}<modeling>", "vasp/xml"),
    (rb"[\s\S]*\* *CP2K\||[\s\S]*CP2K\| version string", "cp2k/output"),
    (rb"[\s\S]*Entering Gaussian System", "gaussian/log"),
    (rb"[\s\S]*\* O   R   C   A \*", "orca/spout"),
    (rb"[\s\S]*Psi4: An Open-Source", "psi4/out"),
    (rb"\s*#?[^\n]*\n(?:[^\n]*\n){0,8}?\s*\d+\s+atoms\s*\n[\s\S]*atom types", "lammps/lmp"),
    (rb"\s*\d+\s*\r?\n[^\n]*\n\s*[A-Z][a-z]?\d*[+-]?\s+(-?\d+\.\d*\S*\s+){3}", "extxyz"),
)
_LOOKED_AT = 65536


def guess_format(path: Path) -> str:
    """Return the format of a file by its name, else by what it begins with, else `ase:`.

    `ase:NAME` is a format of ASE's, `ase:` any that ASE finds.
    """
    if is_deepmd(path):
        return "deepmd"
    if path.is_dir():
        return _guess_folder(path)
    for pattern, name in _BY_NAME:
        if re.fullmatch(pattern, path.name, flags=re.IGNORECASE):
            return name
    with path.open("rb") as stream:
        head = stream.read(_LOOKED_AT)
    for content, name in _BY_CONTENT:
        if re.match(content, head):
            return name
    return "ase:"


def _guess_folder(path: Path) -> str:
    if (path / "type.raw").is_file() and (path / "coord.raw").is_file():
        return "deepmd" if any(path.glob("set.*")) else "deepmd/raw"
    if (path / "INPUT").is_file() and (path / "STRU").is_file():
        text = (path / "INPUT").read_text(encoding="utf-8", errors="replace").lower()
        found = re.search(r"^\s*calculation\s+(\S+)", text, flags=re.MULTILINE)
        kinds = {"md": "abacus/md", "relax": "abacus/relax", "cell-relax": "abacus/relax"}
        return kinds.get(found[1], "abacus/scf") if found else "abacus/scf"
    has_systems = any(path.rglob("type.raw"))
    return "vasp/outcar" if not has_systems and any(path.rglob("OUTCAR*")) else "deepmd"


def known_format(name: str) -> str:
    """Return what reads a format that a person names: one of ours, dpdata's, or `ase:NAME`.

    Raises:
        DataError: If nobody reads it.
    """
    from ase.io.formats import ioformats
    from dpdata.format import Format

    if name in ALIASES:
        return ALIASES[name]
    if name in _OF_ASE:
        return f"ase:{_OF_ASE[name]}"
    formats = Format.get_formats()  # type: ignore[no-untyped-call]
    kind = formats.get(name)
    writes_only = {Format.from_labeled_system, Format.from_system}
    if kind is not None and {kind.from_labeled_system, kind.from_system} != writes_only:
        return name
    plain = name.removeprefix("ase:").removeprefix("ase/")
    if plain in ioformats:
        return f"ase:{plain}"
    if kind is not None:
        raise DataError(f"dpdata writes {name} and does not read it")
    close = get_close_matches(name, [*formats, *ioformats, *ALIASES], n=3)
    raise DataError(
        f"dpdata has no format {name}, nor has ASE",
        hint=f"did you mean {' or '.join(close)}?" if close else "see docs/structures.md",
    )
