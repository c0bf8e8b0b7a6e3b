"""A compiled model (`.pt2`) in our runtime, in deepmd-kit's `DeepPot` and in LAMMPS.

One compilation for all: it takes a minute or more. It is our torch that compiles, and deepmd-kit's
older one that runs it.
"""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.units import bar

import dpa2
from dpa2.freeze.torchscript import freeze
from dpa2.interfaces.lammps_input import lammps_data

pytestmark = pytest.mark.interop

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CASE = "fparam_aparam"
FPARAM, APARAM = [0.2, -0.1], 0.4  # as in lammps_pt2.in
ENERGY = 1e-10  # eV/atom
FORCE = 1e-9  # eV/Å


@pytest.fixture(scope="module")
def compiled(golden_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compiled")
    return freeze(golden_folder / CASE / "model.pt", folder / "water.pt2").path


@pytest.fixture(scope="module")
def golden_folder():
    return HERE.parent / "golden"


@pytest.fixture
def expected(golden_folder):
    """deepmd-kit's numbers for the checkpoint."""
    with np.load(golden_folder / CASE / "expected.npz") as archive:
        return {name: archive[name] for name in archive.files}


def assert_expected(found, expected):
    num_atoms = expected["atype"].shape[-1]
    for name in ("energy", "force", "virial", "atom_energy"):
        difference = np.abs(np.ravel(found[name]) - expected[name].ravel()).max()
        assert difference <= (ENERGY * num_atoms if name == "energy" else FORCE), name


def test_our_runtime_gives_deepmd_kits_numbers(compiled, expected):
    names = ("coord", "box", "atype", "fparam", "aparam")
    found = dpa2.load(compiled).predict(**{name: expected[name] for name in names})
    assert_expected(
        {name: getattr(found, name) for name in expected if hasattr(found, name)}, expected
    )


def test_deep_pot_gives_its_own_numbers(compiled, expected, deepmd, golden_folder):
    structure = golden_folder / CASE / "expected.npz"
    assert_expected(deepmd.run("evaluate_with_deepmd.py", compiled, structure), expected)


@pytest.mark.parametrize("repeats", [(1, 1, 1), (2, 2, 1)], ids=["96 atoms", "384 atoms"])
def test_lammps_stays_with_our_numbers(repeats, compiled, deepmd, golden_folder, tmp_path):
    atoms = water(repeats)
    (tmp_path / "data").write_text(lammps_data(atoms, ("O", "H")))
    command = ["lmp", "-in", HERE / "lammps_pt2.in", "-log", tmp_path / "log"]
    values = {"data": tmp_path / "data", "model": compiled, "out": tmp_path / "dump", "steps": 10}
    for name, value in values.items():
        command += ["-var", name, value]
    deepmd.call(*command, cwd=tmp_path)
    energies, pressures = read_log(tmp_path / "log")
    frames = read_dump(tmp_path / "dump")
    assert len(energies) == len(frames) == 11
    reference = dpa2.load(golden_folder / CASE / "model.pt")
    types = (np.array(atoms.get_chemical_symbols()) == "H").astype(int)
    cell = atoms.cell.array
    for k in (0, 10):  # the second with a neighbour list that was made five steps before
        ours = reference.predict(
            frames[k][:, :3],
            cell,
            types,
            fparam=FPARAM,
            aparam=np.full((len(atoms), 1), APARAM),
            atomic=False,
        )
        assert abs(energies[k] - ours.energy[0]) / len(atoms) <= ENERGY
        assert np.abs(frames[k][:, 3:] - ours.force[0]).max() <= FORCE
        virial = ours.virial[0][[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]]
        # LAMMPS's constant of pressure (nktv2p) has seven digits.
        ours_bar = virial / abs(np.linalg.det(cell)) / bar
        np.testing.assert_allclose(pressures[k], ours_bar, rtol=3e-7, atol=1e-3)
    assert np.abs(frames[10][:, :3] - frames[0][:, :3]).max() > 1e-4


def water(repeats):
    """Return bundled water, no two atoms alike."""
    folder = ROOT / "examples" / "water" / "gfn2" / "test"
    symbols = np.array(["O", "H"])[np.loadtxt(folder / "type.raw", dtype=int)]
    coord = np.load(folder / "set.000" / "coord.npy")[0].reshape(-1, 3)
    box = np.load(folder / "set.000" / "box.npy")[0].reshape(3, 3)
    atoms = Atoms(symbols, coord, cell=box, pbc=True).repeat(repeats)
    atoms.rattle(0.05, seed=3)
    return atoms


def read_log(path):
    """Return energies and pressures (6,) of every step."""
    rows = [line.split() for line in path.read_text().splitlines()]
    start = next(k for k, row in enumerate(rows) if row[:2] == ["Step", "PotEng"])
    stop = next(k for k, row in enumerate(rows) if row[:2] == ["Loop", "time"])
    table = np.array(rows[start + 1 : stop], dtype=float)
    return table[:, 1], table[:, 2:8]


def read_dump(path):
    """Return x y z fx fy fz (N, 6) of every step."""
    lines = path.read_text().splitlines()
    starts = [k for k, line in enumerate(lines) if line.startswith("ITEM: ATOMS")]
    num_atoms = int(lines[3])
    return [
        np.array([row.split() for row in lines[k + 1 : k + 1 + num_atoms]], dtype=float)[:, 2:8]
        for k in starts
    ]
