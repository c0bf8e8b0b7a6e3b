"""LAMMPS's dumps and data files: elements are read, told, or asked for; never made up."""

import numpy as np
import pytest
from ase import Atoms

from dpa2.data.structures.structure import LabelKeys
from dpa2.interfaces.lammps import lammps_data, lammps_structure
from dpa2.interfaces.predict import to_atoms
from schemas.base.errors import DataError
from tests.strangers.reading import read, read_text
from tests.strangers.situations import case, situation


def dump(path, columns, *frames, bounds="pp pp pp", head=""):
    text = head
    for number, rows in enumerate(frames):
        text += f"ITEM: TIMESTEP\n{number}\nITEM: NUMBER OF ATOMS\n{len(rows)}\n"
        text += f"ITEM: BOX BOUNDS {bounds}\n0 10\n0 10\n0 12\nITEM: ATOMS {columns}\n"
        text += "".join(f"{row}\n" for row in rows)
    path.write_text(text)
    return path


ROWS = ["3 1 H 3 0 0", "1 2 O 1 0 0", "2 1 H 2 0 0"]


@pytest.mark.parametrize("name", [
    case("LAMMPS | a dump with elements | read by id", "x.lammpstrj"),
    case("LAMMPS | dump.NAME | found by its name", "dump.water"),
    case("LAMMPS | a dump renamed | found by content", "frames.txt"),
])  # fmt: skip
def test_a_dump_with_elements_is_read_in_the_order_of_ids(tmp_path, name):
    structures, report = read(dump(tmp_path / name, "id type element x y z", ROWS, ROWS))
    assert [s.symbols for s in structures] == [("O", "H", "H")] * 2
    np.testing.assert_array_equal(structures[0].coord[:, 0], [1, 2, 3])
    assert not report.sentences()


@situation("LAMMPS | atom types that change their atoms between frames | each frame has its own")
def test_each_frame_of_a_dump_has_its_own_elements(tmp_path):
    second = ["1 1 H 1 0 0", "2 2 O 2 0 0", "3 1 H 3 0 0"]
    structures, _ = read(dump(tmp_path / "x.dump", "id type element x y z", ROWS, second))
    assert [s.symbols for s in structures] == [("O", "H", "H"), ("H", "O", "H")]


@situation("LAMMPS | a dump without elements | refused; named by --type-map")
def test_a_dump_without_elements_asks_for_them(tmp_path):
    rows = [" ".join(np.array(row.split())[[0, 1, 3, 4, 5]]) for row in ROWS]
    path = dump(tmp_path / "x.dump", "id type x y z", rows)
    with pytest.raises(DataError, match="numbers its 2 atom types") as caught:
        read(path)
    assert "--type-map" in (caught.value.hint or "")
    with pytest.raises(DataError, match="1 names are given"):
        read(path, type_names=["H"])
    (structure,), _ = read(path, type_names=["H", "O"])
    assert structure.symbols == ("O", "H", "H")
    assert to_atoms(structure).get_chemical_symbols() == ["O", "H", "H"]
    (structure,), _ = read(path, type_names=["H", "O_w"], known_names=["H", "O_w"])
    assert structure.symbols == ("O_w", "H", "H")


@pytest.mark.parametrize(("rows", "why"), [
    case("LAMMPS | a dump killed in a frame | left out, named", ROWS[:2], "has 2 of its 3 atoms"),
    case("LAMMPS | a dump killed in a line | left out, named", [*ROWS[:2], "2 1 H 2"],
         "has 2 of its 3 atoms"),
    case("LAMMPS | an id twice in a frame | left out, named", [*ROWS[:2], "3 1 H 2 0 0"], "one id"),
    case("LAMMPS | an element that is none | left out, named", [*ROWS[:2], "2 1 Q 2 0 0"],
         "no element"),
    case("LAMMPS | a coordinate that is no number | left out, named", [*ROWS[:2], "2 1 H a 0 0"],
         "cannot be read"),
])  # fmt: skip
def test_a_damaged_frame_of_a_dump_is_left_out(tmp_path, rows, why):
    path = dump(tmp_path / "x.dump", "id type element x y z", ROWS, ROWS)
    last = dump(tmp_path / "y.dump", "id type element x y z", rows).read_text()
    path.write_text(path.read_text() + last.replace("ATOMS\n2", "ATOMS\n3"))
    structures, report = read(path)
    assert len(structures) == 2
    assert why in report.dropped[0].reason


@situation("LAMMPS | scaled coordinates, a tilted box, ff in z | read; periodic as it says")
def test_scaled_coordinates_and_boundaries_are_read(tmp_path):
    path = tmp_path / "x.dump"
    path.write_text(
        "ITEM: UNITS\nmetal\nITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n1\n"
        "ITEM: BOX BOUNDS xy xz yz pp pp ff\n0 11 1\n0 10 0\n0 12 0\n"
        "ITEM: ATOMS id element xs ys zs\n1 Cu 0.5 0.5 0.25\n"
    )
    (structure,), _ = read(path)
    assert structure.pbc == (True, True, False)
    np.testing.assert_allclose(structure.box, [[10, 0, 0], [1, 10, 0], [0, 0, 12]])
    np.testing.assert_allclose(structure.coord, [[5.5, 5, 3]])


