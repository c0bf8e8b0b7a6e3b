"""What this engine trains: DPA-2 energy models; other kinds are known by name and refused."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from schemas.base.diagnostics import Finding, Group, Path
from schemas.base.suggest import did_you_mean, is_sure, nearest
from schemas.check.schema_faults import shown
from schemas.input.learning_rate import SCHEDULES
from schemas.input.migrations import hybrid_layout
from schemas.input.optimizer import OPTIMIZERS
from schemas.input.paths import child
from schemas.input.root import Input
from schemas.input.section import Section, aliases

_DESCRIPTORS = (
    "se_e2_a", "se_a", "se_e2_r", "se_r", "se_e3", "se_at", "se_t", "se_a_3be", "se_a_tpe",
    "se_a_ebd", "se_atten", "se_atten_v2", "dpa1", "dpa3", "dpa4", "DPA4", "dpa4c", "DPA4C",
    "SeZM", "sezm", "hybrid", "loc_frame", "se_e3_tebd", "se_a_ebd_v2", "se_a_tpe_v2",
    "se_a_mask",
)  # fmt: skip
_FITTINGS = ["dos", "property", "polar", "dipole", "population", "dpa4_ener", "sezm_ener"]
_MODELS = ["dpa4", "DPA4", "SeZM", "sezm", "frozen", "pairtab", "pairwise_dprc", "linear_ener"]
_LOSSES = ["dens", "ener_spin", "dos", "population", "property", "tensor"]
_ENERGY_LOSSES = ("ener", "ener_hess")
_LOSS_OF_FITTING = {"polar": "tensor", "dipole": "tensor", "dpa4_ener": "ener", "sezm_ener": "ener"}
_KIND = Group("kind of model", "file")
"""Model, descriptor, fitting net and loss of another kind, in all branches, are one fault."""
_ENGINE = "this engine trains DPA-2 energy models"


def foreign_sections(data: dict[str, Any]) -> tuple[list[Finding], list[Path]]:
    """Return a finding for what is of another kind of model, and the sections that are.

    A fitting net and a loss of another kind are one fault.
    """
    model = _object(data, "model")
    kinds: list[tuple[Path, dict[str, Any], Sequence[str], str]] = [
        (("model",), model, _MODELS, "standard"),
        (("model", "descriptor"), _object(model, "descriptor"), _DESCRIPTORS, "dpa2"),
        (("model", "fitting_net"), _object(model, "fitting_net"), _FITTINGS, "ener"),
    ]
    findings = []
    for path, section, others, ours in kinds:
        kind = section.get("type")
        if isinstance(kind, str) and kind in others:
            message = f"{path[-1]} of type `{kind}`: {_ENGINE}"
            hint = f"use type `{ours}`, or train this model with deepmd-kit"
            change = hybrid_layout(section) if kind == "hybrid" else None
            place = (*path, "type")
            findings.append(
                Finding(
                    "ZOO108",
                    place,
                    message,
                    hint,
                    fix=change,
                    safe=False,
                    group=_KIND,
                    for_deepmd="note",
                )
            )
    hidden = [finding.path[:-1] for finding in findings]
    loss = _loss_of_another_kind(data, _object(model, "fitting_net"))
    if loss is None:
        return findings, hidden
    findings = [item for item in findings if item.path != _FITTING_TYPE]
    return [*findings, loss], [*hidden, ("loss",)]


_FITTING_TYPE: Path = ("model", "fitting_net", "type")


def _loss_of_another_kind(data: dict[str, Any], fitting: dict[str, Any]) -> Finding | None:
    """Return the fault of a loss of another kind than `ener`, or than the fitting net.

    If both are of one other kind, the fitting net is at fault; if they differ, the loss, where it
    says its type at all.
    """
    loss = _object(data, "loss")
    fitting_kind, loss_kind = fitting.get("type", "ener"), loss.get("type", "ener")
    if fitting_kind not in (*_FITTINGS, "ener") or loss_kind not in (*_LOSSES, *_ENERGY_LOSSES):
        return None
    if loss_kind in _ENERGY_LOSSES and (fitting_kind == "ener" or "type" not in loss):
        return None
    path: Path = ("loss", "type")
    wanted = _LOSS_OF_FITTING.get(fitting_kind, fitting_kind)
    if fitting_kind == "ener":
        hint = "use type `ener`, or train this model with deepmd-kit"
        return Finding("ZOO108", path, f"loss of type `{loss_kind}`: {_ENGINE}", hint, group=_KIND)
    related = (("the fitting net", _FITTING_TYPE),)
    if loss_kind == wanted:
        message = f"fitting_net of type `{fitting_kind}`: {_ENGINE}"
        hint = "use type `ener` for both, or train this model with deepmd-kit"
        also = (("the loss that goes with it", path),)
        return Finding(
            "ZOO108",
            _FITTING_TYPE,
            message,
            hint,
            related_paths=also,
            group=_KIND,
            for_deepmd="note",
        )
    message = f"loss `{loss_kind}` does not fit fitting_net `{fitting_kind}`; {_ENGINE}"
    hint = f"fitting_net `ener` goes with loss `ener`; `{fitting_kind}` needs loss `{wanted}`"
    return Finding(
        "ZOO108", path, message, f"{hint} and deepmd-kit", related_paths=related, group=_KIND
    )


def settle_variants(data: dict[str, Any]) -> list[Finding]:
    """Replace unknown types of schedule and optimiser by the nearest, with a finding for each.

    The section can then be checked as what it was probably meant to be.
    """
    findings = []
    for name, choices in (("learning_rate", SCHEDULES), ("optimizer", OPTIMIZERS)):
        section = data.get(name)
        if not isinstance(section, dict) or section.get("type", choices[0]) in choices:
            continue
        written = section["type"]
        message = f"unknown {name} type {shown(written)}"
        best = nearest(written, choices)
        fix = None if best is None else json.dumps(best)
        hint = did_you_mean(written, choices)
        sure = is_sure(written, choices)
        findings.append(Finding("ZOO105", (name, "type"), message, hint, fix=fix, safe=sure))
        data[name] = {**section, "type": best or choices[0]}
    return findings


def suspicious_comments(data: dict[str, Any]) -> list[Finding]:
    """Return a warning for each key that only its underscore makes a comment."""
    return list(_comments(Input, data, ()))


def _comments(section: type[Section], data: dict[str, Any], path: Path) -> Iterator[Finding]:
    known = [*section.model_fields, *aliases(section)]
    for key, value in data.items():
        if key.startswith("_"):
            meant = nearest(key.lstrip("_"), known)
            if meant == key.strip("_"):
                message = f"`{key}` is a comment; `{meant}` is not set by it"
                hint = f"write `{meant}`, or remove the line"
                yield Finding("ZOO112", (*path, key), message, hint, severity="warning", at="key")
        elif isinstance(value, dict) and (inner := child(section, key, value)) is not None:
            yield from _comments(inner, value, (*path, key))


def _object(data: Any, key: str) -> dict[str, Any]:
    value = data.get(key) if isinstance(data, dict) else None
    return value if isinstance(value, dict) else {}
