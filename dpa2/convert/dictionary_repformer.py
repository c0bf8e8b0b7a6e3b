"""deepmd-kit's backend-independent spelling of a repformer layer (docs/deepmd-format.md, 10.3)."""

from itertools import count, takewhile

from dpa2.convert.deepmd import DESCRIPTOR
from dpa2.convert.dictionary_layers import Part, Slot, Tree
from dpa2.model.build import DEFAULT_LN_EPS
from dpa2.model.pair_geometry import ATTENTION_SHIFT
from schemas.model import Model


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
