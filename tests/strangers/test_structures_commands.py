"""Commands that take structures: one bad file, formats, numbers of frames, how they end."""

import json
from pathlib import Path
from typing import get_args

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from cli.options import Unit
from dpa2.data.structures.labels import UNITS
from dpa2.data.systems import open_systems
from dpa2.evaluate.potential import load
from dpa2.interfaces.simulation import starting_structure
from schemas.base.errors import DataError
from tests.commands import document, zoo
from tests.strangers.situations import case, situation

MODEL = str(Path(__file__).parents[1] / "golden" / "small" / "model.pt")


def predicted(folder, *files, code=0):
    """Return what `zoo predict --json` says of files."""
    return document("predict", "-m", MODEL, *files, "-o", folder / "p.xyz", "-q", code=code)


def labelled(number, *, pbc=True):
    atoms = molecule("H2O", cell=[8, 8, 8], pbc=pbc)
    atoms.rattle(0.05, seed=number)
    forces = np.random.default_rng(number).normal(size=(3, 3))
    atoms.calc = SinglePointCalculator(atoms, energy=-float(number), forces=forces)
    return atoms


@situation("any | a file that cannot be read among good ones | the others converted, exit code 1")
def test_a_bad_file_loses_nothing_but_itself(tmp_path):
    ase.io.write(tmp_path / "good.traj", [labelled(i) for i in range(4)])
    (tmp_path / "bad.xyz").write_text("hello\n")
    (tmp_path / "cut.xyz").write_text("2\nenergy=-1\nO 0 0 0\nH 1 0 0\n2\nenergy=-1\nO 0\n")
    files = [tmp_path / name for name in ("good.traj", "bad.xyz", "cut.xyz", "none.xyz")]
    result = zoo("data", "convert", *files, "-o", tmp_path / "out", "--split", 1, "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert found["ok"] is False
    assert [item["file"] for item in found["refused"]] == [str(files[1]), str(files[3])]
    assert [item["frames"] for item in found["files"]] == [4, 1]
    assert found["files"][0]["keys"] == {"energy": {"energy": 4}, "force": {"forces": 4}}
    assert found["files"][1]["dropped"][0]["frame"] == 1
    assert any("cut.xyz: frame 1 is left out" in text for text in found["warnings"])
    assert "bad.xyz cannot be read" in result.stderr
    assert sum(system.num_frames for system in open_systems(tmp_path / "out")) == 5


@situation("any | every file is bad | nothing is written, all are named")
def test_only_bad_files_write_nothing(tmp_path):
    for name in ("a.xyz", "b.xyz"):
        (tmp_path / name).write_text("hello\n")
    with pytest.raises(DataError, match=r"a.xyz cannot be read.*b.xyz cannot be read"):
        zoo("data", "convert", tmp_path / "a.xyz", tmp_path / "b.xyz", "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@situation("ASE | a slab in zoo data convert | a cell with --vacuum, and a warning")
def test_a_slab_is_converted_with_a_word(tmp_path):
    ase.io.write(tmp_path / "slab.xyz", labelled(1, pbc=[True, True, False]), format="extxyz")
    result = zoo("data", "convert", tmp_path / "slab.xyz", "-o", tmp_path / "out", "--vacuum", 15)
    assert result.exit_code == 0
    assert "images in the others 15 Å apart" in result.stderr
    (system,) = open_systems(tmp_path / "out")
    box = system.frames([0]).box[0]
    np.testing.assert_array_equal(box[:2], 8 * np.eye(3)[:2])
    assert box[2, 2] >= 15


@situation("ASE | a slab through zoo predict and zoo data convert | one energy")
def test_a_slab_has_one_energy_by_every_way(tmp_path):
    atoms = labelled(1, pbc=[True, True, False])
    atoms.cell[2, 2] = 1.0  # the file's own vector would bring images on top of each other
    ase.io.write(tmp_path / "slab.traj", atoms)
    zoo("data", "convert", tmp_path / "slab.traj", "-o", tmp_path / "out", "--split", 1)
    files = (tmp_path / "slab.traj", tmp_path / "out")
    one, other = (predicted(tmp_path, file)["structures"][0]["energy"] for file in files)
    assert one == pytest.approx(other, abs=1e-10)


@situation("ASE | a left-handed cell in zoo predict | the energy of the same lattice")
def test_a_left_handed_cell_has_the_energy_of_its_lattice(tmp_path):
    atoms = labelled(1)
    atoms.set_cell([[5, 0, 0], [1, 6, 0], [0, 1, 5]])
    ase.io.write(tmp_path / "right.traj", atoms)
    atoms.set_cell(atoms.cell[[1, 0, 2]])
    ase.io.write(tmp_path / "left.traj", atoms)
    files = [tmp_path / "right.traj", tmp_path / "left.traj"]
    right, left = predicted(tmp_path, *files)["structures"]
    assert right["energy"] == pytest.approx(left["energy"], abs=1e-10)


@pytest.mark.parametrize(("columns", "rows"), [
    case("LAMMPS | types beside elements in zoo predict | by element", "id type element x y z",
         ["1 2 O 0 0 0", "2 1 H 1 0 0"]),
    case("extxyz | a column type:I:1 in zoo predict | by element", None, ["O 0 0 0 1",
         "H 1 0 0 0"]),
])  # fmt: skip
def test_a_column_of_types_is_no_index_into_the_model(tmp_path, columns, rows):
    if columns is None:
        head = 'Lattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3:type:I:1'
        (tmp_path / "x").write_text(f"2\n{head}\n" + "\n".join(rows) + "\n")
    else:
        (tmp_path / "x").write_text(
            "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n2\n"
            f"ITEM: BOX BOUNDS pp pp pp\n0 9\n0 9\n0 9\nITEM: ATOMS {columns}\n"
            + "\n".join(rows)
            + "\n"
        )
    potential = load(MODEL)
    expected = potential.predict([[0, 0, 0], [1, 0, 0]], 9 * np.eye(3), ["O", "H"])
    found = predicted(tmp_path, tmp_path / "x")["structures"][0]["energy"]
    assert found == pytest.approx(float(expected.energy[0]), abs=1e-10)


@situation("LAMMPS | a dump without elements in zoo predict | refused; right with --type-map")
def test_predict_asks_for_the_elements_of_a_dump(tmp_path):
    (tmp_path / "x.dump").write_text(
        "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n3\nITEM: BOX BOUNDS pp pp pp\n0 9\n0 9\n0 9\n"
        "ITEM: ATOMS id type x y z\n1 1 0 0 0\n2 2 1 0 0\n3 2 0 1 0\n"
    )
    call = ("predict", "-m", MODEL, tmp_path / "x.dump", "-o", tmp_path / "p.xyz", "-q")
    with pytest.raises(DataError, match="does not name them"):
        zoo(*call)
    one, other = (document(*call, "--type-map", names)["structures"] for names in ("O H", "H O"))
    assert one[0]["energy"] != other[0]["energy"]


@situation("any | a bad file among good ones in zoo predict | the others predicted, exit code 1")
def test_predict_leaves_a_bad_file_out(tmp_path):
    ase.io.write(tmp_path / "good.traj", [labelled(i) for i in range(3)])
    (tmp_path / "bad.xyz").write_text("hello\n")
    files = [tmp_path / "bad.xyz", f"{tmp_path / 'good.traj'}@-1"]
    found = predicted(tmp_path, *files, code=1)
    assert [item["index"] for item in found["structures"]] == [2]
    assert found["refused"][0]["file"] == str(files[0])
    assert len(ase.io.read(tmp_path / "p.xyz", index=":")) == 1


@situation("ASE | a ghost atom in the only structure of zoo predict | refused, nothing written")
def test_predict_writes_nothing_where_nothing_was_read(tmp_path):
    (tmp_path / "x.xyz").write_text("2\n\nO 0 0 0\nX 1 0 0\n")
    with pytest.raises(DataError, match="ghost"):
        zoo("predict", "-m", MODEL, tmp_path / "x.xyz", "-o", tmp_path / "p.xyz")
    assert not (tmp_path / "p.xyz").exists()


@situation("LAMMPS | a live trajectory in zoo predict | the whole frames, exit code 1")
def test_predict_says_that_the_last_frame_is_not_whole(tmp_path):
    frame = "2\n\nO 0 0 0\nH 1 0 0\n"
    (tmp_path / "x.xyz").write_text(frame * 2 + frame[:-9])
    found = predicted(tmp_path, tmp_path / "x.xyz", code=1)
    assert [item["energy"] is None for item in found["structures"]] == [False, False, True]
    assert len(ase.io.read(tmp_path / "p.xyz", index=":")) == 2
    assert "frame 2 is left out" in found["warnings"][0]


@situation("ASE | file@-1 in zoo md | the last frame with its velocities")
def test_md_starts_from_the_frame_that_is_named(tmp_path):
    frames = [Atoms("OH", [[0, 0, i], [1, 0, i]]) for i in range(3)]
    frames[2].set_velocities([[0, 0, 1], [0, 0, 2]])
    ase.io.write(tmp_path / "x.traj", frames)
    atoms, _ = starting_structure(f"{tmp_path / 'x.traj'}@-1", ["O", "H"])
    assert atoms.positions[0, 2] == 2
    np.testing.assert_allclose(atoms.get_velocities(), [[0, 0, 1], [0, 0, 2]])


@pytest.mark.parametrize("command", ["recommend", "test", "deviation"])
@situation("ASE | a labelled trajectory for recommend, test, deviation | as a system of its frames")
def test_commands_for_systems_take_files_too(tmp_path, command):
    ase.io.write(tmp_path / "x.traj", [labelled(i) for i in range(3)])
    zoo("data", "convert", tmp_path / "x.traj", "-o", tmp_path / "out", "--split", 1)
    documents = []
    for data in (tmp_path / "x.traj", tmp_path / "out"):
        options = {
            "recommend": ["-m", MODEL, data],
            "test": ["-m", MODEL, "-s", data],
            "deviation": ["-m", MODEL, "-m", MODEL, "-s", data, "-o", tmp_path / "d", "--force"],
        }[command]
        documents.append(document(command, *options, "-q"))
    for found in documents:
        found.pop("warnings", None)
        for system in found.get("systems", ()):
            system.pop("system", None)
            system.pop("name", None)
    assert documents[0] == documents[1]


def test_the_units_of_the_option_are_those_that_are_known(tmp_path):
    assert set(get_args(Unit)) == set(UNITS)
    (tmp_path / "x.xyz").write_text(
        '1\nLattice="4 0 0 0 4 0 0 0 4" energy=-1 stress="9 0 0 0 9 0 0 0 9"\nH 0 0 0\n'
    )
    call = ("data", "convert", tmp_path / "x.xyz", "-o", tmp_path / "out", "--split", 1)
    zoo(*call, "--stress-unit", "-GPa")
    (system,) = open_systems(tmp_path / "out")
    assert system.frames([0]).virial[0, 0, 0] == pytest.approx(9 / 160.21766208 * 64)


def water_and_hydrogen():
    """Return water and hydrogen in turns, frame 3 with coinciding atoms."""
    found = [molecule(name, cell=[9] * 3, pbc=True) for name in ("H2O", "H2") * 3]
    found[3].positions[1] = found[3].positions[0]
    return found


@situation("""an explored trajectory of several compositions | atoms coincide in frame 3,
    coordinates are NaN in frame 4 | rows of nan beside the numbers that these frames have in the
    file""")
def test_the_rows_of_a_trajectory_have_its_numbers(tmp_path):
    explored = water_and_hydrogen()
    explored[4].positions[0] = np.nan
    ase.io.write(tmp_path / "x.traj", explored)
    output = tmp_path / "model_devi.out"
    result = zoo("deviation", "-m", MODEL, "-m", MODEL, "-s", tmp_path / "x.traj", "-o", output)
    assert result.exit_code == 1
    rows = np.loadtxt(output)
    assert rows[:, 0].tolist() == [0, 2, 4, 1, 3, 5]
    assert np.flatnonzero(np.isnan(rows[:, 1:]).any(axis=1)).tolist() == [2, 4]
    assert "frame 3: atoms 0 and 1 are at the same place" in output.read_text()


@situation("""ASE .traj in zoo test | a label is NaN in frame 0, atoms coincide in frame 3 | the bad
    frame is frame 3, as in the file""")
def test_frames_before_that_are_left_out_count(tmp_path):
    labelled = water_and_hydrogen()
    for number, atoms in enumerate(labelled):
        atoms.calc = SinglePointCalculator(atoms, energy=np.nan if number == 0 else -1.0)
    ase.io.write(tmp_path / "x.traj", labelled)
    result = zoo("test", "-m", MODEL, "-s", tmp_path / "x.traj", "--json")
    assert result.exit_code == 1
    assert [bad["frame"] for bad in json.loads(result.stdout)["bad_frames"]] == [3]
    assert "frame 0 is left out: energy has NaN" in result.stderr


@situation("""zoo predict | one structure of many has an element that the model does not know | a
    row with the reason; the others are evaluated""")
def test_an_unknown_element_costs_its_own_structure_only(tmp_path):
    files = [*water_and_hydrogen()[:2], Atoms("Cu", cell=[9] * 3, pbc=True)]
    ase.io.write(tmp_path / "x.xyz", files)
    listed = predicted(tmp_path, tmp_path / "x.xyz", code=1)["structures"]
    assert [item["energy"] is None for item in listed] == [False, False, True]
    assert "does not know Cu" in listed[2]["problem"]
    with pytest.raises(DataError, match="structure 2"):
        zoo("predict", "-m", MODEL, tmp_path / "x.xyz", "-o", tmp_path / "q.xyz", "--strict")
    with pytest.raises(DataError, match="does not know Cu"):
        zoo("predict", "-m", MODEL, f"{tmp_path / 'x.xyz'}@2", "-o", tmp_path / "q.xyz")


@situation("ASE .traj in zoo test | labels in some frames only | tested on these; others said")
def test_frames_without_labels_do_not_end_a_test(tmp_path):
    labelled = [atoms for number, atoms in enumerate(water_and_hydrogen()) if number != 3]
    for atoms in labelled[1:]:
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0)
    ase.io.write(tmp_path / "x.traj", labelled)
    result = zoo("test", "-m", MODEL, "-s", tmp_path / "x.traj", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["total"]["num_frames"] == 4
    assert "1 frames have no labels" in result.stderr
