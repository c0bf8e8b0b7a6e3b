"""The energy loss: weights of its terms at the first and the last learning rate."""

from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    Tag,
)

from schemas.input.section import NO_DEFAULT, Needs, Section, Usual, list_or_single

HuberDelta = Annotated[
    Annotated[PositiveFloat, Tag("single")]
    | Annotated[list[PositiveFloat], Field(min_length=3, max_length=3), Tag("list")],
    Discriminator(list_or_single),
]


def _current_name(value: Any) -> Any:
    return "ener" if value == "ener_hess" else value


Prefactor = Annotated[NonNegativeFloat, Usual(1e-8, 1e6)]
"""Weight of a term of the loss; zero switches the term off."""


class EnergyLoss(Section):
    """Weighted sum of the errors of energies, forces and what else is labelled.

    Each weight goes from `start_pref` to `limit_pref` as the learning rate decays. A term exists
    only if both are non-zero (Hessian: either).
    """

    type: Annotated[Literal["ener"], BeforeValidator(_current_name)] = "ener"
    """Which loss this is; `ener_hess` is its former name."""
    start_pref_e: Prefactor = 0.02
    """Weight of the energy at the start."""
    limit_pref_e: Prefactor = 1.0
    """Weight of the energy at the end."""
    start_pref_f: Prefactor = 1000
    """Weight of forces at the start."""
    limit_pref_f: Prefactor = 1.0
    """Weight of forces at the end."""
    start_pref_v: Prefactor = 0.0
    """Weight of the virial at the start."""
    limit_pref_v: Prefactor = 0.0
    """Weight of the virial at the end."""
    start_pref_h: Prefactor = 0.0
    """Weight of the Hessian at the start."""
    limit_pref_h: Prefactor = 0.0
    """Weight of the Hessian at the end."""
    start_pref_ae: Prefactor = 0.0
    """Weight of atomic energies at the start."""
    limit_pref_ae: Prefactor = 0.0
    """Weight of atomic energies at the end."""
    start_pref_pf: Prefactor = 0.0
    """Weight of forces weighted atom by atom (`atom_pref.npy`) at the start."""
    limit_pref_pf: Prefactor = 0.0
    """Weight of forces weighted atom by atom at the end."""
    start_pref_gf: Prefactor = 0.0
    """Weight of generalised forces (`drdq.npy`) at the start."""
    limit_pref_gf: Prefactor = 0.0
    """Weight of generalised forces at the end."""
    numb_generalized_coord: Annotated[NonNegativeInt, Usual(high=10_000)] = 0
    """Number of generalised coordinates."""
    use_default_pf: Annotated[bool, Needs("start_pref_pf", "limit_pref_pf")] = False
    """Take 1 for the weight of each atom's force where the data have none."""
    relative_f: Annotated[
        NonNegativeFloat | None,
        NO_DEFAULT,
        Usual(1e-4, 1e3, zero="a force of 0 divides by it"),
        Needs("start_pref_f", "start_pref_pf"),
    ] = None
    """Divide force errors by the force's magnitude plus this, in eV/Å."""
    enable_atom_ener_coeff: bool = False
    """Weight atomic energies in the sum by `atom_ener_coeff.npy`."""
    use_huber: bool = False
    """Use the Huber loss: quadratic for small errors, linear for large ones."""
    huber_delta: Annotated[HuberDelta, Usual(1e-6, 1e3), Needs("use_huber")] = 0.01
    """Where the Huber loss becomes linear: one number, or one each for energy, force, virial."""
    loss_func: Literal["mse", "mae"] = "mse"
    """Squared or absolute errors."""
    f_use_norm: bool = False
    """Take the norm of each atom's force error instead of its components."""
    intensive_ener_virial: bool = False
    """Divide squared energy and virial errors by the squared number of atoms."""


PREFACTORS = {
    "e": "energy",
    "f": "force",
    "v": "virial",
    "h": "Hessian",
    "ae": "atomic energy",
    "pf": "force by atom weight",
    "gf": "generalised force",
}
"""The terms of the loss, by the suffix of their prefactors."""


LABEL_FILES = {
    "e": "energy",
    "f": "force",
    "v": "virial",
    "ae": "atom_ener",
    "pf": "atom_pref",
    "gf": "drdq",
    "h": "hessian",
}
"""The file of labels of each term."""


def prefactors(loss: EnergyLoss, suffix: str) -> tuple[float, float]:
    """Return the weights of a term of the loss at the start and at the end."""
    return getattr(loss, f"start_pref_{suffix}"), getattr(loss, f"limit_pref_{suffix}")


def term_is_on(loss: EnergyLoss, suffix: str) -> bool:
    """Return whether a term of the loss exists: both weights non-zero (Hessian: either)."""
    start, limit = prefactors(loss, suffix)
    return bool(start or limit) if suffix == "h" else bool(start and limit)
