"""The three sizes of DPA-2 that its authors publish, as starting points of new inputs."""

from dataclasses import dataclass
from typing import Any, Literal

Preset = Literal["small", "medium", "large"]

RCUT = 6.0
"""Cutoff of repinit in every preset, in Å."""
RCUT_INNER = 4.0
"""Cutoff of repformer and of the three-body block, in Å."""
FITTING_NET = {"neuron": [240, 240, 240], "resnet_dt": True, "seed": 1}
"""The fitting net of every preset."""

_STEP_OF_NSEL = 4


@dataclass(frozen=True, slots=True)
class Size:
    """What tells the presets apart.

    Args:
        num_layers: Layers of the repformer.
        pair_attention: Whether pairs attend to each other.
        num_steps: Steps of a new input.
        purpose: What it is good for.
    """

    num_layers: int
    pair_attention: bool
    num_steps: int
    purpose: str


SIZES: dict[str, Size] = {
    "small": Size(3, False, 100_000, "three layers without attention: fast, also on a CPU"),
    "medium": Size(6, True, 1_000_000, "six layers with attention: for a GPU"),
    "large": Size(12, True, 1_000_000, "twelve layers with attention: for a large GPU"),
}


def descriptor(preset: Preset, nsel: int, nsel_inner: int) -> dict[str, Any]:
    """Return the `descriptor` section of a preset.

    Args:
        preset: The size.
        nsel: Most neighbours within `RCUT`.
        nsel_inner: Most neighbours within `RCUT_INNER`.
    """
    size = SIZES[preset]
    inner = max(nsel_inner, _STEP_OF_NSEL)
    return {
        "type": "dpa2",
        "repinit": {
            "rcut": RCUT,
            "rcut_smth": 0.5,
            "nsel": max(nsel, inner + _STEP_OF_NSEL),  # deepmd-kit wants more than in the repformer
            "neuron": [25, 50, 100],
            "axis_neuron": 12,
            "tebd_dim": 8,
            "activation_function": "tanh",
            "use_three_body": True,
            "three_body_rcut": RCUT_INNER,
            "three_body_rcut_smth": 3.5,
            "three_body_sel": inner,
        },
        "repformer": {
            "rcut": RCUT_INNER,
            "rcut_smth": 3.5,
            "nsel": inner,
            "nlayers": size.num_layers,
            "g1_dim": 128,
            "g2_dim": 32,
            "axis_neuron": 4,
            "attn1_hidden": 128,
            "attn1_nhead": 4,
            "attn2_hidden": 32,
            "attn2_nhead": 4,
            "attn2_has_gate": True,
            "update_h2": False,
            "update_g1_has_conv": True,
            "update_g1_has_grrg": True,
            "update_g1_has_drrd": True,
            "update_g1_has_attn": False,
            "update_g2_has_g1g1": False,
            "update_g2_has_attn": size.pair_attention,
            "update_style": "res_residual",
            "update_residual": 0.01,
            "update_residual_init": "norm",
            "use_sqrt_nnei": True,
            "g1_out_conv": True,
            "g1_out_mlp": True,
        },
        "add_tebd_to_repinit_out": False,
        "precision": "float64",
        "seed": 1,
    }
