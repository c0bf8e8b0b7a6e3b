"""`registry.yaml`: the pretrained models that are known by name."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

_FileName = Annotated[str, Field(pattern=r"^[\w\-]+(\.[\w\-]+)*$")]
_FilePath = Annotated[str, Field(pattern=r"^[\w\-]+(\.[\w\-]+)*(/[\w\-]+(\.[\w\-]+)*)*$")]
_Repository = Annotated[str, Field(pattern=r"^\w[\w\-.]*/\w[\w\-.]*$")]
_Revision = Annotated[str, Field(pattern=r"^\w[\w\-]*([./]\w[\w\-]*)*$")]
_Name = Annotated[str, Field(pattern=r"^\w[\w\-.+]*$")]
_Url = Annotated[str, Field(pattern=r"^https?://[^\s/]+(/\S*)?$")]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True)


class BundledSource(_Entry):
    """A file that is installed with the program."""

    kind: Literal["bundled"]
    """Fixed."""
    path: _FilePath
    """Below the package `zoo`."""


class HuggingFaceSource(_Entry):
    """A file of a repository of Hugging Face, or of a mirror that speaks its protocol."""

    kind: Literal["huggingface"]
    """Fixed."""
    repo: _Repository
    """`owner/name`."""
    path: _FilePath
    """Of the file within the repository."""
    revision: _Revision = "main"
    """Branch, tag or commit."""
    endpoint: _Url | None = None
    """The mirror's address; without one `HF_ENDPOINT` or Hugging Face itself."""


class ModelScopeSource(_Entry):
    """A file of a repository of ModelScope."""

    kind: Literal["modelscope"]
    """Fixed."""
    repo: _Repository
    """`owner/name`."""
    path: _FilePath
    """Of the file within the repository."""
    revision: _Revision = "master"
    """Branch, tag or commit."""


class AisSquareSource(_Entry):
    """A file of a model of AIS Square."""

    kind: Literal["aissquare"]
    """Fixed."""
    url: _Url
    """Of the file in its store."""
    page: int | None = None
    """Number of the model's page."""


class HttpsSource(_Entry):
    """A file at an address."""

    kind: Literal["https"]
    """Fixed."""
    url: _Url
    """Its address."""


class FileSource(_Entry):
    """A file beside the registry that names it, as `zoo bundle` writes it."""

    kind: Literal["file"]
    """Fixed."""
    path: _FilePath
    """Below the registry's folder, or below its address."""


Source = Annotated[
    BundledSource
    | HuggingFaceSource
    | ModelScopeSource
    | AisSquareSource
    | HttpsSource
    | FileSource,
    Field(discriminator="kind"),
]


class SupersededFile(_Entry):
    """A file of the same name that must not be used any more."""

    sha256: _Sha256 | None = None
    """Of its content; None where nobody published it."""
    reason: str
    """Why it was replaced."""


class ModelFile(_Entry):
    """A file of a model and where it can be had."""

    name: _FileName
    """Its name on disk."""
    size: Annotated[int, Field(gt=0)] | None = None
    """Bytes; None where nobody published it."""
    sha256: _Sha256 | None = None
    """Of the content; None: trusted on first use."""
    superseded: list[SupersededFile] = []
    """Earlier files of that name."""
    sources: Annotated[list[Source], Field(min_length=1)]
    """In the order in which they are tried where none is measurably faster."""


class RegisteredBranch(_Entry):
    """A branch of a multi-task model."""

    name: str
    """In the file."""
    domain: str
    """What it was trained on."""
    functional: str | None = None
    """Level of theory of its labels."""
    code: str | None = None
    """Program that computed them."""


class KnownBadVersion(_Entry):
    """Versions of deepmd-kit that cannot use the model."""

    deepmd_kit: str
    """A version specifier such as `<3.1`."""
    reason: str
    """What happens there."""


class RegisteredModel(_Entry):
    """A pretrained model."""

    name: _Name
    """What users write; upper and lower case are the same."""
    aliases: list[_Name] = []
    """Other names."""
    revision: Annotated[str, Field(pattern=r"^\w[\w\-.]*$")] | None = None
    """Of the model, for `name@revision`; the first of a name is what the bare name means."""
    description: str
    """One sentence."""
    family: str
    """Architecture, such as `DPA-2`."""
    trainable: bool
    """Whether this engine trains and fine-tunes it."""
    elements: list[str] = []
    """What it knows; empty where only the file says it."""
    branches: list[RegisteredBranch] = []
    """Documented branches of a multi-task model; the file has the true list."""
    num_branches: Annotated[int, Field(gt=0)] | None = None
    """How many the file has; None where nobody published it, or `branches` has all of them."""
    file: ModelFile
    """The checkpoint."""
    licence: str | None = None
    """SPDX identifier."""
    citation: str | None = None
    """What to cite."""
    training_input: str | None = None
    """The input it was trained with: an address, or a path of the project's sources."""
    known_bad: list[KnownBadVersion] = []
    """Versions of deepmd-kit that fail with it."""

    @property
    def reference(self) -> str:
        """What names exactly this model: `name`, or `name@revision`."""
        return self.name if self.revision is None else f"{self.name}@{self.revision}"

    @property
    def names(self) -> Iterator[str]:
        """Its name, then its aliases."""
        yield self.name
        yield from self.aliases

    def is_of(self, family: str) -> bool:
        """Return whether it is of a family as people type it: DPA-2, dpa2 and DPA_2 are one."""
        return _plain(self.family) == _plain(family)


def _plain(family: str) -> str:
    return family.lower().replace("-", "").replace("_", "")


class Registry(_Entry):
    """All models of one `registry.yaml`."""

    version: Literal[1]
    """Of the format."""
    models: list[RegisteredModel]
    """The models; every name and alias once, or once for each revision."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> "Registry":
        seen: set[tuple[str, str | None]] = set()
        for model in self.models:
            for name in model.names:
                key = (name.lower(), model.revision)
                if key in seen:
                    raise ValueError(f"the name {name} is given to two models")
                seen.add(key)
        return self
