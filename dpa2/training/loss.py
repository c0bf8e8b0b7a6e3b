"""The energy loss: which residuals, how each is reduced to a number, and how the numbers add up.

docs/deepmd-format.md, 6.2; every value equals deepmd-kit 3.2's `ener` loss. Per-atom terms are
means over all real atoms of the batch (a label counts once), per-frame terms are means over frames
divided by powers of the frame's number of atoms. A term whose label is absent adds nothing and is
displayed as nan.
"""

# Axes:  F frames   N atoms   G generalized coordinates

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from schemas.input.optimization import PREFACTORS, term_is_on
from schemas.input.refusals import refuse


@dataclass(frozen=True)
class Labels:
    """What the data says about a batch; None where it says nothing.

    Attributes:
        energy: (F,) eV.
        force: (F, N, 3) eV/Å.
        virial: (F, 3, 3) eV.
        atom_energy: (F, N) eV.
        atom_pref: (F, N, 3) weights of the prefactor force.
        atom_energy_coeff: (F, N) coefficients of the atomic energies.
        drdq: (F, N, 3, G) derivatives of the positions by generalized coordinates.
    """

    energy: Tensor | None = None
    force: Tensor | None = None
    virial: Tensor | None = None
    atom_energy: Tensor | None = None
    atom_pref: Tensor | None = None
    atom_energy_coeff: Tensor | None = None
    drdq: Tensor | None = None


@dataclass(frozen=True)
class LossResult:
    """The number to minimise and the numbers to look at.

    Attributes:
        total: (), differentiable.
        metrics: What `lcurve.out` shows (`rmse_e`, `rmse_f`, ..., `rmse`): detached scalars, or nan
            where the label is absent.
    """

    total: Tensor
    metrics: dict[str, Tensor | float]


Errors = tuple[Tensor, Tensor] | None
"""The loss of a term and its displayed error; None where the label is absent."""

_FIELDS = {
    "e": ("energy", "atom_energy_coeff"),
    "f": ("force",),
    "v": ("virial",),
    "ae": ("atom_energy",),
    "pf": ("force", "atom_pref"),
    "gf": ("force", "drdq"),
}
"""The labels that each term reads."""


