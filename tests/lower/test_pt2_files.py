"""What a `.pt2` file says of itself, and what happens where it cannot run; no compiler."""

import json
import platform
import sys
import zipfile

import pytest
import torch

from dpa2.evaluate.potential import load
from dpa2.formats import pt2
from dpa2.formats.conversion import convert, freeze
from dpa2.formats.facts import OUTPUTS
from dpa2.formats.pt2 import Build, OtherTorchWarning, has_program
from schemas.base.errors import CheckpointError, ConversionError, WriteError
from tests.commands import outcome
from tests.golden_cases import GOLDEN, assert_checkpoint_numbers

CASE = "fparam_aparam"
CHECKPOINT = GOLDEN / CASE / "model.pt"
CPU = torch.device("cpu")


def archive(path, **members):
    with zipfile.ZipFile(path, "w") as stream:
        stream.writestr("model/archive_version", "0")
        for name, text in members.items():
            stream.writestr(f"model/extra/{name}.json", text)
    return path


def nothing(*_, **__):
    return None


@pytest.fixture
def without_compiler(monkeypatch):
    """Leave out the minutes of tracing and compiling: an archive without a program is written."""
    monkeypatch.setattr(pt2, "_need_compiler", lambda: None)
    monkeypatch.setattr(pt2, "export_model", nothing)
    monkeypatch.setattr(pt2, "_compile", lambda *arguments: archive(arguments[1]))


@pytest.fixture
def compiled(without_compiler, tmp_path):
    return freeze(CHECKPOINT, tmp_path / "model.pt2", atomic_virial=True).path


def members(path):
    with zipfile.ZipFile(path) as stream:
        prefix = "model/extra/"
        return {
            name.removeprefix(prefix): json.loads(stream.read(name))
            for name in stream.namelist()
            if name.startswith(prefix)
        }


def changed(path, member, **values):
    """Write the file again with other values in one of its members."""
    found = members(path)
    found[member] |= values
    return archive(
        path, **{name.removesuffix(".json"): json.dumps(value) for name, value in found.items()}
    )


def test_the_file_says_what_deepmd_kit_asks_and_where_it_comes_from(compiled):
    found = members(compiled)
    metadata, params = found["metadata.json"], found["model_def_script.json"]
    nsel = params["descriptor"]["repinit"]["nsel"]
    expected = {
        "type_map": params["type_map"],
        "rcut": params["descriptor"]["repinit"]["rcut"],
        "sel": [nsel],
        "nnei": nsel,
        "dim_fparam": 2,
        "dim_aparam": 1,
        "default_fparam": params["fitting_net"]["default_fparam"],
        "has_default_fparam": True,
        "lower_input_kind": "nlist",
        "output_keys": list(OUTPUTS),
        "do_atomic_virial": True,
        "has_message_passing": True,
        "has_comm_artifact": False,
    }
    assert metadata | expected == metadata
    assert [item["name"] for item in metadata["fitting_output_defs"]] == ["energy", "mask"]
    made = found["dpa_zoo.json"]
    here = {"pytorch": torch.__version__, "machine": platform.machine(), "device": "cpu"}
    assert made | here == made
    (step,) = made["history"]
    assert (step["source"], len(step["sha256"])) == ("model.pt", 64)


def test_the_weights_come_out_of_the_file_again(compiled, tmp_path):
    assert_checkpoint_numbers(convert(compiled, tmp_path / "back.pt").path, CASE, atol=0)


def test_the_precision_can_be_chosen(without_compiler, tmp_path):
    path = freeze(CHECKPOINT, tmp_path / "model.pt2", dtype="float32").path
    assert members(path)["model_def_script.json"]["descriptor"]["precision"] == "float32"
    assert not members(path)["metadata.json"]["do_atomic_virial"]


def test_a_missing_folder_is_found_before_the_work(monkeypatch, tmp_path):
    monkeypatch.setattr(pt2, "_need_compiler", lambda: None)
    monkeypatch.setattr(pt2, "export_model", None)
    with pytest.raises(WriteError, match="cannot be written"):
        freeze(CHECKPOINT, tmp_path / "missing" / "model.pt2")


