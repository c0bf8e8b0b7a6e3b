"""Data sections with their systems opened and surveyed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dpa2.data.npy import NpyFolder
from dpa2.data.preflight.cache import cached_survey
from dpa2.data.preflight.request import DataRequest, Entry, Task
from dpa2.data.preflight.survey import Survey
from dpa2.data.stored_system import StoredSystem
from dpa2.data.system import System
from dpa2.data.systems import open_systems
from schemas.diagnostics import Finding
from schemas.errors import DataError
from schemas.system_folders import find_systems


@dataclass(frozen=True, slots=True)
class Surveyed:
    """A system, the entry that names it, and what is in it."""

    system: System
    entry: Entry
    facts: Survey

    @property
    def name(self) -> str:
        """How messages call it."""
        return self.system.name


@dataclass(frozen=True, slots=True)
class Opened:
    """A data section.

    Attributes:
        request: What was asked for.
        systems: What could be read.
        whole: Whether everything could be read.
    """

    request: DataRequest
    systems: tuple[Surveyed, ...]
    whole: bool


class Opener:
    """Opens data sections; what several of them name is read once.

    Args:
        task: Elements and radii.
        cache: Folder of surveys, or None.
    """

    def __init__(self, task: Task, cache: Path | None) -> None:
        self.type_map = task.type_map
        self.radii = sorted({cutoff.rcut for cutoff in task.cutoffs})
        self.cache = cache
        self.findings: list[Finding] = []
        self._known: dict[str, Survey] = {}

    def open(self, request: DataRequest) -> Opened:
        """Open and survey a section; systems that cannot be read become findings."""
        systems: list[Surveyed] = []
        faults = len(self.findings)
        for entry in request.entries:
            systems += [
                Surveyed(system, entry, facts)
                for system in self._systems(entry, request.patterns)
                if (facts := self._survey(system, entry)) is not None
            ]
        return Opened(request, tuple(systems), len(self.findings) == faults)

    def _systems(self, entry: Entry, patterns: Sequence[str] | None) -> list[System]:
        try:
            with np.errstate(all="ignore"):  # the determinant of huge numbers
                return open_systems(entry.written, self.type_map, patterns)
        except (DataError, OSError) as error:
            folders = _folders(entry.written) if patterns is None else ()
            if len(folders) < 2:
                self._refuse(entry, error)
                return []
        return list(self._sound(entry, folders))

    def _sound(self, entry: Entry, folders: Sequence[Path]) -> Iterator[System]:
        """Open folders of which one is faulty: which, and what about the others?"""
        for folder in folders:
            try:
                with np.errstate(all="ignore"):
                    system = StoredSystem(NpyFolder(folder), self.type_map)
            except (DataError, OSError) as error:
                self._refuse(entry, error)
            else:
                yield system

    def _survey(self, system: System, entry: Entry) -> Survey | None:
        if system.name not in self._known:
            try:
                self._known[system.name] = cached_survey(
                    system, element_names(system), self.radii, self.cache
                )
            except (DataError, OSError) as error:
                self._refuse(entry, error)
                return None
        return self._known[system.name]

    def _refuse(self, entry: Entry, error: Exception) -> None:
        hint = getattr(error, "hint", None)
        message = str(error).splitlines()[0]
        self.findings.append(Finding("ZOO431", entry.path, message, hint))


def element_names(system: System) -> list[str]:
    """Return a name for each type number that occurs in a system."""
    names = list(system.type_map or [])
    most = max(system.type_counts(), default=-1)
    return names + [f"type {number}" for number in range(len(names), most + 1)]


def _folders(root: str) -> Sequence[Path]:
    place = Path(root)
    return find_systems(place).folders if place.is_dir() else ()
