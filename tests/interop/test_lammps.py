"""Our frozen models in LAMMPS, through deepmd-kit's plugin, on one process and on several."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import write
from ase.units import bar

import dpa2
from dpa2.freeze.torchscript import freeze
from dpa2.interfaces.lammps_input import lammps_data
from dpa2.interfaces.simulation import MdSettings, write_simulation

pytestmark = pytest.mark.interop

ROOT = Path(__file__).parents[2]
ENERGY = 1e-10  # eV/atom
FORCE = 1e-9  # eV/Å


@dataclass
class Frame:
    """What LAMMPS says about a configuration."""

    coord: np.ndarray
    cell: np.ndarray
    atom_types: np.ndarray
    energy: float
    atom_energy: np.ndarray
    force: np.ndarray
    pressure: np.ndarray


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Return a float64 checkpoint, trained for a few steps on the bundled water."""
    folder = tmp_path_factory.mktemp("model")
    descriptor = {
        "type": "dpa2",
        "precision": "float64",
        "seed": 1,
        "repinit": {
            "rcut": 6.0,
            "rcut_smth": 0.5,
            "nsel": 120,
            "neuron": [8, 16, 32],
            "axis_neuron": 4,
            "use_three_body": True,
            "three_body_rcut": 4.0,
            "three_body_rcut_smth": 3.5,
            "three_body_sel": 48,
        },
        "repformer": {
            "rcut": 4.0,
            "rcut_smth": 3.5,
            "nsel": 48,
            "nlayers": 3,
            "g1_dim": 32,
            "g2_dim": 16,
            "attn2_hidden": 16,
            "attn2_nhead": 2,
            "attn1_hidden": 16,
            "attn1_nhead": 2,
            "update_g1_has_attn": True,
            "update_g2_has_attn": True,
            "update_h2": False,
        },
    }
    fitting = {"neuron": [32, 32], "precision": "float64", "seed": 1}
    config = {
        "model": {"type_map": ["O", "H"], "descriptor": descriptor, "fitting_net": fitting},
        "learning_rate": {"type": "exp", "start_lr": 0.002, "stop_lr": 1e-4, "decay_steps": 10},
        "loss": {"type": "ener", "start_pref_f": 1000, "limit_pref_f": 1},
        "training": {
            "training_data": {
                "systems": [str(ROOT / "examples" / "water" / "gfn2" / "train")],
                "batch_size": 1,
            },
            "numb_steps": 10,
            "seed": 1,
        },
    }
    dpa2.train(config, output_dir=folder, device="cpu", progress=False)
    return folder / "model.ckpt-10.pt"


@pytest.fixture(scope="module")
def frozen(model):
    return freeze(model, model.with_name("model.pth")).path


@pytest.fixture(scope="module")
def water():
    """Return 512 molecules: 1536 atoms, no two of them alike."""
    folder = ROOT / "examples" / "water" / "gfn2" / "test"
    symbols = np.array(["O", "H"])[np.loadtxt(folder / "type.raw", dtype=int)]
    coord = np.load(folder / "set.000" / "coord.npy")[0].reshape(-1, 3)
    box = np.load(folder / "set.000" / "box.npy")[0].reshape(3, 3)
    atoms = Atoms(symbols, coord, cell=box, pbc=True).repeat((4, 2, 2))
    atoms.rattle(0.05, seed=3)
    return atoms


def in_lammps(deepmd, atoms, frozen, folder, *, processes=1, steps=0):
    """Run a few steps; returns the frames."""
    (folder / "data").write_text(lammps_data(atoms, ("O", "H")))
    command = ["lmp", "-in", Path(__file__).with_name("lammps.in"), "-log", folder / "log"]
    values = {
        "data": folder / "data",
        "model": frozen,
        "out": folder / "dump",
        "steps": steps,
    }
    for name, value in values.items():
        command += ["-var", name, value]
    if processes > 1:
        lammps, *rest = command
        program = deepmd.python.with_name(lammps)
        command = ["mpiexec", "-n", processes, deepmd.python, program, *rest]
    deepmd.call(*command, cwd=folder)
    return [
        Frame(coord, cell, types, energy, atom_energy, force, pressure)
        for (coord, cell, types, force, atom_energy), (energy, pressure) in zip(
            read_dump(folder / "dump"), read_log(folder / "log"), strict=True
        )
    ]