def test_a_compiler_that_fails_leaves_no_file(monkeypatch, tmp_path):
    def fail(*_, **__):
        raise RuntimeError("\n  no such instruction\nmany more lines")

    monkeypatch.setattr(pt2, "_need_compiler", lambda: None)
    monkeypatch.setattr(pt2, "export_model", nothing)
    monkeypatch.setattr("torch._inductor.aoti_compile_and_package", fail)
    with pytest.raises(ConversionError, match="no such instruction") as error:
        freeze(CHECKPOINT, tmp_path / "model.pt2")
    assert ".pth" in error.value.hint
    assert list(tmp_path.iterdir()) == []


def test_without_a_compiler_the_other_format_is_named(monkeypatch, tmp_path):
    def fail():
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", fail)
    with pytest.raises(ConversionError, match="there is none here"):
        freeze(CHECKPOINT, tmp_path / "model.pt2")


def build(**values):
    here = {
        "software": "dpa-zoo",
        "version": "1",
        "pytorch": torch.__version__,
        "python": "3.11",
        "device": "cpu",
        "machine": platform.machine(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }
    return Build.model_validate(here | values)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, None),
        ({"device": "cuda", "gpu": "9.0"}, "compiled for cuda, not for cpu"),
        ({"machine": "sparc"}, "compiled for sparc processors"),
        ({"cpu": "SVE512"}, "compiled for processors with SVE512"),
        ({"cpu": "DEFAULT"}, None),
        ({"cpu": "AVX512"}, "compiled for processors with AVX512"),
    ],
)
def test_programs_run_on_machines_that_have_what_they_use(values, reason, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    made = build(**values)
    found = made.foreign_to(CPU)
    assert found is None if reason is None else reason in found
    assert made.is_of_this_torch


def test_the_refusal_says_what_to_do(compiled):
    path = changed(compiled, "dpa_zoo.json", machine="sparc")
    with pytest.raises(
        CheckpointError, match="cannot run here: it was compiled for sparc"
    ) as error:
        load(path)
    assert f"zoo convert {path}" in error.value.hint


def test_another_torch_is_a_warning_and_a_reason(compiled):
    path = changed(compiled, "dpa_zoo.json", pytorch="2.5.0")
    with (
        pytest.warns(OtherTorchWarning, match=r"compiled by torch 2\.5\.0"),
        pytest.raises(CheckpointError, match=r"cannot be loaded .*compiled by torch 2\.5\.0"),
    ):
        pt2.run(path, CPU)


@pytest.mark.parametrize(
    ("option", "problem"),
    [({"branch": "H2O"}, "no branches"), ({"dtype": "float32"}, "its precision is fixed")],
)
def test_what_is_fixed_cannot_be_chosen(option, problem, compiled):
    with pytest.raises(CheckpointError, match=problem):
        load(compiled, **option)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"<html>", "is a web page"),
        (b"PK\x03\x04 cut short", "is truncated"),
        ({}, "not of a compiled deep potential"),
        ({"metadata": "{}"}, "describes itself wrongly: type_map"),
    ],
)
def test_damaged_files_and_other_archives_are_refused(content, words, tmp_path):
    path = tmp_path / "model.pt2"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        archive(path, **content)
    with pytest.raises(CheckpointError, match=words):
        load(path)


def test_programs_over_graphs_are_evaluated_from_their_weights(compiled):
    path = changed(compiled, "metadata.json", lower_input_kind="graph")
    assert not has_program(path)
    assert load(path).rcut == load(CHECKPOINT).rcut


def test_the_command_reports_the_time_and_the_condition(without_compiler, tmp_path):
    output = tmp_path / "model.pt2"
    result = outcome("freeze", "-c", CHECKPOINT, "-o", output, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["seconds"] >= 0
    assert document["output"] == str(output)
    assert "compiling" in result.stderr
    assert "atom_modify map yes" in result.stderr


def test_onnx_without_its_packages_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConversionError, match="onnx and onnxscript") as error:
        convert(CHECKPOINT, tmp_path / "model.onnx")
    assert "dpa-zoo[onnx]" in error.value.hint
