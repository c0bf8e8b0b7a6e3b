"""Output of electronic-structure programs: whole, killed, not converged, of several files."""

import gzip

import numpy as np
import pytest
from scipy.io import netcdf_file

from dpa2.data.structures.dpdata_files import compare_with_positions, periodicity_of_cp2k
from dpa2.data.structures.reader import known_format
from schemas.base.errors import DataError
from tests.containers import write_npy
from tests.strangers.reading import read, read_text
from tests.strangers.situations import case, situation
from tests.strangers.vasp import CELL, COORD, END, FORCE, outcar_head, outcar_step, vasprun

HARTREE, BOHR = 27.211386245988, 0.529177210903
KBAR = 1602.1766208


WHOLE = outcar_head() + outcar_step(-14.5) + outcar_step(-14.25)
SECOND_OFF = outcar_head() + outcar_step(-1) + outcar_step(-2, scf=5) + outcar_step(-3) + END
TWO = [-14.5, -14.25]


@pytest.mark.parametrize(("name", "text", "energies", "dropped"), [
    case("VASP | an OUTCAR given as a file | read", "OUTCAR", WHOLE + END, TWO, []),
    case("VASP | OUTCAR.gz | unpacked, read", "OUTCAR.gz", WHOLE + END, TWO, []),
    case("VASP | an OUTCAR renamed | found", "run7.out", WHOLE + END, TWO, []),
    case("VASP | a run killed in the middle of a step | the steps before, the rest named",
         "OUTCAR", WHOLE[: WHOLE.rindex("TOTAL-FORCE") + 90], TWO[:1], [1]),
    case("VASP | a step whose electrons did not converge | left out, named by number", "OUTCAR",
         SECOND_OFF, [-1, -3], [1]),
    case("VASP | vasprun.xml | read", "vasprun.xml", vasprun([(-14.5, 2), (-14.25, 2)]), TWO, []),
    case("VASP | vasprun.xml of a killed run | the steps before", "vasprun.xml",
         vasprun([(-14.5, 2), (-14.25, 2)], close=False), TWO, [2]),
    case("VASP | vasprun.xml, a step not converged | left out", "vasprun.xml",
         vasprun([(-14.5, 2), (-14.25, 5)]), TWO[:1], [1]),
])  # fmt: skip
def test_vasp_is_read_step_by_step(tmp_path, name, text, energies, dropped):
    pack = gzip.compress if name.endswith(".gz") else bytes
    (tmp_path / name).write_bytes(pack(text.encode()))
    structures, report = read(tmp_path / name)
    assert [s.labels["energy"] for s in structures] == energies
    assert [item.frame for item in report.dropped] == dropped
    assert bool(report.sentences()) == bool(dropped)
    if text == SECOND_OFF:
        assert "frame 1 is left out: its electrons are not converged" in report.sentences()[0]
    first = structures[0]
    assert first.symbols == ("O", "H", "H")
    np.testing.assert_allclose(first.coord, COORD, atol=1e-12)
    np.testing.assert_allclose(first.box, CELL)
    np.testing.assert_allclose(first.labels["force"], FORCE)
    pressure = np.array([[1, 4, 6], [4, 2, 5], [6, 5, 3]]) / KBAR
    np.testing.assert_allclose(first.labels["virial"], pressure * 120.0, rtol=1e-6)


@situation("VASP | POTCAR in another order than the POSCAR's title | VASP's elements, and said")
def test_another_order_of_the_potcar_is_said(tmp_path):
    text = outcar_head(("H", "O"), (1, 2), title="O H") + outcar_step(-14.5) + END
    (structure,), report = read_text(tmp_path / "OUTCAR", text)
    assert structure.symbols == ("H", "O", "O")
    assert "the POTCAR's order is H O" in report.sentences()[0]


@situation("VASP | a left-handed cell | read, the sign of the virial kept")
def test_a_left_handed_outcar_keeps_the_sign_of_its_virial(tmp_path):
    cell = [CELL[1], CELL[0], CELL[2]]
    (structure,), _ = read_text(
        tmp_path / "OUTCAR", outcar_head() + outcar_step(-14.5, cell=cell) + END
    )
    assert np.linalg.det(structure.box) < 0
    assert structure.labels["virial"][0, 0] == pytest.approx(120.0 / KBAR, rel=1e-6)


