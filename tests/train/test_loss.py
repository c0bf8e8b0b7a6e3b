"""The energy loss against numbers computed by deepmd-kit (data/make_reference.py)."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from dpa2.training.loss import EnergyLoss, Labels, atom_mean, huber
from schemas.base.errors import ConfigError
from schemas.input.optimization import EnergyLoss as LossSection

CASES = json.loads((Path(__file__).parent / "data" / "loss.json").read_text())
TYPES = torch.tensor([[0, 1, 1, -1], [1, 0, 0, 0]])
F, N = TYPES.shape


def random_batch(case):
    """Draw the tensors of make_reference.py, in its order, as a prediction and labels."""
    generator = torch.Generator().manual_seed(case["seed"])

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    prediction = SimpleNamespace(
        energy=draw(F, 1)[:, 0].requires_grad_(),
        force=draw(F, N, 3),
        virial=draw(F, 9).reshape(F, 3, 3),
        atom_energy=draw(F, N, 1)[..., 0],
    )
    labels = {
        "energy": draw(F, 1)[:, 0],
        "force": draw(F, N, 3),
        "virial": draw(F, 9).reshape(F, 3, 3),
        "atom_ener": draw(F, N, 1)[..., 0],
        "atom_ener_coeff": draw(F, N, 1)[..., 0],
        "drdq": draw(F, N * 6).reshape(F, N, 3, 2),
        "atom_pref": draw(F, N).abs()[..., None].expand(F, N, 3),
    }
    ours = {"atom_ener": "atom_energy", "atom_ener_coeff": "atom_energy_coeff"}
    present = {ours.get(k, k): v for k, v in labels.items() if case["present"][k]}
    return prediction, Labels(**present)


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["seed"]))
def test_loss_and_displayed_errors_equal_those_of_deepmd_kit(case):
    prediction, labels = random_batch(case)
    loss = EnergyLoss(LossSection(**case["config"]), start_lr=1e-3)
    result = loss(prediction, labels, (TYPES >= 0).double(), case["learning_rate"])
    assert float(result.total.detach()) == pytest.approx(case["total"], rel=1e-13)
    shown = {name: float(value) for name, value in result.metrics.items()}
    assert shown == pytest.approx(case["metrics"], rel=1e-13, nan_ok=True)


def test_absent_labels_add_nothing_and_are_displayed_as_nan():
    prediction, _ = random_batch(CASES[0])
    loss = EnergyLoss(LossSection(), start_lr=1e-3)
    result = loss(prediction, Labels(), (TYPES >= 0).double(), 1e-3)
    assert float(result.total.detach()) == 0.0
    assert math.isnan(result.metrics["rmse_e"])
    assert math.isnan(result.metrics["rmse_f"])


def test_padding_counts_for_nothing():
    prediction, labels = random_batch(CASES[0])
    loss = EnergyLoss(LossSection(), start_lr=1e-3)
    mask = (TYPES >= 0).double()
    before = loss(prediction, labels, mask, 1e-3).total
    prediction.force[0, 3] = 1e9
    assert loss(prediction, labels, mask, 1e-3).total == before


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"start_pref_h": 1.0}, "Hessian"),
        ({"start_pref_gf": 1.0, "limit_pref_gf": 1.0}, "numb_generalized_coord"),
        ({"f_use_norm": True}, "f_use_norm"),
        ({"use_huber": True, "relative_f": 1.0}, "use_huber"),
    ],
)
def test_meaningless_combinations_are_refused_by_name(options, named):
    with pytest.raises(ConfigError, match=named):
        EnergyLoss(LossSection(**options), start_lr=1e-3)


def test_huber_is_continuous_where_it_becomes_linear():
    below, above = huber(torch.tensor([0.1 - 1e-12, 0.1 + 1e-12], dtype=torch.float64), 0.1)
    assert float(below) == pytest.approx(float(above), abs=1e-12)


def test_the_mean_over_no_atoms_is_zero():
    assert float(atom_mean(torch.ones(1, 2, 3), torch.zeros(1, 2))) == 0.0
