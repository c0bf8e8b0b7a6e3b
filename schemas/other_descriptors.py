"""Keys of deepmd-kit's other descriptors: who finds them in a dpa2 section sees one fault."""

from collections.abc import Collection

_COMMON = frozenset(
    {"sel", "rcut", "rcut_smth", "neuron", "activation_function", "resnet_dt", "precision", "seed"}
    | {"trainable", "exclude_types", "env_protection", "set_davg_zero"}
)
_TYPE_EMBEDDING = frozenset(
    {"tebd_dim", "tebd_input_mode", "concat_output_tebd", "use_econf_tebd", "use_tebd_bias"}
)
_KEYS = {
    "se_e2_a": _COMMON | {"axis_neuron", "type_one_side"},
    "se_atten": _COMMON
    | _TYPE_EMBEDDING
    | {"axis_neuron", "type_one_side", "attn", "attn_layer", "attn_dotr", "attn_mask", "smooth"}
    | {"scaling_factor", "normalize", "temperature", "stripped_type_embedding", "ln_eps"}
    | {"smooth_type_embedding", "trainable_ln"},
    "dpa3": _TYPE_EMBEDDING
    | {"repflow", "activation_function", "precision", "exclude_types", "env_protection"}
    | {"trainable", "seed", "use_loc_mapping"},
    "hybrid": frozenset({"list"}),
}


def likely_descriptor(unknown: Collection[str]) -> str | None:
    """Return the descriptor of which several of some keys that dpa2 does not have are; or None.

    `repflow` and `list` alone say enough.
    """
    for telling, kind in (("repflow", "dpa3"), ("list", "hybrid")):
        if telling in unknown:
            return kind
    counts = {kind: len(keys & set(unknown)) for kind, keys in _KEYS.items()}
    kind = max(counts, key=lambda name: counts[name])
    return kind if counts[kind] > 1 else None


def has_key(kind: str, name: str) -> bool:
    """Return whether a descriptor of a kind has a key."""
    return name in _KEYS[kind]
