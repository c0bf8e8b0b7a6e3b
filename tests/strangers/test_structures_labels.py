"""Labels of other people's files: the right ones, or none and a word about it."""

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.db import connect

from dpa2.data.structures.structure import LabelKeys
from schemas.base.errors import DataError
from tests.strangers.reading import read, read_text
from tests.strangers.situations import case, situation

FORCES = np.array([[0.64, 0.0, -0.1], [-0.3, 0.2, 0.0], [-0.34, -0.2, 0.1]])
# In ASE's order xx yy zz yz xz xy, eV/Å³.
STRESS = np.array([0.01, 0.02, 0.03, 0.004, 0.005, 0.006])
CELL = 6.0
VIRIAL = -(CELL**3) * np.array([[0.01, 0.006, 0.005], [0.006, 0.02, 0.004], [0.005, 0.004, 0.03]])


def water(**results):
    atoms = molecule("H2O", cell=[CELL] * 3, pbc=True)
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def extxyz(path, comment, columns="", values=""):
    """Write a water molecule with a comment line and more columns."""
    lines = [f"{symbol} {i} 0.1 {i} {values}" for i, symbol in enumerate("OHH")]
    head = f'Lattice="6 0 0 0 6 0 0 0 6" Properties=species:S:1:pos:R:3{columns} {comment}'
    path.write_text("\n".join(["3", head, *lines]) + "\n")
    return path


@pytest.mark.parametrize("ending", [
    case("ASE .traj | some atoms are fixed | raw forces", "traj"),
    case("ASE .db | some atoms are fixed | raw forces", "db"),
    case("ASE .json | some atoms are fixed | raw forces", "json"),
    case("extxyz | a move_mask column | raw forces", "xyz"),
])  # fmt: skip
def test_forces_of_fixed_atoms_are_the_raw_ones(tmp_path, ending):
    atoms = water(energy=-14.0, forces=FORCES)
    atoms.set_constraint(FixAtoms([0]))
    path = tmp_path / f"fixed.{ending}"
    if ending in {"db", "json"}:
        connect(path).write(atoms)
    else:
        ase.io.write(path, atoms)
    (structure,), _ = read(path)
    np.testing.assert_allclose(structure.labels["force"], FORCES, rtol=0, atol=1e-8)
    assert structure.atoms is not None
    assert len(structure.atoms.constraints) == 1


@situation("ASE .traj | elements change from frame to frame | each frame has its own")
def test_every_frame_has_its_own_elements(tmp_path):
    ase.io.write(tmp_path / "x.traj", [molecule("H2O"), molecule("CO2"), molecule("NH3")])
    structures, _ = read(tmp_path / "x.traj")
    assert [s.symbols for s in structures] == [
        ("O", "H", "H"),
        ("C", "O", "O"),
        ("N", "H", "H", "H"),
    ]


@pytest.mark.parametrize("first", [
    case("ASE .traj | stress in frame 0 only | kept there", 0),
    case("ASE .traj | stress in frame 1 only | kept there", 1),
])  # fmt: skip
def test_stress_of_some_frames_is_theirs(tmp_path, first):
    frames = [water(energy=-1.0, forces=FORCES), water(energy=-1.0, forces=FORCES)]
    frames[first].calc.results["stress"] = STRESS
    ase.io.write(tmp_path / "x.traj", frames)
    structures, _ = read(tmp_path / "x.traj")
    assert ["virial" in s.labels for s in structures] == [first == 0, first == 1]
    np.testing.assert_allclose(structures[first].labels["virial"], VIRIAL, rtol=0, atol=1e-8)


@pytest.mark.parametrize("ending", [
    case("ASE .traj | energy and free_energy | the free one", "traj"),
    case("extxyz | energy and free_energy | the free one", "xyz"),
])  # fmt: skip
def test_the_energy_is_the_one_whose_derivative_the_forces_are(tmp_path, ending):
    path = tmp_path / f"smeared.{ending}"
    ase.io.write(path, water(energy=-14.0, free_energy=-14.25, forces=FORCES))
    (structure,), report = read(path)
    assert structure.labels["energy"] == -14.25
    assert "free_energy" in " ".join(report.sentences())
    (other,), _ = read(path, keys=LabelKeys(energy="energy"))
    assert other.labels["energy"] == -14.0


