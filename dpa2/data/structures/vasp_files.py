"""VASP's POSCAR, and OUTCAR and vasprun.xml step by step, whole or killed in the middle."""

import io
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from ase.data import atomic_numbers
from ase.io.vasp import read_vasp

from dpa2.data.structures import ase_files
from dpa2.data.structures.ase_files import quiet
from dpa2.data.structures.elements import element_of, open_text, short_reason, symbols_of
from dpa2.data.structures.labels import UNITS, volume_of
from dpa2.data.structures.structure import NONE, Dropped, FileReport, ReadOptions, Structure
from schemas.base.errors import DataError

if TYPE_CHECKING:
    from ase import Atoms

_UNCONVERGED = "its electrons are not converged (all NELM steps were used)"
_END = "the file ends in the middle of it"
_MACHINE_LEARNED = "its labels are those of VASP's machine-learned force field"
_ENERGY, _ML_ENERGY = "free  energy   TOTEN", "free  energy ML TOTEN"
_LABELS = {"energy": "free energy TOTEN", "force": "TOTAL-FORCE", "virial": "stress in kB"}


def read_outcar(
    path: Path, options: ReadOptions, report: FileReport
) -> Iterator[Structure | Dropped]:
    """Yield the ionic steps of an OUTCAR: free energy, raw forces, virial.

    Raises:
        DataError: If it has no head, or species and counts disagree.
    """
    from dpdata.formats.vasp.outcar import analyze_block, system_info

    with open_text(path) as stream:
        block = _next_block(stream)
        _check_head(block, path)
        try:
            with quiet():
                names, _, types, max_steps, _ = system_info(block, type_idx_zero=True)
        except Exception as error:
            # dpdata raises whatever goes wrong in it.
            raise DataError(
                f"its head cannot be read: {short_reason(error)}",
                hint="an OUTCAR begins with the POTCAR's titles and the ions per type",
            ) from error
        symbols = symbols_of([names[kind] for kind in types], options.known_names, report)
        _compare_with_title(block, names, report)
        number = 0
        while block:
            item: Structure | Dropped
            try:
                with quiet():
                    read = analyze_block(block, len(symbols), max_steps)  # type: ignore[no-untyped-call]
                    item = _step(read, block, symbols, f"{report.file} frame {number}")
            except Exception as error:  # noqa: BLE001 - dpdata raises whatever goes wrong in it
                reason = short_reason(error)
                item = Dropped(number, f"it cannot be read: {reason}")
            if _ML_ENERGY in block[-1]:
                item = Dropped(number, _MACHINE_LEARNED)
            elif read_nothing(item) and not _begun(block):
                return  # what a run prints after its last step
            yield _wanted(item, options, report)
            number += 1
            block = _next_block(stream)


def _next_block(stream: TextIO) -> list[str]:
    """Return the lines up to the next energy, of DFT or of VASP's own force field."""
    block: list[str] = []
    for line in stream:
        block.append(line.rstrip("\n"))
        if _ENERGY in line or _ML_ENERGY in line:
            break
    return block


def read_nothing(item: Structure | Dropped) -> bool:
    """Return whether a block has no step in it."""
    return isinstance(item, Dropped) and item.reason == _END


def _begun(block: list[str]) -> bool:
    return any("Iteration" in line or "TOTAL-FORCE" in line for line in block)


def _check_head(block: list[str], path: Path) -> None:
    """Refuse counts of atoms that the file has no room for."""
    size = path.stat().st_size
    for line in block:
        if "ions per type" in line:
            words = line.split()[4:]
            numbers = [int(word) for word in words if word.isdecimal() and len(word) < 12]
            if len(numbers) < len(words) or sum(numbers) > size:
                raise DataError(f"its ions per type are {' '.join(words)[:60]}")


def _step(
    read: tuple[Any, ...],
    block: list[str],
    symbols: tuple[str, ...],
    where: str,
) -> Structure | Dropped:
    """Return a step from what dpdata found in its lines."""
    coord, cell, energy, force, virial, converged = read
    number = int(where.rpartition(" ")[2])
    if energy is None or len(cell) < 3 or len(coord) != len(symbols):
        return Dropped(number, _END)
    if not converged and not any("EDIFF is reached" in line for line in block):
        return Dropped(number, _UNCONVERGED)
    box = np.array(cell, dtype=np.float64).reshape(3, 3)
    labels = {"energy": np.array(energy), "force": np.array(force, dtype=np.float64)}
    if virial is not None:
        # VASP counts compression positive, as a virial does.
        labels["virial"] = np.array(virial) * volume_of(box) * UNITS["kbar"]
    return Structure(where, symbols, np.array(coord, dtype=np.float64), box, labels)


def _wanted(
    item: Structure | Dropped, options: ReadOptions, report: FileReport
) -> Structure | Dropped:
    """Leave labels out that are not wanted, and count those that are."""
    if isinstance(item, Dropped):
        return item
    keys = options.keys
    if keys is None:
        item.labels.clear()
        return item
    for label, key in (("energy", keys.energy), ("force", keys.forces), ("virial", keys.stress)):
        if key == NONE:
            item.labels.pop(label, None)
        elif label in item.labels:
            report.take(label, _LABELS[label])
    return item


