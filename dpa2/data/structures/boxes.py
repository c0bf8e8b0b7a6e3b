"""Cells as data sets have them: periodic in every direction or in none, right-handed."""

from dataclasses import replace

import numpy as np

from dpa2.data.periodicity import PeriodicBox
from dpa2.data.structures.structure import FileReport, Structure

VACUUM = 20.0
"""Å between images in directions that are not periodic: more than any cutoff in use."""


def in_a_box(structure: Structure, vacuum: float, report: FileReport) -> Structure:
    """Return a structure whose cell has the same meaning in a data set, which knows no slabs.

    A direction without images gets a cell vector that keeps images `vacuum` apart: for cutoffs
    below, energies, forces and virials are those of the slab. Of a left-handed cell two vectors
    change places: the lattice, the coordinates and the labels stay as they are.

    Args:
        structure: Periodic in any directions.
        vacuum: Å between the atoms and their images.
        report: Where this is said.
    """
    if structure.box is None:
        return structure
    box = structure.box
    if not all(structure.pbc):
        filled = PeriodicBox(vacuum)(structure.coord, box, np.array(structure.pbc))
        assert filled is not None
        box = filled
        pbc = " ".join("T" if periodic else "F" for periodic in structure.pbc)
        report.note(
            f"it is periodic in some directions only (pbc {pbc}), which deepmd data cannot say: "
            f"the cell used keeps images in the others {vacuum:g} Å apart, which is right for "
            "cutoffs below that (--vacuum)"
        )
    with np.errstate(invalid="ignore"):  # cells that are not finite are told later
        left_handed = np.linalg.det(box) < 0
    if left_handed:
        box = box[[0, 2, 1]]
        if all(structure.pbc):
            report.note(
                "its cell is left-handed: the second and third cell vector change places; atoms "
                "and labels stay as they are"
            )
    return replace(structure, box=box, pbc=(True, True, True))
