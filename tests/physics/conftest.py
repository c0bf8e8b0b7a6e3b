"""Random models over every option of the architecture, and random systems to put into them."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from dpa2.model.build import build_model
from dpa2.model.energy import EnergyModel
from dpa2.model.neighbors import pairs_within
from schemas.input.model import parse_model

NUM_DRAWS = 14
SMOOTH_ACTIVATIONS = [
    *("tanh", "gelu", "gelu_tf", "silu", "silut:2.0", "custom_silu:3.0"),
    *("sigmoid", "softplus", "linear"),
]
BASE: dict[str, Any] = {
    "type_map": ["O", "H"],
    "descriptor": {
        "type": "dpa2",
        "repinit": {"rcut": 4.0, "rcut_smth": 0.5, "nsel": 60},
        "repformer": {"rcut": 3.5, "rcut_smth": 2.6, "nsel": 45},
        "precision": "float64",
    },
    "fitting_net": {"precision": "float64"},
}
BOTH = [True, False]
OPTIONS: dict[str, list[Any]] = {
    "descriptor.repinit.neuron": [[3, 6], [4, 4, 8], [5]],
    "descriptor.repinit.axis_neuron": [2, 3],
    "descriptor.repinit.tebd_dim": [2, 3, 4],
    "descriptor.repinit.tebd_input_mode": ["concat", "strip"],
    "descriptor.repinit.set_davg_zero": BOTH,
    "descriptor.repinit.activation_function": SMOOTH_ACTIVATIONS,
    "descriptor.repinit.type_one_side": BOTH,
    "descriptor.repinit.resnet_dt": BOTH,
    "descriptor.repinit.use_three_body": BOTH,
    "descriptor.repinit.three_body_neuron": [[2, 4], [3]],
    # Narrower and wider than the repformer's list.
    "descriptor.repinit.three_body_rcut": [3.1, 3.7],
    "descriptor.repinit.three_body_rcut_smth": [0.5, 2.4],
    "descriptor.repinit.three_body_sel": [45],
    "descriptor.repformer.nlayers": [0, 1, 2, 3],
    "descriptor.repformer.g1_dim": [6, 8],
    "descriptor.repformer.g2_dim": [3, 5],
    "descriptor.repformer.axis_neuron": [1, 2],
    "descriptor.repformer.direct_dist": [False, False, True],
    "descriptor.repformer.update_g1_has_conv": BOTH,
    "descriptor.repformer.update_g1_has_drrd": BOTH,
    "descriptor.repformer.update_g1_has_grrg": BOTH,
    "descriptor.repformer.update_g1_has_attn": BOTH,
    "descriptor.repformer.update_g2_has_g1g1": BOTH,
    "descriptor.repformer.update_g2_has_attn": BOTH,
    "descriptor.repformer.use_sqrt_nnei": BOTH,
    "descriptor.repformer.g1_out_conv": BOTH,
    "descriptor.repformer.g1_out_mlp": [True, True, False],
    "descriptor.repformer.update_h2": BOTH,
    "descriptor.repformer.attn1_hidden": [2, 3],
    "descriptor.repformer.attn1_nhead": [1, 2],
    "descriptor.repformer.attn2_hidden": [2, 3],
    "descriptor.repformer.attn2_nhead": [1, 2],
    "descriptor.repformer.attn2_has_gate": BOTH,
    "descriptor.repformer.activation_function": SMOOTH_ACTIVATIONS,
    "descriptor.repformer.update_style": ["res_avg", "res_incr", "res_residual"],
    "descriptor.repformer.update_residual": [0.1, 0.5],
    "descriptor.repformer.update_residual_init": ["norm", "const"],
    "descriptor.repformer.set_davg_zero": BOTH,
    "descriptor.repformer.trainable_ln": BOTH,
    "descriptor.repformer.ln_eps": [None, 1e-2],
    "descriptor.concat_output_tebd": BOTH,
    "descriptor.smooth": [True, True, False],
    "descriptor.exclude_types": [[], [], [[1, 1]]],
    "descriptor.env_protection": [0.0, 0.0, 0.2],
    "descriptor.add_tebd_to_repinit_out": BOTH,
    "descriptor.use_econf_tebd": BOTH,
    "descriptor.use_tebd_bias": BOTH,
    "fitting_net.numb_fparam": [0, 2],
    "fitting_net.numb_aparam": [0, 1],
    "fitting_net.dim_case_embd": [0, 2],
    "fitting_net.neuron": [[5, 5], [4, 8, 8], []],
    "fitting_net.activation_function": SMOOTH_ACTIVATIONS,
    "fitting_net.resnet_dt": BOTH,
    "fitting_net.atom_ener": [[], [0.0, None]],
    "fitting_net.use_aparam_as_mask": [False, False, True],
    "pair_exclude_types": [[], [], [[0, 0]]],
    "atom_exclude_types": [[], [], [1]],
}


def draw_sections() -> Iterator[dict[str, Any]]:
    """Yield model sections in which every value of every option occurs at least once."""
    rng = np.random.default_rng(20260101)
    columns = {}
    for path, values in OPTIONS.items():
        # Every value the same number of times, give or take one.
        columns[path] = [values[k % len(values)] for k in rng.permutation(NUM_DRAWS)]
        assert len(values) <= NUM_DRAWS
    for draw in range(NUM_DRAWS):
        section = deepcopy(BASE)
        for path, column in columns.items():
            *folders, key = path.split(".")
            node = section
            for folder in folders:
                node = node[folder]
            node[key] = column[draw]
        section["descriptor"]["seed"] = section["fitting_net"]["seed"] = draw
        yield section


def is_possible(section: dict[str, Any]) -> bool:
    """Tell whether some update of g1 enters the concatenation, as every layer needs."""
    r = section["descriptor"]["repformer"]
    return (
        not r["g1_out_mlp"]
        or r["update_g1_has_grrg"]
        or r["update_g1_has_drrd"]
        or (r["update_g1_has_conv"] and not r["g1_out_conv"])
    )


def randomize(model: EnergyModel, rng: np.random.Generator) -> None:
    """Replace values that are trivial after initialisation, so that every term counts."""

    def uniform(low: float, high: float, shape: Any) -> torch.Tensor:
        return torch.as_tensor(rng.uniform(low, high, size=tuple(shape)))

    for block in model.descriptor.blocks().values():
        num_types = block.mean.shape[0]
        stddev = uniform(0.3, 0.6, (num_types, 4))
        stddev[:, 2:] = stddev[:, 1:2]
        mean = torch.zeros(num_types, 4, dtype=torch.float64)
        if not block.set_davg_zero:
            mean[:, 0] = uniform(-0.1, 0.2, (num_types,))
        block.set_values(mean, stddev)
    model.statistics_changed()
    fitting = model.fitting
    with torch.no_grad():
        model.out_bias.copy_(uniform(-3, 1, model.out_bias.shape))
        for name in ("fparam_avg", "aparam_avg", "case_embd"):
            getattr(fitting, name).copy_(uniform(-1, 1, getattr(fitting, name).shape))
        for name in ("fparam_inv_std", "aparam_inv_std"):
            getattr(fitting, name).copy_(uniform(0.5, 1.5, getattr(fitting, name).shape))
        for module in model.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.weight.copy_(uniform(0.5, 1.5, module.weight.shape))
                module.bias.copy_(uniform(-0.5, 0.5, module.bias.shape))


def close(found: np.ndarray, expected: np.ndarray, scale: float = 1.0) -> None:
    """Assert equality to ten digits of the largest value (of at least `scale`)."""
    size = max(scale, np.abs(expected).max(initial=0.0))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * size)


@dataclass(frozen=True)
class System:
    """Frames to evaluate; coord (F, N, 3) Å, box (F, 3, 3) Å or None, types (F, N)."""

    coord: np.ndarray
    box: np.ndarray | None
    types: np.ndarray
    fparam: np.ndarray
    aparam: np.ndarray

    def copies(self, coord: np.ndarray, box: np.ndarray | None = None) -> "System":
        """Return one frame repeated with other coordinates (M, N, 3) and boxes (M, 3, 3)."""
        num = len(coord)
        if box is None and self.box is not None:
            box = np.repeat(self.box, num, axis=0)
        types, fparam, aparam = (
            np.repeat(array, num, axis=0) for array in (self.types, self.fparam, self.aparam)
        )
        return System(coord, box, types, fparam, aparam)

    def frames(self, index: slice) -> "System":
        box = None if self.box is None else self.box[index]
        rest = (array[index] for array in (self.types, self.fparam, self.aparam))
        return System(self.coord[index], box, *rest)

    def atoms(self, index: Any) -> "System":
        """Return the system with atoms chosen or reordered."""
        return replace(
            self,
            coord=self.coord[:, index],
            types=self.types[:, index],
            aparam=self.aparam[:, index],
        )


@dataclass(frozen=True)
class Drawn:
    """A model of random architecture and weights."""

    model: EnergyModel
    seed: int

    @property
    def smooth(self) -> bool:
        return self.model.config.descriptor.smooth

    def run(self, system: System, **options: bool):
        """Return the prediction, as tensors."""
        graph = self.model.graph(system.coord, system.box, system.types)
        assert graph.num_dropped == 0
        fparam, aparam = torch.from_numpy(system.fparam), torch.from_numpy(system.aparam)
        return self.model(graph, fparam, aparam, **options)

    def predict(self, system: System, **options: bool) -> dict[str, np.ndarray]:
        """Return the prediction, as arrays."""
        found = self.run(system, **options)
        return {
            name: getattr(found, name).detach().numpy()
            for name in found.__slots__
            if getattr(found, name) is not None
        }

    def rng(self) -> np.random.Generator:
        return np.random.default_rng([77, self.seed])

    def system(self, *, num_atoms: int = 6, periodic: bool = True, num_frames: int = 1) -> System:
        """Return random frames without a pair closer than 0.9 Å or next to a kink of the model."""
        rng = self.rng()
        frames = []
        while len(frames) < num_frames:
            box = np.diag([4.9, 5.2, 5.5]) + rng.uniform(-0.8, 0.8, size=(3, 3))
            coord = rng.uniform(size=(num_atoms, 3)) @ box
            distance = pairs_within(coord, box if periodic else None, 4.2)[-1]
            blocks = self.model.descriptor.blocks().values()
            kinks = [kink for block in blocks for kink in (block.rcut, block.rcut_smth)]
            if len(distance) and distance.min() > 0.9:
                gaps = np.abs(distance[:, None] - kinks)
                if gaps.min() > 0.008:
                    frames.append((coord, box))
        coord, box = (np.stack(arrays) for arrays in zip(*frames, strict=True))
        types = np.tile(np.arange(num_atoms) % 2, (num_frames, 1))
        fitting = self.model.fitting
        return System(
            coord,
            box if periodic else None,
            types,
            rng.normal(size=(num_frames, fitting.num_fparam)),
            rng.normal(size=(num_frames, num_atoms, fitting.num_aparam)),
        )


def sections_drawn() -> list[dict[str, Any]]:
    sections = list(draw_sections())
    for section in sections:
        if not is_possible(section):
            section["descriptor"]["repformer"]["update_g1_has_grrg"] = True
    return sections


@cache
def draw(seed: int, *, shifted: bool = True) -> Drawn:
    section = sections_drawn()[seed]
    if not shifted:
        section["descriptor"]["repinit"]["set_davg_zero"] = True
    model = build_model(parse_model(section))
    randomize(model, np.random.default_rng(seed))
    return Drawn(model, seed)


SMOOTH = [k for k, section in enumerate(draw_sections()) if section["descriptor"]["smooth"]]


@pytest.fixture(params=range(NUM_DRAWS), ids=lambda seed: f"draw{seed}")
def drawn(request) -> Drawn:
    """Every draw in turn."""
    return draw(request.param)


@pytest.fixture(params=SMOOTH, ids=lambda seed: f"draw{seed}")
def smooth(request) -> Drawn:
    """Every draw with `smooth: true`; repinit's mean is 0.

    With another mean, an empty slot has a value of its own in deepmd-kit's models, with the type of
    the frame's first atom, so a neighbour of the other type leaves with a jump.
    """
    return draw(request.param, shifted=False)