def read_dump(path):
    """Yield (coord, cell, types, force, atom_energy) of every frame."""
    lines = path.read_text().splitlines()
    starts = [k for k, line in enumerate(lines) if line == "ITEM: TIMESTEP"]
    for start, stop in zip(starts, [*starts[1:], len(lines)], strict=True):
        bounds = np.array([line.split() for line in lines[start + 5 : start + 8]], dtype=float)
        low, high = bounds[:, 0], bounds[:, 1]
        tilt = bounds[:, 2] if bounds.shape[1] == 3 else np.zeros(3)
        xy, xz, yz = tilt
        low = low - [min(0.0, xy, xz, xy + xz), min(0.0, yz), 0.0]
        high = high - [max(0.0, xy, xz, xy + xz), max(0.0, yz), 0.0]
        length = high - low
        cell = np.array([[length[0], 0, 0], [xy, length[1], 0], [xz, yz, length[2]]])
        rows = np.array([line.split() for line in lines[start + 9 : stop]], dtype=float)
        yield rows[:, 2:5], cell, rows[:, 1].astype(int) - 1, rows[:, 5:8], rows[:, 8]


def read_log(path):
    """Yield (energy, pressure (6,)) of every frame."""
    rows = [line.split() for line in path.read_text().splitlines()]
    start = next(k for k, row in enumerate(rows) if row[:2] == ["Step", "PotEng"])
    stop = next(k for k, row in enumerate(rows) if row[:2] == ["Loop", "time"])
    for row in rows[start + 1 : stop]:
        values = [float(word) for word in row]
        yield values[1], np.array(values[2:8])


def assert_ours(frame, model):
    """LAMMPS's numbers are those of our own evaluation at its positions."""
    found = dpa2.load(model).predict(frame.coord, frame.cell, frame.atom_types, atomic=False)
    num_atoms = len(frame.coord)
    assert np.abs(frame.force).max() > 0.1
    assert abs(frame.energy - found.energy[0]) / num_atoms <= ENERGY
    assert np.abs(frame.force - found.force[0]).max() <= FORCE
    assert np.abs(frame.atom_energy - found.atom_energy[0]).max() <= FORCE
    # LAMMPS's order is xx, yy, zz, xy, xz, yz.
    virial = 0.5 * (found.virial[0] + found.virial[0].T)[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]]
    pressure = virial / abs(np.linalg.det(frame.cell)) / bar
    assert np.abs(pressure).max() > 100.0
    # LAMMPS's constant of pressure (nktv2p) has seven digits.
    np.testing.assert_allclose(frame.pressure, pressure, rtol=3e-7, atol=1e-3)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_lammps_gives_our_numbers(processes, deepmd, water, model, frozen, tmp_path):
    (frame,) = in_lammps(deepmd, water, frozen, tmp_path, processes=processes)
    assert len(frame.coord) == 1536
    assert_ours(frame, model)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_stays_with_our_numbers(processes, deepmd, water, model, frozen, tmp_path):
    tilted = water[:96].copy()
    cell = water.cell.array / [[4], [2], [2]]
    tilted.set_cell(cell)
    tilted.set_cell(cell + np.array([[0, 0, 0], [0.8, 0, 0], [-0.5, 0.6, 0]]), scale_atoms=True)
    tilted.set_momenta(np.random.default_rng(0).normal(size=(96, 3)))
    frames = in_lammps(deepmd, tilted, frozen, tmp_path, processes=processes, steps=12)
    assert len(frames) == 13
    assert np.abs(frames[-1].coord - frames[0].coord).max() > 0.05
    for frame in (frames[0], frames[-1]):
        assert_ours(frame, model)


@pytest.mark.parametrize("boundary", ["ppp", "pps", "sss"])
def test_what_zoo_md_writes_runs(boundary, deepmd, water, model, tmp_path):
    atoms = water[:96].copy()
    atoms.set_cell(water.cell.array / [[4], [2], [2]])
    atoms.pbc = [letter == "p" for letter in boundary]
    write(tmp_path / "start.xyz", atoms)
    settings = MdSettings("nve", timestep=0.25, steps=4, dump_every=4)
    folder = tmp_path / "md"
    written = write_simulation(atoms, model, folder, "lammps", settings)
    deepmd.call("lmp", "-in", written.files[0], cwd=folder)
    assert (folder / "final.data").exists()
    lines = (folder / "trajectory.lammpstrj").read_text().splitlines()
    rows = np.array([line.split() for line in lines[9 : 9 + 96]])
    atoms.calc = dpa2.ase.Calculator(model)
    difference = rows[:, 6:9].astype(float) - atoms.get_forces()
    assert np.abs(difference).max() <= FORCE
