"""Networks built from the checked `model` section, and what several of them share.

docs/deepmd-format.md, 1.2 - 1.5, 1.9, 3.12, 4.5.
"""

import os
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from dpa2.model.blocks import pair_table
from dpa2.model.descriptor import Descriptor
from dpa2.model.energy import EnergyModel
from dpa2.model.environment import EnvironmentStatistics
from dpa2.model.fitting import EnergyFitting
from dpa2.model.layers import Linear, descend
from dpa2.model.repformer import Repformer, RepformerLayer, RepformerOptions
from dpa2.model.repinit import Repinit, ThreeBody, TypedEmbedding
from dpa2.model.type_embedding import TypeEmbedding
from schemas.base.errors import ConfigError
from schemas.input.descriptor import Descriptor as DescriptorConfig
from schemas.input.model import Model
from schemas.input.root import Link
from schemas.input.section import canonical_precision

DEFAULT_LN_EPS = 1e-5
PRECISIONS = {
    "float16": torch.float16,
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
}


def dtype_of(precision: str) -> torch.dtype:
    """Return the torch dtype of a `precision` option; `default` follows DP_INTERFACE_PREC."""
    if precision == "default":
        low = os.environ.get("DP_INTERFACE_PREC", "high").lower() == "low"
        return torch.float32 if low else torch.float64
    name = canonical_precision(precision)
    if name not in PRECISIONS:
        raise ConfigError(
            f"precision `{precision}` is not one a network can have",
            hint=f"use one of {', '.join(PRECISIONS)}, default",
        )
    return PRECISIONS[name]


def build_model(config: Model) -> EnergyModel:
    """Build a DPA-2 energy model with deepmd-kit's initial weights for the same seeds.

    Args:
        config: The checked model section; every neighbour capacity is a number.

    Raises:
        ConfigError: If a capacity is still `auto`, or the precision is unusable.
    """
    descriptor = build_descriptor(config)
    settings = config.fitting_net
    fitting = EnergyFitting(
        config.descriptor.repformer.g1_dim
        + (config.descriptor.repinit.tebd_dim if config.descriptor.concat_output_tebd else 0),
        len(config.type_map),
        list(settings.neuron),
        activation=settings.activation_function,
        timestep=settings.resnet_dt,
        num_fparam=settings.numb_fparam,
        num_aparam=settings.numb_aparam,
        default_fparam=settings.default_fparam,
        dim_case=settings.dim_case_embd,
        aparam_as_mask=settings.use_aparam_as_mask,
        subtract_vacuum=any(energy is not None for energy in settings.atom_ener),
        dtype=dtype_of(settings.precision),
        seed=settings.seed,
    )
    trainable = settings.trainable
    if not (all(trainable) if isinstance(trainable, list) else trainable):
        fitting.requires_grad_(False)
    keep: NDArray[np.bool_] | None = None
    table = pair_table(len(config.type_map), [list(pair) for pair in config.pair_exclude_types])
    if table is not None:
        keep = table.numpy()
    return EnergyModel(config, descriptor, fitting, keep)


def build_descriptor(config: Model) -> Descriptor:
    """Build the descriptor of a model section."""
    d = config.descriptor
    dtype = dtype_of(d.precision)
    keep = pair_table(len(config.type_map), [list(pair) for pair in d.exclude_types])
    type_embedding = TypeEmbedding(
        list(config.type_map),
        d.repinit.tebd_dim,
        use_econf=d.use_econf_tebd,
        bias=d.use_tebd_bias,
        dtype=dtype,
        seed=descend(d.seed, 2),
    )
    width = d.repinit.neuron[-1] * d.repinit.axis_neuron
    if d.repinit.use_three_body:
        width += d.repinit.three_body_neuron[-1]
    g1_dim = d.repformer.g1_dim
    shape_map = None
    if width != g1_dim:
        shape_map = Linear(
            width, g1_dim, bias=False, dtype=dtype, seed=descend(d.seed, 3), glorot=True
        )
    type_map = None
    if d.add_tebd_to_repinit_out:
        type_map = Linear(
            d.repinit.tebd_dim, g1_dim, bias=False, dtype=dtype, seed=descend(d.seed, 4)
        )
    descriptor = Descriptor(
        type_embedding,
        _repinit(config, dtype, keep),
        _three_body(config, dtype, keep) if d.repinit.use_three_body else None,
        shape_map,
        type_map,
        _repformer(config, dtype, keep),
        concat_types=d.concat_output_tebd,
        dtype=dtype,
    )
    if not d.trainable:
        descriptor.requires_grad_(False)
    return descriptor


def capacity(value: int | str, where: str) -> int:
    """Return a neighbour capacity, which must be a number by now."""
    if isinstance(value, str):
        raise ConfigError(
            f"model.descriptor.{where} is `{value}`, which needs the training data to resolve",
            hint="train with this input, or write the number of neighbours",
        )
    return value


def _repinit(config: Model, dtype: torch.dtype, keep: torch.Tensor | None) -> Repinit:
    d = config.descriptor
    r = d.repinit
    return Repinit(
        _statistics(config, r.rcut, r.rcut_smth, capacity(r.nsel, "repinit.nsel"), dtype),
        _typed_embedding(d, r.neuron, one_side=r.type_one_side, dtype=dtype, stream=0),
        num_axis=r.axis_neuron,
        smooth=d.smooth,
        protection=d.env_protection,
        keep=keep,
    )


