"""The network in jax.numpy computes what the torch engine does (all cases: tests/interop)."""

import pytest

from tests.jax.systems import assert_agree, evaluated
from tests.model.conftest import load_case

# Compiling takes seconds a case; these three take almost every branch of the code. The value: with
# atomic virials or not.
CASES = {
    "davg_exclude_types_not_smooth": False,
    "davg_strip_one_side": False,
    "every_update_res_residual": True,
}


@pytest.mark.parametrize(("name", "atomic_virial"), CASES.items())
def test_the_numbers_are_those_of_the_torch_engine(name, atomic_virial):
    case = load_case(name)
    found = evaluated(case, atomic_virial=atomic_virial)
    assert_agree(found, case.predict(), 1e-10)
