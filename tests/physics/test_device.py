"""Steps stay on the model's device: no number travels to the host, no tensor is made there.

`meta` stands for a GPU: its tensors have no numbers, so what asks for one fails where it asks.
"""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dpa2.model import blocks
from dpa2.training.loss import EnergyLoss, Labels
from dpa2.training.optimizer import clip_gradients
from schemas.input.optimization import EnergyLoss as LossSection
from tests.physics.conftest import draw

META = torch.device("meta")


class Transfers(TorchDispatchMode):
    """Collects the operators with tensors of both: copies, and constants that are on the host."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        leaves = tree_leaves((args, kwargs, out))
        if len({leaf.device for leaf in leaves if isinstance(leaf, torch.Tensor)}) > 1:
            self.found.add(str(func))
        return out


def moved(graph):
    """Return the graph on the meta device; its blocks' displacements are leaves again."""
    cut = [
        block._replace(
            **{
                name: value.detach().to(META).requires_grad_(value.requires_grad)
                for name, value in block._asdict().items()
                if isinstance(value, torch.Tensor)
            }
        )
        for block in graph.blocks
    ]
    rest = {name: getattr(graph, name).to(META) for name in ("frame", "slot", "types", "coord")}
    return replace(graph, blocks=cut, **rest)


def on_meta(drawn):
    """Return the model, and graph, fparam and aparam of a system, on the meta device."""
    system = drawn.system(num_frames=2)
    graph = moved(drawn.model.graph(system.coord, system.box, system.types))
    parameters = [torch.from_numpy(array).to(META) for array in (system.fparam, system.aparam)]
    return deepcopy(drawn.model).to(META), (graph, *parameters)


@pytest.fixture(params=[0, 1 << 31], ids=["recomputed", "kept"])
def kept_bytes(request, monkeypatch):
    monkeypatch.setattr(blocks, "KEPT_BYTES", request.param)


def evaluate(model, arguments):
    return model(*arguments, atomic_virial=True, with_descriptor=True)


def train(model, arguments):
    """Do what a step of the training does but for the optimiser, which is torch's own."""
    loss = EnergyLoss(LossSection(start_pref_v=1, limit_pref_v=1), start_lr=1e-3)
    prediction = model(*arguments, create_graph=True)
    labels = Labels(
        prediction.energy.detach(), prediction.force.detach(), prediction.virial.detach()
    )
    mask = torch.ones(prediction.atom_energy.shape, dtype=torch.float64, device=META)
    loss(prediction, labels, mask, 1e-3).total.backward()
    clip_gradients(list(enumerate(model.parameters())), 1.0)


def planted(monkeypatch, module, read):
    """Let `read` see what a module returns."""
    original = module.forward

    def forward(*args):
        found = original(*args)
        read(found)
        return found

    monkeypatch.setattr(module, "forward", forward)


@pytest.mark.usefixtures("kept_bytes")
def test_evaluation(drawn):
    model, arguments = on_meta(drawn)
    with Transfers() as transfers:
        found = evaluate(model, arguments)
    assert found.force.device == META
    assert transfers.found == set()


@pytest.mark.usefixtures("kept_bytes")
def test_training(drawn):
    model, arguments = on_meta(drawn)
    with Transfers() as transfers:
        train(model, arguments)
    assert transfers.found == set()


@pytest.mark.parametrize(
    "read",
    [
        torch.Tensor.item,
        torch.Tensor.tolist,
        torch.Tensor.numpy,
        torch.Tensor.cpu,
        bool,
        float,
        torch.nonzero,
    ],
)
@pytest.mark.parametrize("step", [evaluate, train])
def test_what_reads_a_number_is_found(step, read, monkeypatch):
    drawn = draw(0)
    model, arguments = on_meta(drawn)
    planted(monkeypatch, model.fitting, lambda energy_A: read(energy_A.detach().sum()))
    with pytest.raises((RuntimeError, NotImplementedError, TypeError), match=r"(?i)meta"):
        step(model, arguments)


@pytest.mark.parametrize("step", [evaluate, train])
def test_what_is_made_on_the_host_is_found(step, monkeypatch):
    model, arguments = on_meta(draw(0))
    planted(monkeypatch, model.fitting, lambda _: torch.ones(3).to(META))
    with Transfers() as transfers:
        step(model, arguments)
    assert transfers.found == {"aten._to_copy.default"}


@pytest.mark.parametrize("frames", [1, 3])
def test_a_graph_reads_the_widths_of_its_blocks_once(frames, monkeypatch):
    drawn = draw(0)
    system = drawn.system(num_frames=frames)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1)
    read = []
    original = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: read.append(tensor) or original(tensor))
    graph = drawn.model.graph(system.coord, system.box, system.types)
    assert len(graph.blocks) > 1
    assert [tuple(tensor.shape) for tensor in read] == [(3, system.types.size)]
