"""A model as ONNX gives our numbers in onnxruntime, for any numbers of frames and atoms."""

import json

import numpy as np
import onnxruntime
import pytest
import torch

from dpa2.formats import checkpoint
from dpa2.formats.conversion import convert
from dpa2.formats.facts import OUTPUTS
from dpa2.lower.export_program import LowerModel

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module", params=["fparam_aparam", "activations_silut_gelu_softplus"])
def both(request, tmp_path_factory):
    """Return our program, and a session of the written file."""
    from tests.interop.conftest import GOLDEN

    source = GOLDEN / request.param / "model.pt"
    path = convert(source, tmp_path_factory.mktemp("onnx") / "model.onnx").path
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return LowerModel(checkpoint.read(source, None).model, atomic_virial=False), session


def arguments(frames, atoms, ghosts):
    g = torch.Generator().manual_seed(atoms)
    everyone = atoms + ghosts
    mapping = torch.randint(0, atoms, (frames, everyone), generator=g)
    mapping[:, :atoms] = torch.arange(atoms)
    nlist = torch.rand(frames, atoms, everyone, generator=g).argsort(dim=-1)
    return {
        "coord": 3.0 * everyone ** (1 / 3) * torch.rand(frames, everyone, 3, generator=g).double(),
        "atype": torch.randint(0, 2, (frames, everyone), generator=g),
        "nlist": nlist.masked_fill(nlist == torch.arange(atoms).view(1, -1, 1), -1),
        "mapping": mapping,
        "fparam": torch.rand(frames, 2, generator=g).double(),
        "aparam": torch.rand(frames, atoms, 1, generator=g).double(),
    }


@pytest.mark.parametrize("sizes", [(2, 4, 6), (1, 1, 0), (3, 1, 5), (1, 96, 400), (2, 5, 0)])
def test_onnxruntime_gives_our_numbers(sizes, both):
    program, session = both
    given = {x.name: arguments(*sizes)[x.name] for x in session.get_inputs()}
    found = session.run(None, {name: value.numpy() for name, value in given.items()})
    expected = program(*given.values())
    scale = max(1.0, float(expected["energy_derv_r"].abs().max()))
    for name, values in zip(OUTPUTS, found, strict=True):
        assert np.abs(values - expected[name].numpy()).max() <= 1e-11 * scale, name


def test_the_file_says_what_it_is(both):
    said = both[1].get_modelmeta().custom_metadata_map
    assert json.loads(said["metadata"])["output_keys"] == list(OUTPUTS)
    assert json.loads(said["model_def_script"])["type_map"] == ["O", "H"]
    assert json.loads(said["history"])[0]["source"] == "model.pt"
