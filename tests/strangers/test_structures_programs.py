"""Output of electronic-structure programs: whole, killed, not converged, of several files."""

import gzip

import numpy as np
import pytest

from dpa2.data.structures.reader import read_structures
from dpa2.data.structures.structure import FileReport, ReadOptions
from schemas.errors import DataError
from tests.strangers.situations import situation

HARTREE, BOHR = 27.211386245988, 0.529177210903
KBAR = 1602.1766208
CELL = [[4.0, 0.0, 0.0], [0.5, 5.0, 0.0], [0.0, 0.0, 6.0]]
COORD = [[0.1, 0.2, 0.3], [1.0, 0.2, 0.3], [0.1, 1.2, 0.3]]
FORCE = [[0.5, 0.0, -0.25], [-0.25, 0.0, 0.25], [-0.25, 0.0, 0.0]]


def read(path, **options):
    """Return the structures of a file and the report on it."""
    report = FileReport(str(path))
    return list(read_structures(str(path), ReadOptions(**options), report)), report


def outcar_head(names=("O", "H"), counts=(1, 2), title="water"):
    potcars = "".join(f"   TITEL  = PAW_PBE {name} 08Apr2002\n" for name in names)
    return (
        f" vasp.6.3.0\n POTCAR:    PAW_PBE {names[0]} 08Apr2002\n{potcars} POSCAR = {title}\n"
        f"   ions per type =  {'  '.join(map(str, counts))}\n"
        "   NELM   =      5;   NELMIN=  2\n   NWRITE =      2    write-flag\n"
    )


def outcar_step(energy, scf=3, force=FORCE, cell=CELL, pressure=(1, 2, 3, 4, 5, 6)):
    lines = [f"----- Iteration {1:6}({i + 1:4})  ----" for i in range(scf)]
    lines += ["------ aborting loop because EDIFF is reached ------"] if scf < 5 else []
    lines += ["  FORCE on cell =-STRESS in cart. coord.  units (eV):", *["  Alpha Z  1 1 1"] * 13]
    lines += [f"  in kB  {'  '.join(f'{p:.5f}' for p in pressure)}"]
    lines += [" VOLUME and BASIS-vectors are now :", "", "", "", "      direct lattice vectors"]
    lines += ["  ".join(f"{x:.9f}" for x in row + [0.0] * 3) for row in cell]
    lines += [" POSITION                                       TOTAL-FORCE (eV/Angst)", " ----"]
    lines += ["  ".join(f"{x:.6f}" for x in [*p, *f]) for p, f in zip(COORD, force, strict=True)]
    lines += [" ----", f"  free  energy   TOTEN  =       {energy:.6f} eV", ""]
    lines += [f"  energy  without entropy=  {energy + 1}  energy(sigma->0) = {energy + 0.5}"]
    return "\n".join(lines) + "\n"


END = " General timing and accounting informations for this job:\n  Total CPU time used (sec): 1\n"


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        pytest.param("OUTCAR", bytes, marks=situation("VASP", "an OUTCAR given as a file", "read")),
        pytest.param(
            "OUTCAR.gz", gzip.compress, marks=situation("VASP", "OUTCAR.gz", "unpacked, read")
        ),
        pytest.param("run7.out", bytes, marks=situation("VASP", "an OUTCAR renamed", "found")),
    ],
)
def test_an_outcar_is_read_step_by_step(tmp_path, name, pack):
    text = outcar_head() + outcar_step(-14.5) + outcar_step(-14.25) + END
    (tmp_path / name).write_bytes(pack(text.encode()))
    structures, report = read(tmp_path / name)
    assert not report.sentences()
    assert [s.labels["energy"] for s in structures] == [-14.5, -14.25]
    (first, _) = structures
    assert first.symbols == ("O", "H", "H")
    np.testing.assert_allclose(first.coord, COORD)
    np.testing.assert_allclose(first.box, CELL)
    np.testing.assert_allclose(first.labels["force"], FORCE)
    pressure = np.array([[1, 4, 6], [4, 2, 5], [6, 5, 3]]) / KBAR
    np.testing.assert_allclose(first.labels["virial"], pressure * 120.0, rtol=1e-6)


@situation("VASP", "a run killed in the middle of a step", "the steps before, the rest named")
def test_a_killed_outcar_keeps_its_whole_steps(tmp_path):
    text = outcar_head() + outcar_step(-14.5) + outcar_step(-14.25)
    (tmp_path / "OUTCAR").write_text(text[: text.rindex("TOTAL-FORCE") + 90])
    structures, report = read(tmp_path / "OUTCAR")
    assert [s.labels["energy"] for s in structures] == [-14.5]
    assert report.dropped[0].frame == 1


@situation("VASP", "a step whose electrons did not converge", "left out, named by number")
def test_an_unconverged_step_is_left_out_and_named(tmp_path):
    text = outcar_head() + outcar_step(-1) + outcar_step(-2, scf=5) + outcar_step(-3) + END
    (tmp_path / "OUTCAR").write_text(text)
    structures, report = read(tmp_path / "OUTCAR")
    assert [s.labels["energy"] for s in structures] == [-1, -3]
    assert [s.frame for s in structures] == [0, 2]
    assert "frame 1 is left out: its electrons are not converged" in report.sentences()[0]


