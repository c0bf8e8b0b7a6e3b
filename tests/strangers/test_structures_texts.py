"""Texts of one frame: what is in them, what is said of it, and what is refused."""

import pytest

from schemas.base.errors import DataError
from tests.strangers.reading import read, read_text
from tests.strangers.situations import case
from tests.strangers.vasp import outcar_head, outcar_step

PDB = """CRYST1{cell:9.3f}{cell:9.3f}{cell:9.3f}  90.00  90.00  90.00 P 1           1
ATOM      1  CA  ALA A   1      11.639   6.071   5.147  1.00  0.00          {element:>2}
ATOM      2  HA  ALA A   1      12.639   6.071   5.147  1.00  0.00           H
END
"""
GRO = """water
    2
    1SOL     OW    1   0.126   1.624   1.679
    1SOL    HW1    2   0.190   1.661   1.747
   1.86206   1.86206   1.86206
"""
DUMP = """ITEM: TIMESTEP
0
ITEM: NUMBER OF ATOMS
2
ITEM: BOX BOUNDS{bounds}
0 10
0 10
0 12
ITEM: ATOMS id type element x y z
1 2 O 1 0 0
2 1 H 2 0 0
"""
CUT = "2\nenergy=-1\nH 0.0000 0.0000 0.1250\nH 0.0000 0.0000 1.0250"
IPI = ("1\n# CELL(abcABC): 9.4 9.4 9.4 90.0 90.0 90.0 Step: 0 Bead: 0 "
       "positions{atomic_unit} cell{atomic_unit}\n H 1.0 2.0 3.0\n")  # fmt: skip
FRC = "2\n i = 1, time = 0.0, E = -17.2\n H 0.001 0.002 0.003\n O -0.001 -0.002 -0.003\n"
XSF = "CRYSTAL\nPRIMVEC\n4 0 0\n0 4 0\n0 0 4\nPRIMCOORD\n1 1\nCu 0 0 0 0.1 0 0\n"
DATA = "LAMMPS data file, units = metal\n\n99999999999 atoms\n2 atom types\n0 10 xlo xhi\n"

# File and text; atoms, whether there is a cell, labels, what is said of it (empty: nothing).
READ = [
    case("Windows | line ends \\r\\n | read",
         "x.xyz", "2\r\n\r\nO 0 0 0\r\nH 1 0 0\r\n", "O H", False, "", ""),
    case("Windows | byte order mark | read",
         "x.xyz", "\ufeff2\n\nO 0 0 0\nH 1 0 0\n", "O H", False, "", ""),
    case("XYZ | no line end at the end | read",
         "x.xyz", "2\nwater\nO 0 0 0\nH 1 0 0", "O H", False, "", ""),
    case("XYZ | bare words and tabs, blank lines after | read",
         "x.xyz", "2\nE no\tPBC done\nO\t0 0 0\nH 1 0 0\n\n\n", "O H", False, "", ""),
    case("XYZ | columns without a name | read",
         "x.xyz", "2\nm\u00fcller \u00c5\nO 0 0 0\nH 1 0 0 9 9 9\n", "O H", False, "", ""),
    case("CP2K -pos-1.xyz | E = -17.2 in the comment | no energy",
         "x.xyz", "1\n i = 1, time = 0.5, E = -17.2\nH 0 0 0\n", "H", False, "", ""),
    case("extxyz | energies without forces | energies alone",
         "x.xyz", '1\nLattice="6 0 0 0 6 0 0 0 6" energy=-5\nH 0 0 0\n', "H", True, "energy", ""),
    case("ASE | a molecule with a stress | no virial, and said",
         "x.xyz", '1\nenergy=-1 stress="1 1 1 0 0 0"\nHe 0 0 0\n', "He", False, "energy",
         "without a cell"),
    case("CP2K | the -frc-1.xyz taken for positions | said: atoms all but coincide",
         "w-frc-1.xyz", FRC, "H O", False, "", "closer than 0.3 Å"),
    case("XYZ | a cell in the comment in another form than Lattice | said: not periodic",
         "x.xyz", "1\nBox: 9.4 9.4 9.4\n H 1.0 2.0 3.0\n", "H", False, "", "not periodic"),
    ("x.pdb", PDB.format(cell=20, element="C"), "C H", True, "", ""),
    case("Protein Data Bank | CRYST1 of 1 x 1 x 1 Å of a model by NMR | no cell, and said",
         "x.pdb", PDB.format(cell=1, element="C"), "C H", False, "", "stands for none"),
    case("GROMACS | elements told from OW, HW1 | said",
         "x.gro", GRO, "O H", True, "", "OW O, HW1 H"),
    case("XCrySDen, aenet | forces of XSF, in Hartree/Å by its definition | their unit is said",
         "x.xsf", XSF, "Cu", True, "force", "Hartree"),
    case("LAMMPS | an old dump without pp in its bounds | periodic, and said",
         "x.dump", DUMP.format(bounds=""), "O H", True, "",
         "does not say which directions are periodic"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "atoms", "has_cell", "labels", "said"), READ)
