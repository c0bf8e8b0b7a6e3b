"""Models of other kinds: called by their names before a tensor is looked at."""

import json
from pathlib import Path

import pytest
import torch

from schemas.base.errors import ConfigError
from schemas.check.input_file import check_file
from schemas.input.model import parse_model
from schemas.input.root import normalized
from tests.cli.conftest import SINGLE_TASK, changed, write_system
from tests.commands import answer, outcome
from tests.strangers.situations import case

SPIN = {"spin": {"use_spin": [True, False], "virtual_scale": [0.3, 0.0]}}
OTHER = {"type": "linear_ener", "descriptor": None, "fitting_net": None, "models": [{}, {}]}
KINDS = [
    case("spin models of deepmd-kit (NiO and the like) | a checkpoint with `spin` and a DPA-2 "
         "part | called a spin model, not a missing tensor", SPIN, "a spin model", id="spin"),
    case("irradiation models with use_srtab | a checkpoint with a table of pair energies in it | "
         "called a DP-ZBL model", {"use_srtab": "zbl.txt", "sw_rmin": 0.5, "sw_rmax": 1.0},
         "a DP-ZBL model", id="zbl"),
    case("models with bridging_method | tensors fit, the energy at short distances does not | "
         "refused: the repulsion would be missing without a word", {"bridging_method": "ZBL"},
         "an analytic repulsion", id="bridge"),
    case("models with long-range electrostatics by a modifier | tensors fit, the energy does not "
         "| refused: the correction would be missing without a word",
         {"modifier": {"type": "dipole_charge"}}, "a dipole-charge correction", id="modifier"),
    case("linear_ener models | a checkpoint without a descriptor of its own | called a linear "
         "combination of models", OTHER, "a linear combination of models", id="linear"),
    pytest.param({**OTHER, "type": "pairtab"}, "a tabulated pair potential", id="pairtab"),
    case("DPA-4 checkpoints | model of type dpa4 | called a DPA-4 model", {"type": "dpa4"},
         "a DPA-4 model", id="dpa4"),
    *(pytest.param({"descriptor": {"type": kind}}, name, id=kind) for kind, name in (
        ("se_e2_a", "a DeepPot-SE model"), ("se_atten", "a DPA-1 model"), ("dpa1", "a DPA-1 model"),
        ("dpa3", "a DPA-3 model"), ("hybrid", "several descriptors"),
        ("my_own", "a model of another kind"))),
    *(pytest.param({"fitting_net": {"type": kind}}, name, id=kind) for kind, name in (
        ("dipole", "a dipole model"), ("polar", "a polarisability model"),
        ("dos", "densities of states"), ("property", "a property model"))),
]  # fmt: skip
COMMANDS = [
    "test -m other.pt -s data/water",
    "predict -m other.pt data/water -o out.xyz",
    "compare other.pt -s data/water",
    "recommend data/water -m other.pt",
    "finetune input.json -m other.pt",
    "train input.json --restart other.pt",
    "train input.json --init-model other.pt",
    "validate input.json --finetune other.pt",
    "init data/water --finetune other.pt -o new.json",
    "freeze -c other.pt -o out.pth",
    "convert other.pt out.dp",
    "bias other.pt -s data/water -o out.pt",
    "diff input.json other.pt",
]


@pytest.fixture(scope="module")
def section(tmp_path_factory):
    """The section of a good model, and an input of the same."""
    folder = tmp_path_factory.mktemp("kinds")
    write_system(folder / "data" / "water")
    document = changed(SINGLE_TASK, {"training.validation_data": "<remove>"})
    (folder / "input.json").write_text(json.dumps(document))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        config = check_file("input.json").config
    return folder, normalized(config.model)


@pytest.fixture
def write(section, monkeypatch):
    """Writes a checkpoint whose section is changed."""
    folder, ours = section
    monkeypatch.chdir(folder)

    def write(changes):
        params = {key: value for key, value in {**ours, **changes}.items() if value is not None}
        state = {"_extra_state": {"model_params": params, "train_infos": {"lr": 1e-3, "step": 4}}}
        torch.save({"model": {**state, "model.Default.x": torch.zeros(2)}}, "other.pt")

    return write


@pytest.mark.parametrize(("changes", "name"), KINDS)
@pytest.mark.parametrize("line", [COMMANDS[0], COMMANDS[4], "convert other.pt out.yaml"])
def test_a_model_of_another_kind_is_refused_by_its_name(changes, name, line, write):
    write(changes)
    code, text = answer(*line.split())
    assert code != 0
    assert name in text
    assert "other.pt" in text


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_says_so(line, write):
    write(SPIN)
    code, text = answer(*line.split())
    assert code != 0
    assert "a spin model" in text
    assert not list(Path().glob("out.*"))


@pytest.mark.parametrize("command", ["branches", "show"])
@pytest.mark.parametrize(("changes", "name"), KINDS)
def test_what_only_looks_says_what_it_sees(command, changes, name, write):
    write(changes)
    code, text = answer(command, "other.pt")
    assert code == 0
    assert name in text
    assert "zoo finetune" not in text
    document = json.loads(outcome(command, "other.pt", "--json").stdout)
    branches = document["branches"] if command == "branches" else document["file"]["branches"]
    assert name in branches[0]["other_kind"]


def test_a_model_of_this_engine_is_of_no_other_kind(section):
    model = parse_model(section[1])
    assert model.descriptor.type == "dpa2"
    with pytest.raises(ConfigError, match=r"here\.pt: a spin model"):
        parse_model({**section[1], **SPIN}, "here.pt")