@situation("VASP", "POTCAR in another order than the POSCAR's title", "VASP's elements, and said")
def test_another_order_of_the_potcar_is_said(tmp_path):
    text = outcar_head(("H", "O"), (1, 2), title="O H") + outcar_step(-14.5) + END
    (tmp_path / "OUTCAR").write_text(text)
    (structure,), report = read(tmp_path / "OUTCAR")
    assert structure.symbols == ("H", "O", "O")
    assert "the POTCAR's order is H O" in report.sentences()[0]


@situation("VASP", "a left-handed cell", "read, the sign of the virial kept")
def test_a_left_handed_outcar_keeps_the_sign_of_its_virial(tmp_path):
    cell = [CELL[1], CELL[0], CELL[2]]
    (tmp_path / "OUTCAR").write_text(outcar_head() + outcar_step(-14.5, cell=cell) + END)
    (structure,), _ = read(tmp_path / "OUTCAR")
    assert np.linalg.det(structure.box) < 0
    assert structure.labels["virial"][0, 0] == pytest.approx(120.0 / KBAR, rel=1e-6)


@situation("hostile", "ions per type = 10^11", "refused, bounded")
def test_counts_beyond_the_file_are_refused(tmp_path):
    (tmp_path / "OUTCAR").write_text(outcar_head(counts=(99999999999, 2)) + outcar_step(-1))
    with pytest.raises(DataError, match="ions per type"):
        read(tmp_path / "OUTCAR")


@situation("VASP", "a folder of calculations, one of them broken", "the others, numbered through")
def test_a_folder_of_calculations_is_read(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        text = outcar_head() + outcar_step(-14.5) + END
        (tmp_path / name / "OUTCAR").write_text(text if name != "b" else "nothing\n")
    structures, report = read(tmp_path)
    assert len(structures) == 2
    assert "b/OUTCAR cannot be read" in report.dropped[0].reason


def vasprun(steps, names=("O", "H", "H"), close=True):
    rows = "".join(f"<rc><c>{n}</c><c>{1 + (n != 'O')}</c></rc>" for n in names)

    def vectors(name, values):
        body = "".join(f"<v>{' '.join(map(str, v))}</v>" for v in values)
        return f'<varray name="{name}">{body}</varray>'

    fractions = np.linalg.solve(np.array(CELL).T, np.array(COORD).T).T.tolist()
    text = (
        '<?xml version="1.0"?>\n<modeling><parameters><i name="NELM">     5</i></parameters>'
        f'<atominfo><array name="atoms"><set>{rows}</set></array></atominfo>'
    )
    for energy, scf in steps:
        text += "<calculation>" + "<scstep></scstep>" * scf
        text += f"<structure><crystal>{vectors('basis', CELL)}</crystal>"
        text += f"{vectors('positions', fractions)}</structure>{vectors('forces', FORCE)}"
        text += vectors("stress", [[1, 4, 6], [4, 2, 5], [6, 5, 3]])
        text += f'<energy><i name="e_fr_energy">{energy}</i></energy></calculation>\n'
    return text + ("</modeling>" if close else "")


@pytest.mark.parametrize(
    ("close", "scf"),
    [
        pytest.param(True, 2, marks=situation("VASP", "vasprun.xml", "read")),
        pytest.param(
            False, 2, marks=situation("VASP", "vasprun.xml of a killed run", "the steps before")
        ),
        pytest.param(
            True, 5, marks=situation("VASP", "vasprun.xml, a step not converged", "left out")
        ),
    ],
)
def test_a_vasprun_is_read_step_by_step(tmp_path, close, scf):
    (tmp_path / "vasprun.xml").write_text(vasprun([(-14.5, 2), (-14.25, scf)], close=close))
    structures, report = read(tmp_path / "vasprun.xml")
    assert [s.labels["energy"] for s in structures] == ([-14.5, -14.25] if scf < 5 else [-14.5])
    assert bool(report.dropped) == (scf == 5 or not close)
    np.testing.assert_allclose(structures[0].coord, COORD, atol=1e-12)
    np.testing.assert_allclose(structures[0].labels["virial"][0], np.array([1, 4, 6]) * 120 / KBAR)


@situation("Quantum ESPRESSO", "CP trajectory given by its prefix", "read")
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


@situation("DFTB+", "input and output, two files or their folder", "read")
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


@situation("deepmd-kit", "raw files, --from deepmd/raw or by themselves", "read")
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


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("cp2k.out", "  **** CP2K| version string: CP2K 2023\nkilled\n",
                     marks=situation("CP2K", "an output without a result", "refused in words")),
        pytest.param("g.log", " Entering Gaussian System, Link 0=g16\n",
                     marks=situation("Gaussian", "an output without a result", "refused in words")),
        pytest.param("orca.out", "  * O   R   C   A *\n",
                     marks=situation("ORCA", "an output without a result", "refused in words")),
        pytest.param("scf.out", "     Program PWSCF v.7.2 starts\n     bravais-lattice index = 0\n",
                     marks=situation("Quantum ESPRESSO", "a killed output", "refused in words")),
    ],
)  # fmt: skip
def test_output_without_a_result_is_refused_in_words(tmp_path, name, text, capfd):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as caught:
        read(tmp_path / name)
    assert str(tmp_path / name) in caught.value.message
    assert "Traceback" not in caught.value.message
    assert capfd.readouterr() == ("", "")
