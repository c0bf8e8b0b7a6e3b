import numpy as np
import pytest

from dpa2.data.frames import Frames
from dpa2.evaluate.comparison import ErrorStat, compare, error_stat, errors_of, merge
from dpa2.formats.structures import Evaluation


def labelled(num_frames=2, num_atoms=3, **changes):
    rng = np.random.default_rng(1)
    values = {
        "system": "s",
        "indices": np.arange(num_frames),
        "coord": rng.normal(size=(num_frames, num_atoms, 3)),
        "box": np.broadcast_to(2.0 * np.eye(3), (num_frames, 3, 3)),
        "atom_types": np.tile(np.arange(num_atoms), (num_frames, 1)),
        "energy": rng.normal(size=num_frames),
        "force": rng.normal(size=(num_frames, num_atoms, 3)),
        "virial": rng.normal(size=(num_frames, 3, 3)),
    }
    return Frames(**(values | changes))


def predicted(frames):
    rng = np.random.default_rng(2)
    shape = frames.atom_types.shape
    return Evaluation(
        energy=rng.normal(size=shape[0]),
        force=rng.normal(size=(*shape, 3)),
        virial=rng.normal(size=(shape[0], 3, 3)),
        atom_energy=rng.normal(size=shape),
    )


def test_errors_are_those_of_numpy():
    frames = labelled()
    evaluation = predicted(frames)
    errors = errors_of(compare(frames, evaluation))
    force = evaluation.force - frames.force
    virial = evaluation.virial - frames.virial
    energy = evaluation.energy - frames.energy
    assert errors["energy"] == ErrorStat(
        pytest.approx(np.abs(energy).mean()), pytest.approx(np.sqrt((energy**2).mean())), 2
    )
    assert errors["energy_per_atom"].mae == pytest.approx(np.abs(energy).mean() / 3)
    assert errors["force"].rmse == pytest.approx(np.sqrt((force**2).mean()))
    assert errors["force"].weight == 18
    assert errors["virial"].mae == pytest.approx(np.abs(virial).mean())
    assert errors["virial_per_atom"].rmse == pytest.approx(np.sqrt((virial**2).mean()) / 3)
    assert errors["stress"].rmse == pytest.approx(np.sqrt((virial**2).mean()) / 8)
    assert errors["stress"].weight == 18


def test_what_has_no_label_is_left_out():
    frames = labelled(energy=None, virial=None)
    assert set(compare(frames, predicted(frames)).pairs) == {"force"}


def test_a_virial_without_a_cell_is_left_out():
    frames = labelled(box=None)
    assert not {"virial", "stress"} & set(compare(frames, predicted(frames)).pairs)


def test_padding_is_not_compared():
    types = np.array([[0, 1, -1], [0, 1, 2]])
    frames = labelled(atom_types=types)
    errors = errors_of(compare(frames, predicted(frames)))
    assert errors["force"].weight == 15
    pair = compare(frames, predicted(frames)).pairs["energy_per_atom"]
    np.testing.assert_allclose(pair.reference, frames.energy / [2, 3])


def test_force_weights_scale_the_errors():
    weights = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 3.0]])
    frames = labelled(atom_pref=np.repeat(weights[..., None], 3, axis=-1))
    evaluation = predicted(frames)
    stat = errors_of(compare(frames, evaluation))["force_weighted"]
    difference = np.abs(evaluation.force - frames.force)
    assert stat.mae == pytest.approx((difference[0, 0].sum() + 3 * difference[1, 2].sum()) / 12)


def test_merging_parts_equals_the_error_of_the_whole():
    difference = np.random.default_rng(3).normal(size=100)
    parts = [{"force": error_stat(part)} for part in np.split(difference, [7, 50])]
    whole = error_stat(difference)
    merged = merge(parts)["force"]
    assert merged.mae == pytest.approx(whole.mae)
    assert merged.rmse == pytest.approx(whole.rmse)
    assert merged.weight == 100


def test_a_quantity_is_averaged_over_the_systems_that_have_it():
    merged = merge(
        [
            {"energy": ErrorStat(1, 1, 2)},
            {"energy": ErrorStat(4, 4, 1), "force": ErrorStat(2, 3, 9)},
        ]
    )
    assert merged["energy"].mae == 2
    assert merged["energy"].rmse == pytest.approx(np.sqrt(6))
    assert merged["force"] == ErrorStat(2, 3, 9)


def test_zero_weights_give_zero_errors_of_no_weight():
    assert error_stat(np.ones(3), np.zeros(3)) == ErrorStat(0, 0, 0)
    assert merge([{"force": ErrorStat(0, 0, 0)}]) == {"force": ErrorStat(0, 0, 0)}
