"""Atoms, cells, and files as other people have them."""

import bz2
import gzip
import lzma

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from dpa2.data.convert import convert
from dpa2.data.structures.systems import in_a_box
from dpa2.data.systems import open_systems
from schemas.base.errors import DataError
from tests.strangers.reading import read, read_text
from tests.strangers.situations import case, situation


def xyz(path, *labels, comment=""):
    lines = [f"{label} {i} 0 0" for i, label in enumerate(labels)]
    path.write_text("\n".join([str(len(labels)), comment, *lines]) + "\n")
    return path


LABELS = [
    case("XYZ | atoms called H1 | H, and said", "H1", "H"),
    case("XYZ | atoms called H+ | H, and said", "H+", "H"),
    case("XYZ | atoms called h | H, and said", "h", "H"),
    case("CP2K, PDB | atoms called CL | Cl, and said", "CL", "Cl"),
    case("XYZ | deuterium | H with its own mass, and said", "D", "H"),
    case("XYZ | atoms called 2H | H, and said", "2H", "H"),
    case("XYZ | atoms called Fe3+ | Fe, and said", "Fe3+", "Fe"),
    case("XYZ | atoms called O2- | O, and said", "O2-", "O"),
    case("VASP | atoms called Ti_pv | Ti, and said", "Ti_pv", "Ti"),
    case("XYZ | atoms called C(am) | C, and said", "C(am)", "C"),
]


@pytest.mark.parametrize(("label", "element"), LABELS)
def test_labels_that_mean_an_element_are_taken_as_it(tmp_path, label, element):
    (structure,), report = read(xyz(tmp_path / "x.xyz", "O", label))
    assert structure.symbols == ("O", element)
    assert report.sentences() == [
        f"{tmp_path / 'x.xyz'}: atoms called {label} are taken as {element}"
    ]
    assert structure.atoms.symbols[1] == element
    if label == "D":
        assert structure.atoms.get_masses()[1] == pytest.approx(2.0141, abs=1e-4)


NO_ELEMENTS = [
    case("ASE | vacuum atoms X | refused as such", "X", "ghost"),
    case("Gaussian | ghost atoms Bq | refused as such", "Bq", "ghost"),
    case("ORCA | ghost atoms Gh-O | refused as such", "Gh-O", "ghost"),
    case("LAMMPS dump xyz | types for elements | refused", "8", "number"),
    case("water models | atoms HW1 | refused", "HW1", "no element"),
    case("PDB | C-alpha or Ca | refused", "CA1", "no element"),
]


@pytest.mark.parametrize(("label", "word"), NO_ELEMENTS)
def test_labels_that_mean_none_are_refused_with_words_about_them(tmp_path, label, word):
    with pytest.raises(DataError, match=f"atom 1 .* is called '{label}'.*{word}") as caught:
        read(xyz(tmp_path / "x.xyz", "O", label))
    assert "ending" not in (caught.value.hint or "")


@situation("own potentials | names of a type map that are no elements | taken as they stand")
def test_names_of_the_type_map_need_be_no_elements(tmp_path):
    path = xyz(tmp_path / "x.xyz", "O", "HW1", "D", comment="energy=-1")
    (structure,), report = read(path, known_names=["O", "HW1", "D"])
    assert structure.symbols == ("O", "HW1", "D")
    assert not report.sentences()
    convert([path], tmp_path / "out", type_map=["D", "O", "HW1"], train_fraction=1.0)
    (system,) = open_systems(tmp_path / "out")
    assert system.type_map[system.frames([0]).atom_types[0][1]] == "HW1"


@situation("LAMMPS dump xyz | types for elements, with --type-map | named by it")
def test_numbered_xyz_is_named_by_the_type_map(tmp_path):
    (structure,), _ = read(xyz(tmp_path / "x.xyz", 2, 1, 1), type_names=["H", "O"])
    assert structure.symbols == ("O", "H", "H")


@pytest.mark.parametrize("pbc", [
    case("ASE | a slab, pbc T T F | images kept apart", (1, 1, 0)),
    case("ASE | a wire, pbc F F T | images kept apart", (0, 0, 1)),
    case("ASE | a slab, pbc T F T | images kept apart", (1, 0, 1)),
])  # fmt: skip
def test_directions_that_are_not_periodic_get_a_cell_that_keeps_images_apart(tmp_path, pbc):
    # The file's own vector across the slab is so short that images would touch.
    atoms = Atoms("Cu4", [[0, 0, 0], [1, 2, 1], [2, 1, 3], [0, 1, 4]], cell=[5, 6, 5], pbc=pbc)
    ase.io.write(tmp_path / "x.traj", atoms)
    (structure,), report = read(tmp_path / "x.traj")
    boxed = in_a_box(structure, 20.0, report)
    np.testing.assert_array_equal(boxed.coord, atoms.positions)
    kept = [vector for vector in atoms.cell[atoms.pbc].tolist() if vector in boxed.box.tolist()]
    assert len(kept) == sum(pbc)
    for vector in boxed.box:
        for image in (vector, -vector) if vector.tolist() not in kept else ():
            gaps = boxed.coord[:, None] - boxed.coord[None] - image
            assert np.linalg.norm(gaps, axis=-1).min() >= 20.0
    assert "20 Å apart" in report.sentences()[0]


