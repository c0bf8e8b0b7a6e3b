"""The card of a model: the Markdown page that goes with it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.base.writing import file_sha256
from schemas.checkpoint.header import read_header
from schemas.lock import Lock
from zoo.branches import BranchSummary, summarize

_DPA2_REFERENCE = """\
@article{dpa2_2024,
  title   = {{DPA-2}: a large atomic model as a multi-task learner},
  author  = {Zhang, Duo and Liu, Xinzijian and Zhang, Xiangyu and others},
  journal = {npj Computational Materials},
  volume  = {10},
  pages   = {293},
  year    = {2024},
  doi     = {10.1038/s41524-024-01493-2}
}"""
ARCHITECTURES = {"dpa1": "DPA-1", "dpa2": "DPA-2", "dpa3": "DPA-3", "dpa4": "DPA-4"}
"""Names of architectures by the type of their descriptor."""
_TAGS = ("deepmd-kit", "interatomic-potential", "molecular-dynamics", "chemistry", "materials")
_MOST_INPUT = 20_000
"""Characters of a training input beyond which the card leaves it to its file."""


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What is known of a model.

    Args:
        title: The model's name.
        reference: How `zoo pull` gets it, such as `hf://owner/name/model.pt`.
        file: The checkpoint's name.
        size: Its bytes.
        sha256: Of its content.
        branches: What the file says.
        multitask: Whether branches have to be chosen by name.
        steps: Training steps that were done; None if the file does not say.
        description: A sentence of its makers.
        licence: SPDX identifier.
        citation: What to cite besides the architecture.
        lock: Of the run that made it.
        training_input: The input of the run, where there is no lock.
        metrics: Result of `zoo test --json`, or any JSON of numbers.
    """

    title: str
    reference: str
    file: str
    size: int
    sha256: str
    branches: Sequence[BranchSummary]
    multitask: bool
    steps: int | None = None
    description: str | None = None
    licence: str | None = None
    citation: str | None = None
    lock: Lock | None = None
    training_input: Mapping[str, Any] | None = None
    metrics: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, path: Path, **known: Any) -> "CardFacts":
        """Return what a checkpoint says of itself, with what else is known.

        Raises:
            CheckpointError: It is no checkpoint.
        """
        header = read_header(path)
        said = {"title": path.stem, "reference": str(path), "file": path.name}
        return cls(
            **(said | known),
            size=path.stat().st_size,
            sha256=file_sha256(path),
            branches=summarize(header),
            multitask="model_dict" in header.model_params,
            steps=header.steps,
        )

    @property
    def elements(self) -> list[str]:
        """The elements of all branches, each once."""
        return list(dict.fromkeys(name for one in self.branches for name in one.type_map))


