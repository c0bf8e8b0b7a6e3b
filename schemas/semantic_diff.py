"""Where two inputs, or an input and a checkpoint, mean different things."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.architecture import descriptor_differences, fitting_differences
from schemas.diagnostics import Path
from schemas.errors import ConfigError
from schemas.input import Input
from schemas.model import Model, parse_model
from schemas.multitask import Link, MultiTaskInput
from schemas.network import SAME_PRECISION
from schemas.normalize import normalized
from schemas.start import DEFAULT_BRANCH

MISSING = None
"""What stands for a key that is not there."""

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
        links: What branches share.
        is_checkpoint: Whether there is nothing but the model.
    """

    name: str
    document: dict[str, Any] = field(repr=False)
    models: dict[str, Model] = field(repr=False)
    links: tuple[Link, ...] = ()
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
    def section(self) -> str:
        """The dotted path of the section in which the key is."""
        return ".".join(map(str, self.path[:-1]))


def meaning_of_input(name: str, config: Input | MultiTaskInput) -> Meaning:
    """Return what an input says; parts in `shared_dict` are in the models that use them."""
    document = normalized(config)
    if isinstance(config, Input):
        return Meaning(name, document, {DEFAULT_BRANCH: config.model})
    document["model"].pop("shared_dict", None)
    return Meaning(name, document, dict(config.model.model_dict), tuple(config.links))


def meaning_of_checkpoint(name: str, model_params: Mapping[str, Any]) -> Meaning:
    """Return what a checkpoint says about its model.

    Raises:
        ConfigError: A model in it is none of DPA-2.
    """
    sections = model_params.get("model_dict")
    if not isinstance(sections, Mapping):
        model = parse_model(model_params)
        document = {"model": normalized(model)}
        return Meaning(name, document, {DEFAULT_BRANCH: model}, is_checkpoint=True)
    models = {branch: parse_model(section) for branch, section in sections.items()}
    document = {"model": {"model_dict": {key: normalized(item) for key, item in models.items()}}}
    return Meaning(name, document, models, is_checkpoint=True)


def differences(ours: Meaning, theirs: Meaning) -> list[Change]:
    """Return every difference, in the order of the first file.

    Where one of the two is a checkpoint only the models are compared, without what a run notes
    about itself (`info`), and numbers of neighbours left to the data (`auto`) agree with any.

    Raises:
        ConfigError: One has branches and the other has none.
    """
    if ours.has_branches != theirs.has_branches:
        many, one = (ours, theirs) if ours.has_branches else (theirs, ours)
        raise ConfigError(
            f"{many.name} has the branches {', '.join(many.models)}, {one.name} has none",
            hint="compare files of the same kind, or choose one with --branch",
        )
    only_model = ours.is_checkpoint or theirs.is_checkpoint
    first, second = (
        {"model": item.document["model"]} if only_model else item.document
        for item in (ours, theirs)
    )
    weights = _architecture(ours, theirs)
    found = [
        Change(path, one, other, path in weights)
        for path, one, other in _compare(first, second, ())
        if not (only_model and _is_of_the_run(path, one, other))
    ]
    return found if only_model else found + _sharing(ours, theirs)


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
    return Meaning(f"{meaning.name} ({branch})", document, {DEFAULT_BRANCH: model}, (), True)


def _compare(ours: Any, theirs: Any, path: Path) -> Iterator[tuple[Path, Any, Any]]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in dict.fromkeys([*ours, *theirs]):
            yield from _compare(ours.get(key, MISSING), theirs.get(key, MISSING), (*path, key))
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


def _sharing(ours: Meaning, theirs: Meaning) -> list[Change]:
    """Compare who shares what with whom, whatever it is called."""

    def shared(meaning: Meaning) -> dict[tuple[str, str], str]:
        return {
            (link.branch, link.component): f"of {link.owner}, level {link.level}"
            for link in meaning.links
            if link.branch != link.owner
        }

    mine, other = shared(ours), shared(theirs)
    return [
        Change(
            ("model", "model_dict", branch, component, "shared"),
            mine.get((branch, component)),
            other.get((branch, component)),
            is_architecture=True,
        )
        for branch, component in dict.fromkeys([*mine, *other])
        if mine.get((branch, component)) != other.get((branch, component))
    ]