@situation("VASP | a folder of calculations, one of them broken | the others, numbered through")
def test_a_folder_of_calculations_is_read(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        text = outcar_head() + outcar_step(-14.5) + END
        (tmp_path / name / "OUTCAR").write_text(text if name != "b" else "nothing\n")
    structures, report = read(tmp_path)
    assert len(structures) == 2
    assert "b/OUTCAR cannot be read" in report.dropped[0].reason


@pytest.mark.parametrize(("names", "symbols"), [
    case("VASP | D in a POSCAR | H with its mass", "O D", "OHH"),
    case("VASP | O_s, POTCAR hashes | O", "O_s H_h/4f8", "OHH"),
    case("VASP | H.5, half a charge | refused", "O H.5", None),
    case("ASE | vacancies X in a POSCAR | refused", "O X", None),
])  # fmt: skip
def test_names_in_a_poscar_are_elements_or_refused(tmp_path, names, symbols):
    path = tmp_path / "CONTCAR"
    path.write_text(
        f"water\n1.0\n9 0 0\n0 9 0\n0 0 9\n{names}\n1 2\nSelective\nDirect\n"
        "0 0 0 F F F\n.1 0 0 T T T\n0 .1 0 T T T\n"
    )
    if symbols is None:
        with pytest.raises(DataError, match="is called"):
            read(path)
        return
    (structure,), _ = read(path)
    assert structure.symbols == tuple(symbols)
    assert (structure.atoms.get_masses()[1] > 2) == ("D" in names)
    assert len(structure.atoms.constraints) == 1


@situation("Quantum ESPRESSO | CP trajectory given by its prefix | read")
def test_a_prefix_of_several_files_is_read(tmp_path):
    (tmp_path / "h2.in").write_text(
        "&control\n prefix='h2'\n/\n&system\n ibrav = 1,\n celldm(1) = 10.0,\n nat = 2,\n"
        " ntyp = 1,\n/\nATOMIC_SPECIES\nH 1.0 H.UPF\nATOMIC_POSITIONS {bohr}\nH 0 0 0\nH 1.4 0 0\n"
    )
    for ending, rows in (("pos", "0 0 0\n1.4 0 0\n"), ("for", "0.1 0 0\n-0.1 0 0\n")):
        (tmp_path / f"h2.{ending}").write_text(f"10 0.001\n{rows}20 0.002\n{rows}")
    (tmp_path / "h2.cel").write_text(
        "".join(f"{n} 0.1\n10 0 0\n0 10 0\n0 0 10\n" for n in (10, 20))
    )
    evp = "".join(f"{n} 0.001 0 0 0 -1.5 -1.4 -1.3 -1.2 0 0 0\n" for n in (10, 20))
    (tmp_path / "h2.evp").write_text(f"# nfi time ekinc T T etot enthal econs econt\n{evp}")
    structures, report = read(tmp_path / "h2", format_name="qe/cp/traj")
    assert report.num_frames == len(structures) >= 1
    assert structures[0].symbols == ("H", "H")
    np.testing.assert_allclose(structures[0].coord[1, 0] - structures[0].coord[0, 0], 1.4 * BOHR)
    np.testing.assert_allclose(structures[0].labels["force"][0, 0], 0.1 * HARTREE / BOHR)
    assert structures[0].labels["energy"] == pytest.approx(-1.5 * HARTREE)
    with pytest.raises(DataError, match="prefix of its files"):
        read(tmp_path / "h3", format_name="qe/cp/traj")


@situation("DFTB+ | input and output, two files or their folder | read")
def test_a_pair_of_files_is_read(tmp_path):
    (tmp_path / "dftb_in.hsd").write_text(
        "Geometry = GenFormat {\n3 C\nO H\n"
        + "".join(f"{i + 1} {1 + (i > 0)} {x} {y} {z}\n" for i, (x, y, z) in enumerate(COORD))
        + "}\n"
    )
    forces = "\n".join(f"{i + 1} 0.1 0.0 -0.1" for i in range(3))
    (tmp_path / "detailed.out").write_text(
        f"Total energy:   -3.5 H   -95.2 eV\n\nTotal Forces\n{forces}\n"
    )
    pair = f"{tmp_path / 'dftb_in.hsd'},{tmp_path / 'detailed.out'}"
    for path in (tmp_path, pair):
        (structure,), _ = read(path, format_name="dftbplus")
        assert structure.symbols == ("O", "H", "H")
        assert structure.box is None
        assert structure.labels["energy"] == pytest.approx(-3.5 * HARTREE)


@situation("deepmd-kit | raw files, --from deepmd/raw or by themselves | read")
def test_raw_folders_are_read(tmp_path):
    for name, rows in (("coord", [np.ravel(COORD)] * 2), ("box", [np.ravel(CELL)] * 2),
                       ("energy", [[-1.0], [-2.0]]), ("force", [np.ravel(FORCE)] * 2)):  # fmt: skip
        np.savetxt(tmp_path / f"{name}.raw", rows)
    (tmp_path / "type.raw").write_text("0\n1\n1\n")
    with pytest.raises(DataError, match="does not name them"):
        read(tmp_path, format_name="deepmd/raw")
    structures, _ = read(tmp_path, type_names=["O", "H"])
    assert [s.labels["energy"] for s in structures] == [-1, -2]
    (tmp_path / "type_map.raw").write_text("O\nH\n")
    structures, _ = read(tmp_path, format_name="deepmd/raw")
    assert structures[0].symbols == ("O", "H", "H")
    np.testing.assert_allclose(structures[1].labels["force"], FORCE)


@situation("OpenMX | a prefix, a step whose electrons did not converge | the other steps")
def test_unconverged_steps_of_openmx_are_left_out(tmp_path):
    rows = "".join(f"{i + 1} {name} 0 0 {i} 3 3\n" for i, name in enumerate("OH"))
    (tmp_path / "w.dat").write_text(
        f"<Atoms.SpeciesAndCoordinates\n{rows}Atoms.SpeciesAndCoordinates>\n"
    )
    steps = ""
    for number, converged in enumerate((1, 0, 1)):
        steps += f"2\ntime= {number}.0 (fs) Energy= -{number + 1}.5 (Hartree) "
        steps += f"Cell_Vectors= 9 0 0 0 9 0 0 0 9 scf_conv={converged}\n"
        steps += f"O 0 0 0 0.1 0 0 0\nH {number + 1}.0 0 0 -0.1 0 0 0\n"
    (tmp_path / "w.md").write_text(steps)
    structures, report = read(tmp_path / "w", format_name="openmx/md")
    assert [s.coord[1, 0] for s in structures] == [1, 3]
    assert structures[1].labels["energy"] == pytest.approx(-3.5 * HARTREE)
    assert report.sentences() == [
        f"{tmp_path / 'w'}: frame 1 is left out: its electrons are not converged"
    ]


@situation("Gaussian | the log of an optimisation | every step, not only the last")
def test_every_step_of_gaussian_is_read(tmp_path):
    text = " Entering Gaussian System, Link 0=g16\n"
    for number in range(2):
        text += "                          Input orientation:\n -------------\n"
        text += " Center     Atomic      Atomic             Coordinates (Angstroms)\n"
        text += (
            " Number     Number       Type             X           Y           Z\n -------------\n"
        )
        for i, z in enumerate((8, 1)):
            text += f"{i + 1:7}{z:11}{0:12}{i * (1 + number):16.6f}{0:12.6f}{0:12.6f}\n"
        text += (
            f" -------------\n SCF Done:  E(RHF) =  -{75 + number}.5     A.U. after    9 cycles\n"
        )
        text += " Center     Atomic                   Forces (Hartrees/Bohr)\n"
        text += " Number     Number              X              Y              Z\n -------------\n"
        for i, z in enumerate((8, 1)):
            text += f"{i + 1:7}{z:9}{'':7}{0.1:15.9f}{0:15.9f}{0:15.9f}\n"
        text += " -------------\n"
    structures, _ = read_text(tmp_path / "opt.log", text)
    assert [s.symbols for s in structures] == [("O", "H")] * 2
    assert [s.coord[1, 0] for s in structures] == [1, 2]
    energies = [float(s.labels["energy"]) for s in structures]
    assert energies == pytest.approx([-75.5 * HARTREE, -76.5 * HARTREE])
    assert structures[0].labels["force"][0, 0] == pytest.approx(0.1 * HARTREE / BOHR)


@pytest.mark.parametrize(("converged", "stress"), [
    case("CP2K | a single point | read, all labels", True, ""),
    case("CP2K | stress in the form of newer versions | no virial, said", True,
         " STRESS| Analytical stress tensor [GPa]\n STRESS| x 1.0 0.0 0.0\n"),
    case("CP2K | electrons not converged | refused, in words", False, ""),
])  # fmt: skip
def test_a_single_point_of_cp2k(tmp_path, converged, stress):
    rows = "".join(
        f"      {i + 1}     {1 + (i > 0)} {'OHH'[i]}  {1 + 7 * (i == 0)}  {x}  {y}  {z}  1.0\n"
        for i, (x, y, z) in enumerate(COORD)
    )
    forces = "".join(f"      {i + 1}      1      O   0.1  0.0  -0.2\n" for i in range(3))
    vectors = "".join(
        f" CELL| Vector {name} [angstrom]:  {x}  {y}  {z}  |{name}| = 1.0\n"
        for name, (x, y, z) in zip("abc", CELL, strict=True)
    )
    (tmp_path / "cp2k.out").write_text(
        " **** CP2K| version string: CP2K version 2023.1\n DBCSR| Multiplication driver   BLAS\n"
        f"{vectors}  1. Atomic kind: O      Number of atoms: 1\n"
        "  2. Atomic kind: H      Number of atoms: 2\n  Atom  Kind  Element       X  Y  Z\n\n"
        f"{rows}\n  *** SCF run {'converged' if converged else 'NOT converged'} in 9 steps ***\n"
        " ENERGY| Total FORCE_EVAL ( QS ) energy [a.u.]:             -17.25\n"
        f" # Atom   Kind   Element          X              Y              Z\n{forces}"
        f" SUM OF ATOMIC FORCES  0 0 0 0\n{stress}"
    )
    if not converged:
        with pytest.raises(DataError, match="has no frames") as caught:
            read(tmp_path / "cp2k.out")
        assert "converged" in (caught.value.hint or "")
        return
    (structure,), report = read(tmp_path / "cp2k.out")
    assert any("stress" in sentence for sentence in report.sentences()) == bool(stress)
    assert structure.symbols == ("O", "H", "H")
    np.testing.assert_allclose(structure.box, CELL)
    assert structure.labels["energy"] == pytest.approx(-17.25 * HARTREE)
    assert structure.labels["force"][0, 2] == pytest.approx(-0.2 * HARTREE / BOHR)


@situation("ABACUS | a folder with INPUT, STRU and OUT.ABACUS | found, read")
def test_a_folder_of_abacus_is_read(tmp_path):
    (tmp_path / "INPUT").write_text("INPUT_PARAMETERS\ncalculation scf\n")
    (tmp_path / "STRU").write_text(
        "ATOMIC_SPECIES\nO 16.0 O.upf\nH 1.0 H.upf\n\nLATTICE_CONSTANT\n1.8897261254578281\n\n"
        "LATTICE_VECTORS\n9 0 0\n0 9 0\n0 0 9\n\nATOMIC_POSITIONS\nCartesian\n\n"
        "O\n0.0\n1\n0 0 0 1 1 1\n\nH\n0.0\n2\n1 0 0 1 1 1\n0 1 0 1 1 1\n"
    )
    (tmp_path / "OUT.ABACUS").mkdir()
    (tmp_path / "OUT.ABACUS" / "running_scf.log").write_text(
        " charge density convergence is achieved\n final etot is -463.25 eV\n"
        " TOTAL-FORCE (eV/Angstrom)\n -----\n O1 0.5 0 0\n H1 -0.25 0 0\n H2 -0.25 0 0\n -----\n\n"
    )
    (structure,), _ = read(tmp_path)
    assert structure.symbols == ("O", "H", "H")
    np.testing.assert_allclose(structure.coord, [[0, 0, 0], [1, 0, 0], [0, 1, 0]], atol=1e-9)
    assert structure.labels["energy"] == -463.25
    np.testing.assert_array_equal(structure.labels["force"][:, 0], [0.5, -0.25, -0.25])


@situation("AMBER | GAFF types ca and ho | carbon and hydrogen by the topology, not Ca and Ho")
def test_elements_of_amber_are_those_of_its_topology(tmp_path):
    (tmp_path / "m.parm7").write_text(
        "%VERSION\n%FLAG POINTERS\n%FORMAT(10I8)\n"
        + "".join(f"{n:8}" for n in (2, 2, 0, 0, 0, 0, 0, 0, 0, 0))
        + "\n%FLAG ATOMIC_NUMBER\n%FORMAT(10I8)\n       6       1\n"
        "%FLAG AMBER_ATOM_TYPE\n%FORMAT(20a4)\nca  ho  \n"
    )
    for name, what in (("m.nc", "coordinates"), ("m.mdfrc", "forces")):
        with netcdf_file(tmp_path / name, "w") as stream:
            stream.createDimension("frame", 1)
            stream.createDimension("atom", 2)
            stream.createDimension("spatial", 3)
            values = stream.createVariable(what, "f", ("frame", "atom", "spatial"))
            values[:] = [[[0, 0, 0], [1, 0, 0]]]
            for cell, size in (("cell_lengths", 9.0), ("cell_angles", 90.0)):
                stream.createVariable(cell, "d", ("frame", "spatial"))[:] = size
    (tmp_path / "m.mdout").write_text(" EPtot      =  -10.0\n")
    (structure,), _ = read(tmp_path / "m", format_name="amber/md")
    assert structure.symbols == ("C", "H")
    assert structure.labels["force"][1, 0] == pytest.approx(0.0433641, rel=1e-5)


@situation("CP2K | kinds numbered in another order than the atoms | refused, not other elements")
def test_kinds_of_cp2k_are_compared_with_the_positions(tmp_path):
    (tmp_path / "w-pos-1.xyz").write_text("2\n i = 0, E = -17.0\n H 0 0 0\n O 1 0 0\n")
    with pytest.raises(DataError, match="would be O, as its kinds"):
        compare_with_positions(str(tmp_path), ("O", "H"))
    compare_with_positions(str(tmp_path), ("H", "O"))


@situation("FHI-aims | fhi_aims/md | read by ASE: molecules too, the energy of the forces")
def test_fhi_aims_is_read_by_ase():
    assert known_format("fhi_aims/md") == known_format("aims-output")


@situation("deepmd-kit | dipole.npy and spin.npy through zoo data convert | left out, and said")
def test_arrays_that_are_not_read_are_named(tmp_path):
    arrays = {"coord": np.tile(np.ravel(COORD), (2, 1)), "box": np.tile(9 * np.eye(3), (2, 1, 1))}
    arrays |= {"energy": np.ones(2), "dipole": np.ones((2, 3)), "spin": np.ones((2, 9))}
    write_npy(tmp_path / "x", arrays, [0, 1, 1])
    structures, report = read(tmp_path / "x")
    assert sorted(structures[0].labels) == ["energy"]
    assert "dipole.npy, spin.npy is not read" in report.sentences()[0]


@pytest.mark.parametrize(("words", "pbc"), [
    case("CP2K | PERIODIC NONE | no cell", "NONE", (False,) * 3),
    case("CP2K | PERIODIC XY | a slab", "XY", (True, True, False)),
    case("CP2K | PERIODIC XYZ | a crystal", "XYZ", (True,) * 3),
])  # fmt: skip
def test_the_periodicity_of_cp2k_is_kept(tmp_path, words, pbc):
    for place in (tmp_path, tmp_path / "cp2k.log"):
        (tmp_path / "cp2k.log").write_text(f" CELL| Periodicity {words:>60}\n")
        assert periodicity_of_cp2k(str(place)) == pbc
