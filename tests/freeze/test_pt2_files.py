"""What a `.pt2` file says of itself, and what happens where it cannot run; no compiler."""

import json
import platform
import sys
import zipfile

import numpy as np
import pytest
import torch

from dpa2.evaluate.potential import load
from dpa2.formats import pt2
from dpa2.formats.conversion import convert, freeze
from dpa2.formats.facts import OUTPUTS
from dpa2.formats.pt2 import Build, OtherTorchWarning, has_program, read_package
from schemas.base.errors import CheckpointError, ConversionError, WriteError
from tests.commands import outcome
from tests.freeze.golden_cases import GOLDEN, golden_inputs

CHECKPOINT = GOLDEN / "fparam_aparam" / "model.pt"
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


def test_the_file_says_what_deepmd_kit_asks(compiled):
    found = members(compiled)
    metadata, params = found["metadata.json"], found["model_def_script.json"]
    assert metadata["type_map"] == params["type_map"] == ["O", "H"]
    assert metadata["rcut"] == params["descriptor"]["repinit"]["rcut"]
    assert metadata["sel"] == [metadata["nnei"]] == [params["descriptor"]["repinit"]["nsel"]]
    assert (metadata["dim_fparam"], metadata["dim_aparam"]) == (2, 1)
    assert metadata["default_fparam"] == params["fitting_net"]["default_fparam"]
    assert metadata["has_default_fparam"]
    assert metadata["lower_input_kind"] == "nlist"
    assert metadata["output_keys"] == list(OUTPUTS)
    assert metadata["do_atomic_virial"]
    assert metadata["has_message_passing"]
    assert not metadata["has_comm_artifact"]
    assert [item["name"] for item in metadata["fitting_output_defs"]] == ["energy", "mask"]


def test_the_file_says_where_it_comes_from(compiled):
    build = members(compiled)["dpa_zoo.json"]
    assert build["pytorch"] == torch.__version__
    assert build["machine"] == platform.machine()
    assert build["device"] == "cpu"
    (step,) = build["history"]
    assert step["source"] == "model.pt"
    assert len(step["sha256"]) == 64


def test_the_weights_come_out_of_the_file_again(compiled, tmp_path):
    back = convert(compiled, tmp_path / "back.pt").path
    arrays = {k: v.numpy() for k, v in golden_inputs("fparam_aparam").items() if v is not None}
    found, expected = load(back).predict(**arrays), load(CHECKPOINT).predict(**arrays)
    np.testing.assert_array_equal(found.force, expected.force)


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


def test_a_program_made_here_runs_here():
    assert build().foreign_to(CPU) is None
    assert build().is_of_this_torch


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"device": "cuda", "gpu": "9.0"}, "compiled for cuda, not for cpu"),
        ({"machine": "sparc"}, "compiled for sparc processors"),
        ({"cpu": "SVE512"}, "compiled for processors with SVE512"),
    ],
)
def test_a_program_for_other_machines_is_refused(values, reason):
    assert reason in build(**values).foreign_to(CPU)


@pytest.mark.parametrize(
    ("made", "here", "runs"),
    [
        ("AVX2", "AVX512", True),
        ("DEFAULT", "AVX2", True),
        ("AVX512", "AVX2", False),
        ("AVX2", "DEFAULT", False),
    ],
)
def test_newer_processors_run_what_older_ones_do(made, here, runs, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: here)
    assert (build(cpu=made).foreign_to(CPU) is None) == runs


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
    [(b"", "is empty"), (b"<html>", "is a web page"), (b"PK\x03\x04 cut short", "is truncated")],
)
def test_damaged_files_are_refused(content, words, tmp_path):
    path = tmp_path / "model.pt2"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        load(path)


def test_archives_of_something_else_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="not of a compiled deep potential"):
        load(archive(tmp_path / "model.pt2"))
    with pytest.raises(CheckpointError, match="describes itself wrongly: type_map"):
        read_package(archive(tmp_path / "model.pt2", metadata="{}"))


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
