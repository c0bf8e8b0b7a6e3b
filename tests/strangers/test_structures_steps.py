"""Outputs of several steps: coordinates and labels of one step, or words."""

import numpy as np
import pytest

from schemas.base.errors import DataError
from tests.strangers.reading import read, read_text
from tests.strangers.situations import case, situation
from tests.strangers.vasp import END, outcar_head, outcar_step

HARTREE, BOHR = 27.211386245988, 0.529177210903


def orca_step(distance, energy, gradient=None):
    text = "---------------------------------\nCARTESIAN COORDINATES (ANGSTROEM)\n----------\n"
    text += f"  O  0.0 0.0 0.0\n  H  {distance} 0.0 0.0\n\n"
    text += f"FINAL SINGLE POINT ENERGY  {energy:20.9f}\n"
    if gradient is not None:
        text += "------------------\nCARTESIAN GRADIENT\n------------------\n\n"
        text += f"   1   O   :   {gradient}  0.0  0.0\n   2   H   :  {-gradient}  0.0  0.0\n\n"
    return text


@situation("ORCA | the log of an optimisation | every step; the last geometry has no gradient")
def test_every_step_of_orca_is_read_with_its_own_forces(tmp_path):
    structures, report = read_text(
        tmp_path / "opt.out",
        "  * O   R   C   A *\n"
        + orca_step(1.0, -75.5, 0.25)
        + orca_step(1.5, -75.75, 0.125)
        + orca_step(1.625, -75.8),
    )
    assert [s.coord[1, 0] for s in structures] == [1.0, 1.5]
    energies = [float(s.labels["energy"]) for s in structures]
    assert energies == pytest.approx([-75.5 * HARTREE, -75.75 * HARTREE])
    forces = [s.labels["force"][1, 0] for s in structures]
    assert forces == pytest.approx([0.25 * HARTREE / BOHR, 0.125 * HARTREE / BOHR])
    assert "frame 2 is left out: it has no gradient" in report.sentences()[0]


def siesta_step(stress):
    rows = "".join(f"siesta:  {stress if i == 0 else 0.0:12.6f}  0.0  0.0\n" for i in range(3))
    return (
        "outcoor: Atomic coordinates (Ang):\n  0.0 0.0 0.0  1  1  O\n  1.0 0.0 0.0  2  2  H\n\n"
        "outcell: Unit cell vectors (Ang):\n  5.0 0.0 0.0\n  0.0 5.0 0.0\n  0.0 0.0 5.0\n\n"
        "siesta: E_KS(eV) =            -14.5000\n\n"
        "siesta: Atomic forces (eV/Ang):\nsiesta:  1  0.1  0.0  0.0\nsiesta:  2 -0.1  0.0  0.0\n"
        f"----\n\nsiesta: Stress tensor (static) (eV/Ang**3):\n{rows}\n"
        f"siesta: Pressure (static):  {-stress / 3:.8f}\n\n"
    )


@situation("SIESTA | a stress, in which tension is positive | the virial is the negative of it")
def test_the_virial_of_siesta_has_the_sign_of_its_pressure(tmp_path):
    (structure,), _ = read_text(
        tmp_path / "siesta.out",
        "redata: Number of Atomic Species   =   2\ninitatom: Reading input\n"
        "Species number: 1 Label: O\nSpecies number: 2 Label: H\n"
        "initatomlists: Number of atoms, orbitals, and projectors:  2  5  4\n"
        + siesta_step(-0.004),
        format_name="siesta/output",
    )
    assert structure.symbols == ("O", "H")
    np.testing.assert_allclose(structure.labels["virial"][0, 0], 0.004 * 125)


CP2K_ENERGY = " ENERGY| Total FORCE_EVAL ( QS ) energy [a.u.]:     -17.25\n"