class EnergyLoss:
    """The `ener` loss of a checked `loss` section.

    Args:
        config: The section (`schemas.input.optimization`).
        start_lr: Learning rate at which the prefactors have their start values.
        rounds_factors: Round prefactors and 1 / (number of atoms) to single precision, as
            deepmd-kit's trainer does; gradients differ by 1e-8 relative without it.

    Raises:
        ConfigError: For a combination that has no meaning, or a Hessian prefactor (not supported).
    """

    def __init__(self, config: Any, start_lr: float, *, rounds_factors: bool = False) -> None:
        self.config = config
        self.start_lr = start_lr
        self.rounds_factors = rounds_factors
        # A term exists only if both its prefactors are non-zero: deepmd-kit's rule.
        self.active = {term for term in PREFACTORS if term_is_on(config, term)}
        delta = config.huber_delta
        self._deltas = list(delta) if isinstance(delta, list | tuple) else [delta] * 3
        self._kind = "mae" if config.loss_func == "mae" else "rmse"
        self._terms: dict[str, Callable[[Any, Labels, Tensor], Errors]] = {
            "e": self._energy,
            "f": self._force,
            "pf": self._weighted_force,
            "gf": self._generalized_force,
            "v": self._virial,
            "ae": self._atom_energy,
        }
        refuse(config, "loss")

    @property
    def trains_energies(self) -> bool:
        """Whether any term compares energies, of frames or of atoms."""
        return bool(self.active & {"e", "ae"})

    def learns_from(self, labels: Collection[str]) -> bool:
        """Return whether data with these labels have any that an active term compares."""
        optional = {"atom_energy_coeff"} | ({"atom_pref"} if self.config.use_default_pf else set())
        return any(set(_FIELDS[term]) - optional <= set(labels) for term in self.active)

    @property
    def labels_used(self) -> tuple[str, ...]:
        """Names of the label fields that some active term reads."""
        return tuple(dict.fromkeys(name for term in sorted(self.active) for name in _FIELDS[term]))

    def prefactor(self, term: str, learning_rate: float) -> float:
        """Return limit + (start - limit) * lr / lr0 of a term."""
        start = float(getattr(self.config, f"start_pref_{term}"))
        limit = float(getattr(self.config, f"limit_pref_{term}"))
        return limit + (start - limit) * (learning_rate / self.start_lr)

    def weight(self, term: str, learning_rate: float) -> float:
        """Return the prefactor of a term as it is applied.

        deepmd-kit multiplies it with a single-precision flag, "this label is there".
        """
        exact = self.prefactor(term, learning_rate)
        if not self.rounds_factors:
            return exact
        return float(torch.tensor(exact, dtype=torch.float32))

    def __call__(
        self, prediction: Any, labels: Labels, mask: Tensor, learning_rate: float
    ) -> LossResult:
        """Compare a prediction with its labels.

        Args:
            prediction: Has `energy (F,)`, `force (F, N, 3)`, `virial (F, 3, 3)`, `atom_energy
                (F, N)`.
            labels: The labels, on the device of the prediction.
            mask: (F, N), 1.0 for atoms that count and 0.0 for padding and excluded types.
            learning_rate: Rate of this step; sets the prefactors.
        """
        # A sum that starts at zero keeps the dtype and the device of the energies.
        total = prediction.energy.new_zeros(())
        metrics: dict[str, Tensor | float] = {}
        for term, compute in self._terms.items():
            if term not in self.active:
                continue
            # The generalized force has no L1 form: its error keeps its name.
            name = f"{'rmse' if term == 'gf' else self._kind}_{term}"
            found = compute(prediction, labels, mask)
            if found is None:
                metrics[name] = math.nan
                continue
            value, shown = found
            total = total + self.weight(term, learning_rate) * value
            metrics[name] = shown.detach()
        if prediction.energy.requires_grad and not total.requires_grad:
            total = total + self._nothing(prediction)
        metrics["rmse"] = torch.sqrt(total.detach())
        return LossResult(total, metrics)

    def _nothing(self, prediction: Any) -> Tensor:
        """Return 0, whose gradient is 0 for all parameters behind the active terms.

        With it the optimiser does a step for a batch without labels, as deepmd-kit's does: its
        moments decay.
        """
        sources = {"e": "energy", "ae": "energy", "v": "virial"}
        names = sorted({sources.get(term, "force") for term in self.active})
        parts = [0.0 * getattr(prediction, name).sum() for name in names or ["energy"]]
        return torch.stack(parts).sum()

    def _energy(self, prediction: Any, labels: Labels, mask: Tensor) -> Errors:
        if labels.energy is None:
            return None
        energy = prediction.energy
        if self.config.enable_atom_ener_coeff and labels.atom_energy_coeff is not None:
            energy = (labels.atom_energy_coeff * prediction.atom_energy).sum(-1)
        return self._per_frame(energy[:, None], labels.energy[:, None], mask, self._deltas[0])

    def _virial(self, prediction: Any, labels: Labels, mask: Tensor) -> Errors:
        if labels.virial is None:
            return None
        predicted, label = prediction.virial.reshape(-1, 9), labels.virial.reshape(-1, 9)
        return self._per_frame(predicted, label, mask, self._deltas[2])

    def _per_frame(self, predicted: Tensor, label: Tensor, mask: Tensor, delta: float) -> Errors:
        """Return the loss and the displayed error of an extensive quantity (F, C)."""
        counts = mask.sum(-1)
        if self.rounds_factors:
            # deepmd-kit divides 1 by integer counts, which torch does in single precision.
            counts = counts.to(torch.float32)
        per_atom = (1.0 / counts).to(mask.dtype)
        if self.config.loss_func == "mae":
            error = ((predicted - label).abs().mean(-1) * per_atom).mean()
            return error, error
        squared = (predicted - label).square().mean(-1)
        shown = torch.sqrt((squared * per_atom**2).mean())
        if self.config.use_huber:
            scale = per_atom[:, None]
            residual = scale * label - scale * predicted
            return huber(residual, delta).mean(), shown
        power = 2 if self.config.intensive_ener_virial else 1
        return (squared * per_atom**power).mean(), shown

    def _force_difference(self, prediction: Any, force: Tensor) -> Tensor:
        difference: Tensor = force - prediction.force
        if self.config.relative_f is not None:
            difference = difference / (force.norm(dim=-1, keepdim=True) + self.config.relative_f)
        return difference

    def _force(self, prediction: Any, labels: Labels, mask: Tensor) -> Errors:
        if labels.force is None:
            return None
        residual = difference = self._force_difference(prediction, labels.force)
        if self.config.f_use_norm:
            residual = torch.linalg.vector_norm(difference, dim=-1, keepdim=True)
        return self._per_component(residual, difference, mask, self._deltas[1])

    def _atom_energy(self, prediction: Any, labels: Labels, mask: Tensor) -> Errors:
        if labels.atom_energy is None:
            return None
        difference = (labels.atom_energy - prediction.atom_energy)[..., None]
        return self._per_component(difference, difference, mask, self._deltas[0])

    def _per_component(
        self, residual: Tensor, difference: Tensor, mask: Tensor, delta: float
    ) -> Errors:
        """Return the loss and the displayed error of what atoms have (F, N, C)."""
        if self.config.loss_func == "mae":
            error = atom_mean(residual.abs(), mask)
            return error, error
        squared = atom_mean(difference.square(), mask)
        value = atom_mean(huber(residual, delta), mask) if self.config.use_huber else squared
        return value, squared.sqrt()

    def _weighted_force(self, prediction: Any, labels: Labels, mask: Tensor) -> Errors:
        weight = labels.atom_pref
        if labels.force is None or (weight is None and not self.config.use_default_pf):
            return None
        difference = self._force_difference(prediction, labels.force)
        if weight is None:
            weight = torch.ones_like(difference)
        measure = torch.abs if self.config.loss_func == "mae" else torch.square
        value = atom_mean(measure(difference) * weight, mask)
        return value, value if self.config.loss_func == "mae" else value.sqrt()

    def _generalized_force(self, prediction: Any, labels: Labels, mask: Tensor) -> Errors:
        if labels.drdq is None or labels.force is None:
            return None
        difference = (labels.force - prediction.force) * mask[..., None]
        generalized = torch.einsum("fnxg,fnx->fg", labels.drdq, difference)
        value = generalized.square().mean()
        return value, value.sqrt()


def huber(residual: Tensor, delta: float) -> Tensor:
    """Return x^2 / 2 for |x| <= delta and delta (|x| - delta / 2) beyond, elementwise."""
    size = residual.abs()
    return torch.where(size <= delta, 0.5 * residual.square(), delta * (size - 0.5 * delta))


def atom_mean(elements: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of (F, N, C) over components and atoms with mask 1; 0 if there are none."""
    total = (elements * mask[..., None]).sum()
    count = mask.sum() * elements.shape[-1]
    return total / torch.where(count > 0, count, torch.ones_like(count))
