"""The path of LAMMPS: features of ghosts arrive through `deepmd::border_op` between layers."""

import pytest
import torch

from dpa2.lower.ghost_exchange import declare_border_operator
from dpa2.lower.periodic_images import all_pairs, extend
from tests.freeze.golden_cases import golden_inputs

# Stand-in for deepmd-kit's operator on one process: a ghost has the features of its atom.
MAPPING = {"now": torch.zeros(0, dtype=torch.int64)}
CALLS = {"count": 0}


def copy_from_own_atoms(*arguments):
    CALLS["count"] += 1
    g1, nlocal, nghost = arguments[5], int(arguments[7]), int(arguments[8])
    assert g1.shape[0] == nlocal + nghost
    return [g1[MAPPING["now"]]]


@pytest.fixture(scope="module", autouse=True)
def operator():
    declare_border_operator()
    library = torch.library.Library("deepmd", "IMPL")
    library.impl("border_op", copy_from_own_atoms, "CompositeImplicitAutograd")
    yield
    library._destroy()


def communication():
    names = ("send_list", "send_proc", "recv_proc", "send_num", "recv_num", "communicator")
    return {name: torch.zeros(1, dtype=torch.int64) for name in names}


@pytest.fixture
def extended():
    inputs = golden_inputs("small")
    box = inputs["box"][:1].view(1, 3, 3)
    system = extend(inputs["coord"][:1], inputs["atype"][:1], box, 6.0)
    MAPPING["now"] = system.mapping[0]
    return system, all_pairs(system, inputs["atype"].shape[1], 6.0, 100)


def test_exchanged_features_give_the_numbers_of_mapped_ones(frozen, extended):
    model = frozen("small")
    system, nlist = extended
    arguments = (system.coord, system.types, nlist)
    expected = model.forward_lower(*arguments, system.mapping, do_atomic_virial=True)
    CALLS["count"] = 0
    found = model.forward_lower(*arguments, None, do_atomic_virial=True, comm_dict=communication())
    assert CALLS["count"] > 0
    torch.testing.assert_close(found["energy"], expected["energy"])
    torch.testing.assert_close(found["virial"], expected["virial"])
    for name in ("extended_force", "extended_virial"):
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-11)


def test_a_process_without_atoms_takes_part_in_every_exchange(frozen, extended):
    model = frozen("small")
    system, _ = extended
    num_ghosts = 7
    MAPPING["now"] = torch.arange(num_ghosts)
    CALLS["count"] = 0
    found = model.forward_lower(
        system.coord[:, :num_ghosts],
        system.types[:, :num_ghosts],
        torch.zeros(1, 0, 0, dtype=torch.int64),
        comm_dict=communication(),
    )
    assert CALLS["count"] == len([k for k in model.state_dict() if k.endswith("linear1.bias")])
    assert found["energy"].tolist() == [[0.0]]
    assert found["extended_force"].abs().max() == 0


def test_ghosts_without_a_source_of_features_are_refused(frozen, extended):
    system, nlist = extended
    with pytest.raises(torch.jit.Error, match="ghosts need"):
        frozen("small").forward_lower(system.coord, system.types, nlist)