@pytest.mark.parametrize(("format_name", "files", "words"), [
    case("CP2K | the output of an optimisation | refused: use the trajectory", "cp2k/output",
         {"x.out": f" DBCSR| Multiplication driver   BLAS\n{CP2K_ENERGY}{CP2K_ENERGY}"},
         "prints coordinates once"),
    case("Quantum ESPRESSO | qe/pw/scf of a relaxation | refused, the way", "qe/pw/scf",
         {"x.out": "!    total energy   =  -34.5 Ry\n" * 2, "x.in": ""},
         "the coordinates would be those of the input"),
    case("SIESTA | siesta/output of several steps | refused: aimd_output", "siesta/output",
         {"x.out": siesta_step(0.0) * 2}, "it has 2 steps"),
    case("Gaussian | MP2 forces beside the energy of HF | refused", "gaussian/log",
         {"x.out": " E2 =    -0.19D+00 EUMP2 =    -0.762D+02\n"}, "another energy than SCF Done"),
    case("Gaussian | forces of a double hybrid | refused", "gaussian/log",
         {"x.out": " E2(B2PLYPD3) =    -0.13D+00 E(B2PLYPD3) =    -0.764D+02\n"},
         "another energy than SCF Done"),
    case("Gaussian | forces of an excited state | refused", "gaussian/log",
         {"x.out": " Total Energy, E(TD-HF/TD-DFT) =  -76.1\n"}, "another energy than SCF Done"),
    case("DFTB+ | forces at the end of an optimisation | refused", "dftbplus",
         {"dftb_in.hsd": "Geometry = GenFormat {\n1 C\nO\n1 1 0 0 0\n}\n",
         "detailed.out": "\nGeometry optimization step: 12\nTotal energy: -3.5 H -95.2 eV\n"
         "Total Forces\n1 0.1 0 0\n"}, "forces are those of step 12"),
    case("DFTB+ | a crystal | refused, not read as a molecule", "dftbplus",
         {"dftb_in.hsd": "Geometry = GenFormat {\n1 S\nO\n1 1 0 0 0\n0 0 0\n5 0 0\n0 5 0\n"
         "0 0 5\n}\n", "detailed.out": "Total energy: -3.5 H -95.2 eV\nTotal Forces\n1 0.1 0 0\n"},
         "as a molecule"),
])  # fmt: skip
def test_labels_of_another_step_or_method_are_refused(tmp_path, format_name, files, words):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    path = tmp_path if format_name == "dftbplus" else tmp_path / "x.out"
    with pytest.raises(DataError, match=words):
        read(path, format_name=format_name)


@situation("VASP | steps of the machine-learned force field between those of DFT | DFT's only")
def test_steps_of_a_machine_learned_force_field_are_left_out(tmp_path):
    learned = outcar_step(-99.0, scf=0).replace("(eV/Angst)", "(eV/Angst) (ML)")
    learned = learned.replace("free  energy   TOTEN", "free  energy ML TOTEN")
    text = outcar_head() + outcar_step(-14.5) + learned + learned + outcar_step(-14.25) + END
    structures, report = read_text(tmp_path / "OUTCAR", text)
    assert [s.labels["energy"] for s in structures] == [-14.5, -14.25]
    assert "frames 1, 2 are left out" in report.sentences()[0]
    assert "machine-learned" in report.sentences()[0]


def pw_output(first):
    """Return an output of pw.x with two steps; the line of the first one's energy is `first`."""
    text = (
        "     Program PWSCF v.7.2 starts on  1Jan2024 at 10: 0: 0\n"
        "     lattice parameter (alat)  =      10.0000  a.u.\n     number of atoms/cell      = 1\n"
        "     number of atomic types    =            1\n"
        "     celldm(1)=  10.000000  celldm(2)=   0.000000  celldm(3)=   0.000000\n"
        "     crystal axes: (cart. coord. in units of alat)\n"
        "               a(1) = (   1.000000   0.000000   0.000000 )\n"
        "               a(2) = (   0.000000   1.000000   0.000000 )\n"
        "               a(3) = (   0.000000   0.000000   1.000000 )\n\n"
        "     atomic species   valence    mass     pseudopotential\n"
        "        Cu            11.00    63.54600     Cu( 1.00)\n\n   Cartesian axes\n\n"
        "     site n.     atom                  positions (alat units)\n"
        "         1           Cu  tau(   1) = (   0.0000000   0.0000000   0.0000000  )\n\n"
        "     number of k points=     1\n                       cart. coord. in units 2pi/alat\n"
        "        k(    1) = (   0.0000000   0.0000000   0.0000000), wk =   2.0000000\n\n"
    )
    for energy in (first, "!    total energy              =     -11.00000000 Ry"):
        text += (
            f"{energy}\n\n     Forces acting on atoms (cartesian axes, Ry/au):\n\n"
            "     atom    1 type  1   force =     0.01000000    0.02000000    0.03000000\n\n"
            "ATOMIC_POSITIONS (angstrom)\nCu      0.1000000000  0.0000000000  0.0000000000\n\n"
        )
    return text


@pytest.mark.parametrize(("first", "energies"), [
    case("Quantum ESPRESSO | a relaxation | every step, coordinates of its own",
         "!    total energy              =     -10.00000000 Ry", [-10.0, -11.0]),
    case("Quantum ESPRESSO | forces of unconverged electrons | left out",
         "     convergence NOT achieved after 100 iterations: stopping", [-11.0]),
])  # fmt: skip
def test_steps_of_pw_have_an_energy(tmp_path, first, energies):
    structures, report = read_text(tmp_path / "pw.out", pw_output(first))
    found = [float(s.labels["energy"]) for s in structures]
    assert found == pytest.approx(np.array(energies) * HARTREE / 2, rel=1e-6)
    assert structures[-1].coord[0, 0] == 0.1
    assert [item.frame for item in report.dropped] == ([0] if len(energies) == 1 else [])
