"""Surveys are kept by content: the same data are not read twice, changed data are."""

from pathlib import Path

import numpy as np
import pytest

from dpa2.data.preflight import opened
from dpa2.data.preflight.opened import cached_survey, default_folder
from dpa2.data.systems import open_systems


@pytest.fixture
def folder(make_system) -> Path:
    return make_system(sets=(3, 2))


def look(folder: Path, kept: Path):
    (system,) = open_systems(str(folder), ["O", "H"])
    return cached_survey(system, ["O", "H"], [3.0, 2.0], kept)


def test_a_survey_is_the_same_from_the_cache(folder, tmp_path, monkeypatch):
    first = look(folder, tmp_path / "kept")
    monkeypatch.setattr(opened, "survey", None)  # would fail if it were called
    second = look(folder, tmp_path / "kept")
    for name in first.__slots__:
        np.testing.assert_equal(getattr(first, name), getattr(second, name))


def test_changed_data_are_read_again(folder, tmp_path):
    look(folder, tmp_path / "kept")
    np.save(folder / "set.000" / "energy.npy", np.full(3, 7.0))
    assert look(folder, tmp_path / "kept").energy[:3].tolist() == [7.0] * 3


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off"])
def test_a_damaged_cache_is_replaced(folder, tmp_path, content):
    look(folder, tmp_path / "kept")
    (file,) = (tmp_path / "kept").iterdir()
    file.write_bytes(content)
    assert look(folder, tmp_path / "kept").num_frames == 5
    assert file.stat().st_size > len(content)


def test_a_cache_that_cannot_be_written_is_no_error(folder, tmp_path):
    (tmp_path / "kept").write_text("a file, not a folder")
    assert look(folder, tmp_path / "kept").num_frames == 5


def test_the_cache_is_below_zoo_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    assert default_folder() == tmp_path / "preflight"
    monkeypatch.delenv("ZOO_CACHE")
    assert default_folder().name == "preflight"