# comment, columns, label, its value, a word of the report
DIALECTS = [
    case("NequIP | energy and forces | taken", "energy=-5.5", ":forces:R:3", "force", ""),
    case("MACE | REF_energy, REF_forces | taken and said", "REF_energy=-5.5", ":REF_forces:R:3",
         "force", "REF_forces"),
    case("forum posts | dft_energy, forces_dft | taken and said", "dft_energy=-5.5",
         ":forces_dft:R:3", "force", "forces_dft"),
    case("GPUMD | Energy and force | taken", "Energy=-5.5", ":force:R:3", "force", ""),
    case("NequIP | total_energy | taken", "total_energy=-5.5", ":forces:R:3", "force", ""),
    case("MACE | energy beside REF_energy | the reference, and said", "energy=-1 REF_energy=-5.5",
         ":REF_forces:R:3", "force", "the reference"),
    case("MACE | a model's energy beside the label | the label", "energy=-5.5 mace_energy=3",
         ":forces:R:3", "force", ""),
]  # fmt: skip


@pytest.mark.parametrize(("comment", "columns", "label", "said"), DIALECTS)
def test_dialects_of_extxyz(tmp_path, comment, columns, label, said):
    (structure,), report = read(extxyz(tmp_path / "x.xyz", comment, columns, "0.5 0.25 -1"))
    assert structure.labels["energy"] == -5.5
    np.testing.assert_array_equal(structure.labels[label], [[0.5, 0.25, -1]] * 3)
    assert said in " ".join(report.sentences())
    assert said or not report.sentences()


REFUSALS = [
    case("MACE | only a model's energy | refused, the key named", "MACE_energy=-5", "",
         "--energy-key MACE_energy"),
    case("extxyz | two energies that differ | refused, both named", "energy=-5 total_energy=-6", "",
         "--energy-key"),
    case("metatrain | forces of a name of one's own | refused, named", "energy=-5",
         ":my_forces:R:3", "--forces-key my_forces"),
    case("extxyz | an unknown unit | refused, named", "energy=-5 energy_unit=furlong", "", "eV"),
    case("extxyz | stress in GPa | refused: no material bears it",
         'energy=-5 stress="3 0 0 0 4 0 0 0 5"', "", "--stress-unit"),
    case("VASP through ASE | stress in kbar | refused", 'energy=-5 stress="-30 -40 -50 1 1 1"', "",
         "--stress-unit"),
    case("extxyz | stress and virial differ | refused",
         'energy=-5 virial="1 0 0 0 1 0 0 0 1" stress="1e-2 0 0 0 1e-2 0 0 0 1e-2"', "",
         "--stress-key"),
]  # fmt: skip


@pytest.mark.parametrize(("comment", "columns", "hint"), REFUSALS)
def test_what_is_not_clear_is_refused_by_name(tmp_path, comment, columns, hint):
    path = extxyz(tmp_path / "x.xyz", comment, columns, "0.5 0.25 -1")
    with pytest.raises(DataError) as caught:
        read(path)
    assert "x.xyz" in caught.value.message
    assert hint in (caught.value.hint or "")


STRESSES = [
    case("extxyz | stress of nine numbers | read",
         'stress="0.01 0.006 0.005 0.006 0.02 0.004 0.005 0.004 0.03"', None),
    case("extxyz | stress as a list of lists | read",
         "stress=[[0.01,0.006,0.005],[0.006,0.02,0.004],[0.005,0.004,0.03]]", None),
    case("extxyz | stress of six numbers | read in Voigt's order",
         'stress="0.01 0.02 0.03 0.004 0.005 0.006"', None),
    case("MACE | REF_stress | read",
         'REF_stress="0.01 0.006 0.005 0.006 0.02 0.004 0.005 0.004 0.03"', None),
    case("MACE | virials | read as eV", 'virials="{}"', None),
    case("QUIP | virial | read as eV", 'virial="{}"', None),
    case("extxyz | stress in GPa, said with --stress-unit | converted", 'stress="{gpa}"', "GPa"),
    case("VASP | pressure in kbar, said with --stress-unit | converted",
         'stress="{kbar}"', "-kbar"),
    case("LAMMPS dump extxyz | stress in bar, said | converted", 'stress="{bar}"', "bar"),
    case("extxyz | stress_unit=GPa in the comment | converted", 'stress="{gpa}" stress_unit=GPa',
         None),
]  # fmt: skip


