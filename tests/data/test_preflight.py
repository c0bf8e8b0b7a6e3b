"""The preflight: one data set for each fault, and what is said about it where."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from dpa2.data.preflight.request import (
    REPFORMER,
    REPINIT,
    THREE_BODY,
    Cutoff,
    DataRequest,
    Entry,
    Task,
)
from dpa2.data.preflight.run import check_data, preflight
from schemas.base.diagnostics import Finding
from schemas.explain import entries

BOHR = 0.529177210903
SYSTEMS = ("training", "training_data", "systems")
VALID = ("training", "validation_data", "systems")

Write = Callable[..., str]


def water(frames: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinates (F, 24, 3) of eight water molecules on a grid, and cells, in Å."""
    rng = np.random.default_rng(seed)
    grid = 3.2 * np.stack(np.meshgrid(*[[0, 1]] * 3), axis=-1).reshape(-1, 1, 3)
    molecule = np.array([[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    coord = (grid + molecule).reshape(1, 24, 3) + rng.normal(0, 0.02, (frames, 24, 3))
    return coord, np.tile(6.4 * np.eye(3), (frames, 1, 1))


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Return a function that writes a system of water, changed in some way; returns its path."""
    monkeypatch.chdir(tmp_path)

    def save(
        name: str, *, frames: int = 8, seed: int = 0, raw: str | None = "O H", **arrays
    ) -> str:
        coord, box = water(frames, seed)
        rng = np.random.default_rng(seed)
        values = {
            "coord": coord,
            "box": box,
            "energy": -160.0 * 24 + rng.normal(0, 0.1, frames),
            "force": rng.normal(size=(frames, 24, 3)),
        } | arrays
        folder = tmp_path / name / "set.000"
        folder.mkdir(parents=True)
        for key, array in values.items():
            np.save(folder / f"{key}.npy", array.reshape(frames, -1))
        (folder.parent / "type.raw").write_text("0 1 1 " * 8)
        if raw is not None:
            (folder.parent / "type_map.raw").write_text(raw)
        return str(folder.parent)

    return save


def request(paths: list[str], where: tuple[str, ...] = SYSTEMS, **more: object) -> DataRequest:
    entries = tuple(Entry(path, (*where, number)) for number, path in enumerate(paths))
    return DataRequest(entries, **more)  # type: ignore[arg-type]


def findings(
    *paths: str,
    validation: list[str] | None = None,
    type_map: tuple[str, ...] = ("O", "H"),
    cutoffs: tuple[Cutoff, ...] = (),
    **more: object,
) -> list[Finding]:
    task = Task(
        training=request(list(paths), **more),
        validation=None if validation is None else request(validation, VALID),
        type_map=type_map,
        type_map_path=("model", "type_map"),
        cutoffs=cutoffs,
        learned=frozenset({"energy", "force"}),
    )
    return preflight([task]).findings


def only(found: list[Finding]) -> Finding:
    (finding,) = found
    assert finding.code in entries()
    return finding


def test_sound_data_pass_in_silence(write):
    assert findings(write("a"), write("b", seed=1), validation=[write("c", seed=2)]) == []


def test_a_system_that_cannot_be_read_is_an_error_and_others_are_still_read(write, tmp_path):
    energy = np.zeros(8)
    write("root/good", energy=energy)
    (Path(write("root/bad")) / "set.000" / "box.npy").unlink()
    found = findings(str(tmp_path / "root"))
    assert {(item.code, item.severity) for item in found} == {
        ("ZOO431", "error"),
        ("ZOO437", "warning"),
    }
    assert all(item.path == (*SYSTEMS, 0) for item in found)


@pytest.mark.parametrize("label", ["energy", "force", "coord"])
def test_nan_is_named_by_frame_and_atom(write, label):
    values = {"energy": np.zeros(8) - 1, "force": np.ones((8, 24, 3)), "coord": water(8)[0]}[label]
    values.reshape(8, -1)[5:, 0] = np.nan
    finding = only(findings(write("a", **{label: values})))
    atom = "" if label == "energy" else ", atom 0"
    assert finding.code == "ZOO432"
    assert f"{label} of frame 5{atom} is nan" in finding.message
    assert "3 of 8 frames" in str(finding.hint)


def test_overlapping_atoms_are_an_error_and_close_ones_a_warning(write):
    coord, _ = water(8)
    coord[3, 4] = coord[3, 3]
    overlap = only(findings(write("a", coord=coord)))
    assert (overlap.code, overlap.severity) == ("ZOO433", "error")
    assert "atoms 3 (O) and 4 (H) of frame 3 are 0 Å apart" in overlap.message
    coord[3, 4] = coord[3, 3] + [0.3, 0, 0]
    close = only(findings(write("b", coord=coord)))
    assert (close.code, close.severity) == ("ZOO433", "warning")


def test_min_pair_dist_leaves_overlaps_out(write):
    coord, _ = water(8)
    coord[3, 4] = coord[3, 3]
    finding = only(findings(write("a", coord=coord), min_pair_dist=0.5))
    assert finding.severity == "note"
    assert "leaves out 1 of 8 frames" in finding.message


@pytest.mark.parametrize(
    ("factors", "unit"),
    [
        ((1 / BOHR, 1 / BOHR), "coordinates and cell in Bohr"),
        ((1 / BOHR, 1), "coordinates in Bohr"),
        ((1, 1 / BOHR), None),
        ((0.1, 0.1), "coordinates and cell in nanometres"),
        ((1 / 6.4, 1), "fractional coordinates"),
    ],
)
def test_coordinates_in_other_units_are_recognised(write, factors, unit):
    coord, box = water(8)
    found = findings(write("a", coord=coord * factors[0], box=box * factors[1]))
    if unit is None:  # a larger cell only adds vacuum
        assert found == []
    else:
        finding = only(found)
        assert (finding.code, finding.severity) == ("ZOO434", "warning")
        assert f"{unit}?" in finding.message


def test_outliers_in_energy_and_force_are_named(write):
    energy = np.full(8, -3000.0)
    energy[6] += 1e4
    force = np.ones((8, 24, 3))
    force[2, 1, 1] = 1e3
    found = findings(write("a", energy=energy, force=force))
    assert [item.code for item in found] == ["ZOO435", "ZOO435"]
    assert "energy of frame 6" in found[0].message
    assert "force of frame 2" in found[1].message


def test_systems_of_one_composition_have_energies_of_one_origin(write):
    shifted = np.full(8, -160.0 * 24 + 1000)
    finding = only(findings(write("a"), validation=[write("b", seed=1, energy=shifted)]))
    assert finding.path == (*VALID, 0)
    assert "+41.7 eV per atom off" in finding.message


@pytest.mark.parametrize(
    ("slope", "reason"),
    [(1.0, None), (-1.0, "gradients"), (1 / 27.2114, "energies are in Hartree")],
)
def test_energies_change_as_the_forces_say(write, slope, reason):
    coord, _ = water(1)
    steps = np.linspace(0, 1, 12)[:, None, None] * np.random.default_rng(1).normal(
        0, 0.2, (1, 24, 3)
    )
    energy = slope * 2.0 * np.square(steps).sum(axis=(1, 2))
    _, box = water(12)
    found = findings(
        write("a", frames=12, coord=coord + steps, box=box, energy=energy, force=-4.0 * steps)
    )
    if reason is None:
        assert found == []
    else:
        finding = only(found)
        assert finding.code == "ZOO436"
        assert reason in str(finding.hint)


def test_a_missing_type_map_is_told_as_a_formula(write):
    alone = only(findings(write("a", raw=None)))
    assert (alone.code, alone.severity) == ("ZOO438", "warning")
    assert "it is O8H16" in alone.message
    against = findings(write("b", raw=None), write("c", seed=1), type_map=("H", "O"))
    finding = next(item for item in against if item.code == "ZOO438")
    assert finding.severity == "error"
    assert "it is H8O16 instead of H16O8 as in" in finding.message


def test_left_handed_cells_are_warned_of(write):
    _, box = water(8)
    box[:, 0] *= -1
    finding = only(findings(write("a", box=box)))
    assert (finding.code, finding.severity) == ("ZOO439", "warning")


def test_repeated_frames_are_found_across_systems_and_precisions(write):
    coord, _ = water(8)
    found = findings(write("a"), write("b", coord=coord.astype(np.float32)))
    finding = only([item for item in found if item.code == "ZOO440"])
    assert finding.path == (*SYSTEMS, 1)
    assert "8 of 8 frames occur before" in finding.message


def test_validation_frames_must_not_be_trained_on(write):
    finding = only(findings(write("a"), validation=[write("b")]))
    assert (finding.code, finding.path) == ("ZOO441", (*VALID, 0))


def test_elements_without_training_data_are_noted(write):
    finding = only(findings(write("a"), type_map=("O", "H", "Na")))
    assert (finding.code, finding.severity) == ("ZOO445", "note")
    assert "Na" in finding.message


def blocks(nsel: int | str, three_body: int | str, repformer: int | str) -> tuple[Cutoff, ...]:
    return (
        Cutoff(REPINIT, 4.0, nsel, ("rcut",), ("nsel",)),
        Cutoff(THREE_BODY, 3.0, three_body, ("three_body_rcut",), ("three_body_sel",)),
        Cutoff(REPFORMER, 3.5, repformer, ("repformer", "rcut"), ("repformer", "nsel")),
    )


def test_lists_that_are_too_short_are_errors_with_a_number(write):
    found = findings(write("a"), cutoffs=blocks(3, 60, 400))
    assert [(item.code, item.severity, item.path) for item in found] == [
        ("ZOO442", "error", ("nsel",)),
        ("ZOO443", "note", ("three_body_sel",)),
        ("ZOO443", "warning", ("repformer", "nsel")),
    ]
    assert int(str(found[0].fix)) % 4 == 0


def test_lists_taken_from_the_data_must_fit_the_fixed_ones(write):
    found = findings(write("a"), cutoffs=blocks("auto", 500, 20))
    assert ("ZOO207", "error", ("three_body_sel",)) in [
        (item.code, item.severity, item.path) for item in found
    ]


def test_cutoffs_in_nanometres_reach_no_neighbours(write):
    found = findings(write("a"), cutoffs=(Cutoff(REPINIT, 0.6, 120, ("rcut",), ("nsel",)),))
    finding = next(item for item in found if item.code == "ZOO444")
    assert finding.path == ("rcut",)
    assert "did you mean 6?" in str(finding.hint)


def test_batches_and_probabilities_are_checked_against_the_systems_that_are_there(write):
    """Rules see those of folders without opening them."""
    path = write("a")
    with h5py.File("a.h5", "w") as file:
        for name in ("type.raw", "type_map.raw"):
            words = (Path(path) / name).read_text().split()
            file[name] = np.array(words, dtype="S") if "map" in name else list(map(int, words))
        for array in (Path(path) / "set.000").iterdir():
            file[f"set.000/{array.name}"] = np.load(array)
    for code, place, given in (
        ("ZOO411", "batch_size", {"batch_size": [1, 2]}),
        ("ZOO412", "batch_size", {"batch_size": 9}),
        ("ZOO416", "batch_size", {"batch_size": "filter:3"}),
        ("ZOO414", "auto_prob", {"batch_size": 1, "auto_prob": "prob_sys_size;0:4:1"}),
        ("ZOO415", "sys_probs", {"batch_size": 1, "sys_probs": [0.5]}),
    ):
        assert findings(path, **given) == []
        assert [(x.code, x.path) for x in findings("a.h5", **given)] == [(code, (place,))]


def test_a_thousand_alike_faults_are_three_lines(write, tmp_path):
    for number in range(6):
        write(f"many/{number}", seed=number, force=np.zeros((8, 24, 3)))
    found = findings(str(tmp_path / "many"))
    assert len(found) == 6
    assert len({item.group.key(item.path) for item in found if item.group}) == 1
    report = check_data([str(tmp_path / "many")], ("O", "H"), [4.0])
    assert len(report.findings) == 3
    assert "and 3 more like this" in report.findings[-1].message


def test_branches_with_a_common_block_are_counted_together(write):
    tasks = [
        Task(request([write(name, seed=seed)]), type_map=("O", "H"), cutoffs=blocks(3, 100, 200))
        for seed, name in enumerate("ab")
    ]
    found = [item for item in preflight(tasks).findings if item.code == "ZOO442"]
    assert len(found) == 1
