"""deepmd-kit's backend-independent spelling of the DPA-2 descriptor.

docs/deepmd-format.md, 10.3.
"""

from typing import Any

from dpa2.convert.deepmd import DESCRIPTOR
from dpa2.convert.dictionary_layers import Part, Slot, Tree, collection
from dpa2.convert.dictionary_repformer import repformer_layer
from dpa2.model.build import DEFAULT_LN_EPS
from schemas.model import Model
from schemas.normalize import normalized

VERSION = 3


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
        "@version": VERSION,
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
