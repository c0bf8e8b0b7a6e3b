"""Throw broken files of structures at the reader: `python -m tests.fuzz_structures --files 10000`.

Small good files of every format are changed, by words of their text and by bytes. Each must be read
or refused with a sentence; what is read must be sound. Memory is measured: no file may take more
than the limit.
"""

import gzip
import random
import sys
from functools import partial
from pathlib import Path

import ase.io
import numpy as np
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.db import connect

from dpa2.data.structures.reader import read_structures
from dpa2.data.structures.structure import LabelKeys, Reading
from schemas.base.errors import ZooError
from tests.fuzzing import Tally, broken_bytes, run_fuzzer
from tests.strangers.vasp import END, outcar_head, outcar_step, vasprun

JUNK = [
    "0", "-1", "1", "3", "999999999", "99999999999999999999", "1e400", "nan", "inf", "-", "",
    "X", "D", "H1", "Fe", "é", "\x00", "\x1b[31m", '"', "'", "{", "[", "=", ":", "energy=1",
    "forces:R:3", "Properties=species:S:1:pos:R:3", "Properties=pos:R:999999", "Lattice=",
    'Lattice="1 0 0 0 1 0 0 0 0"', "pbc=T", "_JSON", "ITEM: TIMESTEP", "ITEM:", "\n", "\n\n",
    "ions per type = 99999999", "True", "1/0", "a" * 3000, "<", "</calculation>", "&lt;", "#", "@",
    "1000000 atoms", "60000*3",
]  # fmt: skip


def samples(folder: Path) -> dict[str, bytes]:
    """Return small good files of many formats by their names."""
    frames = []
    for number in range(3):
        atoms = molecule("H2O", cell=[6, 6, 6], pbc=[True, True, number < 2])
        atoms.rattle(0.1, seed=number)
        forces = np.random.default_rng(number).normal(size=(3, 3))
        atoms.calc = SinglePointCalculator(
            atoms, energy=-1.5, free_energy=-1.75, forces=forces, stress=np.arange(6) * 1e-3
        )
        frames.append(atoms)
    frames[0].set_constraint(FixAtoms([0]))
    for name, kind in (("a.xyz", "extxyz"), ("plain.xyz", "xyz"), ("a.traj", "traj")):
        ase.io.write(folder / name, frames, format=kind)
    for name, kind in (
        ("POSCAR", "vasp"), ("a.cif", "cif"), ("a.xsf", "xsf"), ("a.gen", "gen"),
        ("a.lmp", "lammps-data"), ("a.pdb", "proteindatabank"), ("a.gro", "gromacs"),
        ("a.in", "espresso-in"), ("a.json", "json"), ("a.cube", "cube"), ("a.res", "res"),
        ("a.cfg", "cfg"),
    ):  # fmt: skip
        options = {
            "espresso-in": {"pseudopotentials": {"O": "O.upf", "H": "H.upf"}},
            "cube": {"data": np.ones((2, 2, 2))},
            "lammps-data": {"masses": True},
        }.get(kind, {})
        ase.io.write(folder / name, frames[1], format=kind, **options)
    with connect(folder / "a.db") as database:
        for atoms in frames:
            database.write(atoms)
    rows = "".join(f"{i + 1} {1 + (i > 0)} {'OHH'[i]} {i}.5 0 {i} 0.1 0 0\n" for i in range(3))
    frame = (
        "ITEM: TIMESTEP\n{}\nITEM: NUMBER OF ATOMS\n3\nITEM: BOX BOUNDS xy xz yz pp pp ff\n"
        f"0 6 0\n0 6 0\n0 7 0\nITEM: ATOMS id type element x y z fx fy fz\n{rows}"
    )
    texts = {
        "a.lammpstrj": frame.format(0) + frame.format(100),
        "OUTCAR": outcar_head() + outcar_step(-14.5) + outcar_step(-14.25, scf=5) + END,
        "vasprun.xml": vasprun([(-14.5, 2), (-14.25, 2)]),
        "cp2k.out": "  **** CP2K| version string: CP2K 2023\n ENERGY| Total FORCE_EVAL -17.2\n",
        "g.log": " Entering Gaussian System, Link 0=g16\n SCF Done:  E(RHF) =  -74.9\n",
        "dftb/dftb_in.hsd": "Geometry = GenFormat {\n2 C\nO H\n1 1 0 0 0\n2 2 1 0 0\n}\n",
        "raw/coord.raw": "0 0 0 1 0 0\n0 0 0 1.1 0 0\n",
        "raw/type.raw": "0\n1\n",
        "raw/type_map.raw": "O\nH\n",
        "raw/box.raw": "9 0 0 0 9 0 0 0 9\n" * 2,
        "raw/energy.raw": "-1\n-2\n",
    }
    found = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    found |= {name: text.encode() for name, text in texts.items()}
    found["a.xyz.gz"] = gzip.compress(found["a.xyz"])
    return found


