"""What a model is that is no DPA-2 energy model: told by its section, before any tensor is met."""

from collections.abc import Mapping
from typing import Any

OURS = "this engine computes DPA-2 energy models only; deepmd-kit may run it"
"""What to do with another one."""

_TYPES = {
    "spin_ener": "a spin model",
    "zbl": "a DP-ZBL model, with a table of pair energies blended in",
    "linear_ener": "a linear combination of models",
    "linear": "a linear combination of models",
    "pairtab": "a tabulated pair potential",
    "inner_potential": "an analytic pair potential",
    "frozen": "a frozen model as a part of another",
    "pairwise_dprc": "a pairwise DPRC model",
    **dict.fromkeys(("dpa4", "DPA4", "SeZM", "sezm"), "a DPA-4 model"),
}
"""By the `type` of the model; `spin_ener` and the like are those of portable files."""
_DESCRIPTORS = {
    **dict.fromkeys(("se_atten", "se_atten_v2", "dpa1"), "a DPA-1 model"),
    "dpa3": "a DPA-3 model",
    **dict.fromkeys(("dpa4", "DPA4", "SeZM", "sezm", "dpa4c", "DPA4C"), "a DPA-4 model"),
    "hybrid": "a model of several descriptors",
    **dict.fromkeys(("se_e2_a", "se_a", "se_e2_r", "se_r"), "a DeepPot-SE model"),
    **dict.fromkeys(("se_e3", "se_at", "se_t", "se_a_3be"), "a DeepPot-SE model"),
    **dict.fromkeys(("se_a_tpe", "se_a_ebd", "se_e3_tebd"), "a DeepPot-SE model"),
    **dict.fromkeys(("se_a_ebd_v2", "se_a_tpe_v2", "se_a_mask"), "a DeepPot-SE model"),
    "loc_frame": "a model of local frames",
}
_FITTINGS = {
    "dipole": "a dipole model",
    "polar": "a polarisability model",
    "dos": "a model of densities of states",
    "property": "a property model",
    "population": "a model of atomic populations",
    **dict.fromkeys(("dpa4_ener", "sezm_ener"), "a DPA-4 model"),
}
_ADDED = {
    "spin": "a spin model",
    "use_srtab": "a DP-ZBL model, with a table of pair energies blended in",
    "modifier": "a model with a dipole-charge correction",
    "lora": "a model with low-rank adapters",
}
"""What makes another model of a section of type `standard`."""


def other_kind(section: Mapping[str, Any]) -> str | None:
    """Return what a model is that is none of this engine's, and which key says so; or None.

    Args:
        section: The model section of one branch, or the `model` of a portable file.
    """
    for key, name in _ADDED.items():
        if section.get(key) is not None:
            return f"{name} (`{key}`)"
    if str(section.get("bridging_method") or "none").lower() != "none":
        return "a model with an analytic repulsion at short distances (`bridging_method`)"
    parts = (
        ("type", section, "standard", _TYPES),
        ("descriptor", section.get("descriptor"), "dpa2", _DESCRIPTORS),
        ("fitting_net", section.get("fitting_net"), "ener", _FITTINGS),
        ("fitting", section.get("fitting"), "ener", _FITTINGS),
    )
    for name, part, ours, known in parts:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if isinstance(kind, str) and kind != ours:
            what = known.get(kind, "a model of another kind")
            return f"{what} ({name if name == 'type' else f'{name} of type'} `{kind}`)"
    return None
