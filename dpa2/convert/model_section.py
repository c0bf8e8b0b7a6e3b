"""The `model` section of an input file that belongs to a backend-independent dictionary."""

import copy
from collections.abc import Mapping
from typing import Any

from dpa2.convert.matching import same
from schemas.errors import ConfigError, ConversionError
from schemas.model import parse_model
from schemas.normalize import normalized
from schemas.other_models import OURS, other_kind

# What files of these versions of the descriptor do not say (docs/deepmd-format.md, 10.3).
_BEFORE_VERSION_3 = {"use_sqrt_nnei": False, "g1_out_conv": False, "g1_out_mlp": False}
_OF_DESCRIPTOR = (
    "concat_output_tebd",
    "precision",
    "smooth",
    "exclude_types",
    "env_protection",
    "trainable",
    "add_tebd_to_repinit_out",
    "use_econf_tebd",
    "use_tebd_bias",
)
_OF_FITTING = (
    "neuron",
    "resnet_dt",
    "numb_fparam",
    "numb_aparam",
    "dim_case_embd",
    "default_fparam",
    "activation_function",
    "precision",
    "use_aparam_as_mask",
    "atom_ener",
)
_OF_MODEL = ("type_map", "pair_exclude_types", "atom_exclude_types", "preset_out_bias")


def section_of(dictionary: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the model section of a dictionary, and what was odd about it.

    The `model` entry decides, as in deepmd-kit; the input that is kept beside it
    (`model_def_script`) is followed in its spelling and in what `model` does not say, such as
    seeds.

    Raises:
        ConversionError: If this is no DPA-2 energy model.
    """
    model = dictionary.get("model")
    if not isinstance(model, Mapping):
        raise ConversionError(
            "the file has no `model`", hint="give a model written by zoo convert or by deepmd-kit"
        )
    decided = _decided(model)
    script = dictionary.get("model_def_script")
    if not isinstance(script, Mapping) or not script:
        return decided, ["the file does not keep the input of the training: seeds are unknown"]
    try:
        spelled = normalized(parse_model(script))
    except ConfigError as error:
        return decided, [f"the input kept in the file is not used: {error.message}"]
    section = copy.deepcopy(dict(script))
    changed: list[str] = []
    _follow(section, spelled, normalized(parse_model(decided)), decided, "", changed)
    if not changed:
        return section, []
    return section, [
        f"the model differs from the input kept beside it in {', '.join(changed)}: the model counts"
    ]


def _decided(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the section that follows from the `model` entry alone."""
    _refuse_other_kinds(model)
    descriptor, fitting = model["descriptor"], model["fitting"]
    repformer = dict(descriptor["repformer_args"])
    if descriptor.get("@version", 1) < 3:
        repformer |= _BEFORE_VERSION_3
    trainable = fitting.get("trainable", True)
    if isinstance(trainable, list) and len(set(trainable)) == 1:
        trainable = trainable[0]
    # deepmd-kit's reader takes a missing key for a bias, as the first version had one.
    tebd_bias = {"use_tebd_bias": descriptor.get("use_tebd_bias", True)}
    section = {
        "type": "standard",
        **_present(model, _OF_MODEL),
        "descriptor": {
            "type": "dpa2",
            "repinit": dict(descriptor["repinit_args"]),
            "repformer": repformer,
            **_present(descriptor, _OF_DESCRIPTOR),
            **tebd_bias,
        },
        "fitting_net": {
            "type": "ener",
            **_present(fitting, _OF_FITTING),
            "rcond": fitting.get("rcond"),
            "trainable": trainable,
        },
    }
    try:
        return {**normalized(parse_model(section))}
    except ConfigError as error:
        raise ConversionError(error.message, hint=error.hint) from error


def _refuse_other_kinds(model: Mapping[str, Any]) -> None:
    kind = other_kind(model)
    if kind is not None:
        raise ConversionError(f"it is {kind}", hint=OURS)
    for name in ("descriptor", "fitting"):
        part = model.get(name)
        if not isinstance(part, Mapping) or "type" not in part:
            raise ConversionError(f"the model has no `{name}` with a type", hint=OURS)
    for name in ("repinit_args", "repformer_args"):
        if not isinstance(model["descriptor"].get(name), Mapping):
            raise ConversionError(f"model.descriptor.{name} is missing", hint="the file is damaged")


def _present(mapping: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: mapping[key] for key in keys if key in mapping}


def _follow(
    section: dict[str, Any],
    spelled: Mapping[str, Any],
    decided: Mapping[str, Any],
    told: Mapping[str, Any],
    where: str,
    changed: list[str],
) -> None:
    """Change in `section` what means another model than `decided` does."""
    for key in told:
        if key in ("info", "model_branch_alias", "seed", "rcond", "trainable") or (
            not where and key not in (*_OF_MODEL, "descriptor", "fitting_net")
        ):
            continue
        mine, theirs = spelled.get(key), decided.get(key)
        if isinstance(theirs, Mapping) and isinstance(mine, Mapping) and key != "preset_out_bias":
            inner = dict(section.get(key) or {})
            section[key] = inner
            _follow(inner, mine, theirs, told[key], f"{where}{key}.", changed)
        elif key == "ln_eps":
            if (1e-5 if mine is None else mine) != (1e-5 if theirs is None else theirs):
                section[key] = theirs
                changed.append(where + key)
        elif not same(key, mine, theirs):
            section[key] = theirs
            changed.append(where + key)
