"""`zoo freeze --compress`: what it makes, how good it says that is, and what it refuses."""

import numpy as np
import pytest
import torch

import dpa2
from dpa2.formats.compression import Tabulation, compress
from dpa2.formats.conversion import freeze
from dpa2.model.embedding_table import jets
from schemas.base.errors import ConversionError
from tests.commands import answer, document, zoo
from tests.golden_cases import GOLDEN, golden_arrays, load_case

STRIP = GOLDEN / "davg_strip" / "model.pt"
TRAINING = GOLDEN / "training"
CASES = ("davg_strip", "strip_one_side", "davg_strip_not_smooth", "resnet_dt_strip")


def forces(path, case):
    arrays = {key: array for key, array in golden_arrays(case).items() if array is not None}
    return dpa2.load(path).predict(arrays["coord"], arrays.get("box"), arrays["atype"]).force


@pytest.mark.parametrize("case", CASES)
def test_a_compressed_file_computes_what_the_network_does(case, tmp_path):
    model = GOLDEN / case / "model.pt"
    made = freeze(model, tmp_path / "model.pth", tabulation=Tabulation(shortest=0.8))
    assert np.abs(forces(made.path, case) - forces(model, case)).max() <= 1e-11


@pytest.mark.parametrize("step", [0.1, 0.02])
@pytest.mark.parametrize("case", CASES)
def test_the_stated_error_bounds_the_table(case, step):
    model = load_case(case).model
    network = model.descriptor.repinit.embedding.network
    made = compress(model, Tabulation(step, 3, 0.9))
    table = model.descriptor.repinit.embedding.lookup
    grid = made.grid
    for lower, upper, error in (
        (grid.lower, grid.upper, made.error),
        (grid.upper, grid.end, made.error_beyond),
    ):
        s = torch.linspace(lower, upper, 20011, dtype=torch.float64)[:-1].requires_grad_(True)
        value, slope = jets(network, s, 1)
        # Extremes lie between the points that were looked at: an eighth of an interval apart.
        assert (table(s) - value).abs().max() <= 1.5 * error.value + 1e-15
        channel = table(s)[:, 0].sum()
        (found,) = torch.autograd.grad(channel, s)
        assert (found - slope[:, 0]).abs().max() <= 1.5 * error.slope + 1e-13


def test_the_table_covers_the_inputs_of_all_pairs_at_that_distance():
    case = load_case("davg_strip")
    grid = compress(case.model, Tabulation(shortest=0.8)).grid
    statistics = case.model.descriptor.repinit.statistics
    mean, stddev = statistics.mean[..., 0], statistics.stddev[..., 0]
    # The switch of this model is 0.9995 at 0.8 Å.
    inputs = torch.cat([(0.9995 / 0.8 - mean) / stddev, -mean / stddev])
    assert grid.lower <= inputs.min() < grid.lower + 1
    assert grid.upper - 1 < inputs.max() <= grid.upper
    assert grid.end == 5 * grid.upper


def test_float32_is_compressed_in_float32(tmp_path):
    made = freeze(STRIP, tmp_path / "m.pth", dtype="float32", tabulation=Tabulation(shortest=0.8))
    assert 1e-9 < made.compression.error.value < 1e-5
    assert np.abs(forces(made.path, "davg_strip") - forces(STRIP, "davg_strip")).max() < 1e-4


def test_the_command_says_how_good_the_table_is(tmp_path, monkeypatch):
    monkeypatch.chdir(TRAINING)
    options = ("--compress", "--step", 0.02, "--extrapolate", 3)
    data = ("--training-script", "adam/input.json")
    made = document("freeze", "-c", STRIP, "-o", tmp_path / "a.pth", *options, *data)["compression"]
    # the closest atoms of those data
    assert made["shortest"] == pytest.approx(0.887, abs=1e-3)
    grid = made["grid"]
    assert (grid["fine"], grid["coarse"], grid["end"]) == (0.02, 0.2, 3 * grid["upper"])
    assert made["num_intervals"] == 50 * (grid["upper"] - grid["lower"]) + 5 * 2 * grid["upper"]
    assert 0 < made["error"]["value"] < made["error"]["slope"] < 1e-9
    assert made["error"]["value"] < made["error_beyond"]["value"] < 1e-6
    # The file knows the distance now.
    again = document("freeze", "-c", tmp_path / "a.pth", "-o", tmp_path / "b.pth")
    assert "compression" not in again
    said = zoo("freeze", "-c", STRIP, "-o", tmp_path / "a.pth", *options, *data).output
    assert f"greatest error: value {made['error']['value']:.1e}" in said


