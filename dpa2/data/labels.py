"""The table of what a data set can hold per frame: file names, shapes and units."""

from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True, slots=True)
class Label:
    """One quantity stored per frame beside coordinates and cell.

    Attributes:
        field: Attribute of `Frames` that carries it.
        stems: Accepted file names without `.npy`; the first is the canonical one (deepmd-kit takes
            the prefixes `atom_` and `atomic_` for the same).
        unit: Unit of the stored numbers.
        per_atom: Whether the width counts per atom or per frame.
        width: Numbers per atom or frame; None where the data decide (fparam, aparam, drdq).
        shape: Trailing shape in `Frames`, `N` being the number of atoms; () for a scalar.
        repeats: Whether a file may hold one number in place of `width` equal ones.
    """

    field: str
    stems: tuple[str, ...]
    unit: str
    per_atom: bool
    width: int | None
    shape: tuple[int, ...]
    repeats: bool = False

    def widths(self) -> tuple[int, ...]:
        """Numbers per atom or frame that a file may hold; empty where the data decide."""
        if self.width is None:
            return ()
        return (self.width, 1) if self.repeats else (self.width,)


# docs/deepmd-format.md, 2.1.
LABELS: dict[str, Label] = {
    label.field: label
    for label in (
        Label("energy", ("energy",), "eV", per_atom=False, width=1, shape=()),
        Label("force", ("force",), "eV/Å", per_atom=True, width=3, shape=(3,)),
        Label("virial", ("virial",), "eV", per_atom=False, width=9, shape=(3, 3)),
        Label("atom_energy", ("atom_ener", "atomic_ener"), "eV", per_atom=True, width=1, shape=()),
        Label(
            "atom_pref",
            ("atom_pref", "atomic_pref"),
            "1",
            per_atom=True,
            width=3,
            shape=(3,),
            repeats=True,  # deepmd-kit documents one weight an atom; its trainer reads three
        ),
        Label(
            "atom_energy_coeff",
            ("atom_ener_coeff", "atomic_ener_coeff"),
            "1",
            per_atom=True,
            width=1,
            shape=(),
        ),
        Label("drdq", ("drdq",), "Å", per_atom=True, width=None, shape=(-1,)),
        Label("fparam", ("fparam",), "any", per_atom=False, width=None, shape=(-1,)),
        Label("aparam", ("aparam",), "any", per_atom=True, width=None, shape=(-1,)),
    )
}

_BY_STEM = {stem: label for label in LABELS.values() for stem in label.stems}


def find_label(name: str) -> Label:
    """Return the label of a field name (`atom_energy`) or a file name (`atom_ener`).

    Raises:
        ValueError: If no label has this name.
    """
    label = LABELS.get(name) or _BY_STEM.get(name)
    if label is None:
        close = get_close_matches(name, [*LABELS, *_BY_STEM], n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"unknown label {name!r}{hint}")
    return label