def model_card(facts: CardFacts) -> str:
    """Return the card: Markdown with the header that Hugging Face reads."""
    sections = [
        _front_matter(facts),
        f"# {facts.title}",
        facts.description or f"A {_architecture(facts)} model of interatomic energies and forces.",
        _use(facts),
        _model(facts),
        _metrics(facts),
        _training(facts),
        _citation(facts),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _front_matter(facts: CardFacts) -> str:
    import yaml

    types = sorted({branch.descriptor for branch in facts.branches})
    header: dict[str, Any] = {}
    if facts.licence:
        header["license"] = facts.licence.lower()
    header["library_name"] = "dpa-zoo"
    header["tags"] = [*types, *_TAGS]
    text = yaml.safe_dump(header, sort_keys=False, allow_unicode=True)
    return f"---\n{text}---"


def _use(facts: CardFacts) -> str:
    branch = facts.branches[0].name if facts.multitask else None
    choice = f', branch="{branch}"' if branch else ""
    alone = [f"zoo pull {facts.reference} --branch {branch}  # one branch alone"] if branch else []
    return "\n".join(
        (
            "## Use",
            "",
            "```bash",
            "pip install dpa-zoo",
            f"zoo pull {facts.reference} -o .",
            *alone,
            "```",
            "",
            "```python",
            "import dpa2",
            "",
            f'model = dpa2.load("{facts.file}"{choice})',
            "```",
            "",
            "The file is a checkpoint of deepmd-kit's format (`dp --pt`) as well.",
        )
    )


def _model(facts: CardFacts) -> str:
    rows = [
        ("architecture", _architecture(facts)),
        ("type map", " ".join(facts.elements) or "-"),
        ("training steps", "unknown" if facts.steps is None else f"{facts.steps:,}"),
        ("licence", facts.licence or "not stated"),
        ("file", f"`{facts.file}`, {facts.size:,} bytes"),
        ("SHA-256", f"`{facts.sha256}`"),
    ]
    lines = ["## Model", "", *_table(("", ""), rows)]
    if facts.multitask:
        branches = [
            (f"`{one.name}`", _elements(one), one.fitting, _count(one)) for one in facts.branches
        ]
        head = ("branch", "elements in its data", "fitting net", "parameters")
        lines += ["", "### Branches", "", *_table(head, branches)]
    return "\n".join(lines)


def _metrics(facts: CardFacts) -> str:
    rows = [(name, f"{value:.6g}") for name, value in _numbers(facts.metrics or {})]
    if not rows:
        return ""
    return "\n".join(("## Errors", "", *_table(("quantity", "value"), rows)))


def _training(facts: CardFacts) -> str:
    lines: list[str] = []
    lock = facts.lock
    if lock is not None:
        versions = ", ".join(f"{name} {version}" for name, version in lock.made_with.items())
        lines += [f"Made with {versions}: `{_cell('zoo ' + ' '.join(lock.command))}`."]
        if lock.model is not None:
            branch = f", branch `{lock.model.branch}`" if lock.model.branch else ""
            origin = f"`{_cell(lock.model.reference)}`{branch} (SHA-256 `{lock.model.sha256}`)"
            lines += ["", f"It starts from {origin}."]
        if lock.data:
            rows = [
                (f"`{data.path}`", f"{data.systems:,}", f"{data.frames:,}", f"`{data.sha256}`")
                for data in lock.data
            ]
            lines += ["", *_table(("data", "systems", "frames", "SHA-256"), rows)]
    training_input = lock.input.content if lock is not None else facts.training_input
    if training_input is not None:
        text = json.dumps(training_input, indent=2, ensure_ascii=False)
        if len(text) <= _MOST_INPUT:
            fence = "~~~~"  # JSON cannot hold this line
            lines += ["", "<details><summary>Training input</summary>", ""]
            lines += [f"{fence}json", text, fence, "", "</details>"]
        else:
            lines += ["", "The training input lies beside the model."]
    return "\n".join(("## Training", "", *lines)).strip() if lines else ""


def _citation(facts: CardFacts) -> str:
    lines = ["## Citation", ""]
    if facts.citation:
        lines += [facts.citation, ""]
    if any(branch.descriptor == "dpa2" for branch in facts.branches):
        lines += ["The architecture, DPA-2:", "", "```bibtex", _DPA2_REFERENCE, "```"]
    return "\n".join(lines).strip() if len(lines) > 2 else ""


def _architecture(facts: CardFacts) -> str:
    types = dict.fromkeys(branch.descriptor for branch in facts.branches)
    return ", ".join(ARCHITECTURES.get(kind, kind) for kind in types) or "unknown"


def _count(branch: BranchSummary) -> str:
    return "unknown" if branch.num_parameters is None else f"{branch.num_parameters:,}"


def _elements(branch: BranchSummary) -> str:
    return " ".join(branch.observed if branch.observed is not None else branch.type_map)


def _numbers(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield every number of a JSON document, named by the way to it."""
    for key, value in document.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield name, value


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines]


def _cell(text: str) -> str:
    """Return a text that cannot end its cell, or begin markup of another kind."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
