"""What another value of a key does to trained weights and to a run that is continued."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from schemas.base.diagnostics import Path
from schemas.input.descriptor import Descriptor, Repformer, Repinit
from schemas.input.learning_rate import Schedule
from schemas.input.loss import EnergyLoss
from schemas.input.model import EnergyFitting, Model
from schemas.input.optimizer import Adam
from schemas.input.root import Input
from schemas.input.section import Section, canonical_precision
from schemas.input.training import Training, TrainingData
from schemas.input.validating import Validating
from schemas.input.view import UnusableError

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


_SECTIONS = ("type_map", "descriptor", "fitting_net", "repinit", "repformer")
"""What is compared on its own."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A key with another value in the checkpoint.

    Args:
        parts: The key and the sections above it, from the network on.
        ours: The value in the input.
        theirs: The value in the checkpoint.
        is_mild: Whether the weights still make sense: they make another function.
    """

    parts: tuple[str, ...]
    ours: Any
    theirs: Any
    is_mild: bool = False


def descriptor_differences(ours: Descriptor, theirs: Descriptor) -> Iterator[Difference]:
    """Yield where two descriptors differ, of which the first may be partial."""
    yield from _compare(Descriptor, ours, theirs, ("descriptor",))
    for name, section in (("repinit", Repinit), ("repformer", Repformer)):
        try:
            block = getattr(ours, name)
        except UnusableError:
            continue
        yield from _compare(section, block, getattr(theirs, name), ("descriptor", name))


def fitting_differences(ours: EnergyFitting, theirs: EnergyFitting) -> Iterator[Difference]:
    """Yield where two fitting nets differ, of which the first may be partial."""
    yield from _compare(EnergyFitting, ours, theirs, ("fitting_net",))


def model_differences(ours: Model, theirs: Model) -> Iterator[Difference]:
    """Yield where two models differ around their networks, of which the first may be partial."""
    yield from _compare(Model, ours, theirs, ())


def _compare(
    section: type[Section], ours: Any, theirs: Any, parts: tuple[str, ...]
) -> Iterator[Difference]:
    for name in section.model_fields:
        effect = effect_of_key(section, name)
        if effect not in ("weights", "function") or name in _SECTIONS or not _used(name, theirs):
            continue
        try:
            mine = _plain(name, getattr(ours, name))
        except UnusableError:
            continue
        other = _plain(name, getattr(theirs, name))
        if mine != other and not (isinstance(mine, str) and mine.startswith("auto")):
            yield Difference((*parts, name), mine, other, effect == "function")


def _used(name: str, block: Any) -> bool:
    """Return whether a key has an effect in a block of a sound model."""
    if name.startswith("three_body_"):
        return bool(block.use_three_body)
    if name.startswith("attn1_"):
        return bool(block.update_g1_has_attn)
    if name.startswith("attn2_"):
        return bool(block.update_g2_has_attn or block.update_h2)
    return True


def _plain(name: str, value: Any) -> Any:
    """Return a value in the one spelling of several that mean the same."""
    if name == "precision" and isinstance(value, str):
        return canonical_precision(value)
    if name == "ln_eps" and value is None:
        return 1e-5
    if name == "atom_ener":  # only whether there is a number counts
        return [item for item in value if item is not None][:1] and ["a number"]
    return value.lower() if name == "activation_function" and isinstance(value, str) else value


def auto_selections(ours: Descriptor) -> Iterator[tuple[str, ...]]:
    """Yield the keys of numbers of neighbours that are left to the data."""
    for block, key in (("repinit", "nsel"), ("repinit", "three_body_sel"), ("repformer", "nsel")):
        try:
            if isinstance(getattr(getattr(ours, block), key), str):
                yield ("descriptor", block, key)
        except UnusableError:
            continue