def test_a_text_is_read_as_people_write_it(tmp_path, name, text, atoms, has_cell, labels, said):
    (tmp_path / name).write_bytes(text.encode())
    (structure,), reading = read(tmp_path / name)
    assert " ".join(structure.symbols) == atoms
    assert (structure.box is not None) == has_cell
    assert structure.pbc == (has_cell,) * 3
    assert set(structure.labels) == set(labels.split())
    assert said in " ".join(reading.sentences())
    assert bool(reading.sentences()) == bool(said)


def test_forces_of_xsf_are_converted(tmp_path):
    (structure,), _ = read_text(tmp_path / "x.xsf", XSF)
    assert structure.labels["force"][0, 0] == pytest.approx(2.7211386)


REFUSED = [
    case("i-PI | xyz with CELL(abcABC) in the comment, in Bohr | refused, the way named",
         "pos.xyz", IPI, "i-PI's"),
    case("PDB | names of atoms without the columns of elements | refused: CA is C or Ca",
         "x.pdb", PDB.format(cell=20, element=""), "called CA has no element"),
    case("PDB, NMR | CRYST1 1 1 1, a cell that is none | refused",
         "x.pdb", PDB.format(cell=0.9, element="C"), "an atom, less than any matter"),
    case("LAMMPS | lj units | refused",
         "x.dump", "ITEM: UNITS\nlj\n" + DUMP.format(bounds=" pp pp pp"), "units are 'lj'"),
    case("hostile | 10^11 atoms in the head of a data file | refused, bounded",
         "x.lmp", DATA, "fewer than its 99999999999 atoms"),
    case("hostile | ions per type = 10^11 | refused, bounded",
         "OUTCAR", outcar_head(counts=(99999999999, 2)) + outcar_step(-1), "ions per type"),
    case("CP2K | an output without a result | refused in words",
         "cp2k.out", "  **** CP2K| version string: CP2K 2023\nkilled\n", "cp2k/output"),
    case("Gaussian | an output without a result | refused in words",
         "g.log", " Entering Gaussian System, Link 0=g16\n", "gaussian/log"),
    case("ORCA | an output without a result | refused in words",
         "orca.out", "  * O   R   C   A *\n", "orca/spout"),
    case("Quantum ESPRESSO | a killed output | refused in words",
         "scf.out", "     Program PWSCF v.7.2 starts\n     bravais-lattice index = 0\n",
         "espresso-out"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "words"), REFUSED)
def test_a_text_is_refused_in_words(tmp_path, name, text, words, capfd):
    with pytest.raises(DataError, match=words) as caught:
        read_text(tmp_path / name, text)
    assert caught.value.message.startswith(str(tmp_path / name))
    assert "Traceback" not in caught.value.message
    assert capfd.readouterr() == ("", "")


CUTS = [
    case("extxyz | a file killed within its last number | the frame is left out, and said",
         "x.xyz", f"{CUT}\n", 3),
    case("LAMMPS | a dump killed within its last number | the frame is left out, and said",
         "x.dump", DUMP.format(bounds=" pp pp pp"), 1),
]  # fmt: skip


@pytest.mark.parametrize(("name", "frame", "cut"), CUTS)
def test_a_number_that_is_cut_is_not_believed(tmp_path, name, frame, cut):
    (tmp_path / name).write_text(frame * 2)
    assert len(read(tmp_path / name)[0]) == 2
    structures, reading = read_text(tmp_path / name, (frame * 2).rstrip("\n")[: 1 - cut or None])
    assert len(structures) == 1
    assert "frame 1 is left out: the file ends in the middle" in reading.sentences()[0]
