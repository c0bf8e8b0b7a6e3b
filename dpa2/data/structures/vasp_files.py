"""VASP's POSCAR, and OUTCAR and vasprun.xml step by step, whole or killed in the middle."""

import io
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from ase.io.vasp import read_vasp
from dpdata.formats.vasp.outcar import analyze_block, composition_from_poscar_title, system_info
from dpdata.formats.vasp.xml import analyze_atominfo, analyze_calculation

from dpa2.data.structures import ase_files
from dpa2.data.structures.labels import UNITS, volume_of
from dpa2.data.structures.structure import (
    Floats,
    FrameFaultError,
    Items,
    Reading,
    Structure,
    attempt,
    element_of,
    foreign,
    known_to_ase,
    open_text,
    short_reason,
    symbols_of,
)
from schemas.base.errors import DataError

_END = "the file ends in the middle of it"
_ENERGY, _ML_ENERGY = "free  energy   TOTEN", "free  energy ML TOTEN"


def read_outcar(path: Path, reading: Reading) -> Items:
    """Yield the ionic steps of an OUTCAR: free energy, raw forces, virial.

    Raises:
        DataError: If it has no head, or species and counts disagree.
    """
    with open_text(path) as stream:
        block = _next_block(stream)
        _check_head(block, path)
        hint = "an OUTCAR begins with the POTCAR's titles and the ions per type"
        with foreign(DataError, "its head cannot be read: ", hint):
            names, _, types, max_steps, _ = system_info(block, type_idx_zero=True)
        symbols = symbols_of([names[kind] for kind in types], reading)
        _compare_with_title(block, names, reading)
        while block:
            step = attempt(_outcar_step, block, symbols, max_steps, reading)
            ended = isinstance(step, FrameFaultError) and step.message == _END
            if ended and not any("Iteration" in x or "TOTAL-FORCE" in x for x in block):
                return  # what a run prints after its last step
            yield step
            block = _next_block(stream)


def _next_block(stream: TextIO) -> list[str]:
    """Return the lines up to the next energy, of DFT or of VASP's own force field."""
    block: list[str] = []
    for line in stream:
        block.append(line.rstrip("\n"))
        if _ENERGY in line or _ML_ENERGY in line:
            break
    return block


def _check_head(block: list[str], path: Path) -> None:
    """Refuse counts of atoms that the file has no room for."""
    size = path.stat().st_size
    for line in block:
        if "ions per type" in line:
            words = line.split()[4:]
            numbers = [int(word) for word in words if word.isdecimal() and len(word) < 12]
            if len(numbers) < len(words) or sum(numbers) > size:
                raise DataError(f"its ions per type are {' '.join(words)[:60]}")


def _compare_with_title(block: list[str], names: list[str], reading: Reading) -> None:
    """Note a POSCAR whose first line names the elements in another order than the POTCAR."""
    title = next((x.partition("=")[2] for x in block if x.strip().startswith("POSCAR =")), "")
    words = list(composition_from_poscar_title(title) or title.split())
    if len(words) > 1 and sorted(words) == sorted(names) and words != list(names):
        if not all(element_of(word) for word in words):
            return
        reading.note(
            f"the POTCAR's order is {' '.join(names)} and the POSCAR's title says "
            f"{' '.join(words)}: the elements are the POTCAR's, with which VASP computed"
        )


def _outcar_step(
    block: list[str], symbols: tuple[str, ...], max_steps: int | None, reading: Reading
) -> Structure:
    if _ML_ENERGY in block[-1]:
        raise FrameFaultError("its labels are those of VASP's machine-learned force field")
    with foreign():
        coord, cell, energy, force, stress, converged = analyze_block(  # type: ignore[no-untyped-call]
            block, len(symbols), max_steps
        )
        if energy is None or len(cell) < 3 or len(coord) != len(symbols):
            raise FrameFaultError(_END)
        converged = converged or any("EDIFF is reached" in line for line in block)
        return _step(np.array(coord), cell, energy, force, stress, converged, symbols, reading)


def _step(
    coord: Floats,
    cell: Any,
    energy: float,
    force: Any,
    stress: Any,
    converged: bool | None,
    symbols: tuple[str, ...],
    reading: Reading,
) -> Structure:
    """Return an ionic step with its labels.

    Args:
        coord: (N, 3) Å.
        cell: (3, 3) Å.
        energy: With the entropy of the electrons: the one whose derivative the forces are, eV.
        force: (N, 3) eV/Å.
        stress: (3, 3) kbar, compression positive, as in a virial; or none.
        converged: Whether the electrons are; None where that is not known.
        symbols: Names of the atoms.
        reading: Which labels are wanted.
    """
    if converged is False:
        raise FrameFaultError("its electrons are not converged (all NELM steps were used)")
    box = np.array(cell, dtype=np.float64).reshape(3, 3)
    labels = {"energy": ("free energy TOTEN", energy), "force": ("TOTAL-FORCE", force)}
    if np.shape(stress) == (3, 3):
        labels["virial"] = ("stress in kB", np.array(stress) * volume_of(box) * UNITS["kbar"])
    coord = np.asarray(coord, dtype=np.float64)
    return Structure(reading.where, symbols, coord, box, reading.wanted(labels))


def read_vasprun(path: Path, reading: Reading) -> Items:
    """Yield the ionic steps of a vasprun.xml: free energy, raw forces, virial.

    Raises:
        DataError: If it has no atoms, or no steps.
    """
    symbols: tuple[str, ...] = ()
    max_steps = None
    try:
        for _, element in ET.iterparse(path):  # noqa: S314 - expat bounds entities
            if element.tag == "i" and element.get("name") == "NELM":
                max_steps = int(element.text or 0)
            elif element.tag == "atominfo":
                names, types = analyze_atominfo(element)  # type: ignore[no-untyped-call]
                symbols = symbols_of([names[kind - 1] for kind in types], reading)
            elif element.tag == "calculation":
                yield attempt(_calculation, element, symbols, max_steps, reading)
                element.clear()
    except ET.ParseError:
        yield FrameFaultError(_END)
    except (ValueError, AttributeError, LookupError, AssertionError) as error:
        yield FrameFaultError(f"it cannot be read: {short_reason(error)}")


def _calculation(
    element: ET.Element, symbols: tuple[str, ...], max_steps: int | None, reading: Reading
) -> Structure:
    with foreign():
        fractions, cell, energy, force, stress, converged = analyze_calculation(element, max_steps)
        if not symbols or np.shape(cell) != (3, 3) or fractions.shape != (len(symbols), 3):
            raise FrameFaultError("its atoms or its cell are not complete")
        return _step(fractions @ cell, cell, energy, force, stress, converged, symbols, reading)


def read_poscar(path: Path, reading: Reading) -> Items:
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
        yield from ase_files.read(path, "vasp", reading)
        return
    counts = [int(word) for word in lines[6].split() if word.isdecimal()]
    labels = [word.partition("/")[0] for word in words[: len(counts)]]  # behind: POTCAR hashes
    names = symbols_of(labels, reading)
    lines[5] = " ".join(known_to_ase(names)) + "\n"
    each = [i for i, count in enumerate(counts[: len(labels)]) for _ in range(count)]
    with foreign(DataError):
        atoms = read_vasp(io.StringIO("".join(lines)))
    if len(atoms) != len(each):
        raise DataError(f"it counts {len(each)} atoms and places {len(atoms)}")
    ase_files.set_masses_of_isotopes(atoms, [labels[i] for i in each])
    yield ase_files.from_ase(atoms, reading, tuple(names[i] for i in each))