def test_the_distance_is_that_of_the_model_where_it_knows_one(tmp_path):
    source = tmp_path / "model.pt"
    state = torch.load(STRIP, weights_only=False)
    state["model"]["model.Default.min_nbor_dist"] = torch.tensor(0.75, dtype=torch.float64)
    torch.save(state, source)
    target = tmp_path / "model.pth"
    assert (
        document("freeze", "-c", source, "-o", target, "--compress")["compression"]["shortest"]
        == 0.75
    )


REFUSED = {
    "no distance": (STRIP, ["--compress"], ["not known", "--training-script"]),
    "concat": (
        GOLDEN / "medium" / "model.pt",
        ["--compress"],
        ["model.descriptor.repinit.tebd_input_mode", '"tebd_input_mode": "strip"'],
    ),
    "a step that does not divide": (STRIP, ["--step", "0.03"], ["does not divide", "0.01"]),
    "no step": (STRIP, ["--step", "0"], ["does not divide"]),
    "an endless step": (STRIP, ["--step", "inf"], ["does not divide"]),
    "a step of next to nothing": (STRIP, ["--step", "1e-320"], ["does not divide"]),
    "nothing beyond": (STRIP, ["--extrapolate", "1"], ["--extrapolate"]),
    "too large": (STRIP, ["--step", "0.001", "--extrapolate", "9000"], ["GB", "--step"]),
}


@pytest.mark.parametrize(("model", "options", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_compressed_is_refused_with_what_to_do(
    model, options, said, tmp_path, monkeypatch
):
    monkeypatch.chdir(TRAINING)
    if options != ["--compress"]:
        options = [*options, "--compress", "--training-script", "adam/input.json"]
    code, output = answer("freeze", "-c", model, "-o", tmp_path / "model.pth", *options)
    assert code != 0
    assert [words for words in said if words not in output] == []
    assert not (tmp_path / "model.pth").exists()


@pytest.mark.parametrize("distance", [4.5, 9.0, -1.0, 0.0, float("nan")])
def test_a_distance_that_leaves_no_pairs_is_refused(distance):
    with pytest.raises(ConversionError, match="shortest distance"):
        compress(load_case("davg_strip").model, Tabulation(shortest=distance))


def test_a_table_without_room_for_shorter_distances_is_refused():
    with pytest.raises(ConversionError, match="no room") as raised:
        compress(load_case("davg_strip").model, Tabulation(extrapolate=1, shortest=0.9))
    assert raised.value.hint == "--extrapolate 2 or more"


def test_half_precision_is_refused(tmp_path):
    model = load_case("davg_strip", "bfloat16").model
    with pytest.raises(ConversionError, match="precision bfloat16") as raised:
        compress(model, Tabulation(shortest=0.9))
    assert "--dtype float32" in raised.value.hint


def test_a_table_is_not_made_of_a_table(tmp_path):
    once = freeze(STRIP, tmp_path / "once.pth", tabulation=Tabulation(shortest=0.9)).path
    with pytest.raises(ConversionError, match="compressed already"):
        freeze(once, tmp_path / "twice.pth", tabulation=Tabulation())


def test_options_of_the_table_need_compress(tmp_path):
    code, output = answer("freeze", "-c", STRIP, "-o", tmp_path / "model.pth", "--step", 0.02)
    assert code != 0
    assert "add --compress" in output


def test_other_formats_have_no_place_for_a_table(tmp_path):
    code, output = answer("freeze", "-c", STRIP, "-o", tmp_path / "model.pt2", "--compress")
    assert code != 0
    assert ".pt2" in output
    assert ".pth" in output
