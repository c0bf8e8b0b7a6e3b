"""`registry.yaml`: the pretrained models that are known by name."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BundledSource(_Entry):
    """A file that is installed with the program."""

    kind: Literal["bundled"]
    path: Annotated[str, Field(pattern=r"^[\w\-]+(/[\w\-]+(\.[\w\-]+)*)*$")]
    """Below the package `zoo`; a plain relative path."""


class ModelFile(_Entry):
    """A file of a model and where it can be had."""

    name: Annotated[str, Field(pattern=r"^[\w\-]+(\.[\w\-]+)*$")]
    """Its name on disk."""
    size: Annotated[int, Field(gt=0)]
    """Bytes."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Of the content; checked before every use."""
    sources: Annotated[list[BundledSource], Field(min_length=1)]
    """In the order in which they are tried."""


class RegisteredBranch(_Entry):
    """A branch of a multi-task model."""

    name: str
    """In the file."""
    domain: str
    """What it was trained on."""
    functional: str
    """Level of theory of its labels."""
    code: str
    """Program that computed them."""


class RegisteredModel(_Entry):
    """A pretrained model."""

    name: str
    """What users write; upper and lower case are the same."""
    aliases: list[str] = []
    """Other names."""
    description: str
    """One sentence."""
    family: str
    """Architecture, `DPA-2`."""
    trainable: bool
    """Whether this engine trains and fine-tunes it."""
    elements: list[str]
    """What it knows."""
    branches: list[RegisteredBranch] = []
    """Of a multi-task model."""
    file: ModelFile
    """The checkpoint."""
    licence: str
    """SPDX identifier."""
    training_input: str | None = None
    """The input it was trained with, below the project's root."""


class Registry(_Entry):
    """All models of one `registry.yaml`."""

    version: Literal[1]
    """Of the format."""
    models: list[RegisteredModel]
    """The models; every name and alias once."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> "Registry":
        seen: set[str] = set()
        for model in self.models:
            for name in (model.name, *model.aliases):
                if name.lower() in seen:
                    raise ValueError(f"the name {name} is given to two models")
                seen.add(name.lower())
        return self
