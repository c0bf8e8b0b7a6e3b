"""`zoo data check` on right data of many kinds, where it finds nothing, and on wrong ones."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.cluster import Octahedron

from dpa2.data.preflight.run import DataReport, check_data
from tests.strangers.data_sets import (
    BOHR,
    GPA,
    HARTREE,
    KCAL,
    alloy,
    bohr,
    crystal,
    emt,
    equation_of_state,
    fractional,
    lone,
    nanometres,
    pair,
    per_atom,
    rattled,
    relaxation,
    rotating,
    scaled,
    small_cells,
    times,
    tumbling,
    turning_fast,
    virial,
    write,
)
from tests.strangers.situations import case, situation

IN_HARTREE = times("energy", 1 / HARTREE)


def check(*paths) -> DataReport:
    return check_data([str(path) for path in paths], None, [6.0])


@pytest.mark.parametrize("make", [
    case("active learning | a metal, atoms and cell rattled | no finding", lambda: [crystal()],
         id="rattled metal"),
    case("equations of state | perfect crystals of many volumes, forces 0 | no finding",
         lambda: [equation_of_state("Cu"), equation_of_state("Al")], id="equation of state"),
    case("a molecule in vacuum | rigid H2 that rotates | no finding", lambda: [rotating("H2")],
         id="rotating H2"),
    case("a molecule in vacuum | rigid N2 that rotates | no finding", lambda: [rotating("N2")],
         id="rotating N2"),
    case("a molecule in a large cell | H2 that vibrates a little and turns much | no finding",
         lambda: [turning_fast("H2", 10.0)], id="H2 that turns fast"),
    case("dissociation | methane of 1.7 to 2 times its size, as if in Bohr | no finding",
         lambda: [scaled("CH4", np.linspace(1.7, 2.0, 12))], id="a molecule that flies apart"),
    case("a molecule in vacuum | rigid water that rotates | no finding", lambda: [tumbling("H2O")],
         id="tumbling water"),
    case("references for cohesive energies | an atom alone beside crystals of one atom a cell | no "
         "finding: it differs by its cohesion, and its force is rightly 0", lambda: [lone("Cu"),
         rattled(bulk("Cu", cubic=False), 6, strain=0.02), lone("Al"), rattled(bulk("Al",
         cubic=True), 6, strain=0.02)], id="lone atoms beside crystals"),
    case("Cu, Ni and Al, each with its own type_map.raw | the same lattice, other elements, no "
         "--type-map | no finding: they are other structures", lambda: [[emt(Atoms(name,
         cell=bulk("Cu").cell.array, pbc=True)) for _ in range(1)] for name in ("Cu", "Ni", "Al")],
         id="three metals on one lattice"),
    case("alloys | several compositions on one lattice | no finding",
         lambda: [alloy("Al", "Cu", 1), alloy("Al", "Cu", 2), alloy("Ni", "Pt", 3)], id="alloys"),
    case("clusters | rattled, no cell | no finding", lambda: [rattled(Octahedron("Cu", 3, 1), 10)],
         id="cluster"),
    case("clusters | crystals of the same composition | no finding",
         lambda: [rattled(Octahedron("Au", 2), 6), rattled(bulk("Au", cubic=False) * (6, 1, 1), 6)],
         id="clusters beside crystals"),
    case("shock compression | a metal at 140 GPa | no finding",
         lambda: [rattled(bulk("Cu", a=3.1, cubic=True) * (2, 1, 1), 10, size=0.03, strain=0.005)],
         id="high pressure"),
    case("hot expanded metal | cells of up to 3.3 volumes | no finding",
         lambda: [rattled(bulk("Cu", a=a, cubic=True), 6, strain=0.01) for a in (4.6, 5.0, 5.4)],
         id="expanded cells"),
    case("a dissociation curve | N2 from 0.95 to 3.5 Å | no finding",
         lambda: [[pair("N2", d) for d in np.linspace(0.95, 3.5, 40)]], id="a bond that breaks"),
    case("a dissociation curve | N2 at 1.8 to 2.4 Å, as long as bonds in Bohr | no finding",
         lambda: [[pair("N2", d) for d in np.linspace(1.8, 2.4, 20)]], id="stretched bonds only"),
    case("a dissociation curve | H2 at 1.1 to 1.5 Å | no finding",
         lambda: [[pair("H2", d) for d in np.linspace(1.1, 1.5, 20)]], id="stretched hydrogen"),
    case("a dissociation curve | H2 at 0.5 to 0.8 Å | no finding",
         lambda: [[pair("H2", d) for d in np.linspace(0.5, 0.8, 20)]], id="compressed bonds"),
    case("a relaxation | large steps first, then small ones | no finding", lambda: [relaxation()],
         id="relaxation"),
    case("phonons, active learning | one cubic cell of fcc copper, rattled | no finding",
         lambda: [small_cells()], id="a small cell"),
    case("a few frames of gold | energies of five steps, explained by two factors as well | no "
         "finding: what chance may do is no evidence",
         lambda: [rattled(bulk("Au", "hcp", a=2.8816, c=4.7055) * (2, 2, 1), 6, strain=0.01)],
         id="six frames, cells and atoms at once"),
])  # fmt: skip
def test_right_data_have_no_findings(make, tmp_path):
    systems = make()
    report = check(
        *(write(tmp_path / str(number), frames) for number, frames in enumerate(systems))
    )
    assert [item.message for item in report.findings] == []


def spoil(folder, change):
    """Change the arrays of a system."""
    files = list((folder / "set.000").glob("*.npy"))
    arrays = {file.stem: np.load(file) for file in files}
    change(arrays)
    for file in files:
        np.save(file, arrays[file.stem])
    return folder


@pytest.fixture(scope="module")
def copper():
    return crystal()


@pytest.mark.parametrize(("change", "code", "said"), [
    case("Gaussian, ORCA | energies in Hartree | said", IN_HARTREE, "ZOO436",
         "energies are in Hartree", id="Hartree"),
    case("Quantum ESPRESSO | energies in Rydberg | said", times("energy", 2 / HARTREE), "ZOO436",
         "energies are in Rydberg", id="Rydberg"),
    case("MD17, force fields | energies in kcal/mol | said", times("energy", 1 / KCAL), "ZOO436",
         "energies are in kcal/mol", id="kcal/mol"),
    case("tables | energies per atom | said", per_atom, "ZOO436", "energies are per atom",
         id="per atom"),
    case("CP2K | forces in Hartree/Bohr | said", times("force", BOHR / HARTREE), "ZOO436",
         "forces are in Hartree/Bohr", id="Hartree/Bohr"),
    case("Quantum ESPRESSO | forces in Rydberg/Bohr | said", times("force", 2 * BOHR / HARTREE),
         "ZOO436", "forces are in Rydberg/Bohr", id="Rydberg/Bohr"),
    case("MD17, force fields | forces in kcal/mol/Å | said", times("force", 1 / KCAL), "ZOO436",
         "forces are in kcal/mol", id="kcal/mol/A"),
    case("quantum chemistry | gradients for forces | said", times("force", -1.0), "ZOO436",
         "forces are gradients", id="gradients"),
    case("Quantum ESPRESSO | coordinates and cell in Bohr | said", bohr, "ZOO434",
         "coordinates and cell in Bohr", id="Bohr"),
    case("GROMACS | coordinates and cell in nanometres | said", nanometres, "ZOO434",
         "coordinates and cell in nanometres", id="nanometres"),
    case("VASP, direct | fractional coordinates | said", fractional, "ZOO434",
         "fractional coordinates", id="fractional"),
    case("a converter that forgot the unit | stress in GPa times volume for virials | said",
         times("virial", GPA), "ZOO461", "GPa times", id="virial in GPa times volume"),
    case("VASP | stresses in kB for virials | said", virial(10 * GPA), "ZOO461", "kB",
         id="virial in kB"),
    case("Materials Project | stresses in GPa for virials | said", virial(GPA), "ZOO461", "GPa",
         id="virial in GPa"),
    case("ASE | stresses in eV/Å³ for virials | said", virial(1.0), "ZOO461", "eV/Å³",
         id="stress in eV/A^3"),
    case("ASE | virials of the other sign | said", times("virial", -1.0), "ZOO461", "sign",
         id="virial of the other sign"),
    case("VASP | stresses in kB, other sign | said", virial(-10 * GPA), "ZOO461", "kB",
         id="stress in kB of the other sign"),
    case("GPUMD | stresses in GPa, other sign | said", virial(-GPA), "ZOO461", "GPa",
         id="stress in GPa of the other sign"),
])  # fmt: skip
def test_wrong_units_and_signs_are_found(change, code, said, tmp_path, copper):
    (finding,) = check(spoil(write(tmp_path / "copper", copper), change)).findings
    assert finding.code == code
    assert said in finding.message + str(finding.hint)


@pytest.mark.parametrize(("change", "said"), [
    case("equations of state by VASP | forces 0, stresses in kB | found by the energies",
         virial(10 * GPA), "kB"),
    case("equations of state by ASE | forces 0, other sign | found by the energies",
         times("virial", -1.0), "sign"),
    case("equations of state | energies in Hartree | found by the virials", IN_HARTREE, "Hartree"),
])  # fmt: skip
def test_strained_crystals_tell_virials_by_energies(change, said, tmp_path):
    frames = equation_of_state("Cu", 0.9, 1.1)
    (finding,) = check(spoil(write(tmp_path / "eos", frames), change)).findings
    assert finding.code == "ZOO461"
    assert said in str(finding.hint)
    assert "energies change" in finding.message


@situation("""a cluster with virials | virials of the other sign | found: they are positions times
    forces""")
def test_virials_of_clusters_are_exact(tmp_path):
    frames = rattled(Octahedron("Cu", 3, 1), 10)
    folder = write(tmp_path / "cluster", frames)
    virial = [atoms.positions.T @ atoms.get_forces() for atoms in frames]
    np.save(folder / "set.000" / "virial.npy", np.reshape(virial, (10, 9)))
    assert check(folder).findings == []
    np.save(folder / "set.000" / "virial.npy", -np.reshape(virial, (10, 9)))
    (finding,) = check(folder).findings
    assert (finding.code, "sign" in str(finding.hint)) == ("ZOO461", True)


@situation("a single frame | a virial of 1800 eV per atom | no matter bears that pressure: said")
def test_a_virial_beyond_matter(tmp_path):
    folder = write(tmp_path / "one", rattled(bulk("Cu", cubic=True), 1))
    np.save(folder / "set.000" / "virial.npy", 7200.0 * np.eye(3).reshape(1, 9))
    (finding,) = check(folder).findings
    assert finding.code == "ZOO461"
    assert "GPa" in finding.message


@situation("a converter of six numbers | xx yy zz xy yz zx 0 0 0 | not symmetric: said")
def test_six_numbers_filled_up(tmp_path, copper):
    def shuffle(arrays):
        virial = arrays["virial"]
        rest = 0 * virial[:, :3]
        arrays["virial"] = np.hstack([virial[:, [0, 4, 8, 1, 5, 2]], rest])

    report = check(spoil(write(tmp_path / "copper", copper), shuffle))
    assert "ZOO462" in [item.code for item in report.findings]


@situation("""placeholder labels | forces of 0 on atoms that are off their places | said: leave them
    out""")
def test_forces_of_zero_that_cannot_be(tmp_path, copper):
    def no_forces(arrays):
        arrays["force"][:] = 0

    report = check(spoil(write(tmp_path / "copper", copper), no_forces))
    assert [item.code for item in report.findings] == ["ZOO437"]


def other_atoms(arrays):
    force = arrays["force"].reshape(len(arrays["force"]), -1, 3)
    arrays["force"] = np.roll(force, 1, axis=1).reshape(len(force), -1)


def other_frames(arrays):
    arrays["energy"] = np.roll(arrays["energy"], 1, axis=0)


def by_axes(arrays):
    force = arrays["force"].reshape(len(arrays["force"]), -1, 3)
    arrays["force"] = np.swapaxes(force, 1, 2).reshape(len(force), -1)


def another_reference(arrays):
    arrays["energy"][8:] -= 64.0


@pytest.mark.parametrize("change", [
    case("a converter that sorts | forces in another order of atoms | said", other_atoms),
    case("a log with one more line | energies of the frame before | said", other_frames),
    case("arrays of Fortran | forces as x of all atoms, y, z | said", by_axes),
    case("two calculations joined | energies of half of the frames are shifted | said",
         another_reference),
])  # fmt: skip
def test_labels_that_do_not_belong_together_are_found(change, tmp_path, copper):
    (finding,) = check(spoil(write(tmp_path / "copper", copper), change)).findings
    assert finding.code == "ZOO464"
    assert "same frames" in str(finding.hint)


@situation("large cells | 108 atoms rattled, energies in Hartree | said: most atoms move little")
def test_energies_of_large_cells_are_checked(tmp_path):
    frames = rattled(bulk("Cu", cubic=True) * (3, 3, 3), 8, size=0.06, seed=2)
    (finding,) = check(spoil(write(tmp_path / "large", frames), IN_HARTREE)).findings
    assert finding.code == "ZOO436"
    assert "Hartree" in str(finding.hint)


@situation("data of two methods | one system's energies 2 eV per atom off, like structures | said")
def test_another_method_is_still_found(tmp_path, copper):
    def shift(arrays):
        arrays["energy"] += 2.0 * 32

    other = rattled(bulk("Cu", cubic=True) * (2, 2, 2), 8, strain=0.01, seed=5)
    shifted = spoil(write(tmp_path / "other", other), shift)
    (finding,) = check(write(tmp_path / "copper", copper), shifted).findings
    assert finding.code == "ZOO435"
    assert "eV per atom off" in finding.message


def test_pressure_in_gpa_is_that_of_the_constants():
    assert pytest.approx(160.2177, rel=1e-5) == GPA
    assert pytest.approx(0.529177, rel=1e-5) == BOHR
