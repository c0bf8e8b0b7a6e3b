"""The bytes of lcurve.out; the expected texts were written by deepmd-kit 3.2.0."""

import math
from contextlib import closing

from dpa2.training.display import LearningCurve, format_header, format_row

REMARK = "# If there is no available reference data, rmse_*_{val,trn} will print nan\n"
TRAINED = {"rmse": 26.4, "rmse_e": 0.0695, "rmse_f": 0.834}
VALIDATED = {"rmse": 26.2, "rmse_e": 0.0255, "rmse_f": 0.829}


def test_header_and_row_with_validation():
    header = format_header({"Default": TRAINED}, {"Default": VALIDATED})
    assert header == (
        "# step       rmse_val    rmse_trn    rmse_e_val  rmse_e_trn    rmse_f_val  rmse_f_trn"
        "   lr      \n" + REMARK
    )
    row = format_row(1, 1e-3, {"Default": TRAINED}, {"Default": VALIDATED})
    assert row == (
        "      1      2.62e+01    2.64e+01      2.55e-02    6.95e-02      8.29e-01    8.34e-01"
        "    1.0e-03\n"
    )


def test_header_and_row_without_validation():
    header = format_header({"Default": TRAINED}, {"Default": {}})
    assert header == ("# step       rmse_trn    rmse_e_trn    rmse_f_trn   lr      \n" + REMARK)
    row = format_row(6, 1e-4, {"Default": {**TRAINED, "rmse_e": math.nan}}, {"Default": {}})
    assert row == "      6      2.64e+01           nan      8.34e-01    1.0e-04\n"


def test_branches_of_a_multi_task_run_have_columns_of_their_own():
    header = format_header({"A": {"rmse": 1.0}, "B": {"rmse": 1.0}}, {"B": {"rmse": 1.0}})
    assert header.startswith("# step     rmse_trn_A    rmse_val_B  rmse_trn_B   lr")


def test_rows_after_the_checkpoint_vanish_when_a_run_is_resumed(tmp_path):
    path = tmp_path / "lcurve.out"
    none = {"Default": {}}
    with closing(LearningCurve(path)) as curve:
        for step in (1, 10, 20):
            curve.add(step, 1e-3, {"Default": TRAINED}, none)
    undisturbed = path.read_text()
    path.write_text(undisturbed + "     30      1.0")  # a row that a kill cut short
    with closing(LearningCurve(path, resume_after=15)) as curve:
        assert path.read_text() == undisturbed.replace(undisturbed.splitlines(True)[-1], "")
        curve.add(20, 1e-3, {"Default": TRAINED}, none)
    assert path.read_text() == undisturbed


def test_a_resumed_run_without_a_file_begins_one(tmp_path):
    with closing(LearningCurve(tmp_path / "lcurve.out", resume_after=5)) as curve:
        curve.add(10, 1e-3, {"Default": TRAINED}, {"Default": {}})
    assert (tmp_path / "lcurve.out").read_text().startswith("# step")
