"""Our frozen models in LAMMPS, through deepmd-kit's plugin, on one process and on several."""

import numpy as np
import pytest
from ase.io import write

import dpa2
from dpa2.formats.conversion import freeze
from dpa2.interfaces.md import MdSettings
from dpa2.interfaces.simulation import write_simulation
from tests.interop.lammps import FORCE, ROOT, assert_ours, run_lammps, water_box

pytestmark = pytest.mark.interop


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
def with_parameters(compiled_with_parameters, tmp_path_factory):
    """Return a checkpoint that takes fparam and aparam, and frozen files of it by suffix."""
    checkpoint, compiled = compiled_with_parameters
    target = tmp_path_factory.mktemp("parameters") / "model.pth"
    return checkpoint, {".pt2": compiled, ".pth": freeze(checkpoint, target).path}


@pytest.fixture(scope="module")
def water():
    """Return 512 molecules: 1536 atoms."""
    return water_box((4, 2, 2))


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_lammps_gives_our_numbers(processes, deepmd, water, model, frozen, tmp_path):
    (frame,) = run_lammps(deepmd, water, frozen, tmp_path, processes=processes)
    assert len(frame.coord) == 1536
    assert_ours(frame, model)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_stays_with_our_numbers(processes, deepmd, water, model, frozen, tmp_path):
    tilted = water[:96].copy()
    cell = water.cell.array / [[4], [2], [2]]
    tilted.set_cell(cell)
    tilted.set_cell(cell + np.array([[0, 0, 0], [0.8, 0, 0], [-0.5, 0.6, 0]]), scale_atoms=True)
    tilted.set_momenta(np.random.default_rng(0).normal(size=(96, 3)))
    frames = run_lammps(deepmd, tilted, frozen, tmp_path, processes=processes, steps=12)
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


@pytest.mark.parametrize(
    ("suffix", "repeats", "processes"),
    # A compiled model runs on one rank, without virials of atoms (docs/deepmd-format.md, 9).
    [
        (".pth", (2, 2, 1), 1),
        (".pth", (2, 2, 1), 2),
        (".pt2", (1, 1, 1), 1),
        (".pt2", (2, 2, 1), 1),
    ],
)
def test_parameters_of_frames_and_atoms_reach_the_model(
    suffix, repeats, processes, deepmd, with_parameters, tmp_path
):
    checkpoint, frozen = with_parameters
    box = water_box(repeats)
    frames = run_lammps(
        deepmd,
        box,
        frozen[suffix],
        tmp_path,
        processes=processes,
        steps=10,
        parameters="fparam 0.2 -0.1 aparam 0.4",
        per_atom=suffix == ".pth",
    )
    aparam = np.full((len(box), 1), 0.4)
    for frame in (frames[0], frames[-1]):
        assert_ours(frame, checkpoint, fparam=[0.2, -0.1], aparam=aparam)
    assert np.abs(frames[-1].coord - frames[0].coord).max() > 1e-4
