"""A model as deepmd-kit's backend-independent dictionary, and back.

docs/deepmd-format.md, 10.2, 10.3.

The dictionary is made of plain containers, numbers, text and NumPy arrays. `.dp` and `.yaml` files
are containers of it; every other backend of deepmd-kit is written from it.

It is read by comparing it with what this engine would have written. Every number that says how the
model computes must agree; what does not is named with its path. So a file is either understood
whole or refused.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpa2.formats.conversion import SOFTWARE, software_version
from dpa2.formats.dictionary_tree import (
    DESCRIPTOR_KEYS,
    FITTING_KEYS,
    Slot,
    Tree,
    mapped,
    model_tree,
)
from dpa2.formats.weights import load_deepmd_state, to_array, to_deepmd_state, to_tensor
from dpa2.model.attention import DEFAULT_LN_EPS
from dpa2.model.build import build_model
from dpa2.model.energy import EnergyModel
from schemas.base.errors import CheckpointError, ConfigError, ConversionError
from schemas.input.model import OURS, other_kind, parse_model
from schemas.input.root import normalized
from schemas.input.section import SAME_PRECISION
from schemas.input.weights import weights

# What files of these versions of the descriptor do not say (docs/deepmd-format.md, 10.3).
_BEFORE_VERSION_3 = {"use_sqrt_nnei": False, "g1_out_conv": False, "g1_out_mlp": False}
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
            **_present(fitting, FITTING_KEYS),
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


# What has no influence on energies, or repeats what is compared elsewhere. deepmd-kit writes a
# `protection` of 0 whatever `env_protection` is, and reads only the latter.
_PASSED_OVER = frozenset(
    {"@class", "@version", "trainable", "trainable_ln", "rcond", "layer_name", "protection"}
)
# Since which version this engine's own spelling is the newest that it knows.
_NEWEST = {"Model": 2, "Descriptor": 4, "Fitting": 4}
_SAME_ACTIVATION = {"none": "linear", "gelu_tf": "gelu"}
_COMPRESSED = "compress"
_OTHER_MODEL = "this engine runs DPA-2 energy models of deepmd-kit 3.0 to 3.2 and nothing else"


def collect_tensors(
    expected: Mapping[str, Any], found: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Tensor]:
    """Return the tensors of `found` by the names that the slots of `expected` have.

    Args:
        expected: What this engine writes for the model, with a `Slot` for every tensor.
        found: What a file says about it; arrays may also be nested lists.
        shapes: Shape of every tensor.

    Raises:
        ConversionError: If something is missing, surplus or different; says where.
    """
    tensors: dict[str, Tensor] = {}
    _Walk(shapes, tensors).mapping(expected, found, "model")
    return tensors


class _Walk:
    def __init__(self, shapes: Mapping[str, tuple[int, ...]], tensors: dict[str, Tensor]) -> None:
        self.shapes = shapes
        self.tensors = tensors

    def mapping(self, expected: Mapping[str, Any], found: Any, where: str) -> None:
        if not isinstance(found, Mapping):
            raise _different(where, "a dictionary", _shown(found))
        _check_class(expected, found, where)
        for key in expected:
            if key in _PASSED_OVER:
                continue
            path = f"{where}.{key}"
            if key in found:
                self.value(expected[key], found[key], path)
            elif _holds_tensors(expected[key]):
                raise ConversionError(
                    f"{path} is missing", hint="the file is damaged or was written by hand"
                )
        for key, value in found.items():
            if key not in expected and key not in _PASSED_OVER and _says_something(value):
                raise _surplus(f"{where}.{key}", key)

    def value(self, expected: Any, found: Any, path: str) -> None:
        if isinstance(expected, Slot):
            self.tensors[expected.name] = self.tensor(expected, found, path)
        elif isinstance(expected, Mapping):
            self.mapping(expected, found, path)
        elif isinstance(expected, list) and _holds_tensors(expected):
            if not isinstance(found, Sequence) or len(found) != len(expected):
                raise _different(path, f"{len(expected)} entries", _shown(found))
            for index, (mine, theirs) in enumerate(zip(expected, found, strict=True)):
                self.value(mine, theirs, f"{path}.{index}")
        elif not same(path.rpartition(".")[2], expected, found):
            raise _different(path, _shown(expected), _shown(found))

    def tensor(self, slot: Slot, found: Any, path: str) -> Tensor:
        if found is None:
            raise ConversionError(
                f"{path} has no values", hint="the file is damaged or was written by hand"
            )
        try:
            tensor = to_tensor(np.asarray(found))
        except (TypeError, ValueError) as error:
            raise _different(path, "numbers", _shown(found)) from error
        shape = self.shapes[slot.name]
        if tuple(tensor.shape) != shape:
            raise _different(path, f"the shape {shape}", f"the shape {tuple(tensor.shape)}")
        if not tensor.dtype.is_floating_point and tensor.dtype not in (torch.int64, torch.int32):
            raise _different(path, "floating-point numbers", str(tensor.dtype))
        return tensor


def same(key: str, mine: Any, theirs: Any) -> bool:
    """Tell whether two values of an option mean the same model."""
    if key == "ln_eps":
        mine, theirs = (DEFAULT_LN_EPS if eps is None else eps for eps in (mine, theirs))
    if key == "activation_function":
        return bool(_activation(mine) == _activation(theirs))
    if key == "precision":
        return bool(SAME_PRECISION.get(mine, mine) == SAME_PRECISION.get(theirs, theirs))
    if key in ("exclude_types", "pair_exclude_types") and _are_pairs(mine) and _are_pairs(theirs):
        return {frozenset(pair) for pair in mine} == {frozenset(pair) for pair in theirs}
    return _equal(mine, theirs)


def _activation(name: Any) -> Any:
    if not isinstance(name, str):
        return name
    kind, _, threshold = name.lower().partition(":")
    if kind in ("silut", "custom_silu"):
        return "silut", float(threshold or 3.0)
    return _SAME_ACTIVATION.get(kind, kind)


def _are_pairs(value: Any) -> bool:
    return isinstance(value, Sequence) and all(isinstance(item, Sequence) for item in value)


def _equal(mine: Any, theirs: Any) -> bool:
    if isinstance(mine, bool) or isinstance(theirs, bool):
        return mine is theirs or (isinstance(mine, bool) and mine == theirs)
    if isinstance(mine, int | float) and isinstance(theirs, int | float):
        return math.isclose(mine, theirs, rel_tol=1e-12)
    if isinstance(mine, list | tuple) and isinstance(theirs, list | tuple):
        return len(mine) == len(theirs) and all(map(_equal, mine, theirs))
    if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
        return mine.keys() == theirs.keys() and all(_equal(mine[k], theirs[k]) for k in mine)
    if not _says_something(mine) and not _says_something(theirs):
        return True
    return bool(mine == theirs)


def _check_class(expected: Mapping[str, Any], found: Mapping[str, Any], where: str) -> None:
    name = expected.get("@class")
    if name is not None and found.get("@class", name) != name:
        raise _different(f"{where}.@class", str(name), _shown(found["@class"]))
    known = max(expected.get("@version", 1), _NEWEST.get(str(name), 1))
    version = found.get("@version", 1)
    if name is not None and (not isinstance(version, int) or not 1 <= version <= known):
        raise ConversionError(
            f"{where}.@version is {_shown(version)}; versions up to {known} are known here",
            hint="the file comes from a newer deepmd-kit; write it again with deepmd-kit 3.2",
        )


def _holds_tensors(expected: Any) -> bool:
    if isinstance(expected, Slot):
        return True
    if isinstance(expected, Mapping):
        return any(map(_holds_tensors, expected.values()))
    return isinstance(expected, list) and any(map(_holds_tensors, expected))


def _says_something(value: Any) -> bool:
    """Tell a value from the empty ones that stand for an option that is not used."""
    if value is None or value is False:
        return False
    return not (isinstance(value, Mapping | list | tuple | str) and len(value) == 0)


def _surplus(path: str, key: str) -> ConversionError:
    if key == _COMPRESSED:
        return ConversionError(
            "this model is compressed (its embedding nets are tables)",
            hint="convert the uncompressed model it was made from",
        )
    return ConversionError(f"{path} is nothing that this engine knows", hint=_OTHER_MODEL)


def _different(path: str, expected: str, found: str) -> ConversionError:
    return ConversionError(f"{path} is {found} where {expected} is expected", hint=_OTHER_MODEL)


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a dictionary"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
