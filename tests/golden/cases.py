"""The golden cases: one small DPA-2 model and structure for every option that changes numbers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from structures import (
    Structure,
    five_elements,
    isolated_water,
    lone_atom,
    out_of_the_cell,
    padded_with_virtual_atoms,
    periodic_water,
    shuffled_types,
)

Section = dict[str, Any]

REPINIT: Section = {
    "rcut": 4.5,
    "rcut_smth": 0.5,
    "nsel": 48,
    "neuron": [3, 6, 12],
    "axis_neuron": 2,
    "tebd_dim": 3,
    "use_three_body": True,
    "three_body_neuron": [2, 4],
    "three_body_rcut": 3.5,
    "three_body_rcut_smth": 3.0,
    "three_body_sel": 28,
}
REPFORMER: Section = {
    "rcut": 3.5,
    "rcut_smth": 3.0,
    "nsel": 28,
    "nlayers": 2,
    "g1_dim": 6,
    "g2_dim": 4,
    "axis_neuron": 2,
    "attn1_hidden": 3,
    "attn1_nhead": 2,
    "attn2_hidden": 3,
    "attn2_nhead": 2,
    "update_h2": False,
    "update_g1_has_conv": True,
    "update_g1_has_grrg": True,
    "update_g1_has_drrd": True,
    "update_g1_has_attn": False,
    "update_g2_has_g1g1": False,
    "update_g2_has_attn": True,
    "attn2_has_gate": True,
    "update_style": "res_residual",
    "update_residual": 0.01,
    "update_residual_init": "norm",
}
FITTING: Section = {"neuron": [6, 6], "resnet_dt": True}

EVERY_UPDATE: Section = {
    "update_h2": True,
    "update_g1_has_attn": True,
    "update_g2_has_g1g1": True,
}
STRIP: Section = {"tebd_input_mode": "strip"}
KEEP_DAVG: Section = {"set_davg_zero": False}


@dataclass(frozen=True)
class Case:
    """Overrides on the base sections, the structure, and what is random besides the weights."""

    repinit: Section = field(default_factory=dict)
    repformer: Section = field(default_factory=dict)
    descriptor: Section = field(default_factory=dict)
    fitting: Section = field(default_factory=dict)
    model: Section = field(default_factory=dict)
    structure: Callable[[], Structure] = lambda: periodic_water(1)
    davg: Literal["zero", "radial", "all"] = "zero"
    """Non-zero means: "radial" column 0 only, as statistics make them; "all" four columns."""
    random_residual: bool = True
    fparam: int = 0
    """Number of frame parameters handed to the model (0: none, even if it has a default)."""
    aparam: int = 0
    fitting_bias: bool = False
    atomic_virial: bool = True
    """deepmd-kit's own ways of searching neighbours disagree on it for atoms outside the cell."""

    def model_section(self) -> Section:
        """Return the `model` section of an input file."""
        return {
            "type_map": ["O", "H"],
            "descriptor": {
                "type": "dpa2",
                "repinit": REPINIT | self.repinit,
                "repformer": REPFORMER | self.repformer,
                "precision": "float64",
                "seed": 20,
                **self.descriptor,
            },
            "fitting_net": FITTING | {"precision": "float64", "seed": 21} | self.fitting,
            **self.model,
        }


def nonzero_davg(davg: Literal["radial", "all"] = "radial", **overrides: Any) -> Case:
    """Return a case whose three blocks all have shifted environment matrices."""
    repinit = KEEP_DAVG | overrides.pop("repinit", {})
    repformer = KEEP_DAVG | overrides.pop("repformer", {})
    return Case(repinit=repinit, repformer=repformer, davg=davg, **overrides)


