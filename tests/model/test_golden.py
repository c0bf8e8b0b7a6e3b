"""The network computes what deepmd-kit 3.2.0 computes (tests/golden/README.md)."""

import json

import numpy as np
import pytest

from dpa2.model import blocks
from schemas.input.model import parse_model
from tests.golden_cases import CASES, GOLDEN, QUANTITIES

FLOAT32 = {"float32", "float32_fitting"}
# What is trained, and what deepmd-kit ignores, changes no number.
WITHOUT_NUMBERS = {
    *("descriptor.trainable", "fitting_net.trainable"),
    *("fitting_net.type", "fitting_net.rcond", "fitting_net.layer_name"),
}
BLOCKS_MATTER = (
    "every_update_res_residual",
    "davg_all_columns",
    "davg_strip_not_smooth",
    "triclinic_five_elements",
    "truncated",
    "virtual_atoms",
)


def compared(case, prediction, name):
    """Return (ours, deepmd-kit's) for the real atoms; energies per atom."""
    ours = getattr(prediction, name).detach().double().numpy()
    theirs = case.expected(name)
    real = case.atom_types >= 0
    if name == "energy":
        return ours / real.sum(1), theirs / real.sum(1)
    return (ours, theirs) if name == "virial" else (ours[real], theirs[real])


def recorded(case):
    return [name for name in QUANTITIES if case.expected(name) is not None]


def test_every_option_of_the_network_has_a_golden_case():
    inputs = [json.loads((GOLDEN / name / "input.json").read_text())["model"] for name in CASES]
    models = [parse_model(section) for section in inputs]
    parts = {
        "descriptor": [model.descriptor for model in models],
        "repinit": [model.descriptor.repinit for model in models],
        "repformer": [model.descriptor.repformer for model in models],
        "fitting_net": [model.fitting_net for model in models],
    }
    lacking = {
        f"{part}.{name}"
        for part, sections in parts.items()
        for name, field in type(sections[0]).model_fields.items()
        if not any(
            getattr(section, name) != field.get_default(call_default_factory=True)
            for section in sections
        )
    }
    assert lacking == WITHOUT_NUMBERS


@pytest.mark.parametrize("name", [name for name in CASES if name != "bfloat16"])
def test_the_numbers_are_those_of_deepmd_kit(golden, name):
    case = golden(name)
    prediction = case.predict()
    for quantity in recorded(case):
        ours, theirs = compared(case, prediction, quantity)
        tolerance = 1e-4 if name in FLOAT32 else 1e-10 if quantity == "energy" else 1e-9
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance, err_msg=quantity)


def test_only_the_case_outside_the_cell_lacks_atomic_virials(golden):
    # The split of the virial depends on which image of an atom is given; the total does not.
    lacking = {name for name in CASES if golden(name).expected("atom_virial") is None}
    assert lacking == {"out_of_the_cell"}


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_bfloat16_is_as_close_to_exact_arithmetic_as_deepmd_kit(golden, quantity):
    # Eight bits of mantissa make every operation wrong by up to 0.4 %, and weights that we multiply
    # together first are rounded elsewhere than deepmd-kit rounds. So the two are not compared with
    # each other, but both with the same weights in float64.
    case, exact = golden("bfloat16"), golden("bfloat16", "float64")
    ours, theirs = compared(case, case.predict(), quantity)
    truth, _ = compared(exact, exact.predict(), quantity)
    assert np.abs(ours - truth).max() <= 2 * np.abs(theirs - truth).max()


def test_padding_atoms_hold_zeros(golden):
    case = golden("virtual_atoms")
    padding = case.atom_types < 0
    assert padding.any()
    prediction = case.predict()
    for name in ("force", "atom_energy", "atom_virial", "descriptor"):
        assert not getattr(prediction, name).detach().numpy()[padding].any()


@pytest.mark.parametrize("elements", [1, 3000], ids=["an atom a block", "a few atoms a block"])
@pytest.mark.parametrize("name", BLOCKS_MATTER)
def test_how_atoms_are_cut_into_blocks_changes_nothing(golden, monkeypatch, name, elements):
    case = golden(name)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1 << 40)
    whole = case.graph()
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 8 * elements)
    cut = case.graph()
    assert len(whole.blocks) == 1
    assert len(cut.blocks) == len(cut.types) if elements == 1 else len(cut.blocks) > 1
    expected, found = case.predict(whole), case.predict(cut)
    for quantity in QUANTITIES:
        np.testing.assert_allclose(
            getattr(found, quantity).detach().numpy(),
            getattr(expected, quantity).detach().numpy(),
            rtol=1e-12,
            atol=1e-12,
            err_msg=quantity,
        )