def broken(rng: random.Random, content: bytes) -> bytes:
    """Return a file with some words, lines or bytes changed."""
    if rng.random() < 0.6:
        return _broken_words(rng, content)
    return broken_bytes(rng, content, b"\0\xff\n ")


def _broken_words(rng: random.Random, content: bytes) -> bytes:
    lines = [line.split(" ") for line in content.decode("latin-1").split("\n")]
    for _ in range(rng.choice([1, 1, 2, 4])):
        at = rng.randrange(len(lines))
        words = lines[at]
        match rng.randrange(6):
            case 0:
                del lines[at]
            case 1:
                lines.insert(at, list(rng.choice(lines)))
            case 2:
                lines.insert(at, [rng.choice(JUNK)])
            case 3:
                words.insert(rng.randrange(len(words) + 1), rng.choice(JUNK))
            case _ if words:
                words[rng.randrange(len(words))] = rng.choice(JUNK)
        lines = lines or [[]]
    return "\n".join(" ".join(words) for words in lines).encode("latin-1", "replace")


def read(rng: random.Random, path: str, kind: str | None) -> str:
    """Read a file as commands do; return what became of it."""
    names = rng.choice([None, ["O", "H"]])
    keys = rng.choice([LabelKeys(), LabelKeys(), LabelKeys(energy="energy", stress="none"), None])
    reading = Reading(path, kind, names, names or (), keys=keys)
    try:
        for structure in read_structures(reading):
            count = len(structure.symbols)
            assert structure.coord.shape == (count, 3)
            assert count > 0
            for name, value in structure.labels.items():
                shape = {"energy": (), "force": (count, 3), "virial": (3, 3)}[name]
                assert value.shape == shape, (name, value.shape)
                assert np.isfinite(value).all()
    except ZooError:
        return "refused"
    finally:
        reading.sentences()
        reading.to_json()
    return "read, frames left out" if reading.dropped else "read"


def fuzz(rng: random.Random, tally: Tally, files: int) -> None:
    """Read that many broken files, in the current folder."""
    Path("good").mkdir()
    good = samples(Path("good"))
    for number in range(files):
        name = list(good)[number % len(good)]
        path = Path(name)
        for sibling in (item for item in good if Path(item).parent == path.parent != Path()):
            Path(sibling).parent.mkdir(exist_ok=True)
            Path(sibling).write_bytes(good[sibling])
        content = broken(rng, good[name])
        path.write_bytes(content)
        place, kind = name, None
        if name.startswith("raw/"):
            place, kind = "raw", "deepmd/raw"
        elif name.startswith("dftb/") and rng.random() < 0.5:
            place, kind = "dftb", "dftbplus"
        tally.run(name, repr(content[:1500]), partial(read, rng, place, kind))


if __name__ == "__main__":
    sys.exit(run_fuzzer(__doc__, fuzz, files=10_000))
