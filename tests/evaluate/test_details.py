import numpy as np
import pytest

from dpa2.data.systems import open_systems
from dpa2.evaluate.comparison import compare
from dpa2.evaluate.potential import predict_frames
from dpa2.evaluate.testing import detail_files, read_list, run_test
from schemas.base.errors import DataError


@pytest.fixture
def tested(water, system, tmp_path):
    systems = open_systems([system], water.type_map)
    report = run_test(water, systems, detail_prefix=str(tmp_path / "out" / "run.v1"))
    return report, tmp_path / "out"


def test_errors_are_the_offsets_put_into_the_labels(tested, frames):
    report, _ = tested
    errors = report.total
    assert errors["energy"].mae == pytest.approx(0.5)
    assert errors["energy_per_atom"].rmse == pytest.approx(0.5 / len(frames["atype"]))
    assert errors["force"].rmse == pytest.approx(0.25)
    assert errors["virial"].mae == pytest.approx(2.0)
    assert errors["virial"].weight == 9 * len(frames["coord"])
    assert report.to_json()["total"]["num_frames"] == len(frames["coord"])


def test_detail_files_hold_labels_beside_predictions(tested, frames):
    _, folder = tested
    names = ("e", "e_peratom", "f", "v", "v_peratom", "s")
    assert {path.name for path in folder.iterdir()} == {f"run.v1.{name}.out" for name in names}
    energies = np.loadtxt(folder / "run.v1.e.out")
    np.testing.assert_allclose(energies[:, 0], frames["energy"].reshape(-1) + 0.5, rtol=1e-15)
    np.testing.assert_allclose(energies[:, 1], frames["energy"].reshape(-1), rtol=1e-12)
    forces = np.loadtxt(folder / "run.v1.f.out")
    np.testing.assert_allclose(forces[:, :3], frames["force"].reshape(-1, 3) - 0.25, rtol=1e-15)
    stress = np.loadtxt(folder / "run.v1.s.out")
    volume = np.abs(np.linalg.det(frames["box"]))[:, None]
    expected = -(frames["virial"].reshape(-1, 9) + 2.0) / volume
    np.testing.assert_allclose(stress[:, :9], expected, rtol=1e-12)


def test_the_header_names_the_system_and_the_columns(tested, system):
    _, folder = tested
    first = (folder / "run.v1.f.out").read_text().splitlines()[0]
    assert first == f"# {system}: data_fx data_fy data_fz pred_fx pred_fy pred_fz"
    assert "(eV/Å³)" in (folder / "run.v1.s.out").read_text(encoding="utf-8").splitlines()[0]


def test_several_systems_share_the_files_under_their_own_headers(water, system, tmp_path):
    systems = open_systems([system, system], water.type_map)
    report = run_test(
        water, systems, max_frames=1, detail_prefix=str(tmp_path / "two"), plot=tmp_path / "p.png"
    )
    assert [entry.num_frames for entry in report.systems] == [1, 1]
    assert np.loadtxt(tmp_path / "two.e.out").shape == (2, 2)
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_is_left_behind_when_a_test_fails(water, system, tmp_path):
    frames = open_systems([system], water.type_map)[0].frames(range(1))
    folder = tmp_path / "out"
    good = compare(frames, predict_frames(water, frames))
    with pytest.raises(AttributeError), detail_files(folder / "x") as add:
        list(map(add, (good, None)))
    assert list(folder.iterdir()) == []


def test_labels_that_are_missing_are_left_out(water, system, tmp_path):
    (system / "set.000" / "virial.npy").unlink()
    systems = open_systems([system], water.type_map)
    report = run_test(water, systems, detail_prefix=str(tmp_path / "x"))
    assert set(report.total) == {"energy", "energy_per_atom", "force"}
    assert not (tmp_path / "x.v.out").exists()


def test_a_system_without_labels_is_refused(water, system):
    for name in ("energy", "force", "virial"):
        (system / "set.000" / f"{name}.npy").unlink()
    with pytest.raises(DataError, match="no labels to compare with"):
        run_test(water, open_systems([system], water.type_map))


def test_atomic_energies_must_be_there_when_asked_for(water, system):
    with pytest.raises(DataError, match="--atomic"):
        run_test(water, open_systems([system], water.type_map), atomic=True)


def test_a_list_of_systems_skips_comments(tmp_path):
    path = tmp_path / "list"
    path.write_text("# mine\na\n\n b \n")
    assert read_list(path) == ["a", "b"]
    path.write_text("# nothing\n")
    with pytest.raises(DataError, match="names no systems"):
        read_list(path)