def _three_body(config: Model, dtype: torch.dtype, keep: torch.Tensor | None) -> ThreeBody:
    d = config.descriptor
    r = d.repinit
    nsel = capacity(r.three_body_sel, "repinit.three_body_sel")
    return ThreeBody(
        _statistics(config, r.three_body_rcut, r.three_body_rcut_smth, nsel, dtype),
        _typed_embedding(d, r.three_body_neuron, one_side=False, dtype=dtype, stream=5),
        smooth=d.smooth,
        protection=d.env_protection,
        keep=keep,
    )


def _statistics(
    config: Model, rcut: float, rcut_smth: float, nsel: int, dtype: torch.dtype
) -> EnvironmentStatistics:
    """Return the statistics of a block of repinit, which share `set_davg_zero`."""
    return EnvironmentStatistics(
        len(config.type_map),
        rcut=rcut,
        rcut_smth=rcut_smth,
        nsel=nsel,
        set_davg_zero=config.descriptor.repinit.set_davg_zero,
        dtype=dtype,
    )


def _typed_embedding(
    d: DescriptorConfig, neuron: Sequence[int], *, one_side: bool, dtype: torch.dtype, stream: int
) -> TypedEmbedding:
    """Return an embedding net of repinit; `stream` is its child of the descriptor's seed."""
    r = d.repinit
    return TypedEmbedding(
        list(neuron),
        r.tebd_dim,
        mode=r.tebd_input_mode,
        one_side=one_side,
        activation=r.activation_function,
        timestep=r.resnet_dt,
        dtype=dtype,
        seed=descend(d.seed, stream),
    )


def _repformer(config: Model, dtype: torch.dtype, keep: torch.Tensor | None) -> Repformer:
    d = config.descriptor
    r = d.repformer
    made = Repformer(
        EnvironmentStatistics(
            len(config.type_map),
            rcut=r.rcut,
            rcut_smth=r.rcut_smth,
            nsel=capacity(r.nsel, "repformer.nsel"),
            set_davg_zero=r.set_davg_zero,
            dtype=dtype,
        ),
        _options(d, dtype),
        num_layers=r.nlayers,
        use_sqrt=r.use_sqrt_nnei,
        direct_dist=r.direct_dist,
        protection=d.env_protection,
        keep=keep,
        seed=descend(d.seed, 1),
    )
    if not r.trainable_ln:
        for layer in made.layers:
            assert isinstance(layer, RepformerLayer)
            attention = layer.pair_attention
            if attention is not None and attention.norm is not None:
                attention.norm.requires_grad_(False)
    return made


def _options(d: DescriptorConfig, dtype: torch.dtype) -> RepformerOptions:
    r = d.repformer
    return RepformerOptions(
        g1_dim=r.g1_dim,
        g2_dim=r.g2_dim,
        axis_neuron=r.axis_neuron,
        update_g1_has_conv=r.update_g1_has_conv,
        update_g1_has_drrd=r.update_g1_has_drrd,
        update_g1_has_grrg=r.update_g1_has_grrg,
        update_g1_has_attn=r.update_g1_has_attn,
        update_g2_has_g1g1=r.update_g2_has_g1g1,
        update_g2_has_attn=r.update_g2_has_attn,
        update_h2=r.update_h2,
        attn1_hidden=r.attn1_hidden,
        attn1_nhead=r.attn1_nhead,
        attn2_hidden=r.attn2_hidden,
        attn2_nhead=r.attn2_nhead,
        attn2_has_gate=r.attn2_has_gate,
        activation_function=r.activation_function,
        update_style=r.update_style,
        update_residual=r.update_residual,
        update_residual_init=r.update_residual_init,
        smooth=d.smooth,
        g1_out_conv=r.g1_out_conv,
        g1_out_mlp=r.g1_out_mlp,
        ln_eps=DEFAULT_LN_EPS if r.ln_eps is None else r.ln_eps,
        dtype=dtype,
    )


_FITTING_BUFFERS = ("fparam_avg", "fparam_inv_std", "aparam_avg", "aparam_inv_std")


def share(models: Mapping[str, EnergyModel], links: Sequence[Link]) -> None:
    """Let linked branches use the owner's modules; what was theirs is dropped.

    Level 0 of a descriptor shares all but `tebd_transform`, which stays with each branch; level 1
    the type embedding alone. A fitting net keeps `bias_atom_e` and `case_embd` for each branch.

    Args:
        models: The branches, all on the same device: moving a model afterwards would give each a
            buffer of its own again.
        links: What is shared, the owner first.
    """
    for link in links:
        if link.branch == link.owner:
            continue
        model, owner = models[link.branch], models[link.owner]
        if link.component == "descriptor":
            _share_descriptor(model.descriptor, owner.descriptor, link.level)
        else:
            _share_fitting(model.fitting, owner.fitting)


def _share_descriptor(descriptor: Descriptor, owner: Descriptor, level: int) -> None:
    descriptor.type_embedding = owner.type_embedding
    if level == 0:
        descriptor.repinit = owner.repinit
        descriptor.three_body = owner.three_body
        descriptor.shape_map = owner.shape_map
        descriptor.repformer = owner.repformer


def _share_fitting(fitting: EnergyFitting, owner: EnergyFitting) -> None:
    fitting.hidden_layers = owner.hidden_layers
    fitting.output = owner.output
    for name in _FITTING_BUFFERS:
        setattr(fitting, name, getattr(owner, name))
