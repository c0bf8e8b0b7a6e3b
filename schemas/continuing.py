"""What another value of a key does to weights that are there, and to a run that is continued."""

from typing import Literal

from schemas.data import TrainingData
from schemas.descriptor import Descriptor, Repformer, Repinit
from schemas.diagnostics import Path
from schemas.fitting import EnergyFitting
from schemas.input import Input
from schemas.learning_rate import Schedule
from schemas.loss import EnergyLoss
from schemas.model import Model
from schemas.optimizer import Adam
from schemas.section import Section
from schemas.training import Training
from schemas.validating import Validating

Effect = Literal["weights", "function", "course", "rate", "begun", "none"]
"""`weights`: the weights do not fit, or mean something else; `function`: they fit and make another
function; `course`: the training goes on another way; `rate`: the learning rates are others;
`begun`: nothing, since only the beginning of a run looks at it; `none`: nothing that is computed.

A restart refuses the first two, says `course` and `rate`, notes `begun`."""

_OF_SECTIONS: dict[type[Section], Effect] = {
    Input: "none",
    Model: "function",
    Descriptor: "weights",
    Repinit: "weights",
    Repformer: "weights",
    EnergyFitting: "weights",
    Schedule: "rate",
    EnergyLoss: "course",
    Adam: "course",
    Training: "course",
    TrainingData: "course",
    Validating: "course",
}
"""Every key of a section, a new one too, but for those of `EXCEPTIONS`."""

EXCEPTIONS: dict[type[Section], dict[Effect, set[str]]] = {
    Model: {
        "weights": {"type_map", "descriptor", "fitting_net"},
        "course": {"preset_out_bias"},
        "begun": {"data_stat_nbatch", "data_stat_protect"},
        "none": {"type", "data_bias_nsample", "srtab_add_bias", "model_branch_alias", "info"}
        | {"finetune_head", "type_embedding"},
    },
    Descriptor: {
        "function": {"precision", "exclude_types", "env_protection"},
        "course": {"trainable"},
        "begun": {"seed"},
        "none": {"type"},
    },
    Repinit: {"begun": {"set_davg_zero"}},
    Repformer: {
        "course": {"trainable_ln"},
        "begun": {"set_davg_zero", "update_residual", "update_residual_init"},
    },
    EnergyFitting: {
        "function": {"precision", "default_fparam", "atom_ener"},
        "course": {"trainable"},
        "begun": {"seed"},
        "none": {"type", "rcond", "layer_name"},
    },
    Schedule: {"none": {"scale_by_worker"}},
    Training: {
        "rate": {"numb_steps", "numb_epoch"},
        "begun": {"seed", "stat_file", "stat_file_mode"},
        "none": {"disp_file", "disp_freq", "disp_training", "disp_avg", "time_training"}
        | {"save_freq", "save_dir", "save_ckpt", "max_ckpt_keep", "ckpt_keep_ratio"}
        | {"ema_ckpt_keep", "tensorboard", "tensorboard_log_dir", "tensorboard_freq"}
        | {"profiling", "profiling_file", "enable_profiler", "acc_freq", "zero_stage"}
        | {"mixed_precision", "neighbor_graph_method", "enable_compile", "enable_tf32"},
    },
    Validating: {
        "none": {"save_best", "save_best_dir", "full_val_file", "validation_freq"}
        | {"full_val_start", "compiled_infer", "tf32_infer", "amp_infer"},
    },
}
_INSIDE: dict[str, type[Section]] = {
    "descriptor": Descriptor,
    "repinit": Repinit,
    "repformer": Repformer,
    "fitting_net": EnergyFitting,
}
_AT_THE_TOP: dict[str, type[Section]] = {
    "learning_rate": Schedule,
    "loss": EnergyLoss,
    "loss_dict": EnergyLoss,
    "optimizer": Adam,
    "validating": Validating,
}


def effect_of_key(section: type[Section], name: str) -> Effect:
    """Return what another value of a key of a section does.

    Args:
        section: One of those above; all schedules are `Schedule`, all optimisers `Adam`, both kinds
            of data `TrainingData`.
        name: The key.
    """
    for effect, names in EXCEPTIONS.get(section, {}).items():
        if name in names:
            return effect
    return _OF_SECTIONS[section]


def effect_of(path: Path) -> Effect:
    """Return what another value at a path of a normalised input does."""
    top, *rest = (str(part) for part in path)
    if top == "model":
        return _effect_in_model(rest)
    if top == "training":
        if rest[:1] == ["data_dict"]:
            rest = rest[2:]
        if rest[:1] in (["training_data"], ["validation_data"]):
            return effect_of_key(TrainingData, rest[-1])
        return effect_of_key(Training, rest[0] if rest else "")
    return effect_of_key(_AT_THE_TOP.get(top, Input), rest[-1] if rest else top)


def _effect_in_model(rest: list[str]) -> Effect:
    if rest[:1] == ["model_dict"]:
        rest = rest[2:]
    section: type[Section] = Model
    for part in rest[:-1]:
        if part not in _INSIDE:
            return effect_of_key(section, part)
        section = _INSIDE[part]
    return effect_of_key(section, rest[-1] if rest else "descriptor")
