"""Data sections with their systems opened and surveyed; surveys are kept between checks."""

import json
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from dpa2.data.preflight.request import DataRequest, Entry, Task
from dpa2.data.preflight.survey import BadNumber, ClosePair, Survey, survey
from dpa2.data.store import NpyFolder
from dpa2.data.stored_system import StoredSystem
from dpa2.data.system import System, fingerprint
from dpa2.data.systems import open_systems
from schemas.base.diagnostics import Finding, Severity
from schemas.base.environment import cache_folder
from schemas.base.errors import DataError
from schemas.check.data_folders import exists, find_systems

_VERSION = 13
"""Raised whenever `Survey` changes or is computed in another way."""

_ARRAYS = (
    "shortest", "composition", "energy", "force", "force_rms", "pressure", "asymmetry", "work",
    "virials", "hashes", "left_handed",
)  # fmt: skip


def default_folder() -> Path:
    """Return the folder of surveys."""
    return cache_folder() / "preflight"


def cached_survey(
    system: System, elements: Sequence[str], radii: Sequence[float], folder: Path | None
) -> Survey:
    """Return the survey of a system, from the cache if its content has been seen before.

    Args:
        system: What to look at.
        elements: Name of each atom type.
        radii: Å.
        folder: Where surveys are kept; None: nowhere. A folder that cannot be used is not an error.
    """
    if folder is None:
        return survey(system, elements, radii)
    key = json.dumps([_VERSION, fingerprint([system]), list(elements), list(radii)])
    path = folder / f"{sha256(key.encode()).hexdigest()}.npz"
    known = _read(path)
    if known is None:
        known = survey(system, elements, radii)
        _write(path, known)
    return known


def _read(path: Path) -> Survey | None:
    """Return a stored survey; None where there is none that can be read."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            facts = json.loads(file["facts"].tobytes())
            arrays: dict[str, Any] = {name: file[name] for name in _ARRAYS}
            counts = tuple(file[f"counts_{number}"] for number in range(len(facts["most"])))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error):
        return None
    closest = facts.pop("closest")
    if closest is not None:
        pair = {"atoms": tuple(closest["atoms"]), "elements": tuple(closest["elements"])}
        closest = ClosePair(**{**closest, **pair})
    bad = tuple(BadNumber(**item) for item in facts.pop("bad"))
    most = tuple((frame, atom) for frame, atom in facts.pop("most"))
    return Survey(bad=bad, closest=closest, most=most, counts=counts, **facts, **arrays)


def _write(path: Path, known: Survey) -> None:
    plain = [item.name for item in fields(Survey) if item.name not in (*_ARRAYS, "counts")]
    content = asdict(known)
    facts = json.dumps({name: content[name] for name in plain}, default=float).encode()
    arrays: dict[str, Any] = {name: getattr(known, name) for name in _ARRAYS}
    arrays |= {f"counts_{number}": array for number, array in enumerate(known.counts)}
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with suppress(OSError):  # a cache that cannot be written is only slow
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            np.savez(stream, facts=np.frombuffer(facts, dtype=np.uint8), **arrays)
        temporary.replace(path)


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

    def finding(
        self, code: str, message: str, hint: str | None = None, severity: Severity = "warning"
    ) -> Finding:
        """Return what is wrong with it, at its entry in the input."""
        return Finding(code, self.entry.path, message, hint, severity=severity)


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


def is_folder(system: System) -> bool:
    """Return whether a system is a folder, of which rules of the schemas see the labels."""
    return isinstance(system, StoredSystem) and isinstance(system.store, NpyFolder)


def element_names(system: System) -> list[str]:
    """Return a name for each type number that occurs in a system."""
    names = list(system.type_map or [])
    most = max(system.type_counts(), default=-1)
    return names + [f"type {number}" for number in range(len(names), most + 1)]


def _folders(root: str) -> Sequence[Path]:
    place = Path(root)
    return find_systems(place).folders if exists(place) and place.is_dir() else ()
