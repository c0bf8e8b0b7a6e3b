"""Where inputs and checkpoints differ, and what each difference does to trained weights."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from schemas.base.diagnostics import Path
from schemas.base.errors import ConfigError
from schemas.checkpoint.branch_names import SINGLE_TASK_BRANCH
from schemas.input.descriptor import Descriptor, Repformer, Repinit
from schemas.input.model import EnergyFitting, Model, parse_model
from schemas.input.optimization import Adam, EnergyLoss, Schedule
from schemas.input.root import Input, MultiTaskInput, normalized
from schemas.input.section import SAME_PRECISION, Section
from schemas.input.training import DataSection, Training, Validating
from schemas.input.view import child, fields

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
    DataSection: "course",
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
        | {"full_val_start", "compiled_infer", "tf32_infer", "amp_infer"}
    },
}
_BY_BRANCH: dict[str, type[Section]] = {
    "model_dict": Model,
    "loss_dict": EnergyLoss,
    "data_dict": Training,
}
"""What each branch has under its name."""

SHARING = "sharing"
"""Beside the settings of a run of several tasks: who shares what with whom."""
SHARED = "shared"
"""The last part of a path that stands for who shares a part."""


def effect_of_key(section: type[Section], name: str) -> Effect:
    """Return what another value of a key of a section does.

    Args:
        section: One of those above, or derived from one; all optimisers are `Adam`.
        name: The key.
    """
    known = next(base for base in section.__mro__ if base in _OF_SECTIONS)
    for effect, names in EXCEPTIONS.get(known, {}).items():
        if name in names:
            return effect
    return _OF_SECTIONS[known]


def effect_of(path: Path) -> Effect:
    """Return what another value at a path of a normalised input does."""
    section: type[Section] = Input
    parts = iter(str(part) for part in path)
    for part in parts:
        below = _BY_BRANCH.get(part) or child(section, part, None)
        if below is None or not set(below.__mro__) & set(_OF_SECTIONS):
            return effect_of_key(section, part)
        section = below
        if part in _BY_BRANCH:
            next(parts, None)
    return effect_of_key(section, "descriptor")  # a whole model, or another whole section


@dataclass(frozen=True, slots=True)
class Change:
    """A key with another value.

    Args:
        path: Where it is.
        ours: The value in the first file, None where it has no such key.
        theirs: The value in the second.
        is_architecture: Whether weights of one do not fit the other.
    """

    path: Path
    ours: Any
    theirs: Any
    is_architecture: bool = False

    @property
    def effect(self) -> Effect:
        """What it does to weights that are there, and to a run that is continued."""
        return "weights" if self.is_architecture else effect_of(self.path)

    @property
    def section(self) -> str:
        """The dotted path of the section in which the key is."""
        return ".".join(map(str, self.path[:-1]))

    @property
    def is_of_sharing(self) -> bool:
        """Whether it is about who shares a part with whom."""
        return self.path[-1:] == (SHARED,)


def model_changes(ours: Model, theirs: Model, above: Path = ("model",)) -> Iterator[Change]:
    """Yield where weights of one model do not fit the other, or make another function there.

    Args:
        ours: A model, or what is sound of one; numbers left to the data (`auto`) agree with any.
        theirs: A sound model; keys without effect in it are left out.
        above: Where the models are.
    """
    known = {item.path: item.value for item in fields(theirs)}
    for item in fields(ours):
        path: Path = (*above, *item.path)
        mine, other = item.value, known.get(item.path)
        effect = effect_of(path)
        if effect not in ("weights", "function") or not _is_used(str(path[-1]), theirs):
            continue
        if _plain(path, mine) != _plain(path, other) and not _is_auto(mine):
            yield Change(path, mine, other, effect == "weights")


def _is_used(name: str, model: Model) -> bool:
    """Return whether a key of a descriptor has an effect beside the others."""
    repformer = model.descriptor.repformer
    switches = {
        "three_body_": model.descriptor.repinit.use_three_body,
        "attn1_": repformer.update_g1_has_attn,
        "attn2_": repformer.update_g2_has_attn or repformer.update_h2,
    }
    return next((on for prefix, on in switches.items() if name.startswith(prefix)), True)


def auto_selections(ours: Descriptor) -> Iterator[tuple[str, str, str]]:
    """Yield the keys of numbers of neighbours that are left to the data, paths below `model`."""
    for item in fields(ours):
        block, key = str(item.path[0]), str(item.path[-1])
        if key in ("nsel", "three_body_sel") and _is_auto(item.value):
            yield "descriptor", block, key


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a file says, in one spelling.

    Args:
        name: The file.
        document: The normalised input, or the `model` section alone for a checkpoint.
        models: The model of each branch.
        shared: What branches share, by branch and component; None if the file does not say.
        is_checkpoint: Whether it is a checkpoint; of some there is nothing but the model.
    """

    name: str
    document: dict[str, Any] = field(repr=False)
    models: dict[str, Model] = field(repr=False)
    shared: Mapping[str, Mapping[str, str]] | None = None
    is_checkpoint: bool = False

    @property
    def has_branches(self) -> bool:
        """Whether it is of several tasks."""
        return "model_dict" in self.document["model"]


