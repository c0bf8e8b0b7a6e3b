import numpy as np
import pytest
from rich.console import Console

from dpa2.evaluate.learning_curve import (
    plot_learning_curves,
    read_learning_curve,
    terminal_learning_curve,
)
from schemas.base.errors import DataError

HEADER = """\
# step       rmse_val    rmse_trn    rmse_e_val  rmse_e_trn   lr
# If there is no available reference data, rmse_*_{val,trn} will print nan
"""
ROWS = """\
      1      3.38e+01    3.50e+01      1.00e-01    2.00e-01    1.0e-03
     50      2.00e+01    2.10e+01      5.00e-02         nan    8.0e-04
    100      1.00e+01    1.10e+01      2.00e-02    2.50e-02    5.0e-04
"""


def curve_of(tmp_path, text):
    path = tmp_path / "lcurve.out"
    path.write_text(text)
    return read_learning_curve(path)


def test_columns_are_read_by_metric_and_split(tmp_path):
    curve = curve_of(tmp_path, HEADER + ROWS)
    assert curve.steps.tolist() == [1, 50, 100]
    assert curve.metrics == ["rmse", "rmse_e"]
    validation, training = curve.of("rmse_e")
    assert (validation.label, training.label) == ("validation", "training")
    assert validation.values.tolist() == [0.1, 0.05, 0.02]
    assert np.isnan(training.values[1])
    assert curve.learning_rate.tolist() == [1e-3, 8e-4, 5e-4]


def test_a_restart_replaces_the_rows_after_its_checkpoint(tmp_path):
    again = "     60      7.00e+00    8.00e+00      1.00e-02    2.00e-02    4.0e-04\n"
    curve = curve_of(tmp_path, HEADER + ROWS + HEADER + again)
    assert curve.steps.tolist() == [1, 50, 60]
    assert curve.of("rmse")[0].values.tolist() == [33.8, 20.0, 7.0]


def test_branches_of_a_multi_task_run_are_told_apart(tmp_path):
    text = "# step  rmse_trn_water_1  rmse_e_trn_water_1  rmse_trn_val  lr\n 1 1.0 2.0 3.0 1e-3\n"
    curve = curve_of(tmp_path, text)
    assert [(s.metric, s.split, s.branch) for s in curve.series] == [
        ("rmse", "trn", "water_1"),
        ("rmse_e", "trn", "water_1"),
        ("rmse", "trn", "val"),
    ]
    assert curve.series[0].label == "water_1 training"


def test_columns_without_any_number_are_dropped(tmp_path):
    text = "# step  rmse_trn  rmse_v_trn  lr\n 1 1.0 nan 1e-3\n"
    assert curve_of(tmp_path, text).metrics == ["rmse"]


def test_a_line_cut_off_at_the_end_is_ignored(tmp_path):
    assert curve_of(tmp_path, HEADER + ROWS + "    150      1.0").steps.tolist() == [1, 50, 100]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        (HEADER, "holds no rows yet"),
        (ROWS, ":1: no header line"),
        (HEADER + "1 2 3\n" + ROWS, ":3: expected 6 numbers"),
        (HEADER + "1 2 3 4 5 six\n" + ROWS, ":3: expected 6 numbers"),
    ],
)
def test_other_files_are_refused_with_the_line(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        curve_of(tmp_path, text)


def test_a_binary_file_is_refused(tmp_path):
    path = tmp_path / "x.pt"
    path.write_bytes(b"\x80\x02\xff")
    with pytest.raises(DataError, match="not a text file"):
        read_learning_curve(path)


@pytest.mark.parametrize("rows", [ROWS, ROWS.splitlines(keepends=True)[0]])
def test_the_figure_is_a_valid_image(tmp_path, rows):
    from matplotlib.image import imread

    plot_learning_curves({"run": curve_of(tmp_path, HEADER + rows)}, tmp_path / "curve.png")
    assert imread(tmp_path / "curve.png").std() > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curve.png", "lcurve.out"]


def test_an_unknown_image_format_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"curve\.bmp"):
        plot_learning_curves({"run": curve_of(tmp_path, HEADER + ROWS)}, tmp_path / "curve.bmp")


def shown(curve, *, unicode):
    console = Console(width=80, no_color=True, force_terminal=False, record=True, quiet=False)
    with console.capture() as capture:
        console.print(terminal_learning_curve(curve, width=72, height=8, unicode=unicode))
    return capture.get()


def test_the_terminal_chart_shows_range_and_last_values(tmp_path):
    text = shown(curve_of(tmp_path, HEADER + ROWS), unicode=True)
    assert "Energy RMSE (eV/atom)" in text
    assert "3.50e+01" in text
    assert "validation 1.00e+01" in text
    assert "step 100" in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_terminal_chart_falls_towards_the_right(tmp_path):
    text = shown(curve_of(tmp_path, HEADER + ROWS), unicode=False)
    marked = [line.index("*") for line in text.splitlines() if "*" in line[:72]]
    first_chart = marked[:3]
    assert first_chart == sorted(first_chart)


def test_the_terminal_chart_can_do_with_ascii(tmp_path):
    assert shown(curve_of(tmp_path, HEADER + ROWS), unicode=False).isascii()
