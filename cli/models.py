"""Models and the systems that they are evaluated on, opened alike by every command."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer
from typer import Argument, Option

from cli.options import find_model, split_branch, split_name
from cli.output import Output
from schemas.base.errors import CheckpointError

if TYPE_CHECKING:
    from dpa2.data.system import System
    from dpa2.evaluate.comparison import BadFrame
    from dpa2.evaluate.potential import Potential

Models = Annotated[
    list[str],
    Argument(metavar="[NAME=]MODEL[:BRANCH]...", help="Models of any format, named as you like."),
]
BranchOfAll = Annotated[
    str | None,
    Option(
        "--branch",
        "--head",
        help="Branch of every multi-task model that is not written as MODEL:BRANCH.",
    ),
]
_MOST_BAD_FRAMES = 10


class ChosenModel(NamedTuple):
    """A model on a command line that takes several.

    Args:
        file: Where it is.
        branch: Which of its branches; None for one that has no branches.
    """

    file: str
    branch: str | None

    def document(self) -> dict[str, str]:
        """Return what `--json` says about it; `branch` is there only if one was chosen."""
        return {"model": self.file} | ({"branch": self.branch} if self.branch else {})


def named_models(entries: Sequence[str], branch: str | None) -> dict[str, ChosenModel]:
    """Return each `[NAME=]MODEL[:BRANCH]` by its name; without one, that is the file's name.

    Args:
        entries: What the command line says.
        branch: Of those multi-task models that name none themselves.

    Raises:
        typer.BadParameter: If two have one name.
        RegistryError: See `cli.options.find_model`.
    """
    found: dict[str, ChosenModel] = {}
    for entry in entries:
        name, reference = split_name(entry)
        chosen = chosen_model(reference, branch)
        of = f":{chosen.branch}" if chosen.branch else ""
        file = Path(chosen.file).name + of
        label = name or (chosen.file + of if file in found else file)
        if label in found:
            raise typer.BadParameter(f"two models are called {label}; write NAME=MODEL")
        found[label] = chosen
    return found


def chosen_model(reference: str, branch: str | None) -> ChosenModel:
    """Return the file and the branch of a `MODEL[:BRANCH]`.

    Args:
        reference: What the command line says.
        branch: What it means where it is a multi-task model and names none itself.

    Raises:
        RegistryError: See `cli.options.find_model`.
    """
    place, own = split_branch(reference)
    file = find_model(place)
    return ChosenModel(file, own or (branch if branch and _has_branches(file) else None))


def _has_branches(file: str) -> bool:
    from schemas.checkpoint.header import read_header

    try:
        return "model_dict" in read_header(file).model_params
    except (CheckpointError, OSError):
        return False  # a frozen model; or what opens it says what is wrong


class Opener:
    """Opens models together with systems, and says what is odd about a system once.

    Args:
        out: Where to say it.
        device: Where models compute.
        dtype: In which precision; None: each in its own.
    """

    def __init__(self, out: Output, device: str, dtype: str | None) -> None:
        self._out = out
        self._device = device
        self._dtype = dtype
        self._said: set[str] = set()

    def __call__(
        self, model: ChosenModel, systems: Sequence[str]
    ) -> "tuple[Potential, list[System]]":
        """Return a model, and systems with the types of that model.

        Raises:
            CheckpointError: If the model cannot be used.
            DataError: If a system cannot be read, or has elements that the model does not know.
        """
        with self._out.status(f"loading {model.file}"):
            from dpa2.data.structures.systems import open_data
            from dpa2.evaluate.potential import load

            potential = load(model.file, model.branch, self._device, self._dtype)
            opened = open_data(systems, potential.type_map)
        for text in (text for system in opened for text in system.warnings):
            if text not in self._said:
                self._out.warning(text)
                self._said.add(text)
        return potential, opened


def num_frames(systems: "Sequence[System]", at_most: int | None) -> int:
    """Return how many frames there are; of each system `at_most` so many."""
    return sum(min(system.num_frames, at_most or system.num_frames) for system in systems)


def tell_bad_frames(out: Output, bad: "Iterable[BadFrame | str]") -> None:
    """Warn of frames that could not be evaluated."""
    lines = list(dict.fromkeys(str(frame) for frame in bad))
    for line in lines[:_MOST_BAD_FRAMES]:
        out.warning(line)
    if len(lines) > _MOST_BAD_FRAMES:
        out.warning(f"{len(lines) - _MOST_BAD_FRAMES} more frames are bad; --json lists them all")
    if lines:
        out.warning(f"{len(lines)} frames could not be evaluated; the results are of the others")
