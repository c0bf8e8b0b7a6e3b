"""Where two inputs, or an input and a checkpoint, mean different things."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.base.diagnostics import Path
from schemas.base.errors import ConfigError
from schemas.input.effects import Effect, descriptor_differences, effect_of, fitting_differences
from schemas.input.model import Model, parse_model
from schemas.input.root import Input, MultiTaskInput, normalized
from schemas.input.section import SAME_PRECISION
from schemas.input.start import DEFAULT_BRANCH

MISSING = None
"""What stands for a key that is not there."""
SHARING = "sharing"
"""Beside the settings of a run of several tasks: who shares what with whom."""

SHARED = "shared"
"""The last part of a path that stands for who shares a part."""

_EQUAL: dict[str, dict[Any, Any]] = {
    "precision": SAME_PRECISION,
    "ln_eps": {None: 1e-5},
}
"""Values that mean the same, by key."""
_ONE_OR_LIST = {"systems"}


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


def meaning_of_input(name: str, config: Input | MultiTaskInput) -> Meaning:
    """Return what an input says; parts in `shared_dict` are in the models that use them."""
    document = normalized(config)
    if isinstance(config, Input):
        return Meaning(name, document, {DEFAULT_BRANCH: config.model})
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
        return Meaning(name, document, {DEFAULT_BRANCH: model}, is_checkpoint=True)
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
    weights = _architecture(ours, theirs)
    found = [
        Change(path, one, other, path in weights)
        for path, one, other in compare(first, second)
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
    return Meaning(f"{meaning.name} ({branch})", document, {DEFAULT_BRANCH: model}, None, True)


def compare(ours: Any, theirs: Any, path: Path = ()) -> Iterator[tuple[Path, Any, Any]]:
    """Yield the path of each value that differs, and both values."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in dict.fromkeys([*ours, *theirs]):
            yield from compare(ours.get(key, MISSING), theirs.get(key, MISSING), (*path, key))
    elif _plain(path, ours) != _plain(path, theirs):
        yield path, ours, theirs


def _plain(path: Path, value: Any) -> Any:
    """Return a value in the one spelling of several that mean the same."""
    key = str(path[-1]) if path else ""
    if key in _ONE_OR_LIST and isinstance(value, str):
        return [value]
    if key == "activation_function" and isinstance(value, str):
        return value.lower()
    if key in _EQUAL and not isinstance(value, (list, dict)):
        return _EQUAL[key].get(value, value)
    return value


def _is_of_the_run(path: Path, ours: Any, theirs: Any) -> bool:
    if "info" in path or "finetune_head" in path:
        return True
    return any(isinstance(value, str) and value.startswith("auto") for value in (ours, theirs))


def _architecture(ours: Meaning, theirs: Meaning) -> set[Path]:
    """Return the paths of differences with which weights of one do not fit the other."""
    found: set[Path] = set()
    for branch, mine in ours.models.items():
        other = theirs.models.get(branch)
        above: Path = ("model", "model_dict", branch) if ours.has_branches else ("model",)
        if other is None:
            continue
        if mine.type_map != other.type_map:
            found.add((*above, "type_map"))
        pairs = [
            *descriptor_differences(mine.descriptor, other.descriptor),
            *fitting_differences(mine.fitting_net, other.fitting_net),
        ]
        found |= {(*above, *item.parts) for item in pairs if not item.is_mild}
    return found


def is_sharing(path: Path) -> bool:
    """Return whether a path of a difference stands for who shares a part with whom."""
    return path[-1:] == (SHARED,)


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
