"""The program of a `.pt2` file computes what the model does, whatever the sizes; no compiler."""

import numpy as np
import pytest
import torch

from dpa2.evaluate.potential import Potential
from dpa2.formats import checkpoint
from dpa2.formats.facts import OUTPUTS, facts_of
from dpa2.formats.pt2 import CompiledEngine
from dpa2.lower.export_program import LowerModel, export_model
from tests.golden_cases import GOLDEN, assert_checkpoint_numbers

CASES = [
    "davg",
    "davg_first_atom_differs",
    "davg_not_smooth",
    "every_update_res_residual",
    "large",
    "lone_atom",
    "no_layers",
    "not_smooth",
    "pair_and_atom_exclude",
    "strip_two_side",
    "three_body_wider_than_repformer",
    "truncated_pair_exclude",
    "two_body_only",
    "virtual_atoms",
]
EXPORTED = "fparam_aparam"


def model_of(case):
    return checkpoint.read(GOLDEN / case / "model.pt", None).model


def potential(program, model, *, atomic_virial):
    """Return our runtime around a program that was not compiled."""
    facts = facts_of(model, {}, atomic_virial=atomic_virial)
    return Potential(CompiledEngine(program, facts, torch.device("cpu")), ["Default"])


# `truncated` has more neighbours than the model takes, on purpose
@pytest.mark.filterwarnings("ignore::dpa2.evaluate.potential.DroppedNeighborsWarning")
@pytest.mark.parametrize("case", CASES)
def test_one_block_of_all_atoms_gives_the_numbers_of_the_checkpoint(case):
    model = model_of(case)
    program = LowerModel(model, atomic_virial=True)
    runtime = potential(program, model, atomic_virial=True)
    assert_checkpoint_numbers(runtime, case, atol=1e-11)


@pytest.fixture(scope="module")
def exported():
    """The exported program of a model with frame and atomic parameters."""
    return export_model(model_of(EXPORTED)).module()


def sample(frames=2, atoms=4, ghosts=6, width=9, seed=0):
    """Return arguments of any size, with neighbours in random order and far beyond the cutoff."""
    g = torch.Generator().manual_seed(seed)
    everyone = atoms + ghosts
    coord = torch.rand(frames, everyone, 3, dtype=torch.float64, generator=g) * 6.0
    types = torch.randint(0, 2, (frames, everyone), generator=g)
    order = torch.rand(frames, atoms, everyone, generator=g).argsort(dim=-1)
    nlist = torch.nn.functional.pad(order, [0, width], value=-1)[..., :width]
    nlist = nlist.masked_fill(nlist == torch.arange(atoms).view(1, -1, 1), -1)
    mapping = torch.randint(0, atoms, (frames, everyone), generator=g)
    mapping[:, :atoms] = torch.arange(atoms)
    fparam = torch.rand(frames, 2, dtype=torch.float64, generator=g)
    aparam = torch.rand(frames, atoms, 1, dtype=torch.float64, generator=g)
    return coord, types, nlist.contiguous(), mapping, fparam, aparam


@pytest.mark.slow
@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"frames": 1, "atoms": 7, "ghosts": 30, "width": 37},
        {"frames": 3, "atoms": 1, "ghosts": 5, "width": 6},
        {"frames": 1, "atoms": 1, "ghosts": 0, "width": 1},
        {"atoms": 5, "ghosts": 0, "width": 3},
        {"frames": 1, "atoms": 40, "ghosts": 80, "width": 120},
        {"frames": 5, "atoms": 5, "ghosts": 5, "width": 5},
    ],
    ids=lambda sizes: " ".join(f"{key} {value}" for key, value in sizes.items()) or "as traced",
)
def test_the_exported_program_takes_any_number_of_frames_atoms_and_neighbours(sizes, exported):
    arguments = sample(**sizes)
    found = exported(*arguments)
    expected = LowerModel(model_of(EXPORTED), atomic_virial=False)(*arguments)
    assert tuple(found) == OUTPUTS
    for name in OUTPUTS:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-13)


def test_atoms_without_neighbours_feel_no_force(exported):
    coord, types, nlist, *rest = sample()
    found = exported(coord, types, torch.full_like(nlist, -1), *rest)
    assert found["energy_redu"].abs().min() > 0
    assert found["energy_derv_r"].abs().max() == 0


@pytest.mark.parametrize("changes", [{}, {"fparam": None}], ids=["given", "default fparam"])
def test_the_exported_program_gives_the_numbers_of_the_checkpoint(exported, changes):
    runtime = potential(exported, model_of(EXPORTED), atomic_virial=False)
    names = ("energy", "force", "virial", "atom_energy")
    found = assert_checkpoint_numbers(runtime, EXPORTED, names, 1e-11, **changes)
    assert found.atom_virial is None


def test_the_order_of_the_list_does_not_matter(exported):
    coord, types, nlist, *rest = sample(atoms=8, ghosts=40, width=48)
    shuffled = nlist[..., torch.randperm(48, generator=torch.manual_seed(1))]
    found, expected = exported(coord, types, shuffled, *rest), exported(coord, types, nlist, *rest)
    for name in OUTPUTS:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-13)


def test_virials_of_atoms_add_up_even_where_they_are_not_split(exported):
    found = exported(*sample(atoms=8, ghosts=40, width=48))
    total = found["energy_derv_c"].sum(dim=1)
    torch.testing.assert_close(total, found["energy_derv_c_redu"], rtol=0, atol=1e-11)


def test_no_atoms_and_absent_atoms_have_no_energy():
    model = model_of("small")
    runtime = potential(LowerModel(model, atomic_virial=True), model, atomic_virial=True)
    found = runtime.predict(np.zeros((1, 2, 3)), None, [[-1, -1]])
    assert found.energy.tolist() == [0.0]
    assert found.force.shape == (1, 2, 3)
    assert found.atom_virial.shape == (1, 2, 3, 3)
