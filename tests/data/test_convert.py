"""Conversion of other formats, and the commands `zoo data convert` and `zoo data info`."""

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from dpa2.data.convert import convert, parse_split
from dpa2.data.systems import open_systems
from schemas.base.errors import DataError
from tests.commands import zoo


def structure(name, number, *, periodic=True):
    atoms = molecule(name)
    if periodic:
        atoms.set_cell(np.eye(3) * 8)
        atoms.pbc = True
    atoms.rattle(0.05, seed=number)
    rng = np.random.default_rng(number)
    results = {"energy": float(number), "forces": rng.normal(size=(len(atoms), 3))}
    if periodic:
        results["stress"] = np.arange(6) * 0.01
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


@pytest.fixture
def xyz(tmp_path) -> Path:
    """An extended XYZ file: 10 H2O and 4 CH4 with cell, 2 H2O without."""
    frames = [structure("H2O", i) for i in range(10)]
    frames += [structure("CH4", 10 + i) for i in range(4)]
    frames += [structure("H2O", 14 + i, periodic=False) for i in range(2)]
    ase.io.write(tmp_path / "all.xyz", frames, format="extxyz")
    return tmp_path / "all.xyz"


def test_extxyz_becomes_systems_with_all_labels(xyz, tmp_path):
    done = convert([xyz], tmp_path / "out", train_fraction=1.0, type_map=["H", "C", "O"])
    found = {s.name: (s.num_train, s.periodic, s.labels) for s in done.systems}
    assert found == {
        "H2O": (10, True, ("energy", "force", "virial")),
        "CH4": (4, True, ("energy", "force", "virial")),
        "H2O_1": (2, False, ("energy", "force")),
    }
    (system,) = open_systems(tmp_path / "out/train/H2O", ["O", "H"])
    frames = system.frames(range(10))
    for i, atoms in enumerate(ase.io.read(xyz, index=":10")):
        np.testing.assert_allclose(frames.coord[i], atoms.positions, rtol=0, atol=1e-8)
        np.testing.assert_allclose(frames.force[i], atoms.get_forces(), rtol=0, atol=1e-8)
        virial = -atoms.get_volume() * atoms.get_stress(voigt=False)
        np.testing.assert_allclose(frames.virial[i], virial, rtol=0, atol=1e-8)
        assert frames.energy[i] == atoms.get_potential_energy()
        assert ["OH"[t] for t in frames.atom_types[i]] == atoms.get_chemical_symbols()


def test_the_split_deals_every_frame_once_and_is_seeded(xyz, tmp_path):
    done = convert([xyz], tmp_path / "a", train_fraction=0.75, seed=1)
    assert sum(s.num_validation for s in done.systems) == 4
    energies = {}
    for part in ("train", "validation"):
        systems = open_systems(tmp_path / "a" / part)
        energies[part] = [e for s in systems for e in s.frames(range(s.num_frames)).energy]
    assert sorted(energies["train"] + energies["validation"]) == list(range(16))
    convert([xyz], tmp_path / "b", train_fraction=0.75, seed=1)
    again = [s.frames([0]).energy[0] for s in open_systems(tmp_path / "b")]
    assert again == [s.frames([0]).energy[0] for s in open_systems(tmp_path / "a")]


def test_mixed_output_holds_several_compositions_in_one_system(xyz, tmp_path):
    convert([xyz], tmp_path / "out", mixed=True, train_fraction=1.0)
    names = sorted(p.name for p in (tmp_path / "out/train").iterdir())
    assert names == ["3", "3_1", "5"]
    system = open_systems(tmp_path / "out/train/5", ["H", "C", "O"])[0]
    assert system.mixed
    assert system.type_counts() == {0: 16, 1: 4}