@situation("LAMMPS | forces in a dump, no energy | no energy 0 made up; forces on demand")
def test_forces_of_a_dump_are_taken_on_demand_only(tmp_path):
    rows = [f"{row} 0.5 0 0" for row in ROWS]
    path = dump(tmp_path / "x.dump", "id type element x y z fx fy fz", rows)
    (structure,), report = read(path)
    assert not structure.labels
    assert "--forces-key forces" in report.sentences()[0]
    (structure,), _ = read(path, keys=LabelKeys(forces="forces"))
    assert structure.labels.keys() == {"force"}


DATA = """LAMMPS data file, units = metal

3 atoms
2 atom types
0 10 xlo xhi
0 10 ylo yhi
0 10 zlo zhi
{middle}
Atoms # {style}

3 {third}
1 {first}
2 {second}
"""


@pytest.mark.parametrize(("middle", "style", "types"), [
    case("LAMMPS | a data file with masses | elements by mass, and said",
         "\nMasses\n\n1 1.008\n2 15.999\n", "atomic", "211"),
    case("Ovito | comments behind masses | elements by name",
         "\nMasses\n\n1 2.0 # H\n2 15.999 # O\n", "atomic", "211"),
    case("LAMMPS | type labels, unsorted ids | elements by label",
         "\nAtom Type Labels\n\n1 H\n2 O\n\nMasses\n\n1 1\n2 1\n", "atomic", "OHH"),
])  # fmt: skip
@pytest.mark.parametrize("name", ["x.lmp", "structure.data", "conf"])
def test_elements_of_a_data_file_are_told(tmp_path, middle, style, types, name):
    first, second, third = (f"{kind} {i}.5 0 0" for i, kind in enumerate(types))
    text = DATA.format(middle=middle, style=style, first=first, second=second, third=third)
    (structure,), report = read_text(tmp_path / name, text)
    assert structure.symbols == ("O", "H", "H")
    np.testing.assert_allclose(structure.coord[:, 0], [0.5, 1.5, 2.5], rtol=1e-12)
    assert ("masses" in " ".join(report.sentences())) == ("1.008" in middle)
    # The order of a type map is that of the data set to be written, not of this file's types.
    (structure,), _ = read(tmp_path / name, type_names=["O", "H"], known_names=["O", "H"])
    assert structure.symbols == ("O", "H", "H")


@situation("LAMMPS | a data file without masses | refused; never H, He, Li by number")
def test_a_data_file_without_elements_asks_for_them(tmp_path):
    rows = {"first": "2 0 0 0", "second": "1 1 0 0", "third": "1 2 0 0"}
    with pytest.raises(DataError, match="numbers its 2 atom types"):
        read_text(tmp_path / "x.data", DATA.format(middle="", style="atomic", **rows))
    (structure,), _ = read(tmp_path / "x.data", type_names=["H", "O"])
    assert structure.symbols == ("O", "H", "H")


@situation("zoo md | its own structure.data | the structure, velocities too")
def test_our_own_data_file_comes_back(tmp_path):
    atoms = Atoms("OH2", [[5, 5, 5], [6, 5, 5], [5, 6, 5]], cell=[10, 10, 10], pbc=True)
    atoms.set_velocities([[0.1, 0, 0], [0, 0.2, 0], [0, 0, 0.3]])
    (structure,), _ = read_text(
        tmp_path / "structure.data", lammps_data(lammps_structure(atoms, ["H", "O"]))
    )
    back = to_atoms(structure)
    assert structure.symbols == ("O", "H", "H")
    np.testing.assert_allclose(back.positions, atoms.positions, atol=1e-6)
    np.testing.assert_allclose(back.get_velocities(), atoms.get_velocities(), atol=1e-6)


@pytest.mark.parametrize("middle", [
    case("CHARMM-GUI | a carbon called CA behind its mass | not calcium",
         "\nMasses\n\n1 12.011 # CA\n2 1.008 # HA\n"),
    case("LAMMPS | GAFF's ca as a type label | not calcium",
         "\nAtom Type Labels\n\n1 ca\n2 H\n\nMasses\n\n1 12.01\n2 1.008\n"),
    case("LAMMPS | GAFF's ca as a type label without a mass | not calcium",
         "\nAtom Type Labels\n\n1 ca\n2 H\n"),
])  # fmt: skip
def test_a_carbon_called_ca_is_no_calcium(tmp_path, middle):
    first, second, third = ("1 0.5 0 0", "2 1.5 0 0", "2 2.5 0 0")
    text = DATA.format(middle=middle, style="atomic", first=first, second=second, third=third)
    with pytest.raises(DataError, match="Ca"):
        read_text(tmp_path / "x.data", text)


@situation("LAMMPS | forces of a dump that does not name its units | taken as metal, and said")
def test_units_that_a_dump_does_not_name_are_said(tmp_path):
    rows = ["1 1 H 0 0 0 1 0 0"]
    path = dump(tmp_path / "x.dump", "id type element x y z fx fy fz", rows)
    _, report = read(path, keys=LabelKeys(forces="forces"))
    assert "does not name its units" in report.sentences()[0]
    path.write_text("ITEM: UNITS\nmetal\n" + path.read_text())
    _, report = read(path, keys=LabelKeys(forces="forces"))
    assert not report.sentences()