def _compare_with_title(block: list[str], names: list[str], report: FileReport) -> None:
    """Note a POSCAR whose first line names the elements in another order than the POTCAR."""
    from dpdata.formats.vasp.outcar import composition_from_poscar_title

    title = next((x.partition("=")[2] for x in block if x.strip().startswith("POSCAR =")), "")
    words = list(composition_from_poscar_title(title) or title.split())
    if len(words) > 1 and sorted(words) == sorted(names) and words != list(names):
        if not all(element_of(word) for word in words):
            return
        report.note(
            f"the POTCAR's order is {' '.join(names)} and the POSCAR's title says "
            f"{' '.join(words)}: the elements are the POTCAR's, with which VASP computed"
        )


def read_poscar(
    path: Path, options: ReadOptions, report: FileReport
) -> Iterator[Structure | Dropped]:
    """Yield the structure of a POSCAR or CONTCAR, which may call its elements anything.

    Raises:
        DataError: If it cannot be read, or a name is no element.
    """
    with open_text(path) as stream:
        lines = stream.readlines()
    for line in lines[5:7]:  # ASE makes a list of so many atoms first
        for word in line.split():
            if word.isdecimal() and (len(word) > 9 or int(word) > len(lines)):
                raise DataError(f"it counts {word[:20]} atoms and has {len(lines)} lines")
    words = lines[5].split() if len(lines) > 6 else []
    if not words or words[0].isdecimal():  # its names are in the first line, or in a POTCAR
        yield from ase_files.read(path, "vasp", options, report)
        return
    counts = [int(word) for word in lines[6].split() if word.isdecimal()]
    labels = [word.partition("/")[0] for word in words[: len(counts)]]  # behind: POTCAR hashes
    named = dict(zip(labels, symbols_of(labels, options.known_names, report), strict=True))
    shown = (named[label] for label in labels)
    lines[5] = " ".join(name if name in atomic_numbers else "X" for name in shown) + "\n"
    every = [label for label, count in zip(labels, counts, strict=False) for _ in range(count)]
    try:
        with quiet():
            atoms: Atoms = read_vasp(io.StringIO("".join(lines)))
    except Exception as error:
        # ASE raises whatever goes wrong in it.
        raise DataError(f"it cannot be read: {short_reason(error)}") from error
    if len(atoms) != len(every):
        raise DataError(f"it counts {len(every)} atoms and places {len(atoms)}")
    ase_files.set_masses_of_isotopes(atoms, every)
    symbols = tuple(named[label] for label in every)
    yield ase_files.from_ase(atoms, f"{report.file} frame 0", options, report, symbols)


def read_vasprun(
    path: Path, options: ReadOptions, report: FileReport
) -> Iterator[Structure | Dropped]:
    """Yield the ionic steps of a vasprun.xml: free energy, raw forces, virial.

    Raises:
        DataError: If it has no atoms, or no steps.
    """
    from dpdata.formats.vasp.xml import analyze_atominfo

    symbols: tuple[str, ...] = ()
    max_steps = None
    number = 0
    try:
        for _, element in ET.iterparse(path):  # noqa: S314 - expat bounds entities
            if element.tag == "i" and element.get("name") == "NELM":
                max_steps = int(element.text or 0)
            elif element.tag == "atominfo":
                names, types = analyze_atominfo(element)  # type: ignore[no-untyped-call]
                symbols = symbols_of([names[k - 1] for k in types], options.known_names, report)
            elif element.tag == "calculation":
                yield _wanted(_calculation(element, symbols, max_steps, number, report),
                              options, report)  # fmt: skip
                number += 1
                element.clear()
    except ET.ParseError:
        yield Dropped(number, _END)
    except (ValueError, AttributeError, LookupError, AssertionError) as error:
        yield Dropped(number, f"it cannot be read: {short_reason(error)}")


def _calculation(
    element: ET.Element,
    symbols: tuple[str, ...],
    max_steps: int | None,
    number: int,
    report: FileReport,
) -> Structure | Dropped:
    from dpdata.formats.vasp.xml import analyze_calculation

    try:
        fractions, cell, energy, force, stress, converged = analyze_calculation(element, max_steps)
    except Exception as error:  # noqa: BLE001 - dpdata raises whatever goes wrong in it
        return Dropped(number, f"it cannot be read: {short_reason(error)}")
    if converged is False:
        return Dropped(number, _UNCONVERGED)
    box = np.asarray(cell, dtype=np.float64)
    if not symbols or box.shape != (3, 3) or fractions.shape != (len(symbols), 3):
        return Dropped(number, "its atoms or its cell are not complete")
    labels = {"energy": np.array(energy), "force": np.asarray(force)}
    if stress is not None and np.shape(stress) == (3, 3):
        labels["virial"] = stress * volume_of(box) * UNITS["kbar"]
    with np.errstate(all="ignore"):
        coord = fractions @ box
    return Structure(f"{report.file} frame {number}", symbols, coord, box, labels)
