"""Evaluation over blocks: with any number of workers, with and without kept graphs."""

import gc
import weakref
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from dpa2.model import blocks
from dpa2.model.build import build_model
from dpa2.model.network_pass import DescriptorPass
from schemas.input.model import parse_model
from tests.physics.conftest import BASE, Drawn, close

OPTIONS = {"atomic_virial": True, "with_descriptor": True}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1)


@pytest.fixture
def threads():
    """Set the number of threads; the test's own comes back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_results_do_not_depend_on_the_number_of_workers(drawn, threads):
    system = drawn.system(num_frames=2, num_atoms=9)
    threads(1)
    alone, in_one_graph = drawn.predict(system, **OPTIONS), parameter_gradients(drawn, system)
    assert len(drawn.model.graph(system.coord, system.box, system.types).blocks) > 16
    gradients = None
    for workers in (2, 4):
        threads(workers)
        for name, values in drawn.predict(system, **OPTIONS).items():
            np.testing.assert_array_equal(values, alone[name])
        found = parameter_gradients(drawn, system)
        for values, others, expected in zip(found, gradients or found, in_one_graph, strict=True):
            np.testing.assert_array_equal(values, others)
            close(values, expected)
        gradients = found


@pytest.mark.parametrize("share", [0, 2], ids=["no graph", "half of the graphs"])
def test_values_computed_once_more_give_the_same(drawn, monkeypatch, share):
    system = drawn.system(num_frames=2, num_atoms=9)
    expected = drawn.predict(system, **OPTIONS)

    gradients = parameter_gradients(drawn, system)

    def num_kept(_, blocks, *ignored):
        return len(blocks) // share if share else 0

    monkeypatch.setattr(blocks.BlockPlan, "num_kept", num_kept)
    for name, values in drawn.predict(system, **OPTIONS).items():
        close(values, expected[name])
    for found, kept in zip(parameter_gradients(drawn, system), gradients, strict=True):
        close(found, kept)


def test_graphs_are_kept_as_far_as_memory_allows(drawn, monkeypatch):
    system = drawn.system(num_atoms=9)
    graph = drawn.model.graph(system.coord, system.box, system.types)
    assert drawn.model.described(graph).keep == len(graph.blocks)
    counts = []
    for budget in (0, 10_000, 30_000, 1 << 31):
        monkeypatch.setattr(blocks, "KEPT_BYTES", budget)
        counts.append(drawn.model.described(graph).keep)
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert counts[-1] == len(graph.blocks)


def test_it_is_what_training_differentiates(drawn):
    system = drawn.system(num_frames=2)
    found = drawn.predict(system)
    for name, values in drawn.predict(system, create_graph=True).items():
        close(found[name], values)


def test_layers_need_not_look_at_their_neighbours():
    """Without convolution, drrd and attention only pairs enter."""
    section = deepcopy(BASE)
    section["descriptor"]["repformer"] |= {
        "nlayers": 2, "update_g1_has_conv": False, "update_g1_has_drrd": False,
        "update_g1_has_attn": False, "update_g2_has_g1g1": False, "update_g1_has_grrg": True,
    }  # fmt: skip
    section["descriptor"]["seed"] = section["fitting_net"]["seed"] = 1
    alone = Drawn(build_model(parse_model(section)), 1)
    system = alone.system()
    found = alone.predict(system)
    assert np.abs(found["force"]).max() > 1e-6
    for name, values in alone.predict(system, create_graph=True).items():
        close(found[name], values)


def test_graphs_go_with_the_pass(drawn):
    system = drawn.system()
    graph = drawn.model.graph(system.coord, system.box, system.types)
    gc.disable()
    try:
        described = DescriptorPass(drawn.model.descriptor, graph.blocks, keep=len(graph.blocks))
        made = drawn.model.energies(described, graph, *parameters(drawn, system))
        made.gradient()
        gone = weakref.ref(described)
        del described, made
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("part", ["descriptor", "fitting", ""])
def test_what_is_fixed_has_no_gradient(drawn, threads, part):
    """One part of the network; or all of it, and then a step is still a step."""
    system, model = drawn.system(num_frames=2), deepcopy(drawn.model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(bool(part) and not name.startswith(part))
    frozen = replace(drawn, model=model)
    threads(1)
    expected = parameter_gradients(frozen, system)
    threads(2)
    for values, right in zip(parameter_gradients(frozen, system), expected, strict=True):
        close(values, right)
    assert len(expected) == len(trained(model))


def loss_of(energy, force, virial):
    """Return a loss that looks at energies, forces and virials differently at every place."""
    total = (energy**2).sum()
    for weight, values in ((3.0, force), (0.1, virial)):
        ramp = torch.linspace(-1.0, 2.0, values.numel(), dtype=torch.float64)
        total = total + weight * ((values.flatten() - ramp) ** 2).mean()
    return total


def parameter_gradients(drawn, system):
    """Return the gradients of `loss_of` with respect to all parameters."""
    model = drawn.model
    prediction = model(
        model.graph(system.coord, system.box, system.types),
        *parameters(drawn, system),
        create_graph=True,
    )
    loss = loss_of(prediction.energy, prediction.force, prediction.virial)
    loss.backward()
    found = [parameter.grad for parameter in trained(model)]
    model.zero_grad()
    return [
        (torch.zeros_like(parameter) if gradient is None else gradient).numpy()
        for parameter, gradient in zip(trained(model), found, strict=True)
    ]


def trained(model):
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def parameters(drawn, system):
    return torch.from_numpy(system.fparam), torch.from_numpy(system.aparam)
