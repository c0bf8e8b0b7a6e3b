"""A frozen model computes what the checkpoint does, through every door deepmd-kit uses."""

import numpy as np
import pytest
import torch

from dpa2.evaluate.potential import load
from dpa2.lower.ghost_exchange import declare_border_operator
from tests.golden_cases import GOLDEN, golden_arrays, golden_tensors

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
    found = frozen(case)(**golden_tensors(case), do_atomic_virial=True)
    expected = load(GOLDEN / case / "model.pt").predict(**golden_arrays(case))
    for name in ("energy", "force", "virial", "atom_energy", "atom_virial"):
        ours = found[name].detach().numpy()
        np.testing.assert_allclose(
            ours.ravel(), getattr(expected, name).ravel(), rtol=0, atol=1e-12, err_msg=name
        )


def test_float32_networks_stay_float32_inside(frozen):
    expected = load(GOLDEN / "float32" / "model.pt").predict(**golden_arrays("float32"))
    force = frozen("float32")(**golden_tensors("float32"))["force"]
    assert force.dtype == torch.float64
    np.testing.assert_allclose(force.numpy(), expected.force, rtol=0, atol=1e-6)


def test_float32_positions_give_float32_forces_and_float64_energies(frozen):
    inputs = golden_tensors("small")
    found = frozen("small")(**inputs | {"coord": inputs["coord"].float()})
    assert (found["force"].dtype, found["energy"].dtype) == (torch.float32, torch.float64)


def test_a_left_handed_cell_gives_the_same_energy(frozen):
    inputs = golden_tensors("small")
    swapped = inputs | {"box": inputs["box"].view(-1, 3, 3)[:, [1, 0, 2]]}
    model = frozen("small")
    torch.testing.assert_close(model(**swapped)["energy"], model(**inputs)["energy"])


def test_long_unsorted_lists_give_the_same_numbers(frozen, extended):
    model = frozen("small")
    system, nlist = extended
    assert nlist.shape[2] > model.get_nsel()
    shuffled = nlist[..., torch.randperm(nlist.shape[2], generator=torch.manual_seed(1))]
    found = model.forward_lower(system.coord, system.types, shuffled, system.mapping)
    expected = model(**golden_tensors("small"))
    for name in ("energy", "virial"):
        torch.testing.assert_close(found[name], expected[name])
    index = system.mapping.unsqueeze(-1).expand(-1, -1, 3)
    force = torch.zeros_like(expected["force"]).scatter_add(1, index, found["extended_force"])
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
    found = frozen("small").forward_embedding(**golden_tensors("small"))
    with np.load(GOLDEN / "small" / "expected.npz") as archive:
        np.testing.assert_allclose(found["descriptor"], archive["descriptor"], atol=1e-12)
    torch.testing.assert_close(found["structural_feature"], found["atomic_feature"].sum(dim=1))


def test_types_without_energies_are_masked(frozen):
    model = frozen("pair_and_atom_exclude")
    inputs = golden_tensors("pair_and_atom_exclude")
    counted = torch.isin(inputs["atype"], torch.tensor(model.get_sel_type()))
    assert not counted.all()
    assert torch.equal(model(**inputs)["mask"].bool(), counted)


def test_no_atoms_have_no_energy(frozen):
    found = frozen("small")(torch.zeros(1, 0, 3).double(), torch.zeros(1, 0).long())
    assert found["energy"].tolist() == [[0.0]]
    assert found["force"].shape == (1, 0, 3)


def test_ghosts_without_a_source_of_features_are_refused(frozen, extended):
    system, nlist = extended
    with pytest.raises(torch.jit.Error, match="ghosts need"):
        frozen("small").forward_lower(system.coord, system.types, nlist)


class GhostExchange:
    """Stands in for deepmd-kit's operator on one process: a ghost has the features of its atom."""

    def __init__(self):
        self.calls = 0
        self.mapping = None
        names = ("send_list", "send_proc", "recv_proc", "send_num", "recv_num", "communicator")
        self.comm_dict = {name: torch.zeros(1, dtype=torch.int64) for name in names}

    def __call__(self, *arguments):
        self.calls += 1
        g1, nlocal, nghost = arguments[5], int(arguments[7]), int(arguments[8])
        assert g1.shape[0] == nlocal + nghost
        return [g1[self.mapping]]


@pytest.fixture
def exchange():
    declare_border_operator()
    stand_in = GhostExchange()
    library = torch.library.Library("deepmd", "IMPL")
    library.impl("border_op", stand_in, "CompositeImplicitAutograd")
    yield stand_in
    library._destroy()


def test_exchanged_features_give_the_numbers_of_mapped_ones(frozen, extended, exchange):
    model = frozen("small")
    system, nlist = extended
    arguments = (system.coord[:1], system.types[:1], nlist[:1])
    expected = model.forward_lower(*arguments, system.mapping[:1], do_atomic_virial=True)
    assert exchange.calls == 0
    exchange.mapping = system.mapping[0]
    found = model.forward_lower(
        *arguments, None, do_atomic_virial=True, comm_dict=exchange.comm_dict
    )
    assert exchange.calls > 0
    for name in ("energy", "virial"):
        torch.testing.assert_close(found[name], expected[name])
    for name in ("extended_force", "extended_virial"):
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-11)


def test_a_process_without_atoms_takes_part_in_every_exchange(frozen, extended, exchange):
    model = frozen("small")
    system, _ = extended
    exchange.mapping = torch.arange(7)
    found = model.forward_lower(
        system.coord[:1, :7],
        system.types[:1, :7],
        torch.zeros(1, 0, 0, dtype=torch.int64),
        comm_dict=exchange.comm_dict,
    )
    assert exchange.calls == len([k for k in model.state_dict() if k.endswith("linear1.bias")])
    assert found["energy"].tolist() == [[0.0]]
    assert found["extended_force"].abs().max() == 0
