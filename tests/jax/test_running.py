"""The network in JAX, and `.hlo` files and SavedModels that are evaluated or refused.

All golden cases, and SavedModels, run in tests/interop.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dpa2
from dpa2.formats.dictionary_files import write_hdf5
from dpa2.formats.engine import LowerInput, fixed_shapes
from dpa2.formats.facts import Facts
from schemas.base.errors import CheckpointError
from tests.commands import zoo
from tests.evaluate.conftest import write_system
from tests.golden_cases import GOLDEN, assert_checkpoint_numbers, golden_arrays, load_case
from tests.jax.systems import assert_agree, evaluated

CASE = GOLDEN / "fparam_aparam"


@pytest.fixture(autouse=True)
def _quick_compilation():
    """Compiling well would take longer than running once."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.parametrize("changes", [{}, {"fparam": None}], ids=["given", "default fparam"])
def test_a_file_gives_the_numbers_of_the_checkpoint(hlo_file, changes):
    potential = dpa2.load(hlo_file)
    assert_checkpoint_numbers(potential, CASE.name, **changes)
    assert (potential.type_map, potential.dim_fparam, potential.dim_aparam) == (["O", "H"], 2, 1)
    assert potential.model_params["descriptor"]["type"] == "dpa2"


def test_commands_take_it_beside_the_checkpoint(hlo_file, tmp_path):
    with np.load(CASE / "expected.npz") as archive:
        frames = dict(archive)
    system = write_system(tmp_path / "system", frames)
    for name in ("fparam", "aparam"):
        np.save(system / "set.000" / f"{name}.npy", frames[name].reshape(len(frames[name]), -1))
    result = zoo("compare", CASE / "model.pt", f"hlo={hlo_file}", "-s", system, "--json")
    assert result.exit_code == 0, result.output
    ours, theirs = json.loads(result.stdout)["models"]
    for name, error in ours["errors"].items():
        assert theirs["errors"][name]["rmse"] == pytest.approx(error["rmse"], abs=1e-9)


@pytest.mark.parametrize("option", [{"branch": "H2O"}, {"dtype": "float32"}])
def test_what_is_fixed_cannot_be_chosen(hlo_file, option):
    with pytest.raises(CheckpointError, match="frozen model"):
        dpa2.load(hlo_file, **option)


def test_its_descriptor_is_in_the_checkpoint_only(hlo_file):
    with pytest.raises(CheckpointError, match="descriptor") as caught:
        dpa2.load(hlo_file).predict(**golden_arrays(CASE.name), descriptor=True)
    assert "checkpoint" in caught.value.hint


def frame_with(num_ghosts, width):
    everyone = 5 + num_ghosts
    return LowerInput(
        coord=np.ones((everyone, 3)),
        types=np.zeros(everyone, dtype=np.int64),
        nlist=np.zeros((5, width), dtype=np.int64),
        mapping=np.zeros(everyone, dtype=np.int64),
        fparam=None,
        aparam=None,
    )


@pytest.mark.parametrize("num_ghosts", [0, 1, 64, 65, 640, 1000, 5000])
def test_ghosts_that_come_and_go_leave_most_shapes_as_they_are(num_ghosts):
    facts = Facts(type_map=["H"], rcut=4.0, sel=[12])
    shapes = set()
    for count in range(num_ghosts, num_ghosts + num_ghosts // 20 + 1):
        arrays = fixed_shapes(frame_with(count, 7), facts)
        shapes.add(tuple(array.shape for array in arrays))
        num_all = arrays[0].shape[1]
        assert max(1, count) <= num_all - 5 <= max(count + 64, 1.25 * count)
        assert (arrays[1][0, 5 + count :] == -1).all()
        assert arrays[2].shape == (1, 5, 12)
    assert len(shapes) <= 2


CONSTANTS = {"type_map": ["O", "H"], "rcut": 4.0, "sel": [6], "model_output_type": ["energy"]}


def write_programs(path, function, platforms=("cpu",), **constants):
    """Write a `.hlo` file whose programs are a function of the coordinates."""
    with jax.enable_x64(True):
        n, m = jax.export.symbolic_shape("n, m")
        shapes = [((1, m, 3), jnp.float64), ((1, m), jnp.int32)]
        shapes += [((1, n, 6), jnp.int64), ((1, m), jnp.int64)]
        arguments = [jax.ShapeDtypeStruct(*shape) for shape in shapes]
        program = jax.export.export(jax.jit(function), platforms=platforms)(*arguments, None, None)
    content = np.frombuffer(program.serialize(), dtype="V1")
    document = {
        "model_def_script": {},
        "constants": CONSTANTS | constants,
        "@variables": {"stablehlo": content, "stablehlo_atomic_virial": content},
    }
    write_hdf5(path, document)
    return document


def mask_only(coord, *_):
    return {"mask": coord[..., 0]}


def predicted(path):
    return dpa2.load(path).predict(np.eye(3), None, ["O", "H", "H"])


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, "does not return energy, energy_redu"),
        ({"platforms": ("cuda",)}, "was made for cuda, not for cpu"),
        ({"rcut": -1.0}, "describes itself wrongly: rcut"),
        ({"type_map": 7}, "describes itself wrongly: type_map"),
        ({"model_output_type": ["dos"]}, "predicts dos, not energies"),
        ({"mixed_types": False}, "takes a list for each type"),
        ({"pair_exclude_types": [[0, 2]]}, "types that it does not have"),
        ({"pair_exclude_types": [[0]]}, "describes itself wrongly: pair_exclude_types"),
    ],
)
def test_programs_of_other_kinds_are_refused(tmp_path, changes, problem):
    write_programs(tmp_path / "model.hlo", mask_only, **changes)
    with pytest.raises(CheckpointError, match=problem):
        predicted(tmp_path / "model.hlo")


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.95])
def test_damaged_programs_are_refused(tmp_path, kept):
    path = tmp_path / "model.hlo"
    document = write_programs(path, mask_only)
    content = document["@variables"]["stablehlo"]
    length = kept if isinstance(kept, int) else int(kept * len(content))
    document["@variables"]["stablehlo"] = content[:length]
    write_hdf5(path, document)
    with pytest.raises(CheckpointError, match=f"cannot run {path}"):
        predicted(path)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("model.hlo", None, "does not exist"),
        ("model.hlo", b"", "cannot be read as a model"),
        ("model.hlo", b"<html>", "cannot be read as a model"),
        ("model.hlo", b"\x89HDF\r\n\x1a\n cut short", "cannot be read as a model"),
        ("model.hlo", {"model_def_script": {}, "@variables": {}}, "no StableHLO programs"),
        ("model.savedmodel", None, "does not exist"),
        ("model.savedmodel", (), r"there is no saved_model\.pb in it"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path, name, content, problem):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, dict):
        write_hdf5(path, content)
    elif content is not None:
        path.mkdir()
    with pytest.raises(CheckpointError, match=problem) as caught:
        dpa2.load(path)
    assert ".dp" in caught.value.hint or not isinstance(content, dict)


# Compiling takes seconds a case; these three take almost every branch of the code. The value: with
# atomic virials or not.
COMPARED = {
    "davg_exclude_types_not_smooth": False,
    "davg_strip_one_side": False,
    "every_update_res_residual": True,
}


@pytest.mark.parametrize(("name", "atomic_virial"), COMPARED.items())
def test_the_numbers_are_those_of_the_torch_engine(name, atomic_virial):
    case = load_case(name)
    found = evaluated(case, atomic_virial=atomic_virial)
    assert_agree(found, case.predict(), 1e-10)
