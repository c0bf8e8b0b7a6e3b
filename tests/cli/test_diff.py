"""`zoo diff`: what counts as a difference, and what does not."""

import json
import os
from pathlib import Path

import pytest

from tests.commands import outcome

GOLDEN = Path(__file__).parents[1] / "golden" / "small"


@pytest.fixture
def compare(workspace, example):
    """Writes two inputs, compares them and returns the exit code and the document."""

    def compare(ours, theirs, *arguments, base="single-task"):
        names = []
        for name, content in (("a.json", ours), ("b.json", theirs)):
            if isinstance(content, dict):
                Path(name).write_text(example(base, content))
            names.append(content if isinstance(content, Path) else name)
        result = outcome("diff", *names, "--json", *arguments)
        return result.exit_code, json.loads(result.stdout)

    return compare


def test_defaults_and_aliases_are_no_difference(compare):
    written = {
        "training.numb_steps": "<remove>",
        "training.stop_batch": 10000,
        "training.disp_freq": 1000,
        "model.descriptor.precision": "float64",
        "model.descriptor.repformer.activation_function": "Tanh",
        "training.training_data.systems": "data/water",
    }
    code, document = compare({}, written)
    assert (code, document["same"]) == (0, True)


def test_a_difference_has_a_path_and_both_values(compare):
    code, document = compare({}, {"loss.start_pref_f": 100})
    assert code == 1
    assert document["differences"] == [
        {
            "path": ["loss", "start_pref_f"],
            "first": 1000,
            "second": 100,
            "architecture": False,
        }
    ]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("model.descriptor.repformer.g1_dim", 64, True),
        ("model.type_map", ["O", "H", "C"], True),
        ("model.descriptor.seed", 7, False),
        ("model.fitting_net.neuron", [20], True),
        ("model.descriptor.precision", "float32", False),
    ],
)
def test_differences_with_which_weights_do_not_fit_are_marked(compare, key, value, expected):
    code, document = compare({}, {key: value})
    assert code == 1
    assert [item["architecture"] for item in document["differences"]] == [expected]


def test_an_input_agrees_with_the_checkpoint_trained_from_it(compare, workspace):
    from schemas.checkpoint.header import read_header

    section = {
        key: value
        for key, value in read_header(GOLDEN / "model.pt").model_params.items()
        if key != "info"
    }
    code, document = compare({"model": section}, GOLDEN / "model.pt")
    assert (code, document["differences"]) == (0, [])
    section["descriptor"]["repformer"]["nlayers"] = 5
    code, document = compare({"model": section}, GOLDEN / "model.pt")
    assert code == 1
    assert [item["path"][-1] for item in document["differences"]] == ["nlayers"]


def test_branches_are_compared_with_what_they_share_put_in(compare):
    change = {"model.shared_dict.descriptor.repformer.nsel": 41}
    code, document = compare({}, change, base="multi-task")
    assert code == 1
    assert [item["path"][:3] for item in document["differences"]] == [
        ["model", "model_dict", "water"],
        ["model", "model_dict", "salt"],
    ]
    code, document = compare({}, change, "--branch", "salt", base="multi-task")
    assert [item["path"][-1] for item in document["differences"]] == ["nsel"]


def test_another_name_in_shared_dict_is_no_difference(compare, workspace, example):
    renamed = example("multi-task", {}).replace('"descriptor": "descriptor"', '"descriptor": "d"')
    renamed = renamed.replace('"descriptor": {', '"d": {')
    Path("b.json").write_text(renamed)
    code, document = compare({}, "b.json", base="multi-task")
    assert (code, document["differences"]) == (0, [])


def test_another_sharing_level_is_a_difference(compare):
    level = {"model.model_dict.salt.descriptor": "descriptor:1"}
    code, document = compare({}, level, base="multi-task")
    assert code == 1
    assert document["differences"][0]["path"][-2:] == ["descriptor", "shared"]


def test_a_faulty_input_or_a_missing_file_cannot_be_compared(compare):
    code, document = compare({}, {"loss.start_pref_f": -1})
    assert (code, document["ok"]) == (2, False)
    result = outcome("diff", "a.json", "nothing.json")
    assert isinstance(result.exception, FileNotFoundError)  # exit code 2 in `main`


def test_one_task_and_several_cannot_be_compared(compare, workspace, example):
    from schemas.base.errors import ZooError

    Path("b.json").write_text(example("multi-task", {}))
    Path("a.json").write_text(example("single-task", {}))
    result = outcome("diff", "a.json", "b.json")
    assert isinstance(result.exception, ZooError)
    assert "branches water, salt" in str(result.exception)
    assert outcome("diff", "a.json", "b.json", "--branch", "salt").exit_code in (0, 1)


def test_a_text_from_a_pipe_is_read_once(compare, workspace, example):
    text = example("single-task", {}).encode()
    ours, theirs = os.pipe()
    os.write(theirs, text)
    os.close(theirs)
    code, document = compare({}, Path(f"/dev/fd/{ours}"))
    os.close(ours)
    assert (code, document["differences"]) == (0, [])
