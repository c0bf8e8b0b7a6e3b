"""Check one task, or several: sections against the schema, then rules against what is sound."""

import dataclasses
from collections.abc import Collection, Iterator, Sequence
from functools import partial as partial_of
from typing import Any

from pydantic import ValidationError

from schemas.base.diagnostics import Finding, Group, Path, dotted
from schemas.base.names import nearest
from schemas.check import (  # noqa: F401 - importing a subject registers its rules
    branches,
    keys,
    network,
    sampling,
    sharing,
    start,
    systems,
    training,
)
from schemas.check.rule import run_rules
from schemas.check.schema_faults import explain, shown, without_consequences, wrong_choice
from schemas.input.branches import Draft
from schemas.input.migrations import hybrid_layout
from schemas.input.model import OTHER_DESCRIPTORS, OTHER_FITTINGS, OTHER_TYPES
from schemas.input.optimization import OPTIMIZERS, SCHEDULES
from schemas.input.root import Input, MultiTaskInput
from schemas.input.section import Section, aliases
from schemas.input.view import View, as_written, child, object_in, partial, starts_with

_OWN_VALUES: tuple[Path, ...] = (("training", "model_prob"), ("training", "num_epoch_dict"))
"""What no branch has, so that only the input as a whole shows what is wrong with it."""


_LOSSES = ["dens", "ener_spin", "dos", "population", "property", "tensor"]
_ENERGY = ("ener", "ener_hess")
_LOSS_OF_FITTING = {"polar": "tensor", "dipole": "tensor", "dpa4_ener": "ener", "sezm_ener": "ener"}
_KIND = Group("kind of model", "file")
"""Model, descriptor, fitting net and loss of another kind, in all branches, are one fault."""
_foreign = partial_of(Finding, "ZOO108", group=_KIND)
_FITTING_TYPE: Path = ("model", "fitting_net", "type")
_LOSS_TYPE: Path = ("loss", "type")
_ENGINE = "this engine trains DPA-2 energy models"


def examine(view: View, textual: Sequence[Path] = ()) -> tuple[Input | None, Input, list[Finding]]:
    """Check one task.

    Args:
        view: The task. Unknown types of schedule and optimiser are replaced in it.
        textual: Paths in the file of values that the text itself makes unusable.

    Returns:
        The configuration, None if the schema refuses it; the sound part of it
        (`schemas.input.view`); every fault, at its path in the file.
    """
    data = view.data
    findings = [*suspicious_comments(data)]
    broken = [here for path in textual for here in view.inside(path)]
    foreign, foreign_places = foreign_sections(data)
    findings += foreign
    findings += settle_variants(data)
    hidden = [*view.hidden, *foreign_places]
    config: Input | None = None
    try:
        config = Input.model_validate(data)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            finding = explain(data, details)
            broken.append(finding.path)
            if not any(starts_with(finding.path, path) for path in hidden):
                findings.append(finding)
    broken += hidden
    sound = config if config is not None and not broken else partial(Input, data, broken)
    findings += run_rules(sound, "input", *(("single-task",) if view.branch is None else ()))
    findings = without_consequences(findings)
    return config, sound, [placed(finding, view) for finding in findings]


def placed(finding: Finding, view: View) -> Finding:
    """Return a finding at its path in the file; its message names the section as the file does."""
    path = view.original(as_written(view.data, finding.path))
    if path == finding.path:
        return finding
    here, there = dotted(finding.path[:-1]), dotted(path[:-1])
    message = finding.message.replace(f"`{here}`", f"`{there}`") if here else finding.message
    return dataclasses.replace(finding, path=path, message=message)


def foreign_sections(data: dict[str, Any]) -> tuple[list[Finding], list[Path]]:
    """Return a finding for what is of another kind of model, and the sections that are.

    A fitting net and a loss of another kind are one fault.
    """
    model = object_in(data, "model")
    descriptor, fitting = object_in(model, "descriptor"), object_in(model, "fitting_net")
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
            place = (*path, "type")
            item = _foreign(place, message, hint, for_deepmd="note", fix=change, safe=False)
            findings.append(item)
    hidden = [finding.path[:-1] for finding in findings]
    other = _loss_of_another_kind(object_in(data, "loss"), fitting)
    if other is None:
        return findings, hidden
    findings = [item for item in findings if item.path != _FITTING_TYPE]
    return [*findings, other], [*hidden, ("loss",)]


