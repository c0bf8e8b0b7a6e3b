"""A frozen model computes what the checkpoint does, through every door deepmd-kit uses."""

import numpy as np
import pytest
import torch

from dpa2.evaluate.potential import load
from dpa2.lower.periodic_images import all_pairs, extend
from tests.freeze.golden_cases import GOLDEN, golden_inputs

CASES = [
    "medium",
    "davg_first_atom_differs",
    "every_update_res_residual",
    "fparam_aparam",
    "lone_atom",
    "pair_and_atom_exclude",
    "truncated",
    "virtual_atoms",
]


# `truncated` has more neighbours than the model takes, on purpose
@pytest.mark.filterwarnings("ignore::dpa2.evaluate.potential.DroppedNeighborsWarning")
@pytest.mark.parametrize("case", CASES)
def test_a_frozen_model_gives_the_numbers_of_its_checkpoint(case, frozen):
    inputs = golden_inputs(case)
    found = frozen(case)(**inputs, do_atomic_virial=True)
    arrays = {key: None if value is None else value.numpy() for key, value in inputs.items()}
    expected = load(GOLDEN / case / "model.pt").predict(**arrays)
    for name in ("energy", "force", "virial", "atom_energy", "atom_virial"):
        ours = found[name].detach().numpy()
        np.testing.assert_allclose(
            ours.ravel(), getattr(expected, name).ravel(), rtol=0, atol=1e-12, err_msg=name
        )


def test_float32_networks_stay_float32_inside(frozen):
    inputs = golden_inputs("float32")
    arrays = {key: None if value is None else value.numpy() for key, value in inputs.items()}
    expected = load(GOLDEN / "float32" / "model.pt").predict(**arrays)
    force = frozen("float32")(**inputs)["force"]
    assert force.dtype == torch.float64
    np.testing.assert_allclose(force.numpy(), expected.force, rtol=0, atol=1e-6)


def test_float32_positions_give_float32_forces_and_float64_energies(frozen):
    inputs = golden_inputs("small")
    inputs["coord"] = inputs["coord"].float()
    found = frozen("small")(**inputs)
    assert found["force"].dtype == torch.float32
    assert found["energy"].dtype == torch.float64


def test_a_left_handed_cell_gives_the_same_energy(frozen):
    inputs = golden_inputs("small")
    swapped = dict(inputs, box=inputs["box"].view(-1, 3, 3)[:, [1, 0, 2]])
    torch.testing.assert_close(
        frozen("small")(**swapped)["energy"], frozen("small")(**inputs)["energy"]
    )


@pytest.fixture
def extended():
    """Atoms, images and neighbours of the case `small`: the arguments of the lower interface."""
    inputs = golden_inputs("small")
    box = inputs["box"].view(-1, 3, 3)
    system = extend(inputs["coord"], inputs["atype"], box, 6.0)
    nlist = all_pairs(system, inputs["atype"].shape[1], 6.0, 100)
    return system, nlist


def folded(system, extended_values, num_atoms):
    """Add what images received to their atoms."""
    total = torch.zeros(len(extended_values), num_atoms, 3, dtype=torch.float64)
    index = system.mapping.unsqueeze(-1).expand(-1, -1, 3)
    return total.scatter_add(1, index, extended_values)


def test_long_unsorted_lists_give_the_same_numbers(frozen, extended):
    model = frozen("small")
    system, nlist = extended
    assert nlist.shape[2] > model.get_nsel()
    shuffled = nlist[..., torch.randperm(nlist.shape[2], generator=torch.manual_seed(1))]
    found = model.forward_lower(system.coord, system.types, shuffled, system.mapping)
    expected = model(**golden_inputs("small"))
    torch.testing.assert_close(found["energy"], expected["energy"])
    torch.testing.assert_close(found["virial"], expected["virial"])
    force = folded(system, found["extended_force"], nlist.shape[1])
    torch.testing.assert_close(force, expected["force"], rtol=0, atol=1e-12)


def test_virials_of_atoms_add_up_even_where_not_requested(frozen, extended):
    system, nlist = extended
    arguments = (system.coord, system.types, nlist, system.mapping)
    for requested in (False, True):
        found = frozen("small").forward_common_lower(*arguments, do_atomic_virial=requested)
        total = found["energy_derv_c"].sum(dim=1)
        torch.testing.assert_close(total, found["energy_derv_c_redu"], rtol=0, atol=1e-11)


def test_format_nlist_keeps_the_nearest_in_order(frozen, extended):
    model = frozen("small")
    system, nlist = extended
    made = model.format_nlist(system.coord, system.types, nlist.flip(-1))
    assert made.shape == (*nlist.shape[:2], model.get_nsel())
    centers = system.coord[0, : nlist.shape[1]]
    distance = (system.coord[0][made[0].clamp(min=0)] - centers[:, None]).norm(dim=-1)
    distance[made[0] < 0] = torch.inf
    assert (distance.diff(dim=-1).nan_to_num(nan=0.0) >= 0).all()
    assert (distance[made[0] >= 0] <= model.get_rcut()).all()


def test_embeddings_are_the_descriptor_and_the_last_hidden_layer(frozen):
    inputs = golden_inputs("small")
    found = frozen("small").forward_embedding(**inputs)
    with np.load(GOLDEN / "small" / "expected.npz") as archive:
        np.testing.assert_allclose(found["descriptor"], archive["descriptor"], atol=1e-12)
    torch.testing.assert_close(found["structural_feature"], found["atomic_feature"].sum(dim=1))


def test_no_atoms_have_no_energy(frozen):
    found = frozen("small")(torch.zeros(1, 0, 3).double(), torch.zeros(1, 0).long())
    assert found["energy"].tolist() == [[0.0]]
    assert found["force"].shape == (1, 0, 3)
