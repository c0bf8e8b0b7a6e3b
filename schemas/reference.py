"""References to shared parts of a multi-task model: `name` or `name:level`."""

from dataclasses import dataclass

from schemas.diagnostics import Path

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
