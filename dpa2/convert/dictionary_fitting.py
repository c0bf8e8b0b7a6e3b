"""deepmd-kit's backend-independent spelling of the energy fitting net.

docs/deepmd-format.md, 10.3.
"""

from dpa2.convert.deepmd import FITTING
from dpa2.convert.dictionary_layers import Part, Slot, Tree, collection
from schemas.model import Model

VERSION = 4


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
        "@version": VERSION,
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
