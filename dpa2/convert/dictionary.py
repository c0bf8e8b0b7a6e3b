"""A model as deepmd-kit's backend-independent dictionary, and back.

docs/deepmd-format.md, 10.2, 10.3.

The dictionary is made of plain containers, numbers, text and NumPy arrays. `.dp` and `.yaml` files
are containers of it; every other backend of deepmd-kit is written from it.
"""

from collections.abc import Mapping
from typing import Any

from dpa2.convert.arrays import to_array
from dpa2.convert.deepmd import (
    ATOMIC,
    DESCRIPTOR,
    FITTING,
    entries,
    load_deepmd_state,
    to_deepmd_state,
)
from dpa2.convert.dictionary_descriptor import descriptor_tree
from dpa2.convert.dictionary_fitting import fitting_tree, per_layer
from dpa2.convert.dictionary_layers import Part, Slot, Tree
from dpa2.convert.matching import collect_tensors
from dpa2.convert.model_section import section_of
from dpa2.convert.portable import SOFTWARE, software_version
from dpa2.model.build import build_model, dtype_of
from dpa2.model.energy import EnergyModel
from schemas.errors import CheckpointError, ConversionError
from schemas.model import parse_model

_MIN_DISTANCE = "min_nbor_dist"


def to_dictionary(model: EnergyModel, model_params: Mapping[str, Any]) -> Tree:
    """Return the dictionary of a model.

    There is no time in it: the same model gives the same dictionary.

    Args:
        model: The model.
        model_params: The `model` section it was trained with.
    """
    state = to_deepmd_state(model)
    distance = model.min_nbor_dist.detach().cpu()
    known = float(distance) >= 0  # deepmd-kit: -1 in tensors, absent here
    return {
        "software": SOFTWARE,
        "version": software_version(),
        "backend": "PyTorch",
        "model": _filled(_model_tree(model, model_params), state),
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
    shapes = {entry.name: entry.shape for entry in entries(model)}
    tree = _model_tree(model, section)
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


def _model_tree(model: EnergyModel, model_params: Mapping[str, Any]) -> Tree:
    """Return the `model` entry with a `Slot` for every tensor."""
    config = model.config
    shapes = {e.name: e.shape for e in entries(model) if e.tensor is not None}
    of_descriptor = _part(
        shapes, DESCRIPTOR, config.descriptor.precision, trainable=config.descriptor.trainable
    )
    f = config.fitting_net
    of_fitting = _part(
        shapes, FITTING, f.precision, trainable=all(per_layer(f.trainable, len(f.neuron) + 1))
    )
    rcond = (model_params.get("fitting_net") or {}).get("rcond")
    return {
        "@class": "Model",
        "@version": 2,
        "type": "standard",
        "type_map": list(config.type_map),
        "atom_exclude_types": list(config.atom_exclude_types),
        "pair_exclude_types": [list(pair) for pair in config.pair_exclude_types],
        "rcond": None,
        "preset_out_bias": config.preset_out_bias,
        "@variables": {
            "out_bias": Slot(ATOMIC + "out_bias"),
            "out_std": Slot(ATOMIC + "out_std"),
        },
        "descriptor": descriptor_tree(config, of_descriptor),
        "fitting": fitting_tree(config, of_fitting, rcond=rcond),
    }


def _part(
    shapes: Mapping[str, tuple[int, ...]], prefix: str, precision: str, *, trainable: bool
) -> Part:
    own = {name: shape for name, shape in shapes.items() if name.startswith(prefix)}
    # Written out, because what `default` means depends on the reader's environment.
    return Part(own, str(dtype_of(precision)).removeprefix("torch."), trainable)


def _filled(value: Any, state: Mapping[str, Any]) -> Any:
    if isinstance(value, Slot):
        return to_array(state[value.name])
    if isinstance(value, dict):
        return {key: _filled(item, state) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, state) for item in value]
    return value
