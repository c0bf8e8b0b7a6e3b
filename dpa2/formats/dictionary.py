"""A model as deepmd-kit's backend-independent dictionary, and back.

docs/deepmd-format.md, 10.2, 10.3.

The dictionary is made of plain containers, numbers, text and NumPy arrays. `.dp` and `.yaml` files
are containers of it; every other backend of deepmd-kit is written from it.
"""

import copy
from collections.abc import Mapping
from typing import Any

from dpa2.formats.conversion import SOFTWARE, software_version
from dpa2.formats.dictionary_matching import collect_tensors, same, to_array
from dpa2.formats.dictionary_tree import DESCRIPTOR_KEYS, Slot, Tree, mapped, model_tree
from dpa2.formats.weights import load_deepmd_state, to_deepmd_state
from dpa2.model.build import build_model
from dpa2.model.energy import EnergyModel
from schemas.base.errors import CheckpointError, ConfigError, ConversionError
from schemas.input.model import OURS, other_kind, parse_model
from schemas.input.root import normalized
from schemas.input.weights import weights

# What files of these versions of the descriptor do not say (docs/deepmd-format.md, 10.3).
_BEFORE_VERSION_3 = {"use_sqrt_nnei": False, "g1_out_conv": False, "g1_out_mlp": False}
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
            **_present(descriptor, DESCRIPTOR_KEYS),
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


_MIN_DISTANCE = "min_nbor_dist"


def to_dictionary(model: EnergyModel, model_params: Mapping[str, Any]) -> Tree:
    """Return the dictionary of a model.

    There is no time in it: the same model gives the same dictionary.

    Args:
        model: The model.
        model_params: The `model` section it was trained with.
    """
    state = to_deepmd_state(model)

    def filled(value: Any) -> Any:
        return to_array(state[value.name]) if isinstance(value, Slot) else value

    distance = model.min_nbor_dist.detach().cpu()
    known = float(distance) >= 0  # deepmd-kit: -1 in tensors, absent here
    return {
        "software": SOFTWARE,
        "version": software_version(),
        "backend": "PyTorch",
        "model": mapped(_tree(model, model_params), filled),
        "model_def_script": dict(model_params),
        "@variables": {_MIN_DISTANCE: to_array(distance)} if known else {},
    }


def from_dictionary(dictionary: Mapping[str, Any]) -> tuple[EnergyModel, dict[str, Any], list[str]]:
    """Return the model of a dictionary, its `model` section, and what was odd about it.

    Raises:
        ConversionError: If it is none of a DPA-2 energy model, is compressed, or contradicts
            itself; says where.
        ConfigError: If the model is none that this engine runs.
    """
    section, notes = section_of(dictionary)
    model = build_model(parse_model(section))
    shapes = {weight.name: weight.shape for weight in weights(model.config)}
    tree = _tree(model, section)
    tensors = dict(to_deepmd_state(model))  # what the dictionary does not hold: placeholders
    tensors |= collect_tensors(tree, dictionary["model"], shapes)
    variables = dictionary.get("@variables")
    distance = variables.get(_MIN_DISTANCE) if isinstance(variables, Mapping) else None
    if distance is not None:
        expected = {"@variables": {_MIN_DISTANCE: Slot(_MIN_DISTANCE)}}
        tensors |= collect_tensors(expected, {"@variables": variables}, shapes)
    try:
        load_deepmd_state(model, tensors)
    except CheckpointError as error:
        raise ConversionError(error.message, hint=error.hint) from error
    return model, section, notes


def _tree(model: EnergyModel, model_params: Mapping[str, Any]) -> Tree:
    rcond = (model_params.get("fitting_net") or {}).get("rcond")
    return model_tree(model.config, rcond=rcond)