@pytest.mark.parametrize(("comment", "unit"), STRESSES)
def test_stress_in_every_form_becomes_the_same_virial(tmp_path, comment, unit):
    stress = -VIRIAL.reshape(-1) / CELL**3
    written = comment.format(
        " ".join(map(str, VIRIAL.reshape(-1))),
        gpa=" ".join(map(str, stress * 160.21766208)),
        kbar=" ".join(map(str, -stress * 1602.1766208)),
        bar=" ".join(map(str, stress * 1602176.6208)),
    )
    path = extxyz(tmp_path / "x.xyz", f"energy=-5 {written}")
    (structure,), _ = read(path, keys=LabelKeys(stress_unit=unit))
    np.testing.assert_allclose(structure.labels["virial"], VIRIAL, rtol=1e-12, atol=1e-12)


@situation("extxyz | energy_unit=Hartree force_unit=Hartree/Bohr | converted")
def test_units_that_a_frame_names_are_converted(tmp_path):
    comment = "energy=-2 energy_unit=Hartree force_unit=hartree/bohr"
    path = extxyz(tmp_path / "x.xyz", comment, ":forces:R:3", "1 0 0")
    (structure,), _ = read(path)
    assert structure.labels["energy"] == pytest.approx(-2 * 27.211386245988)
    assert structure.labels["force"][0, 0] == pytest.approx(27.211386245988 / 0.529177210903)


@situation("any | --energy-key of another key, --forces-key none | taken, left out")
def test_keys_can_be_named(tmp_path):
    path = extxyz(tmp_path / "x.xyz", "energy=-5 MACE_energy=-6", ":forces:R:3", "1 0 0")
    (structure,), _ = read(path, keys=LabelKeys(energy="MACE_energy", forces="none"))
    assert structure.labels == {"energy": -6}
    with pytest.raises(DataError, match="no energy: 'hello'"):
        read(extxyz(tmp_path / "y.xyz", "energy=hello"))
    with pytest.raises(DataError, match="key dft is missing; there is MACE_energy, energy"):
        read(path, keys=LabelKeys(energy="dft"))


@situation("extxyz | the key of the energy changes within the file | said")
def test_a_change_of_keys_is_said(tmp_path):
    one = extxyz(tmp_path / "a.xyz", "free_energy=-5").read_text()
    two = extxyz(tmp_path / "b.xyz", "energy=-5").read_text()
    _, report = read_text(tmp_path / "both.xyz", one + two)
    assert "different keys: free_energy in 1 frames, energy in 1 frames" in report.sentences()[-1]


@situation("extxyz | a key stands twice in the comment | the frame is left out, named")
def test_a_repeated_key_makes_a_frame_useless(tmp_path):
    good = extxyz(tmp_path / "a.xyz", "energy=-5").read_text()
    bad = extxyz(tmp_path / "b.xyz", 'energy=-5 note="energy=1" energy=-6').read_text()
    structures, report = read_text(tmp_path / "both.xyz", good + bad + good)
    assert [s.frame for s in structures] == [0, 2]
    assert report.dropped[0].frame == 1
    assert "energy more than once" in report.dropped[0].reason


@situation("GPUMD | lattice, properties in lower case | the cell and the forces are read")
def test_keys_in_lower_case_are_known(tmp_path):
    text = extxyz(tmp_path / "x.xyz", "energy=-5", ":forces:R:3", "1 0 0").read_text()
    text = text.replace("Lattice", "lattice").replace("Properties", "properties")
    (structure,), _ = read_text(tmp_path / "x.xyz", text)
    assert structure.labels.keys() == {"energy", "force"}
    assert structure.pbc == (True, True, True)


@situation("ASE | another energy in info than in the results | refused, both named")
def test_info_that_contradicts_the_results_is_refused(tmp_path):
    atoms = water(energy=-14.0, forces=FORCES)
    atoms.info["energy"] = -15.0
    ase.io.write(tmp_path / "x.traj", atoms)
    with pytest.raises(DataError, match="energy keys that differ"):
        read(tmp_path / "x.traj")


@situation("LAMMPS, ASE | a forces label with NaN in one frame | that frame is left out, named")
def test_frames_with_nan_are_left_out(tmp_path):
    frames = [water(energy=-1.0, forces=FORCES) for _ in range(3)]
    frames[1].calc.results["forces"] = FORCES * np.nan
    ase.io.write(tmp_path / "x.traj", frames)
    structures, report = read(tmp_path / "x.traj")
    assert len(structures) == 2
    assert report.sentences() == [
        f"{tmp_path / 'x.traj'}: frame 1 is left out: force has NaN or infinity"
    ]


def test_an_empty_cell_that_is_periodic_is_no_structure(tmp_path):
    ase.io.write(tmp_path / "x.traj", Atoms("H", pbc=True))
    with pytest.raises(DataError, match="no cell vector"):
        read(tmp_path / "x.traj")
