"""Surveys kept between checks, by the content of the system: unchanged data are not read again."""

import json
import os
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from hashlib import sha256
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from dpa2.data.fingerprint import fingerprint
from dpa2.data.preflight.survey import BadNumber, ClosePair, Survey, survey
from dpa2.data.system import System
from schemas.environment import cache_folder

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
