"""Models whose repinit is a table, as `dp compress` makes them (tests/golden/README.md)."""

import zipfile

import numpy as np
import pytest
import torch

import dpa2
from dpa2.formats.compressed import attach_table, is_compressed, table_tensors, take_table
from dpa2.formats.conversion import PortableModel, convert, in_precision
from dpa2.formats.table import format_of
from dpa2.formats.torchscript import HISTORY_FILE, write
from schemas.base.errors import CheckpointError, ConversionError
from tests.commands import answer
from tests.golden_cases import GOLDEN, GoldenCase, load_case

CASES = sorted(path.stem for path in (GOLDEN / "compressed").glob("*.npz"))
REPINIT = "atomic_model.descriptor.repinit."
TABLE, GRID, TYPES = (
    REPINIT + name for name in ("compress_data.0", "compress_info.0", "type_embd_data")
)


def recorded(name):
    """Return deepmd-kit's table of a case, and what it computes with that."""
    with np.load(GOLDEN / "compressed" / f"{name}.npz") as archive:
        arrays = dict(archive)
    tables = {key: torch.from_numpy(arrays.pop(key)) for key in (TABLE, GRID, TYPES)}
    return tables, arrays


@pytest.fixture
def compressed():
    """Return a function from a case to its compressed model, with deepmd-kit's table."""

    def load(name):
        case = load_case(name)
        tables, arrays = recorded(name)
        attach_table(case.model, tables)
        return GoldenCase(case.section, case.model, arrays)

    return load


@pytest.fixture
def file(compressed, tmp_path):
    """Return a function from a case to a frozen file of it."""

    def made(name):
        case, path = compressed(name), tmp_path / f"{name}.pth"
        portable = PortableModel(case.model, case.section, GOLDEN / name / "model.pt")
        write(portable, path, lambda _: None)
        return path

    return made


def table_of(model):
    return model.descriptor.repinit.embedding.lookup