CASES: dict[str, Case] = {
    # The published inputs, shrunk.
    "small": Case(repformer={"attn2_has_gate": False, "update_g2_has_attn": False}),
    "medium": Case(),
    "large": Case(repformer={"nlayers": 3, "update_g1_has_attn": True, "update_g2_has_g1g1": True}),
    # How updates are combined.
    "every_update_res_avg": Case(
        repformer=EVERY_UPDATE
        | {"update_style": "res_avg", "g1_out_conv": False, "g1_out_mlp": False}
    ),
    "every_update_res_incr": Case(repformer=EVERY_UPDATE | {"update_style": "res_incr"}),
    "every_update_res_residual": Case(repformer=EVERY_UPDATE),
    "residual_const": Case(
        repformer={"update_residual_init": "const", "update_residual": 0.2}, random_residual=False
    ),
    "res_avg_only_lin1": Case(
        repformer={
            "update_style": "res_avg",
            "update_g1_has_conv": False,
            "update_g1_has_grrg": False,
            "g1_out_mlp": False,
            "update_g2_has_attn": False,
        }
    ),
    "res_incr_conv_inside_lin1": Case(
        repformer={"update_style": "res_incr", "g1_out_conv": False, "update_g1_has_drrd": False}
    ),
    "h2_without_pair_attention": Case(
        repformer={"update_h2": True, "update_g2_has_attn": False, "attn2_has_gate": False}
    ),
    "layer_norm_frozen": Case(repformer={"trainable_ln": False, "ln_eps": 1e-3}),
    # Smoothness and normalisation.
    "not_smooth": Case(repformer=EVERY_UPDATE, descriptor={"smooth": False}),
    "not_smooth_no_gate_no_sqrt": Case(
        repformer=EVERY_UPDATE | {"attn2_has_gate": False, "use_sqrt_nnei": False},
        descriptor={"smooth": False},
    ),
    "no_sqrt_nnei": Case(repformer=EVERY_UPDATE | {"use_sqrt_nnei": False}),
    "direct_dist": Case(repformer=EVERY_UPDATE | {"direct_dist": True}),
    "env_protection": Case(descriptor={"env_protection": 0.3}, repformer={"direct_dist": True}),
    # Types in the embedding nets.
    "strip_two_side": Case(repinit=STRIP),
    "strip_one_side": Case(repinit=STRIP | {"type_one_side": True}),
    "strip_not_smooth": Case(repinit=STRIP, descriptor={"smooth": False}),
    "concat_one_side": Case(repinit={"type_one_side": True}),
    "econf_bias_no_output_tebd": Case(
        descriptor={"use_econf_tebd": True, "use_tebd_bias": True, "concat_output_tebd": False}
    ),
    "tebd_bias": Case(descriptor={"use_tebd_bias": True}),
    "tebd_dim_equals_ntypes": Case(repinit={"tebd_dim": 2}),
    "tebd_dim_twice_ntypes": Case(repinit={"tebd_dim": 4}, descriptor={"use_tebd_bias": True}),
    "tebd_added_to_repinit": Case(descriptor={"add_tebd_to_repinit_out": True}),
    # Layers and dimensions.
    "resnet_dt": Case(repinit={"resnet_dt": True}),
    "resnet_dt_strip": Case(repinit=STRIP | {"resnet_dt": True}, fitting={"resnet_dt": False}),
    "no_layers": Case(repformer={"nlayers": 0}),
    "one_layer": Case(repformer={"nlayers": 1} | EVERY_UPDATE),
    "no_shape_transform": Case(repinit={"use_three_body": False, "neuron": [3, 3]}),
    "linear_fitting": Case(fitting={"neuron": []}),
    "two_body_only": Case(repinit={"use_three_body": False}),
    "three_body_wider_than_repformer": Case(
        repinit={"three_body_rcut": 4.2, "three_body_rcut_smth": 1.0, "three_body_sel": 40}
    ),
    "activations_silut_gelu_softplus": Case(
        repinit={"activation_function": "silut:0.4"},
        repformer={"activation_function": "gelu_tf"},
        fitting={"activation_function": "softplus"},
    ),
    "activations_silu_sigmoid_linear": Case(
        repinit={"activation_function": "silu"},
        repformer={"activation_function": "sigmoid"},
        fitting={"activation_function": "linear"},
    ),
    "activations_customsilu_relu6_relu": Case(
        repinit={"activation_function": "custom_silu:1.0"},
        repformer={"activation_function": "relu6"},
        fitting={"activation_function": "relu"},
    ),
    # Who counts as a neighbour.
    "exclude_types": Case(descriptor={"exclude_types": [[0, 0], [0, 1]]}),
    "pair_and_atom_exclude": Case(
        model={"pair_exclude_types": [[0, 1]], "atom_exclude_types": [1]}
    ),
    "truncated": Case(
        repinit={"nsel": 14, "three_body_sel": 6},
        repformer={"nsel": 8, **EVERY_UPDATE},
    ),
    "truncated_pair_exclude": Case(
        repinit={"nsel": 14, "three_body_sel": 6},
        repformer={"nsel": 8},
        model={"pair_exclude_types": [[1, 1]]},
    ),
    "cluster": Case(structure=lambda: isolated_water(3), repformer=EVERY_UPDATE),
    "triclinic_five_elements": Case(
        structure=lambda: five_elements(4), model={"type_map": ["C", "H", "Cu", "O", "Fe"]}
    ),
    "small_cell": Case(
        structure=lambda: periodic_water(5, shape=(1, 1, 1), edges=(3.1, 2.9, 3.4), tilt=0.4),
        repformer=EVERY_UPDATE,
        repinit={"nsel": 64},
    ),
    "out_of_the_cell": Case(structure=lambda: out_of_the_cell(2), atomic_virial=False),
    "lone_atom": Case(structure=lambda: lone_atom(periodic=False), repformer=EVERY_UPDATE),
    "lone_atom_in_box_not_smooth": Case(
        structure=lambda: lone_atom(periodic=True),
        repformer=EVERY_UPDATE,
        descriptor={"smooth": False},
    ),
    "virtual_atoms": Case(structure=lambda: padded_with_virtual_atoms(6), repformer=EVERY_UPDATE),
    # Fitting net.
    "fparam_aparam": Case(
        fitting={"numb_fparam": 2, "numb_aparam": 1, "default_fparam": [0.3, -0.6]},
        fparam=2,
        aparam=1,
    ),
    "default_fparam": Case(fitting={"numb_fparam": 2, "default_fparam": [0.3, -0.6]}),
    "aparam_as_mask": Case(fitting={"numb_aparam": 1, "use_aparam_as_mask": True}, aparam=1),
    "case_embedding": Case(fitting={"dim_case_embd": 2}),
    "vacuum_subtraction": Case(fitting={"atom_ener": [None, 1.0]}),
    "fitting_bias": Case(fitting_bias=True),
    # Precisions.
    "float32": Case(descriptor={"precision": "float32"}, fitting={"precision": "float32"}),
    "float32_fitting": Case(fitting={"precision": "float32"}),
    "bfloat16": Case(descriptor={"precision": "bfloat16"}, fitting={"precision": "bfloat16"}),
    # Shifted environment matrices: empty neighbour slots contribute -davg/dstd.
    "davg": nonzero_davg(repformer=EVERY_UPDATE),
    "davg_medium": nonzero_davg(),
    "davg_all_columns": nonzero_davg("all", repformer=EVERY_UPDATE),
    "davg_not_smooth": nonzero_davg(repformer=EVERY_UPDATE, descriptor={"smooth": False}),
    "davg_not_smooth_no_gate": nonzero_davg(
        "all",
        repformer=EVERY_UPDATE | {"attn2_has_gate": False, "update_style": "res_incr"},
        descriptor={"smooth": False},
    ),
    "davg_one_side": nonzero_davg(repinit={"type_one_side": True}),
    "davg_strip": nonzero_davg(repinit=STRIP, repformer=EVERY_UPDATE),
    "davg_strip_one_side": nonzero_davg(repinit=STRIP | {"type_one_side": True}),
    "davg_strip_not_smooth": nonzero_davg(
        "all", repinit=STRIP, repformer=EVERY_UPDATE, descriptor={"smooth": False}
    ),
    "davg_direct_dist": nonzero_davg("all", repformer={"direct_dist": True, **EVERY_UPDATE}),
    "davg_exclude_types": nonzero_davg(
        "all", repformer=EVERY_UPDATE, descriptor={"exclude_types": [[0, 1]]}
    ),
    "davg_exclude_types_not_smooth": nonzero_davg(
        "all",
        repinit=STRIP,
        repformer=EVERY_UPDATE,
        descriptor={"exclude_types": [[0, 1]], "smooth": False},
    ),
    "davg_pair_exclude": nonzero_davg("all", model={"pair_exclude_types": [[0, 1]]}),
    "davg_first_atom_differs": nonzero_davg("all", structure=lambda: shuffled_types(7)),
    "davg_virtual_atoms": nonzero_davg(
        "all", structure=lambda: padded_with_virtual_atoms(8), repformer=EVERY_UPDATE
    ),
    "davg_lone_atom": nonzero_davg("all", structure=lambda: lone_atom(periodic=False)),
    "davg_truncated": nonzero_davg(
        "all", repinit={"nsel": 14, "three_body_sel": 6}, repformer={"nsel": 8}
    ),
    "davg_small_cell": nonzero_davg(
        "all",
        structure=lambda: periodic_water(9, shape=(1, 1, 1), edges=(3.1, 2.9, 3.4), tilt=0.4),
        repinit={"nsel": 64},
    ),
}
