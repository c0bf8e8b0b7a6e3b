"""Models of one kind whose type numbers mean different elements."""

import numpy as np
import pytest
import torch

from dpa2.data.systems import open_systems
from dpa2.evaluate.deviation import DeviationSettings, deviate
from dpa2.evaluate.potential import load
from dpa2.formats.checkpoint import read_checkpoint, write_checkpoint
from schemas.base.errors import DataError
from tests.evaluate.conftest import GOLDEN, write_system
from tests.strangers.situations import case, situation

# Where a tensor has one entry for each type: the end of its name, and the axis.
_TYPE_AXIS = {
    "out_bias": 1,
    "out_std": 1,
    "bias_atom_e": 0,
    ".mean": 0,
    ".stddev": 0,
    "embedding_net.layers.0.matrix": 0,
}


@pytest.fixture(scope="module")
def with_type_map(tmp_path_factory):
    """Return a function that opens one function of structures under any type_map with O and H."""
    folder = tmp_path_factory.mktemp("models")

    def write(type_map, scale=1.0):
        section, tensors = read_checkpoint(GOLDEN / "small" / "model.pt").branch()
        old = section["type_map"]
        rows = [old.index(element) if element in old else 0 for element in type_map]
        changed = {}
        for key, tensor in tensors.items():
            axis = next((axis for end, axis in _TYPE_AXIS.items() if key.endswith(end)), None)
            moved = tensor if axis is None else tensor.index_select(axis, torch.tensor(rows))
            if "fitting_net" in key and moved.ndim == 2 and axis is None:
                moved = scale * moved
            changed[key] = moved
        path = folder / f"{'-'.join(type_map)}-{scale}.pt"
        write_checkpoint(
            path,
            tensors={"Default": changed},
            model_params=section | {"type_map": list(type_map)},
            step=0,
            learning_rate=0.0,
        )
        return load(path)

    return write


@pytest.mark.parametrize("type_map", [
    case("models of one run each, sorted otherwise | type_maps that are permutations of each other "
         "| each model gets its own type numbers", ("H", "O")),
    case("a branch of a large model beside one trained on water | a model that knows more elements "
         "than the data have | compared on the elements that both know", ("C", "H", "N", "O")),
])  # fmt: skip
def test_models_are_compared_element_by_element(type_map, with_type_map, frames, tmp_path):
    first = with_type_map(("O", "H"))
    data = [write_system(tmp_path / "system", frames)]
    settings = DeviationSettings()
    expected, found = (
        next(iter(deviate(models, open_systems(data, models[0].type_map), settings)))
        for models in (
            [first, with_type_map(("O", "H"), 1.1)],
            [first, with_type_map(type_map, 1.1)],
        )
    )
    assert expected.values.max() > 1e-3
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-9, atol=1e-12)
    turned = [with_type_map(type_map, 1.1), first]
    other = next(iter(deviate(turned, open_systems(data, type_map), settings)))
    np.testing.assert_allclose(other.values, expected.values, rtol=1e-9, atol=1e-12)


@situation("""a model of one component | an element in the data that one of the models does not know
    | refused, with the element, the system and the model""")
def test_an_element_that_one_model_lacks_is_named(with_type_map, frames, tmp_path):
    data = write_system(tmp_path / "system", frames)
    models = [with_type_map(("O", "H")), with_type_map(("C", "O"))]
    with pytest.raises(DataError, match=r"system has H, which second\.pt does not know") as refusal:
        list(
            deviate(
                models,
                open_systems([data], ["O", "H"]),
                DeviationSettings(),
                names=["first.pt", "second.pt"],
            )
        )
    assert "leave the system or the model out" in refusal.value.hint


@situation("""systems without type_map.raw | type numbers that mean other elements for each of the
    models | refused, says to write type_map.raw""")
def test_type_numbers_without_names_are_not_guessed(with_type_map, frames, tmp_path):
    data = write_system(tmp_path / "system", frames)
    (data / "type_map.raw").unlink()
    models = [with_type_map(("O", "H")), with_type_map(("H", "O"))]
    with pytest.raises(DataError, match=r"no type_map\.raw") as refusal:
        list(deviate(models, open_systems([data], ["O", "H"]), DeviationSettings()))
    assert "type_map.raw" in refusal.value.hint