def meaning_of_input(name: str, config: Input | MultiTaskInput) -> Meaning:
    """Return what an input says; parts in `shared_dict` are in the models that use them."""
    document = normalized(config)
    if isinstance(config, Input):
        return Meaning(name, document, {SINGLE_TASK_BRANCH: config.model})
    document["model"].pop("shared_dict", None)
    return Meaning(name, document, dict(config.model.model_dict), _shared_parts(config))


def settings_of(config: Input | MultiTaskInput) -> dict[str, Any]:
    """Return what a checkpoint notes about its run: the normalised input without the model."""
    document = {key: value for key, value in normalized(config).items() if key != "model"}
    if isinstance(config, MultiTaskInput):
        document[SHARING] = _shared_parts(config)
    return document


def meaning_of_checkpoint(
    name: str, model_params: Mapping[str, Any], settings: Mapping[str, Any] | None = None
) -> Meaning:
    """Return what a checkpoint says about its model, and its run if it does.

    Raises:
        ConfigError: A model in it is none of DPA-2.
    """
    noted = {key: value for key, value in (settings or {}).items() if key != SHARING}
    sections = model_params.get("model_dict")
    if not isinstance(sections, Mapping):
        model = parse_model(model_params)
        document = {"model": normalized(model), **noted}
        return Meaning(name, document, {SINGLE_TASK_BRANCH: model}, is_checkpoint=True)
    models = {branch: parse_model(section) for branch, section in sections.items()}
    branches = {key: normalized(item) for key, item in models.items()}
    document = {"model": {"model_dict": branches}, **noted}
    shared = (settings or {}).get(SHARING)
    return Meaning(name, document, models, shared, is_checkpoint=True)


def differences(ours: Meaning, theirs: Meaning) -> list[Change]:
    """Return every difference, in the order of the first file.

    Where one of the two is a checkpoint that does not note the settings of its run only the models
    are compared. What a run notes about its model (`info`) is left out then, and numbers of
    neighbours left to the data (`auto`) agree with any.

    Raises:
        ConfigError: One has branches and the other has none.
    """
    if ours.has_branches != theirs.has_branches:
        many, one = (ours, theirs) if ours.has_branches else (theirs, ours)
        raise ConfigError(
            f"{many.name} has the branches {', '.join(many.models)}, {one.name} has none",
            hint="compare files of the same kind, or choose one with --branch",
        )
    has_checkpoint = ours.is_checkpoint or theirs.is_checkpoint
    only_model = any(len(item.document) == 1 for item in (ours, theirs))
    first, second = (
        {"model": item.document["model"]} if only_model else item.document
        for item in (ours, theirs)
    )
    weights = {
        item.path
        for branch in ours.models.keys() & theirs.models.keys()
        for item in model_changes(
            ours.models[branch],
            theirs.models[branch],
            ("model", "model_dict", branch) if ours.has_branches else ("model",),
        )
        if item.is_architecture
    }
    found = [
        Change(path, one, other, path in weights)
        for path, one, other in _compare(first, second)
        if not (has_checkpoint and _is_of_the_run(path, one, other))
    ]
    return found + _sharing(ours, theirs)


def branch_of(meaning: Meaning, branch: str) -> Meaning:
    """Return what a file says about the model of one branch.

    Raises:
        ConfigError: It has no such branch.
    """
    if branch not in meaning.models:
        raise ConfigError(
            f"{meaning.name} has no branch `{branch}`",
            hint=f"its branches are {', '.join(meaning.models)}",
        )
    model = meaning.models[branch]
    document = {"model": normalized(model)}
    return Meaning(f"{meaning.name} ({branch})", document, {SINGLE_TASK_BRANCH: model}, None, True)


def _compare(ours: Any, theirs: Any, path: Path = ()) -> Iterator[tuple[Path, Any, Any]]:
    """Yield the path of each value that differs, and both values; None where there is none."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in dict.fromkeys([*ours, *theirs]):
            yield from _compare(ours.get(key), theirs.get(key), (*path, key))
    elif _plain(path, ours) != _plain(path, theirs):
        yield path, ours, theirs


def _plain(path: Path, value: Any) -> Any:
    """Return a value in the one spelling of several that mean the same."""
    match path[-1] if path else None, value:
        case "systems", str():
            return [value]
        case "activation_function", str():
            return value.lower()
        case "precision", str():
            return SAME_PRECISION.get(value, value)
        case "ln_eps", None:
            return 1e-5
        case "atom_ener", list():  # only whether there is a number counts
            return any(item is not None for item in value)
    return value


def _is_auto(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("auto")


def _is_of_the_run(path: Path, ours: Any, theirs: Any) -> bool:
    return bool({"info", "finetune_head"} & set(path)) or _is_auto(ours) or _is_auto(theirs)


def _sharing(ours: Meaning, theirs: Meaning) -> list[Change]:
    """Compare who shares what with whom, whatever it is called."""
    if ours.shared is None or theirs.shared is None:
        return []
    mine, other = (
        {(branch, part): text for branch, parts in shared.items() for part, text in parts.items()}
        for shared in (ours.shared, theirs.shared)
    )
    return [
        Change(
            ("model", "model_dict", *place, SHARED),
            mine.get(place),
            other.get(place),
            is_architecture=True,
        )
        for place in dict.fromkeys([*mine, *other])
        if mine.get(place) != other.get(place)
    ]


def _shared_parts(config: MultiTaskInput) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for link in config.links:
        if link.branch != link.owner:
            text = f"of {link.owner}, level {link.level}"
            found.setdefault(link.branch, {})[link.component] = text
    return found
