"""Models and the systems that they are evaluated on, opened alike by every command."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cli.options import find_model, split_name
from cli.output import Output

if TYPE_CHECKING:
    from dpa2.data.system import System
    from dpa2.evaluate.potential import Potential


def named_models(entries: Sequence[str]) -> dict[str, str]:
    """Return the file of each `[NAME=]MODEL` by its name; without one, that is the file's name.

    Raises:
        typer.BadParameter: If two have one name.
        RegistryError: See `cli.options.find_model`.
    """
    found: dict[str, str] = {}
    for entry in entries:
        name, reference = split_name(entry)
        path = find_model(reference)
        file = Path(path).name
        label = name or (path if file in found else file)
        if label in found:
            raise typer.BadParameter(f"two models are called {label}; write NAME=MODEL")
        found[label] = path
    return found


class Opener:
    """Opens models together with systems, and says what is odd about a system once.

    Args:
        out: Where to say it.
        device: Where models compute.
        branch: Of multi-task models.
    """

    def __init__(self, out: Output, device: str, branch: str | None = None) -> None:
        self._out = out
        self._device = device
        self._branch = branch
        self._said: set[str] = set()

    def __call__(self, model: str, systems: Sequence[str]) -> "tuple[Potential, list[System]]":
        """Return a model, and systems with the types of that model.

        Raises:
            CheckpointError: If the model cannot be used.
            DataError: If a system cannot be read, or has elements that the model does not know.
        """
        with self._out.status(f"loading {model}"):
            from dpa2.data.systems import open_systems
            from dpa2.evaluate.potential import load

            potential = load(model, self._branch, self._device)
            opened = open_systems(systems, potential.type_map)
        for text in (text for system in opened for text in system.warnings):
            if text not in self._said:
                self._out.warning(text)
                self._said.add(text)
        return potential, opened


def num_frames(systems: "Sequence[System]", at_most: int | None) -> int:
    """Return how many frames there are; of each system `at_most` so many."""
    return sum(min(system.num_frames, at_most or system.num_frames) for system in systems)