def as_of_deepmd(path, target):
    """Take out of a frozen file what says that this program wrote it."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        for item in old.infolist():
            if not item.filename.endswith(HISTORY_FILE):
                new.writestr(item.filename, old.read(item))
    return target


def assert_numbers(name, found):
    _, arrays = recorded(name)
    for quantity in ("energy", "force", "virial", "atom_energy"):
        theirs = arrays[quantity].reshape(getattr(found, quantity).shape)
        difference = np.abs(np.asarray(getattr(found, quantity)) - theirs).max()
        assert difference <= 1e-9, quantity


@pytest.mark.parametrize("name", CASES)
def test_the_numbers_are_those_of_deepmd_kits_compressed_model(compressed, name):
    case = compressed(name)
    prediction = case.predict()
    for quantity in ("energy", "force", "virial", "atom_energy", "atom_virial"):
        np.testing.assert_allclose(
            getattr(prediction, quantity).detach(),
            case.expected(quantity),
            rtol=0,
            atol=1e-9,
            err_msg=quantity,
        )
    # The table is coarse: without it the numbers are others.
    case.model.descriptor.repinit.embedding.lookup = None
    without = case.predict().force.detach().numpy()
    assert np.abs(without - case.expected("force")).max() > 1e-3


@pytest.mark.parametrize("name", CASES)
def test_tables_keep_their_bits(compressed, name):
    tables, _ = recorded(name)
    found = table_tensors(compressed(name).model)
    assert torch.equal(found[TABLE], tables[TABLE])
    assert torch.equal(found[GRID], tables[GRID])
    torch.testing.assert_close(found[TYPES], tables[TYPES], rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", CASES)
def test_tables_change_their_precision_with_the_networks(compressed, name, tmp_path):
    case = compressed(name)
    portable = PortableModel(case.model, case.section, GOLDEN / name / "model.pt")
    write(in_precision(portable, "float32"), tmp_path / "x.pth", lambda _: None)
    read_again = format_of(tmp_path / "x.pth").read(tmp_path / "x.pth", None).model
    assert table_of(read_again).grid() == table_of(case.model).grid()
    _, arrays = recorded(name)
    single = dpa2.load(tmp_path / "x.pth").predict(arrays["coord"], arrays["box"], arrays["atype"])
    difference = np.abs(single.force - arrays["force"].reshape(single.force.shape)).max()
    assert 1e-9 < difference <= 1e-4
    convert(tmp_path / "x.pth", tmp_path / "back.pth", dtype="float64")
    back = format_of(tmp_path / "back.pth").read(tmp_path / "back.pth", None).model
    assert table_of(back).grid() == table_of(case.model).grid()


@pytest.mark.parametrize("name", CASES)
def test_frozen_files_hold_the_table_and_run(file, name, tmp_path):
    path = file(name)
    _, arrays = recorded(name)
    structure = arrays["coord"], arrays["box"], arrays["atype"]
    assert_numbers(name, dpa2.load(path).predict(*structure))
    # deepmd-kit's own program calls operators that are not here: the network is rebuilt.
    theirs = as_of_deepmd(path, tmp_path / "theirs.pth")
    assert_numbers(name, dpa2.load(theirs).predict(*structure))


def test_a_frozen_file_is_read_as_a_compressed_model_and_frozen_again(file, tmp_path):
    again = convert(file("davg_strip"), tmp_path / "again.pth").path
    _, arrays = recorded("davg_strip")
    assert_numbers(
        "davg_strip", dpa2.load(again).predict(*(arrays[k] for k in ("coord", "box", "atype")))
    )


@pytest.mark.parametrize("suffix", [".pt", ".dp", ".yaml"])
def test_formats_without_a_place_for_tables_are_not_written(file, tmp_path, suffix):
    target = tmp_path / f"model{suffix}"
    with pytest.raises(ConversionError, match="no place") as raised:
        convert(file("davg_strip"), target)
    assert "compressed from" in raised.value.hint
    assert not target.exists()


def test_training_does_not_start_from_a_compressed_file(file, tmp_path):
    source = GOLDEN / "davg_strip" / "input.json"
    code, said = answer(
        "train", source, "--init-model", file("davg_strip"), "--output-dir", tmp_path
    )
    assert code != 0
    assert "frozen model" in said


def test_an_uncompressed_state_has_no_table():
    case = load_case("davg_strip")
    assert take_table({TABLE: torch.zeros(0), GRID: torch.zeros(0)}) == {}
    attach_table(case.model, {})
    assert not is_compressed(case.model)
    assert table_tensors(case.model) == {}


@pytest.mark.parametrize("name", [TABLE, GRID, TYPES])
def test_a_part_that_is_missing_is_named(name):
    tables, _ = recorded("davg_strip")
    tables[name] = torch.zeros(0)
    with pytest.raises(CheckpointError, match="lacks") as raised:
        take_table(tables)
    assert name in raised.value.message


GRIDS = {
    "short": [0.0, 2.0, 4.0],
    "no number": [0.0, torch.nan, 4.0, 0.1, 1.0, -1.0],
    "without end": [0.0, torch.inf, 4.0, 0.1, 1.0, -1.0],
    "falling": [2.0, 0.0, 4.0, 0.1, 1.0, -1.0],
    "no coarse part": [0.0, 2.0, 2.0, 0.1, 1.0, -1.0],
    "no step": [0.0, 2.0, 4.0, 0.0, 1.0, -1.0],
}


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_a_grid_that_is_none_is_refused(grid):
    tables, _ = recorded("davg_strip")
    tables[GRID] = torch.tensor(grid, dtype=torch.float64)
    with pytest.raises(CheckpointError, match="describes no table"):
        attach_table(load_case("davg_strip").model, tables)


def test_a_grid_without_end_asks_for_no_memory():
    tables, _ = recorded("davg_strip")
    tables[GRID] = torch.tensor([0.0, 1e308, 1.5e308, 1e-300, 1e-300, -1.0], dtype=torch.float64)
    with pytest.raises(CheckpointError, match="has shape"):
        attach_table(load_case("davg_strip").model, tables)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (TABLE, lambda t: t[:-1], "has shape"),
        (TABLE, lambda t: t[:, :-1], "has shape"),
        (TABLE, lambda t: t.flatten(), "has shape"),
        (TABLE, lambda t: t.long(), "torch.int64 numbers"),
        (TABLE, lambda t: t.index_fill(0, torch.tensor([3]), torch.nan), "gaps between"),
        (TABLE, lambda t: torch.full_like(t, torch.inf), "gaps between"),
        (TABLE, lambda t: torch.cat([t[1:], t[:1]]), "gaps between"),
        (GRID, lambda t: t * torch.tensor([1, 1, 1, 2, 1, 1]), "has shape"),
        (GRID, lambda t: t - torch.tensor([0, 0.1, 0, 0, 0, 0]), "has shape"),
        (GRID, lambda t: t * torch.tensor([1, 1, 1, 1, 2, 1]), "gaps between"),
        (TABLE, lambda t: torch.cat([t, t[-2:]]), "has shape"),
        (GRID, lambda t: t.bool(), "torch.bool numbers"),
        (GRID, lambda t: t[0], "describes no table"),
        (TYPES, lambda t: t.long(), "torch.int64 numbers"),
        (TYPES, lambda t: t + 1e-6, "is not what"),
        (TYPES, lambda t: t[:-1], "is not what"),
        (TYPES, lambda t: t.float(), "is not what"),
    ],
)
def test_tables_of_another_model_are_refused(name, change, said):
    tables, _ = recorded("davg_strip")
    tables[name] = change(tables[name])
    with pytest.raises(CheckpointError, match=said):
        attach_table(load_case("davg_strip").model, tables)


def test_a_table_needs_a_network_of_one_input():
    tables, _ = recorded("davg_strip")
    with pytest.raises(CheckpointError, match="tebd_input_mode"):
        attach_table(load_case("medium").model, tables)
