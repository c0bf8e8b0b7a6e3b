"""What this engine trains: DPA-2 energy models; other kinds are known by name and refused."""

import json
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

from schemas.base.diagnostics import Finding, Group, Path, Severity
from schemas.base.suggest import did_you_mean, is_sure, nearest
from schemas.check.schema_faults import shown
from schemas.input.learning_rate import SCHEDULES
from schemas.input.migrations import hybrid_layout
from schemas.input.model import OTHER_DESCRIPTORS, OTHER_FITTINGS, OTHER_TYPES
from schemas.input.optimizer import OPTIMIZERS
from schemas.input.paths import child
from schemas.input.root import Input
from schemas.input.section import Section, aliases

_LOSSES = ["dens", "ener_spin", "dos", "population", "property", "tensor"]
_ENERGY = ("ener", "ener_hess")
_LOSS_OF_FITTING = {"polar": "tensor", "dipole": "tensor", "dpa4_ener": "ener", "sezm_ener": "ener"}
_KIND = Group("kind of model", "file")
"""Model, descriptor, fitting net and loss of another kind, in all branches, are one fault."""
_FITTING_TYPE: Path = ("model", "fitting_net", "type")
_LOSS_TYPE: Path = ("loss", "type")
_ENGINE = "this engine trains DPA-2 energy models"


def foreign_sections(data: dict[str, Any]) -> tuple[list[Finding], list[Path]]:
    """Return a finding for what is of another kind of model, and the sections that are.

    A fitting net and a loss of another kind are one fault.
    """
    model = _object(data, "model")
    descriptor, fitting = _object(model, "descriptor"), _object(model, "fitting_net")
    kinds: list[tuple[Path, dict[str, Any], Collection[str], str]] = [
        (("model",), model, OTHER_TYPES, "standard"),
        (("model", "descriptor"), descriptor, OTHER_DESCRIPTORS, "dpa2"),
        (("model", "fitting_net"), fitting, OTHER_FITTINGS, "ener"),
    ]
    findings = []
    for path, section, others, ours in kinds:
        kind = section.get("type")
        if isinstance(kind, str) and kind in others:
            message = f"{path[-1]} of type `{kind}`: {_ENGINE}"
            hint = f"use type `{ours}`, or train this model with deepmd-kit"
            change = hybrid_layout(section) if kind == "hybrid" else None
            item = _foreign((*path, "type"), message, hint, for_deepmd="note")
            findings.append(replace(item, fix=change, safe=False))
    hidden = [finding.path[:-1] for finding in findings]
    loss = _loss_of_another_kind(_object(data, "loss"), fitting)
    if loss is None:
        return findings, hidden
    findings = [item for item in findings if item.path != _FITTING_TYPE]
    return [*findings, loss], [*hidden, ("loss",)]


def _loss_of_another_kind(loss: dict[str, Any], fitting: dict[str, Any]) -> Finding | None:
    """Return the fault of a loss of another kind than `ener`, or than the fitting net.

    If both are of one other kind, the fitting net is at fault; if they differ, the loss, where it
    says its type at all.
    """
    fitting_kind, loss_kind = fitting.get("type", "ener"), loss.get("type", "ener")
    if fitting_kind not in (*OTHER_FITTINGS, "ener") or loss_kind not in (*_LOSSES, *_ENERGY):
        return None
    if loss_kind in _ENERGY and (fitting_kind == "ener" or "type" not in loss):
        return None
    if fitting_kind == "ener":
        hint = "use type `ener`, or train this model with deepmd-kit"
        return _foreign(_LOSS_TYPE, f"loss of type `{loss_kind}`: {_ENGINE}", hint)
    wanted = _LOSS_OF_FITTING.get(fitting_kind, fitting_kind)
    if loss_kind == wanted:
        message = f"fitting_net of type `{fitting_kind}`: {_ENGINE}"
        hint = "use type `ener` for both, or train this model with deepmd-kit"
        also = ("the loss that goes with it", _LOSS_TYPE)
        return _foreign(_FITTING_TYPE, message, hint, also, for_deepmd="note")
    message = f"loss `{loss_kind}` does not fit fitting_net `{fitting_kind}`; {_ENGINE}"
    hint = f"fitting_net `ener` goes with loss `ener`; `{fitting_kind}` needs loss `{wanted}`"
    also = ("the fitting net", _FITTING_TYPE)
    return _foreign(_LOSS_TYPE, message, f"{hint} and deepmd-kit", also)


def _foreign(
    path: Path,
    message: str,
    hint: str,
    related: tuple[str, Path] | None = None,
    for_deepmd: Severity | None = None,
) -> Finding:
    return Finding(
        "ZOO108",
        path,
        message,
        hint,
        related_paths=() if related is None else (related,),
        group=_KIND,
        for_deepmd=for_deepmd,
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