def _loss_of_another_kind(section: dict[str, Any], fitting: dict[str, Any]) -> Finding | None:
    """Return the fault of a loss of another kind than `ener`, or than the fitting net.

    If both are of one other kind, the fitting net is at fault; if they differ, the loss, where it
    says its type at all.
    """
    fitting_kind, loss_kind = fitting.get("type", "ener"), section.get("type", "ener")
    if fitting_kind not in (*OTHER_FITTINGS, "ener") or loss_kind not in (*_LOSSES, *_ENERGY):
        return None
    if loss_kind in _ENERGY and (fitting_kind == "ener" or "type" not in section):
        return None
    if fitting_kind == "ener":
        hint = "use type `ener`, or train this model with deepmd-kit"
        return _foreign(_LOSS_TYPE, f"loss of type `{loss_kind}`: {_ENGINE}", hint)
    wanted = _LOSS_OF_FITTING.get(fitting_kind, fitting_kind)
    if loss_kind == wanted:
        message = f"fitting_net of type `{fitting_kind}`: {_ENGINE}"
        hint = "use type `ener` for both, or train this model with deepmd-kit"
        also = (("the loss that goes with it", _LOSS_TYPE),)
        return _foreign(_FITTING_TYPE, message, hint, related_paths=also, for_deepmd="note")
    message = f"loss `{loss_kind}` does not fit fitting_net `{fitting_kind}`; {_ENGINE}"
    hint = f"fitting_net `ener` goes with loss `ener`; `{fitting_kind}` needs loss `{wanted}`"
    also = (("the fitting net", _FITTING_TYPE),)
    return _foreign(_LOSS_TYPE, message, f"{hint} and deepmd-kit", related_paths=also)


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
        findings.append(wrong_choice((name, "type"), message, written, choices))
        data[name] = {**section, "type": nearest(written, choices) or choices[0]}
    return findings


def suspicious_comments(
    data: dict[str, Any], section: type[Section] = Input, path: Path = ()
) -> Iterator[Finding]:
    """Yield a warning for each key that only its underscore makes a comment."""
    known = [*section.model_fields, *aliases(section)]
    for key, value in data.items():
        if key.startswith("_"):
            meant = nearest(key.lstrip("_"), known)
            if meant == key.strip("_"):
                message = f"`{key}` is a comment; `{meant}` is not set by it"
                hint = f"write `{meant}`, or remove the line"
                yield Finding("ZOO112", (*path, key), message, hint, severity="warning", at="key")
        elif isinstance(value, dict) and (inner := child(section, key, value)) is not None:
            yield from suspicious_comments(value, inner, (*path, key))


def check_branches(
    draft: Draft, textual: Sequence[Path] = ()
) -> tuple[MultiTaskInput | None, list[Finding]]:
    """Check a multi-task input.

    A fault in a shared part is found in every branch that refers to it, always at the same place
    of the file, and so reported once.

    Args:
        draft: The input; the sound parts of its branches are filled in.
        textual: Paths of values that the text itself makes unusable.

    Returns:
        The configuration, if the schema accepts everything, and every fault; these may be errors
        even so.
    """
    findings: list[Finding] = []
    for view in draft.views:
        assert view.branch is not None
        _, draft.sound[view.branch], found = examine(view, textual)
        findings += found
    of_all = run_rules(draft, "multi-task")
    missing_loss = any(item.path == ("loss",) for item in of_all)
    findings = [item for item in findings if not (missing_loss and item.path[:1] == ("loss",))]
    findings += of_all
    config, own = _as_a_whole(draft.expanded())
    findings += own
    return config, findings


def with_users(findings: Sequence[Finding], draft: Draft) -> list[Finding]:
    """Return findings; those within `shared_dict` name the places that refer to the part.

    Faults of the text itself are no concern of any branch.
    """
    users: dict[str, list[tuple[str, Path]]] = {}
    for reference in draft.references:
        place = (f"shared here, by branch `{reference.branch}`", reference.path)
        users.setdefault(reference.name, []).append(place)
    found = []
    for item in findings:
        is_shared = item.path[:2] == ("model", "shared_dict") and len(item.path) > 2
        places = users.get(str(item.path[2]), ()) if is_shared and item.code >= "ZOO1" else ()
        found.append(dataclasses.replace(item, related_paths=(*item.related_paths, *places)))
    return found


def _as_a_whole(data: dict[str, Any]) -> tuple[MultiTaskInput | None, list[Finding]]:
    """Return the configuration, or what is wrong with the values that no branch has."""
    try:
        return MultiTaskInput.model_validate(data), []
    except ValidationError as error:
        return None, [
            explain(data, details)
            for details in error.errors(include_url=False)
            if any(starts_with(details["loc"], path) for path in _OWN_VALUES)
        ]
