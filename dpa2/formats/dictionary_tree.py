"""deepmd-kit's backend-independent spelling of a model (docs/deepmd-format.md, 10.3).

Where a tensor belongs, the tree holds a `Slot`: one description serves to write a model and to read
one. Which tensors a model has is in `schemas.input.weights`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, takewhile
from typing import Any

from dpa2.model.attention import ATTENTION_SHIFT, DEFAULT_LN_EPS
from dpa2.model.layers import dtype_of
from schemas.input.model import Model
from schemas.input.root import normalized
from schemas.input.weights import ATOMIC, DESCRIPTOR, FITTING, weights

Tree = dict[str, Any]

DESCRIPTOR_KEYS = (
    *("concat_output_tebd", "precision", "smooth", "exclude_types", "env_protection", "trainable"),
    *("add_tebd_to_repinit_out", "use_econf_tebd", "use_tebd_bias"),
)
"""Options of the descriptor that its entry repeats as they are."""
FITTING_KEYS = (
    *("neuron", "resnet_dt", "numb_fparam", "numb_aparam", "dim_case_embd", "default_fparam"),
    *("activation_function", "precision", "use_aparam_as_mask", "atom_ener"),
)
"""Options of the fitting net that its entry repeats as they are."""
_LAYER_KEYS = (
    *("rcut", "rcut_smth", "sel", "ntypes", "g1_dim", "g2_dim", "axis_neuron", "update_chnnl_2"),
    *("update_g1_has_conv", "update_g1_has_drrd", "update_g1_has_grrg", "update_g1_has_attn"),
    *("update_g2_has_g1g1", "update_g2_has_attn", "update_h2"),
    *("attn1_hidden", "attn1_nhead", "attn2_hidden", "attn2_nhead", "attn2_has_gate"),
    *("activation_function", "update_style", "smooth", "precision", "trainable_ln"),
    *("use_sqrt_nnei", "g1_out_conv", "g1_out_mlp", "ln_eps"),
)
_OF_PAIRS = ("update_g2_has_g1g1", "update_g2_has_attn", "update_h2")


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of one tensor.

    Attributes:
        name: Its key in deepmd-kit's state dictionary.
    """

    name: str


def mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return a copy of nested containers in which `change` was applied to every item.

    What it makes of a container is changed in turn.
    """
    value = change(value)
    if isinstance(value, Mapping):
        return {key: mapped(item, change) for key, item in value.items()}
    return [mapped(item, change) for item in value] if isinstance(value, list | tuple) else value


def model_tree(config: Model, *, rcond: float | None) -> Tree:
    """Return the `model` entry of a dictionary, with a `Slot` for every tensor.

    Args:
        config: The model.
        rcond: Cut-off of the fit of energy biases, which this engine does not use.
    """
    shapes = {w.name: w.shape for w in weights(config) if not w.is_empty}
    # Written out, because what `default` means depends on the reader's environment.
    precision, of_fitting = (
        str(dtype_of(part.precision)).removeprefix("torch.")
        for part in (config.descriptor, config.fitting_net)
    )
    d, f = config.descriptor, config.fitting_net
    trained = all(_per_layer(f.trainable, len(f.neuron) + 1))
    return _entry("Model", 2) | {
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
        "descriptor": _descriptor(config, _Part(shapes, precision, d.trainable)),
        "fitting": _fitting(config, _Part(shapes, of_fitting, trained), rcond),
    }


def _entry(kind: str, version: int) -> Tree:
    """Return how deepmd-kit begins what it stores of an object."""
    return {"@class": kind, "@version": version}


@dataclass(frozen=True, slots=True)
class _Part:
    """What the layers of the descriptor, or of the fitting net, have in common.

    Attributes:
        shapes: Shape of every tensor of the state dictionary.
        precision: Name of the floating-point type of its parameters.
        trainable: Whether they are trained.
    """

    shapes: Mapping[str, tuple[int, ...]]
    precision: str
    trainable: bool

    def slot(self, name: str) -> Slot | None:
        """Return the place of a tensor, None where the model has no such tensor."""
        return Slot(name) if name in self.shapes else None

    def layer(
        self,
        prefix: str,
        *,
        activation: str = "none",
        skip: bool = False,
        trainable: bool | None = None,
    ) -> Tree:
        """Return a linear layer with what follows it; `skip` adds the input where widths allow."""
        bias, timestep = self.slot(prefix + ".bias"), self.slot(prefix + ".idt")
        return _entry("Layer", 2) | {
            "bias": bias is not None,
            "use_timestep": timestep is not None,
            "activation_function": activation,
            "resnet": skip,
            "precision": self.precision,
            "trainable": self.trainable if trainable is None else trainable,
            "@variables": {"w": Slot(prefix + ".matrix"), "b": bias, "idt": timestep},
        }

    def network(
        self,
        kind: str,
        prefix: str,
        neuron: Sequence[int],
        *,
        activation: str,
        timestep: bool,
        trainable: Sequence[bool | None] = (),
    ) -> Tree:
        """Return a stack of hidden layers; `trainable` has a flag for each that has its own."""
        flags = trainable or [None] * len(neuron)
        return _entry(kind, 1 if kind == "FittingNetwork" else 2) | {
            "in_dim": self.shapes[prefix + "0.matrix"][0],
            "neuron": list(neuron),
            "activation_function": activation,
            "resnet_dt": timestep,
            "precision": self.precision,
            "layers": [
                self.layer(f"{prefix}{index}", activation=activation, skip=True, trainable=flag)
                for index, flag in enumerate(flags)
            ],
        }

    def embedding_network(
        self, prefix: str, neuron: Sequence[int], *, activation: str, timestep: bool
    ) -> Tree:
        """Return the network that embeds types or distances."""
        layers = prefix + ".layers."
        network = self.network(
            "EmbeddingNetwork", layers, neuron, activation=activation, timestep=timestep
        )
        return network | {"bias": layers + "0.bias" in self.shapes}


def _collection(network: Tree, kind: str, num_types: int) -> Tree:
    """Return the one network of all types as the collection that deepmd-kit keeps it in."""
    return _entry("NetworkCollection", 1) | {
        "ndim": 0,
        "ntypes": num_types,
        "network_type": kind,
        "networks": [network],
    }


def _descriptor(config: Model, part: _Part) -> Tree:
    d = config.descriptor
    r, f = d.repinit, d.repformer
    options = normalized(d) | {
        "precision": part.precision,
        "exclude_types": [list(pair) for pair in d.exclude_types],
    }
    repformer = normalized(f)
    if repformer["ln_eps"] is None:
        repformer["ln_eps"] = DEFAULT_LN_EPS
    has_shape_map = DESCRIPTOR + "g1_shape_tranform.matrix" in part.shapes
    tree: Tree = {
        "@class": "Descriptor",
        "type": "dpa2",
        "@version": 3,
        "ntypes": len(config.type_map),
        "repinit_args": normalized(r),
        "repformer_args": repformer,
        **{key: options[key] for key in DESCRIPTOR_KEYS},
        "type_map": list(config.type_map),
        "type_embedding": _type_embedding(config, part),
        "g1_shape_tranform": part.layer(DESCRIPTOR + "g1_shape_tranform")
        if has_shape_map
        else _entry("Identity", 1),
    }
    if d.add_tebd_to_repinit_out:
        tree["tebd_transform"] = part.layer(DESCRIPTOR + "tebd_transform")
    tree["repinit_variable"] = _embeddings(config, part, "repinit", r.neuron) | _environment(
        config, "repinit", r.rcut, r.rcut_smth
    )
    tree["repformers_variable"] = {
        "g2_embd": part.layer(DESCRIPTOR + "repformers.g2_embd"),
        "repformer_layers": [
            _repformer_layer(config, part, repformer, index) for index in range(f.nlayers)
        ],
        **_environment(config, "repformers", f.rcut, f.rcut_smth),
    }
    if r.use_three_body:
        block = "repinit_three_body"
        tree[block + "_variable"] = _embeddings(
            config, part, block, r.three_body_neuron
        ) | _environment(config, block, r.three_body_rcut, r.three_body_rcut_smth)
    return tree


def _type_embedding(config: Model, part: _Part) -> Tree:
    d = config.descriptor
    neuron = [d.repinit.tebd_dim]
    return _entry("TypeEmbedNet", 2) | {
        "ntypes": len(config.type_map),
        "neuron": neuron,
        "resnet_dt": False,
        "precision": part.precision,
        "activation_function": "Linear",
        "trainable": part.trainable,
        "padding": True,
        "use_econf_tebd": d.use_econf_tebd,
        "use_tebd_bias": d.use_tebd_bias,
        "type_map": list(config.type_map),
        "embedding": part.embedding_network(
            DESCRIPTOR + "type_embedding.embedding.embedding_net",
            neuron,
            activation="Linear",
            timestep=False,
        ),
    }


def _embeddings(config: Model, part: _Part, block: str, neuron: list[int]) -> Tree:
    r = config.descriptor.repinit
    names = {"embeddings": "filter_layers"}
    if r.tebd_input_mode == "strip":
        names["embeddings_strip"] = "filter_layers_strip"
    return {
        theirs: _collection(
            part.embedding_network(
                f"{DESCRIPTOR}{block}.{name}.networks.0",
                neuron,
                activation=r.activation_function,
                timestep=r.resnet_dt,
            ),
            "embedding_network",
            len(config.type_map),
        )
        for theirs, name in names.items()
    }


def _environment(config: Model, block: str, rcut: float, rcut_smth: float) -> Tree:
    return {
        "env_mat": {
            "rcut": rcut,
            "rcut_smth": rcut_smth,
            "protection": config.descriptor.env_protection,
            "use_exp_switch": False,
        },
        "@variables": {
            "davg": Slot(f"{DESCRIPTOR}{block}.mean"),
            "dstd": Slot(f"{DESCRIPTOR}{block}.stddev"),
        },
    }


def _repformer_layer(config: Model, part: _Part, options: Tree, index: int) -> Tree:
    """Return a layer; parts that it does not have are left out."""
    r, smooth = config.descriptor.repformer, config.descriptor.smooth
    prefix = f"{DESCRIPTOR}repformers.layers.{index}."
    is_last = index == r.nlayers - 1
    values = options | {
        "sel": [r.nsel],
        "ntypes": len(config.type_map),
        "update_chnnl_2": not is_last,
        "smooth": smooth,
        "precision": part.precision,
    }
    if is_last:  # pairs are not updated in the last layer
        values |= dict.fromkeys(_OF_PAIRS, False)
    tree = _entry("RepformerLayer", 2) | {key: values[key] for key in _LAYER_KEYS}
    for name in ("linear1", "linear2", "g1_self_mlp", "proj_g1g2", "proj_g1g1g2"):
        if f"{prefix}{name}.matrix" in part.shapes:
            tree[name] = part.layer(prefix + name)
    pairs = {"input_dim": r.g2_dim, "head_num": r.attn2_nhead}
    of_pairs = {
        "input_dim": r.g2_dim,
        "hidden_dim": r.attn2_hidden,
        "head_num": r.attn2_nhead,
        "has_gate": r.attn2_has_gate,
    }
    of_atoms = {"input_dim": r.g1_dim, "hidden_dim": r.attn1_hidden, "head_num": r.attn1_nhead}
    shift = {"smooth": smooth, "attnw_shift": ATTENTION_SHIFT}
    for name, kind, described, layers in (
        ("attn2g_map", "Atten2Map", of_pairs | shift, ("mapqk",)),
        ("attn2_mh_apply", "Atten2MultiHeadApply", pairs, ("mapv", "head_map")),
        ("attn2_ev_apply", "Atten2EquiVarApply", pairs, ("head_map",)),
        ("loc_attn", "LocalAtten", of_atoms | shift, ("mapq", "mapkv", "head_map")),
    ):
        if f"{prefix}{name}.{layers[0]}.matrix" not in part.shapes:
            continue
        tree[name] = _entry(kind, 1) | described | {"precision": part.precision}
        tree[name] |= {layer: part.layer(f"{prefix}{name}.{layer}") for layer in layers}
        if name == "attn2_mh_apply":
            tree["attn2_lm"] = _entry("LayerNorm", 1) | {
                "eps": options["ln_eps"],
                "trainable": r.trainable_ln,
                "precision": part.precision,
                "@variables": {
                    "w": Slot(prefix + "attn2_lm.matrix"),
                    "b": Slot(prefix + "attn2_lm.bias"),
                },
            }
    if r.update_style == "res_residual":
        tree["@variables"] = {
            name: _numbered(part, f"{prefix}{name}.")
            for name in ("g1_residual", "g2_residual", "h2_residual")
        }
    return tree


def _numbered(part: _Part, prefix: str) -> list[Slot]:
    names = (f"{prefix}{index}" for index in count())
    return [Slot(name) for name in takewhile(lambda name: name in part.shapes, names)]


def _fitting(config: Model, part: _Part, rcond: float | None) -> Tree:
    f, d, num_types = config.fitting_net, config.descriptor, len(config.type_map)
    trainable = _per_layer(f.trainable, len(f.neuron) + 1)
    prefix = FITTING + "filter_layers.networks.0.layers."
    network = part.network(
        "FittingNetwork",
        prefix,
        f.neuron,
        activation=f.activation_function,
        timestep=f.resnet_dt,
        trainable=trainable[:-1],
    )
    network |= {"out_dim": 1, "bias_out": True}
    network["layers"].append(part.layer(f"{prefix}{len(f.neuron)}", trainable=trainable[-1]))
    scaled = ("case_embd", "fparam_avg", "fparam_inv_std", "aparam_avg", "aparam_inv_std")
    options = normalized(f) | {"precision": part.precision}
    return _entry("Fitting", 4) | {
        **{key: options[key] for key in FITTING_KEYS},
        "type": "ener",
        "var_name": "energy",
        "ntypes": num_types,
        "dim_descrpt": d.repformer.g1_dim + (d.repinit.tebd_dim if d.concat_output_tebd else 0),
        "mixed_types": True,
        "nets": _collection(network, "fitting_network", num_types),
        "rcond": rcond,
        "exclude_types": list(config.atom_exclude_types),
        "@variables": {
            "bias_atom_e": Slot(FITTING + "bias_atom_e"),
            **{name: part.slot(FITTING + name) for name in scaled},
        },
        "type_map": list(config.type_map),
        "tot_ener_zero": False,
        "trainable": trainable,
        "layer_name": None,
        "spin": None,
        "dim_out": 1,
    }


def _per_layer(trainable: bool | list[bool], num_layers: int) -> list[bool]:
    """Return the flag of every layer, given one flag for all or a list."""
    return list(trainable) if isinstance(trainable, list) else [trainable] * num_layers
