"""deepmd-kit's backend-independent spelling of a model's parts (docs/deepmd-format.md, 10.3).

Where a tensor belongs, these dictionaries hold a `Slot`: one description serves to write a model
and to read one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count, takewhile
from typing import Any

from dpa2.formats.weights import DESCRIPTOR, FITTING
from dpa2.model.attention import ATTENTION_SHIFT
from dpa2.model.build import DEFAULT_LN_EPS
from schemas.input.model import Model
from schemas.input.root import normalized

Tree = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of one tensor.

    Attributes:
        name: Its key in deepmd-kit's state dictionary (`dpa2.formats.weights`).
    """

    name: str


@dataclass(frozen=True, slots=True)
class Part:
    """What the layers of the descriptor, or of the fitting net, have in common.

    Attributes:
        shapes: Shape of every tensor of the state dictionary; optional ones may be absent.
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
        bias, timestep = self.slot(prefix + "bias"), self.slot(prefix + "idt")
        return {
            "@class": "Layer",
            "@version": 2,
            "bias": bias is not None,
            "use_timestep": timestep is not None,
            "activation_function": activation,
            "resnet": skip,
            "precision": self.precision,
            "trainable": self.trainable if trainable is None else trainable,
            "@variables": {"w": Slot(prefix + "matrix"), "b": bias, "idt": timestep},
        }

    def embedding_network(
        self, prefix: str, neuron: Sequence[int], *, activation: str, timestep: bool
    ) -> Tree:
        """Return a stack of hidden layers."""
        return {
            "@class": "EmbeddingNetwork",
            "@version": 2,
            "in_dim": self.shapes[prefix + "layers.0.matrix"][0],
            "neuron": list(neuron),
            "activation_function": activation,
            "resnet_dt": timestep,
            "bias": prefix + "layers.0.bias" in self.shapes,
            "precision": self.precision,
            "layers": [
                self.layer(f"{prefix}layers.{index}.", activation=activation, skip=True)
                for index in range(len(neuron))
            ],
        }

    def norm(self, prefix: str, *, eps: float, trainable: bool) -> Tree:
        """Return a layer normalisation."""
        return {
            "@class": "LayerNorm",
            "@version": 1,
            "eps": eps,
            "trainable": trainable,
            "precision": self.precision,
            "@variables": {"w": Slot(prefix + "matrix"), "b": Slot(prefix + "bias")},
        }


def collection(network: Tree, kind: str, num_types: int) -> Tree:
    """Return the one network of all types as the collection that deepmd-kit keeps it in."""
    return {
        "@class": "NetworkCollection",
        "@version": 1,
        "ndim": 0,
        "ntypes": num_types,
        "network_type": kind,
        "networks": [network],
    }


def repformer_layer(config: Model, part: Part, index: int) -> Tree:
    """Return a layer; parts that it does not have are left out."""
    d, r = config.descriptor, config.descriptor.repformer
    prefix = f"{DESCRIPTOR}repformers.layers.{index}."
    is_last = index == r.nlayers - 1
    tree: Tree = {
        "@class": "RepformerLayer",
        "@version": 2,
        "rcut": r.rcut,
        "rcut_smth": r.rcut_smth,
        "sel": [r.nsel],
        "ntypes": len(config.type_map),
        "g1_dim": r.g1_dim,
        "g2_dim": r.g2_dim,
        "axis_neuron": r.axis_neuron,
        "update_chnnl_2": not is_last,
        "update_g1_has_conv": r.update_g1_has_conv,
        "update_g1_has_drrd": r.update_g1_has_drrd,
        "update_g1_has_grrg": r.update_g1_has_grrg,
        "update_g1_has_attn": r.update_g1_has_attn,
        # pairs are not updated in the last layer
        "update_g2_has_g1g1": r.update_g2_has_g1g1 and not is_last,
        "update_g2_has_attn": r.update_g2_has_attn and not is_last,
        "update_h2": r.update_h2 and not is_last,
        "attn1_hidden": r.attn1_hidden,
        "attn1_nhead": r.attn1_nhead,
        "attn2_hidden": r.attn2_hidden,
        "attn2_nhead": r.attn2_nhead,
        "attn2_has_gate": r.attn2_has_gate,
        "activation_function": r.activation_function,
        "update_style": r.update_style,
        "smooth": d.smooth,
        "precision": part.precision,
        "trainable_ln": r.trainable_ln,
        "use_sqrt_nnei": r.use_sqrt_nnei,
        "g1_out_conv": r.g1_out_conv,
        "g1_out_mlp": r.g1_out_mlp,
        "ln_eps": DEFAULT_LN_EPS if r.ln_eps is None else r.ln_eps,
    }
    for name in ("linear1", "linear2", "g1_self_mlp", "proj_g1g2", "proj_g1g1g2"):
        if f"{prefix}{name}.matrix" in part.shapes:
            tree[name] = part.layer(f"{prefix}{name}.")
    tree |= _pair_attention(config, part, prefix) | _local_attention(config, part, prefix)
    if r.update_style == "res_residual":
        tree["@variables"] = {
            name: _numbered(part, f"{prefix}{name}.")
            for name in ("g1_residual", "g2_residual", "h2_residual")
        }
    return tree


def _pair_attention(config: Model, part: Part, prefix: str) -> Tree:
    d, r = config.descriptor, config.descriptor.repformer
    tree: Tree = {}
    if prefix + "attn2g_map.mapqk.matrix" in part.shapes:
        tree["attn2g_map"] = {
            "@class": "Atten2Map",
            "@version": 1,
            "input_dim": r.g2_dim,
            "hidden_dim": r.attn2_hidden,
            "head_num": r.attn2_nhead,
            "has_gate": r.attn2_has_gate,
            "smooth": d.smooth,
            "attnw_shift": ATTENTION_SHIFT,
            "precision": part.precision,
            "mapqk": part.layer(prefix + "attn2g_map.mapqk."),
        }
    if prefix + "attn2_mh_apply.mapv.matrix" in part.shapes:
        eps = DEFAULT_LN_EPS if r.ln_eps is None else r.ln_eps
        tree["attn2_mh_apply"] = {
            "@class": "Atten2MultiHeadApply",
            "@version": 1,
            "input_dim": r.g2_dim,
            "head_num": r.attn2_nhead,
            "precision": part.precision,
            "mapv": part.layer(prefix + "attn2_mh_apply.mapv."),
            "head_map": part.layer(prefix + "attn2_mh_apply.head_map."),
        }
        tree["attn2_lm"] = part.norm(prefix + "attn2_lm.", eps=eps, trainable=r.trainable_ln)
    if prefix + "attn2_ev_apply.head_map.matrix" in part.shapes:
        tree["attn2_ev_apply"] = {
            "@class": "Atten2EquiVarApply",
            "@version": 1,
            "input_dim": r.g2_dim,
            "head_num": r.attn2_nhead,
            "precision": part.precision,
            "head_map": part.layer(prefix + "attn2_ev_apply.head_map."),
        }
    return tree


def _local_attention(config: Model, part: Part, prefix: str) -> Tree:
    if prefix + "loc_attn.mapq.matrix" not in part.shapes:
        return {}
    r = config.descriptor.repformer
    return {
        "loc_attn": {
            "@class": "LocalAtten",
            "@version": 1,
            "input_dim": r.g1_dim,
            "hidden_dim": r.attn1_hidden,
            "head_num": r.attn1_nhead,
            "smooth": config.descriptor.smooth,
            "attnw_shift": ATTENTION_SHIFT,
            "precision": part.precision,
            "mapq": part.layer(prefix + "loc_attn.mapq."),
            "mapkv": part.layer(prefix + "loc_attn.mapkv."),
            "head_map": part.layer(prefix + "loc_attn.head_map."),
        }
    }


def _numbered(part: Part, prefix: str) -> list[Slot]:
    names = (f"{prefix}{index}" for index in count())
    return [Slot(name) for name in takewhile(lambda name: name in part.shapes, names)]


DESCRIPTOR_VERSION = 3


def descriptor_tree(config: Model, part: Part) -> Tree:
    """Return the `descriptor` entry of a model, with a `Slot` for every tensor."""
    d = config.descriptor
    repinit: dict[str, Any] = normalized(d.repinit)
    repformer: dict[str, Any] = normalized(d.repformer)
    if repformer["ln_eps"] is None:
        repformer["ln_eps"] = DEFAULT_LN_EPS
    tree: Tree = {
        "@class": "Descriptor",
        "type": "dpa2",
        "@version": DESCRIPTOR_VERSION,
        "ntypes": len(config.type_map),
        "repinit_args": repinit,
        "repformer_args": repformer,
        "concat_output_tebd": d.concat_output_tebd,
        "precision": part.precision,
        "smooth": d.smooth,
        "exclude_types": [list(pair) for pair in d.exclude_types],
        "env_protection": d.env_protection,
        "trainable": d.trainable,
        "add_tebd_to_repinit_out": d.add_tebd_to_repinit_out,
        "use_econf_tebd": d.use_econf_tebd,
        "use_tebd_bias": d.use_tebd_bias,
        "type_map": list(config.type_map),
        "type_embedding": _type_embedding(config, part),
        "g1_shape_tranform": _layer_or_identity(part, DESCRIPTOR + "g1_shape_tranform."),
    }
    if d.add_tebd_to_repinit_out:
        tree["tebd_transform"] = part.layer(DESCRIPTOR + "tebd_transform.")
    tree["repinit_variable"] = _repinit(config, part)
    tree["repformers_variable"] = _repformer(config, part)
    if d.repinit.use_three_body:
        tree["repinit_three_body_variable"] = _three_body(config, part)
    return tree


def _type_embedding(config: Model, part: Part) -> Tree:
    d = config.descriptor
    return {
        "@class": "TypeEmbedNet",
        "@version": 2,
        "ntypes": len(config.type_map),
        "neuron": [d.repinit.tebd_dim],
        "resnet_dt": False,
        "precision": part.precision,
        "activation_function": "Linear",
        "trainable": part.trainable,
        "padding": True,
        "use_econf_tebd": d.use_econf_tebd,
        "use_tebd_bias": d.use_tebd_bias,
        "type_map": list(config.type_map),
        "embedding": part.embedding_network(
            DESCRIPTOR + "type_embedding.embedding.embedding_net.",
            [d.repinit.tebd_dim],
            activation="Linear",
            timestep=False,
        ),
    }


def _layer_or_identity(part: Part, prefix: str) -> Tree:
    if prefix + "matrix" in part.shapes:
        return part.layer(prefix)
    return {"@class": "Identity", "@version": 1}


def _repinit(config: Model, part: Part) -> Tree:
    r = config.descriptor.repinit
    embeddings = _embeddings(config, part, "repinit.", r.neuron)
    return embeddings | _environment(config, "repinit.", r.rcut, r.rcut_smth)


def _three_body(config: Model, part: Part) -> Tree:
    r = config.descriptor.repinit
    embeddings = _embeddings(config, part, "repinit_three_body.", r.three_body_neuron)
    return embeddings | _environment(
        config, "repinit_three_body.", r.three_body_rcut, r.three_body_rcut_smth
    )


def _repformer(config: Model, part: Part) -> Tree:
    r = config.descriptor.repformer
    prefix = DESCRIPTOR + "repformers."
    return {
        "g2_embd": part.layer(prefix + "g2_embd."),
        "repformer_layers": [repformer_layer(config, part, k) for k in range(r.nlayers)],
        **_environment(config, "repformers.", r.rcut, r.rcut_smth),
    }


def _embeddings(config: Model, part: Part, block: str, neuron: list[int]) -> Tree:
    r = config.descriptor.repinit

    def net(name: str) -> Tree:
        network = part.embedding_network(
            f"{DESCRIPTOR}{block}{name}.networks.0.",
            neuron,
            activation=r.activation_function,
            timestep=r.resnet_dt,
        )
        return collection(network, "embedding_network", len(config.type_map))

    tree = {"embeddings": net("filter_layers")}
    if r.tebd_input_mode == "strip":
        tree["embeddings_strip"] = net("filter_layers_strip")
    return tree


def _environment(config: Model, block: str, rcut: float, rcut_smth: float) -> Tree:
    return {
        "env_mat": {
            "rcut": rcut,
            "rcut_smth": rcut_smth,
            "protection": config.descriptor.env_protection,
            "use_exp_switch": False,
        },
        "@variables": {
            "davg": Slot(f"{DESCRIPTOR}{block}mean"),
            "dstd": Slot(f"{DESCRIPTOR}{block}stddev"),
        },
    }


FITTING_VERSION = 4


def fitting_tree(config: Model, part: Part, *, rcond: float | None) -> Tree:
    """Return the `fitting` entry of a model, with a `Slot` for every tensor.

    Args:
        config: The model.
        part: Its fitting net's tensors.
        rcond: Cut-off of the fit of energy biases, which this engine does not use.
    """
    f = config.fitting_net
    num_types = len(config.type_map)
    trainable = per_layer(f.trainable, len(f.neuron) + 1)
    prefix = FITTING + "filter_layers.networks.0.layers."
    layers = [
        part.layer(
            f"{prefix}{index}.",
            activation=f.activation_function,
            skip=True,
            trainable=trainable[index],
        )
        for index in range(len(f.neuron))
    ]
    layers.append(part.layer(f"{prefix}{len(f.neuron)}.", trainable=trainable[-1]))
    network: Tree = {
        "@class": "FittingNetwork",
        "@version": 1,
        "in_dim": part.shapes[prefix + "0.matrix"][0],
        "out_dim": 1,
        "neuron": list(f.neuron),
        "activation_function": f.activation_function,
        "resnet_dt": f.resnet_dt,
        "precision": part.precision,
        "bias_out": True,
        "layers": layers,
    }
    return {
        "@class": "Fitting",
        "@version": FITTING_VERSION,
        "type": "ener",
        "var_name": "energy",
        "ntypes": num_types,
        "dim_descrpt": _descriptor_width(config),
        "neuron": list(f.neuron),
        "resnet_dt": f.resnet_dt,
        "numb_fparam": f.numb_fparam,
        "numb_aparam": f.numb_aparam,
        "dim_case_embd": f.dim_case_embd,
        "default_fparam": f.default_fparam,
        "activation_function": f.activation_function,
        "precision": part.precision,
        "mixed_types": True,
        "nets": collection(network, "fitting_network", num_types),
        "rcond": rcond,
        "exclude_types": list(config.atom_exclude_types),
        "@variables": {
            "bias_atom_e": Slot(FITTING + "bias_atom_e"),
            **{
                name: part.slot(FITTING + name)
                for name in (
                    "case_embd",
                    "fparam_avg",
                    "fparam_inv_std",
                    "aparam_avg",
                    "aparam_inv_std",
                )
            },
        },
        "type_map": list(config.type_map),
        "tot_ener_zero": False,
        "trainable": trainable,
        "layer_name": None,
        "use_aparam_as_mask": f.use_aparam_as_mask,
        "spin": None,
        "dim_out": 1,
        "atom_ener": list(f.atom_ener),
    }


def per_layer(trainable: bool | list[bool], num_layers: int) -> list[bool]:
    """Return the flag of every layer, given one flag for all or a list."""
    return list(trainable) if isinstance(trainable, list) else [trainable] * num_layers


def _descriptor_width(config: Model) -> int:
    d = config.descriptor
    return d.repformer.g1_dim + (d.repinit.tebd_dim if d.concat_output_tebd else 0)
