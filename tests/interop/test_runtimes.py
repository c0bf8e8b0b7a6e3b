"""Our models in torch-sim and behind i-PI, which have an environment of their own."""

import json
import os
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.socketio import SocketClient
from ase.io import write

import dpa2
from dpa2.ase import Calculator
from dpa2.formats.checkpoint import write_checkpoint
from dpa2.formats.weights import to_deepmd_state
from dpa2.model.build import build_model
from schemas.input.model import parse_model

pytestmark = pytest.mark.interop

HERE = Path(__file__).parent
SMALL = HERE.parent / "golden" / "small"


@pytest.fixture(scope="module")
def runtimes():
    """Return the folder of the environment."""
    subprocess.run(["bash", HERE / "setup_runtimes.sh"], check=True)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "dpa-zoo" / "runtimes"


@pytest.fixture(scope="module")
def frames():
    with np.load(SMALL / "expected.npz") as archive:
        return dict(archive)


@pytest.fixture(scope="module")
def elements_model(tmp_path_factory):
    """Return a checkpoint with random weights for the elements of torch-sim's test structures."""
    section = {
        "type_map": ["H", "C", "Mg", "Si", "Fe"],
        "descriptor": {
            "type": "dpa2",
            "precision": "float64",
            "seed": 3,
            "repinit": {"rcut": 5.0, "rcut_smth": 1.0, "nsel": 90, "neuron": [6, 12]}
            | {"axis_neuron": 3},
            "repformer": {"rcut": 4.0, "rcut_smth": 1.0, "nsel": 60, "nlayers": 2}
            | {"g1_dim": 12, "g2_dim": 6},
        },
        "fitting_net": {"neuron": [12, 12], "precision": "float64", "seed": 4},
    }
    model = build_model(parse_model(section))
    path = tmp_path_factory.mktemp("elements") / "model.pt"
    tensors = {"Default": to_deepmd_state(model)}
    write_checkpoint(path, tensors=tensors, model_params=section, step=0, learning_rate=0.0)
    return path


def test_torch_sim_accepts_our_model_and_gets_our_numbers(runtimes, elements_model, frames):
    command = [runtimes / "bin" / "python", HERE / "validate_torch_sim.py", elements_model]
    done = subprocess.run(
        [*map(str, command), str(SMALL / "model.pt"), str(SMALL / "expected.npz")],
        env=os.environ | {"PYTHONPATH": str(HERE.parents[1]), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    symbols = np.array(["O", "H"])[frames["atype"]]
    expected = []
    for index, repeat in ((0, (1, 1, 1)), (1, (2, 1, 1))):
        atoms = Atoms(symbols, frames["coord"][index], cell=frames["box"][index], pbc=True)
        atoms = atoms.repeat(repeat)
        atoms.calc = Calculator(SMALL / "model.pt")
        expected.append(atoms)
    energy = [atoms.get_potential_energy() for atoms in expected]
    force = np.concatenate([atoms.get_forces() for atoms in expected])
    stress = np.array([atoms.get_stress(voigt=False) for atoms in expected])
    np.testing.assert_allclose(found["energy"], energy, rtol=0, atol=1e-10)
    np.testing.assert_allclose(found["forces"], force, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found["stress"], stress, rtol=0, atol=1e-11)
    total = np.array(found["total"])
    assert np.ptp(total, axis=0).max() < 1e-3


IPI_INPUT = """\
<simulation verbosity='low'>
  <output prefix='run'>
    <properties filename='out' stride='1'>
      [ step, potential{electronvolt}, conserved{electronvolt} ]
    </properties>
    <trajectory filename='force' stride='1' format='xyz' cell_units='angstrom'> forces{ev/ang}
    </trajectory>
    <trajectory filename='pos' stride='1' format='xyz' cell_units='angstrom'> positions{angstrom}
    </trajectory>
  </output>
  <total_steps> 3 </total_steps>
  <prng> <seed> 1 </seed> </prng>
  <ffsocket name='dpa' mode='unix' pbc='False'> <address> NAME </address> <latency> 1e-3 </latency>
  </ffsocket>
  <system>
    <initialize nbeads='1'>
      <file mode='xyz' units='angstrom'> start.xyz </file>
      <velocities mode='thermal' units='kelvin'> 300 </velocities>
    </initialize>
    <forces> <force forcefield='dpa'/> </forces>
    <motion mode='dynamics'>
      <dynamics mode='nve'> <timestep units='femtosecond'> 0.25 </timestep> </dynamics>
    </motion>
  </system>
</simulation>
"""


def test_i_pi_moves_atoms_by_our_forces(runtimes, frames, tmp_path):
    symbols = np.array(["O", "H"])[frames["atype"]]
    atoms = Atoms(symbols, frames["coord"][0], cell=frames["box"][0], pbc=True)
    name = f"dpa-{os.getpid()}"
    (tmp_path / "input.xml").write_text(IPI_INPUT.replace("NAME", name))
    lengths = " ".join(f"{length:.10f}" for length in atoms.cell.cellpar())
    write(
        tmp_path / "start.xyz",
        atoms,
        format="xyz",
        comment=f"# CELL(abcABC): {lengths} cell{{angstrom}}",
    )

    python = runtimes / "bin" / "python"
    printed = (tmp_path / "printed").open("w")
    server = subprocess.Popen(
        [python, "-u", python.with_name("i-pi"), "input.xml"],
        cwd=tmp_path,
        stdout=printed,
        stderr=subprocess.STDOUT,
    )
    try:
        ours = atoms.copy()
        ours.calc = Calculator(SMALL / "model.pt")
        wait_until_listening(server, tmp_path / "printed")
        SocketClient(unixsocket=name, timeout=60).run(ours, use_stress=True)
        assert server.wait(timeout=120) == 0, (tmp_path / "printed").read_text()
    finally:
        server.kill()
        server.wait()
        printed.close()
    table = np.loadtxt(tmp_path / "run.out")
    assert len(table) == 4
    atoms.positions = xyz(tmp_path / "run.pos_0.xyz", frame=-1)
    found = dpa2.load(SMALL / "model.pt").predict(
        atoms.positions, atoms.cell.array, frames["atype"], atomic=False
    )
    # i-PI prints six digits of positions and forces.
    np.testing.assert_allclose(xyz(tmp_path / "run.force_0.xyz", -1), found.force[0], atol=2e-3)
    assert abs(table[-1, 1] - found.energy[0]) < 1e-3
    assert np.ptp(table[:, 2]) < 1e-3


def wait_until_listening(server, printed):
    """The socket appears a moment before i-PI listens to it."""
    for _ in range(1200):
        assert server.poll() is None, printed.read_text()
        if "Starting the polling thread" in printed.read_text():
            return
        time.sleep(0.1)
    raise AssertionError(printed.read_text())


def xyz(path, frame):
    """Return the numbers of one frame of an xyz file (N, 3)."""
    lines = path.read_text().splitlines()
    num_atoms = int(lines[0])
    blocks = [lines[k + 2 : k + 2 + num_atoms] for k in range(0, len(lines), num_atoms + 2)]
    return np.array([line.split()[1:4] for line in blocks[frame]], dtype=float)