@situation("any | a left-handed cell | two vectors change places: the same lattice, and said")
def test_left_handed_cells_are_turned_without_moving_an_atom(tmp_path):
    atoms = bulk("Cu", cubic=True)
    atoms.cell = [[0, 3.6, 0], [3.6, 0, 0.5], [0, 0.25, 3.6]]
    assert np.linalg.det(atoms.cell) < 0
    atoms.info["energy"] = -1.0
    ase.io.write(tmp_path / "x.xyz", atoms, format="extxyz")
    done = convert([tmp_path / "x.xyz"], tmp_path / "out", train_fraction=1.0)
    (system,) = open_systems(tmp_path / "out")
    frames = system.frames([0])
    assert np.linalg.det(frames.box[0]) > 0
    assert sorted(frames.box[0].tolist()) == sorted(atoms.cell.tolist())
    np.testing.assert_allclose(frames.coord[0], atoms.positions, rtol=0, atol=1e-8)
    assert "left-handed" in done.warnings[0]


@pytest.mark.parametrize(("ending", "pack"), [
    case("any | file.xyz.gz | unpacked", "gz", gzip.compress),
    case("any | file.xyz.bz2 | unpacked", "bz2", bz2.compress),
    case("any | file.xyz.xz | unpacked", "xz", lzma.compress),
])  # fmt: skip
def test_packed_files_are_unpacked(tmp_path, ending, pack):
    plain = xyz(tmp_path / "x.xyz", "O", "H").read_bytes()
    packed = tmp_path / f"x.xyz.{ending}"
    packed.write_bytes(pack(plain))
    (structure,), _ = read(packed)
    assert structure.symbols == ("O", "H")
    packed.write_bytes(pack(plain)[:-12])
    with pytest.raises(DataError, match=f"x.xyz.{ending} cannot be read"):
        read(packed)


@situation("hostile | gigabytes of nothing in a small .gz | refused, bounded")
def test_a_packed_file_that_grows_without_bounds_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("dpa2.data.structures.reader._SMALL", 1 << 20)
    (tmp_path / "x.xyz.gz").write_bytes(gzip.compress(bytes(1 << 23)))
    with pytest.raises(DataError, match="unpacks to more than"):
        read(tmp_path / "x.xyz.gz")


@pytest.mark.parametrize(("tail", "why"), [
    case("XYZ | the last frame is cut | left out, named", "2\n\nO 0 0 0\n",
         "ends after 1 of its 2 atoms"),
    case("XYZ | the last line is cut | left out, named", "2\n\nO 0 0 0\nH 1\n", "cannot be read"),
    case("XYZ | a count that is none | the rest is named as lost", "two\n\nO 0 0 0\n",
         "rest of the file is lost"),
    case("hostile | a million columns promised | left out, bounded",
         "1\nProperties=species:S:1:pos:R:999999\nO 0 0 0\n", "name 1000000 columns"),
    case("hostile | a count of 10^12 | left out, bounded", "999999999999\n\nO 0 0 0\n",
         "ends after 1 of"),
])  # fmt: skip
def test_a_damaged_frame_loses_nothing_but_itself(tmp_path, tail, why):
    structures, report = read_text(tmp_path / "x.xyz", "2\n\nO 0 0 0\nH 1 0 0\n" * 2 + tail)
    assert len(structures) == 2
    assert report.dropped[0].frame == 2
    assert why in report.dropped[0].reason


@pytest.mark.parametrize(("index", "frames"), [
    case("ASE | file@-1 | the last frame", "@-1", [4]),
    case("ASE | file@:2 | the first two frames", "@:2", [0, 1]),
    case("ASE | file@1::2 | every second frame", "@1::2", [1, 3]),
    ("@3", [3]),
    ("@-2:", [3, 4]),
    ("", [0, 1, 2, 3, 4]),
])  # fmt: skip
def test_frames_are_chosen_as_in_ase(tmp_path, index, frames):
    path = tmp_path / "x.traj"
    ase.io.write(path, [Atoms("H", [[i, 0, 0]]) for i in range(5)])
    structures, _ = read(f"{path}{index}")
    assert [s.coord[0, 0] for s in structures] == frames
    assert [s.frame for s in structures] == frames
    with pytest.raises(DataError, match="no frames"):
        read(f"{path}@7")


@situation("any | names with @ and # in them | taken as they are")
def test_file_names_may_have_signs_in_them(tmp_path):
    for name in ("run@3.xyz", "run@-1", "a#1.xyz"):
        path = xyz(tmp_path / name, "O", "H")
        (structure,), _ = read(path, format_name="xyz")
        assert len(structure.symbols) == 2


@situation("ASE | several formats by their content alone | found")
def test_formats_are_found_by_content(tmp_path):
    water = molecule("H2O", cell=[8, 8, 8], pbc=True)
    for name, kind in (("a", "vasp"), ("b.cif", "cif"), ("POSCAR-7", "vasp"),
                       ("d", "extxyz"), ("e.xsf", "xsf"), ("f.gen", "gen")):  # fmt: skip
        ase.io.write(tmp_path / name, water, format=kind)
        (structure,), _ = read(tmp_path / name, format_name=kind if name == "a" else None)
        assert sorted(structure.symbols) == ["H", "H", "O"]


@situation("CIF | sites occupied in part | refused: which atoms are there?")
def test_partly_occupied_sites_are_refused(tmp_path):
    ase.io.write(tmp_path / "x.cif", bulk("Cu", cubic=True))
    text = (tmp_path / "x.cif").read_text()
    assert len(read(tmp_path / "x.cif")[0][0].symbols) == 4
    with pytest.raises(DataError, match="occupied in part"):
        read_text(tmp_path / "x.cif", text.replace("  1.0000", "  0.5000", 1))