def test_deepmd_data_can_be_split_with_all_their_labels(make_system, tmp_path):
    path = make_system(sets=(6, 4), atomic_ener=3, fparam=2, type_map=("H", "O"))
    convert([path], tmp_path / "out", train_fraction=0.8)
    systems = open_systems(tmp_path / "out", ["O", "H"])
    assert [s.num_frames for s in systems] == [8, 2]
    assert all(s.has("fparam") and s.has("atom_energy") for s in systems)
    (original,) = open_systems(path, ["O", "H"])
    for system in systems:
        frames = system.frames(range(system.num_frames))
        expected = original.frames(frames.energy.astype(int))
        np.testing.assert_array_equal(frames.coord, expected.coord)
        np.testing.assert_array_equal(frames.atom_types, expected.atom_types)
        np.testing.assert_array_equal(frames.fparam, expected.fparam)


@pytest.mark.parametrize(
    ("text", "expected"), [("0.9/0.1", 0.9), ("80/20", 0.8), ("1", 1.0), ("0.5", 0.5)]
)
def test_splits_are_read(text, expected):
    assert parse_split(text) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("text", ["9:1", "", "2", "-1/2", "0/1", "1/1/1", "nan"])
def test_bad_splits_are_refused(text):
    with pytest.raises(DataError, match="is no split"):
        parse_split(text)


def test_bad_inputs_are_named_and_nothing_is_written(xyz, tmp_path):
    broken = tmp_path / "broken.xyz"
    broken.write_text("3\nno energy here\nO 0 0 0\n")
    unknown = tmp_path / "data.bin"
    unknown.write_bytes(b"1")
    nan = structure("H2O", 0)
    nan.positions[0, 0] = np.nan
    ase.io.write(tmp_path / "nan.xyz", nan, format="extxyz")
    cases = [
        ([tmp_path / "none.xyz"], {}, "no such file"),
        ([broken], {}, "broken.xyz cannot be read as extxyz"),
        ([unknown], {}, "cannot tell the format"),
        ([xyz], {"format_name": "extxy"}, "dpdata has no format extxy"),
        ([xyz], {"type_map": ["O", "H"]}, r"has C \(4 atoms\)"),
        ([tmp_path / "nan.xyz"], {}, "frame 0: coord has NaN"),
        ([xyz], {"train_fraction": 0.0}, "not above 0"),
        ([], {}, "nothing to convert"),
    ]
    for inputs, options, message in cases:
        with pytest.raises(DataError, match=message):
            convert(inputs, tmp_path / "out", **options)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "all.xyz",
        "broken.xyz",
        "data.bin",
        "nan.xyz",
    ]


def test_existing_folders_are_replaced_only_by_force_and_only_conversions(xyz, tmp_path):
    out = tmp_path / "out"
    convert([xyz], out)
    with pytest.raises(DataError, match="exists"):
        convert([xyz], out)
    convert([xyz], out, force=True, train_fraction=1.0)
    assert [p.name for p in out.iterdir()] == ["train"]
    with pytest.raises(DataError, match="lies in the output"):
        convert([out / "train/H2O"], out, force=True)
    (out / "thesis.tex").touch()
    with pytest.raises(DataError, match="more than train/ and validation/"):
        convert([xyz], out, force=True)
    assert (out / "thesis.tex").exists()


def run(*arguments):
    return zoo("data", *arguments)


def test_the_commands_print_tables_and_json(xyz, tmp_path):
    result = run("convert", xyz, "-o", tmp_path / "out", "--type-map", "O,H,C")
    assert result.exit_code == 0
    assert "H2O_1" in result.stdout
    assert "elements: O H C" in result.stdout
    document = json.loads(run("info", tmp_path / "out/train", "--json").stdout)
    assert document["systems"][0]["composition"] == {"H": 4, "C": 1}
    assert document["systems"][1]["labels"] == ["energy", "force", "virial"]
    assert "3 systems" in run("info", tmp_path / "out/train").stdout
    converted = json.loads(run("convert", xyz, "-o", tmp_path / "o2", "--json").stdout)
    assert converted["type_map"] == ["C", "H", "O"]
