"""A multi-task input as written: branches, references to shared parts, each branch as one task."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from schemas.base.diagnostics import Path
from schemas.input.model import Model
from schemas.input.root import Input, Link, MultiTaskInput, MultiTaskTraining
from schemas.input.section import aliases, canonical_keys, is_comment
from schemas.input.start import Start, with_pretrained
from schemas.input.training import TaskData
from schemas.input.view import View, object_in, sound_value

COMPONENTS = ("type_map", "descriptor", "fitting_net")
"""What a branch may refer to by name."""

LEVELS: dict[str, tuple[int, ...]] = {"type_map": (), "descriptor": (0, 1), "fitting_net": (0,)}
"""The levels at which each component can be shared."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A text in a branch in the place of a component.

    Args:
        branch: The branch.
        component: One of `COMPONENTS`.
        path: Where the text is written in the file.
        written: The text.
    """

    branch: str
    component: str
    path: Path
    written: str

    @property
    def name(self) -> str:
        """The name in `shared_dict`."""
        return self.written.partition(":")[0]

    @property
    def level_text(self) -> str | None:
        """What stands behind the colon; None if there is none."""
        _, colon, level = self.written.partition(":")
        return level if colon else None

    @property
    def level(self) -> int | None:
        """The level of sharing; None if there is no such level."""
        text = self.level_text
        if text is None:
            return 0
        known = {str(level): level for level in LEVELS[self.component]}
        return known.get(text)


MODEL_KEYS = ("shared_dict", "model_dict")
BRANCH_DATA = tuple(TaskData.model_fields)
ROOT_KEYS = tuple(name for name in MultiTaskInput.model_fields if name != "links")
LEGACY_KEYS = ("fitting_net_dict", "learning_rate_dict")
"""Of version 2 of deepmd-kit."""


def is_multitask(data: Mapping[str, Any]) -> bool:
    """Return whether an input has branches, or was meant to."""
    model, training = data.get("model"), data.get("training")
    in_model = isinstance(model, dict) and any(
        key in model for key in (*MODEL_KEYS, "fitting_net_dict")
    )
    in_training = isinstance(training, dict) and "data_dict" in training
    return in_model or in_training or "loss_dict" in data


@dataclass
class Draft:
    """A multi-task input before anything in it is known to be right.

    Args:
        data: The data of the file, migrated.
        start: The checkpoint from which the training is to start.
        sound: The sound part of each branch; filled in once the branches are examined.
    """

    data: dict[str, Any]
    start: Start | None = None
    sound: dict[str, Input] = field(default_factory=dict)

    @cached_property
    def model(self) -> dict[str, Any]:
        """The section `model`."""
        return object_in(self.data, "model")

    @cached_property
    def training(self) -> dict[str, Any]:
        """The section `training` with canonical keys."""
        return canonical_keys(MultiTaskTraining, object_in(self.data, "training"))

    @cached_property
    def shared(self) -> dict[str, Any]:
        """What branches can refer to."""
        return object_in(self.model, "shared_dict")

    @cached_property
    def branches(self) -> dict[str, dict[str, Any]]:
        """The branches as written, comments and what is no object left out."""
        return {
            name: branch
            for name, branch in object_in(self.model, "model_dict").items()
            if isinstance(branch, dict) and not is_comment(name)
        }

    @cached_property
    def names(self) -> list[str]:
        """The names of all branches, also of those that are no objects."""
        return [name for name in object_in(self.model, "model_dict") if not is_comment(name)]

    @cached_property
    def common(self) -> dict[str, Any]:
        """Keys of `model` that every branch without them gets."""
        known = {*Model.model_fields, *aliases(Model)}
        return {
            key: value
            for key, value in self.model.items()
            if key in known or (is_comment(key) and key not in MODEL_KEYS)
        }

    @cached_property
    def references(self) -> list[Reference]:
        """Every reference, in the order of the file."""
        found = []
        for name, branch in self.branches.items():
            for component in COMPONENTS:
                written, path = self.component(name, branch, component)
                if isinstance(written, str):
                    found.append(Reference(name, component, path, written))
        return found

    def component(self, name: str, branch: Mapping[str, Any], component: str) -> tuple[Any, Path]:
        """Return what a branch has as a component, and where it is written."""
        if component in branch or component not in self.common:
            return branch.get(component), ("model", "model_dict", name, component)
        return self.common[component], ("model", component)

    def values(self, dotted: str) -> dict[str, Any]:
        """Return the values of a key in all branches where it is sound."""
        found = {name: sound_value(config, dotted) for name, config in self.sound.items()}
        return {name: value for name, value in found.items() if value is not None}

    @cached_property
    def training_keys(self) -> set[str]:
        """The keys of `training`, aliases included."""
        return {*MultiTaskTraining.model_fields, *aliases(MultiTaskTraining)}

    def per_branch(self, key: str) -> dict[str, Any]:
        """Return `loss_dict`, `data_dict`, `model_prob` or `num_epoch_dict` without comments."""
        holder = self.data if key == "loss_dict" else self.training
        entries = object_in(holder, key)
        return {name: value for name, value in entries.items() if not is_comment(name)}

    def users(self, *components: str) -> dict[str, list[Reference]]:
        """Return the references to each shared part as some component, by its name."""
        found: dict[str, list[Reference]] = {}
        for reference in self.references:
            if reference.component in components and reference.level is not None:
                found.setdefault(reference.name, []).append(reference)
        return found

    def links(self) -> list[Link]:
        """Return what is shared between which branches, sorted as deepmd-kit does."""
        links = []
        for name, members in self.users("descriptor", "fitting_net").items():
            members.sort(key=lambda reference: reference.level or 0)
            links += [
                Link(
                    name=name,
                    component="descriptor" if item.component == "descriptor" else "fitting_net",
                    branch=item.branch,
                    level=item.level or 0,
                    owner=members[0].branch,
                )
                for item in members
            ]
        return links

    @cached_property
    def views(self) -> list[View]:
        """Each branch as a single task."""
        return [
            with_pretrained(self._view(name, branch), self.start, is_multitask=True)
            for name, branch in self.branches.items()
        ]

    def _view(self, name: str, branch: dict[str, Any]) -> View:
        home: Path = ("model", "model_dict", name)
        origins: list[tuple[Path, Path]] = [(("model",), home)]
        hidden: list[Path] = []
        model = dict(branch)
        for key, value in self.common.items():
            if key not in model:
                model[key] = value
                origins.append((("model", key), ("model", key)))
        for reference in self.references:
            if reference.branch != name:
                continue
            here: Path = ("model", reference.component)
            if has_kind(self.shared.get(reference.name), reference.component):
                model[reference.component] = self.shared[reference.name]
                origins = [pair for pair in origins if pair[0] != here]
                origins.append((here, ("model", "shared_dict", reference.name)))
            else:
                model.pop(reference.component)
                hidden.append(here)
        data = {
            key: value
            for key, value in self.data.items()
            if (key in ROOT_KEYS and key != "loss_dict") or is_comment(key)
        }
        data["model"] = model
        origins.append((("loss",), ("loss_dict", name)))
        losses = self.per_branch("loss_dict")
        data["loss"] = losses.get(name, {})
        if name not in losses:
            hidden.append(("loss",))
        data["training"] = self._training(name, origins, hidden)
        origins.sort(key=lambda pair: -len(pair[0]))
        return View(data, name, tuple(origins), tuple(hidden))

    def _training(
        self, name: str, origins: list[tuple[Path, Path]], hidden: list[Path]
    ) -> dict[str, Any]:
        known = self.training_keys - {"data_dict", "model_prob", "num_epoch_dict"}
        training = {
            key: value
            for key, value in object_in(self.data, "training").items()
            if key in known or is_comment(key)
        }
        section = self.per_branch("data_dict").get(name)
        if not isinstance(section, dict):
            hidden.append(("training", "training_data"))
        home: Path = ("training", "data_dict", name)
        for key in BRANCH_DATA:
            origins.append((("training", key), (*home, key)))
            if isinstance(section, dict) and key in section:
                training[key] = section[key]
        if not isinstance(self.data.get("training"), dict):
            hidden.append(("training",))
        return training

    def expanded(self) -> dict[str, Any]:
        """Return the data of the file with every reference replaced by what it refers to."""
        views = {view.branch: view.data for view in self.views}
        model_dict = {name: data["model"] for name, data in views.items()}
        model = {"shared_dict": self.shared, "model_dict": model_dict}
        return {**self.data, "model": model, "links": self.links()}


def has_kind(shared: Any, component: str) -> bool:
    """Return whether a shared part can be this component."""
    if component == "type_map":
        return isinstance(shared, list)
    return isinstance(shared, dict) and kind_of(shared) in (component, None)


def kind_of(shared: Any) -> str | None:
    """Return which component a shared part plainly is; None if that cannot be said."""
    if isinstance(shared, list):
        return "type_map"
    if not isinstance(shared, dict):
        return None
    if {"repinit", "repformer"} & set(shared):
        return "descriptor"
    return "fitting_net" if {"neuron", "n_neuron"} & set(shared) and "rcut" not in shared else None
