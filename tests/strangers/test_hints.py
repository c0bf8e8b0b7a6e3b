"""What a hint says can be done, and doing it leads on."""

import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from cli.options import split_branch
from schemas.base.diagnostics import Diagnostic
from schemas.base.errors import CheckpointError
from schemas.check.input_file import apply_edits, check_file, check_text
from schemas.check.start import check_start
from schemas.explain import entries
from schemas.input.root import normalized
from schemas.input.start import Start
from tests.cli.conftest import MULTI_TASK, SINGLE_TASK, changed, write_system
from tests.commands import zoo
from tests.fuzz_validate import mutated
from tests.strangers.runs import diagnostics
from tests.strangers.runs import zoo as on_document
from tests.strangers.situations import situation

GOLDEN = Path(__file__).parents[1] / "golden" / "small"


def run(*words, code=0):
    """Run a command; return what it printed."""
    result = zoo(*words)
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def models(here):
    """A model, and one of two branches: the same, and one with energies 1 eV an atom higher."""
    single = torch.load(GOLDEN / "model.pt", weights_only=True)
    (here / "single.pt").write_bytes((GOLDEN / "model.pt").read_bytes())
    state = single.get("model", single)
    section = state["_extra_state"]["model_params"]
    tensors = {}
    for branch, shift in (("water", 0.0), ("salt", 1.0)):
        for name, tensor in state.items():
            if name != "_extra_state":
                higher = tensor + shift if name.endswith("atomic_model.out_bias") else tensor
                tensors[name.replace(".Default.", f".{branch}.")] = higher
    extra = {"model_params": {"model_dict": {"water": section, "salt": section}}}
    extra["train_infos"] = {"lr": 1e-3, "step": 4}
    torch.save({"model": {"_extra_state": extra, **tensors}}, "multi.pt")
    write_system(here / "data" / "water")
    return here


@situation("""multi-task checkpoints compared with single-task ones | zoo compare a=A.pt b=MULTI.pt;
    the hint says --branch, which the command did not have | MODEL:BRANCH for one model, --branch
    for those that name none""")
def test_each_model_of_a_comparison_has_its_branch(models):
    with pytest.raises(CheckpointError) as refused:
        run("compare", "a=single.pt", "b=multi.pt", "-s", "data/water")
    assert "--branch: water, salt" in refused.value.hint
    words = ["single.pt", "multi.pt:salt", "multi.pt", "-s", "data/water", "--branch", "water"]
    found = json.loads(run("compare", *words, "--json").stdout)["models"]
    assert [item["name"] for item in found] == ["single.pt", "multi.pt:salt", "multi.pt:water"]
    assert [item.get("branch") for item in found] == [None, "salt", "water"]
    energy, higher, same = (item["errors"]["energy_per_atom"]["mae"] for item in found)
    assert same == energy
    assert abs(higher - energy) == pytest.approx(1.0)


@situation("multi-task checkpoints timed | zoo speed MULTI.pt | MODEL:BRANCH, or --branch for all")
def test_each_model_of_a_timing_has_its_branch(models):
    words = ["a=multi.pt:salt", "single.pt", "-s", "data/water", "-r", "1", "--json"]
    found = json.loads(run("speed", *words).stdout)["models"]
    assert [(item["name"], item.get("branch")) for item in found] == [
        ("a", "salt"),
        ("single.pt", None),
    ]


@situation("""ensembles of which one model is multi-task | zoo deviation -m A.pt -m MULTI.pt
    --branch water: A.pt has no branch `water` | --branch is that of the multi-task models only""")
def test_a_branch_of_several_models_is_that_of_those_that_have_branches(models):
    words = ["-m", "single.pt", "-m", "multi.pt", "-s", "data/water", "--branch", "water", "--json"]
    (system,) = json.loads(run("deviation", *words).stdout)["systems"]
    assert system["devi_e"] == 0
    words = ["-m", "single.pt", "-m", "multi.pt:salt", "-s", "data/water", "--force", "--json"]
    (system,) = json.loads(run("deviation", *words).stdout)["systems"]
    assert system["devi_e"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("written", "model", "branch"),
    [
        ("multi.pt:water", "multi.pt", "water"),
        ("DPA2_medium@1:H2O-PBE0TS-MD", "DPA2_medium@1", "H2O-PBE0TS-MD"),
        ("https://host:8080/a.pt", "https://host:8080/a.pt", None),
        ("https://host:8080/a.pt:water", "https://host:8080/a.pt", "water"),
        ("hf://owner/repo/a.pt", "hf://owner/repo/a.pt", None),
        ("here:and:there", "here:and:there", None),
        ("a.pt:", "a.pt:", None),
    ],
)
def test_a_colon_before_a_slash_or_in_a_file_name_separates_no_branch(written, model, branch, here):
    (here / "here:and:there").touch()
    assert split_branch(written) == (model, branch)


MODES = [
    (None, None, "descriptor and fitting net are loaded, the energy bias is shifted to the data"),
    ("none", None, "descriptor and fitting net are loaded, the energy bias is loaded as it is"),
    ("set", None, "descriptor and fitting net are loaded, the energy bias is fitted anew"),
    (None, "RANDOM", "fitting net is random, the energy bias is fitted anew to the data"),
    ("none", "RANDOM", "fitting net is random, the energy bias is not fitted"),
    ("change", "RANDOM", "fitting net is random, the energy bias is shifted to the data"),
]


@pytest.mark.parametrize(("mode", "branch", "told"), MODES)
@situation("""fine-tuning with --bias-mode none | ZOO604 says that the energy bias is shifted to the
    data | what the options do to the bias is what is said""")
def test_what_is_taken_from_a_checkpoint_is_told_as_it_is_done(mode, branch, told, here):
    write_system(here / "data" / "water")
    write_system(here / "data" / "ice")
    Path("input.json").write_text(json.dumps(SINGLE_TASK))
    report = check_file("input.json")
    section = normalized(report.config.model)
    params = section if branch is None else {"model_dict": {"a": section, "b": section}}
    start = Start("--finetune", "model.pt", params, branch=branch, bias_mode=mode)
    (note,) = [item for item in check_start(report.targets, start) if item.code == "ZOO604"]
    assert told in note.message


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["--restart", "single.pt", "--use-pretrain-script"], "--use-pretrain-script"),
        (["--restart", "single.pt", "--bias-mode", "none"], "--bias-mode"),
        (["--init-model", "single.pt", "--bias-mode", "set"], "--bias-mode"),
        (["--bias-mode", "set"], "--bias-mode"),
    ],
)
@situation("""options of fine-tuning beside --restart | --bias-mode or --use-pretrain-script does
    nothing there and nobody says so | a warning (ZOO620) names the option that would make it
    count""")
def test_an_option_without_effect_is_named(words, option, models, monkeypatch):
    monkeypatch.setattr("dpa2.training.run.run", None)  # the training itself is not reached
    model = torch.load("single.pt", weights_only=True)
    params = model.get("model", model)["_extra_state"]["model_params"]
    document = changed(SINGLE_TASK, {"training.validation_data": "<remove>"})
    result = on_document(document | {"model": params}, "train", *words)
    assert f"{option} says nothing without" in result.stderr


def dense(folder: Path, frames=4, atoms=64) -> None:
    """Write a system whose atoms have many and unequal numbers of neighbours."""
    write_system(folder, frames)
    (folder / "type.raw").write_text("0 1 1 1\n" * (atoms // 4))
    grid = np.stack(np.meshgrid(*[np.arange(4) * 2.0] * 3), -1).reshape(-1)
    rng = np.random.default_rng(0)
    np.save(folder / "set.000/coord.npy", grid + rng.normal(0, 0.1, (frames, 3 * atoms)))
    np.save(folder / "set.000/box.npy", np.tile(np.eye(3).ravel() * 8.0, (frames, 1)))
    np.save(folder / "set.000/force.npy", rng.normal(0, 1, (frames, 3 * atoms)))


@pytest.fixture
def short_lists(here, monkeypatch):
    """Data with more neighbours than the lists of a checkpoint hold, and inputs for both."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "cache"))
    dense(here / "data" / "water")
    document = changed(
        SINGLE_TASK, {"model.descriptor.repinit.nsel": 100, "training.validation_data": "<remove>"}
    )
    Path("input.json").write_text(json.dumps(document))
    section = normalized(check_file("input.json").config.model)
    state = {"_extra_state": {"model_params": section, "train_infos": {"lr": 1e-3, "step": 4}}}
    optimizer = {"state": {}, "param_groups": [{"params": []}]}
    torch.save({"model": state, "optimizer": optimizer}, "model.pt")
    return document


@situation("""fine-tuning on a denser system than the pretrained model's | nsel 100: ZOO442 says
    `set it to 128`, then ZOO602 says `write 100 as in the checkpoint` | a warning: 100 is fixed by
    the weights, so many pairs are left out, the way out""")
@pytest.mark.parametrize("option", ["--finetune", "--restart", "--init-model"])
def test_a_list_that_the_weights_fix_is_no_dead_end(option, short_lists):
    alone = {item["code"]: item for item in diagnostics(short_lists)}
    assert alone["ZOO442"]["severity"] == "error"
    (told,) = [i for i in diagnostics(short_lists, option, "model.pt") if i["code"] == "ZOO442"]
    assert told["severity"] == "warning"
    assert told["fix"] is None
    assert "set it to" not in told["hint"]
    assert "model.pt, and its weights go with no other" in told["message"]

    coord = np.load("data/water/set.000/coord.npy").reshape(4, 64, 3)
    steps = np.stack(np.meshgrid(*[np.arange(-1, 2) * 8.0] * 3), -1).reshape(-1, 3)
    images = coord[:, None, :, :] + steps[:, None, :]
    distance = np.linalg.norm(coord[:, :, None, None, :] - images[:, None], axis=-1)
    counts = ((distance < 6.0) & (distance > 0)).sum(axis=(2, 3))
    share = np.maximum(0, counts - 100).sum() / counts.sum()
    assert share > 0.01
    assert f"{100 * share:.3g} % of the pairs within 6 Å are left out" in told["message"]


@situation("""fine-tuning on a denser system, hints obeyed | applying each hint in turn leads from
    one error to the other and back | writing what the hints say ends without an error""")
def test_hints_about_neighbours_do_not_contradict_each_other(short_lists):
    path = "model.descriptor.repinit.nsel"
    found = diagnostics(changed(short_lists, {path: 176}), "--finetune", "model.pt")
    (error,) = [item for item in found if item["severity"] == "error"]
    obeyed = int(re.search(r"write (\d+)", error["hint"]).group(1))
    left = diagnostics(changed(short_lists, {path: obeyed}), "--finetune", "model.pt")
    assert all(item["severity"] != "error" for item in left)


WRITE = re.compile(r'(?:write|set it to|did you mean|such as) `?("[^"]*"|[\w.+-]+|\[[^\]]*\])`?')


def obeyed(text: str, item: Diagnostic) -> str | None:
    """Return the text with what a fix or a hint says done; None if neither says what to write."""
    if item.fix is not None:
        return apply_edits(text, item.fix.edits)
    found = WRITE.search(item.hint or "")
    if found is None or not item.path or str(item.path[0]).startswith("--"):
        return None
    try:
        value = json.loads(found[1])
    except ValueError:
        value = found[1]
    document = holder = json.loads(text)
    for part in item.path[:-1]:
        holder = holder[part]
    if not isinstance(holder, dict | list) or (isinstance(holder, dict) and value in holder):
        return None
    try:
        if holder[item.path[-1]] == value:
            return None
    except (KeyError, IndexError):
        return None
    holder[item.path[-1]] = value
    return json.dumps(document, indent=1)


def faulty_inputs():
    """Yield inputs with faults: the wrong examples of the manual, and random changes."""
    bases = {"single-task": SINGLE_TASK, "multi-task": MULTI_TASK}
    for code, entry in sorted(entries().items()):
        if entry.text is None and not entry.start:
            yield code, json.dumps(changed(bases[entry.base], entry.changes), indent=1)
    rng = random.Random(12)
    for number in range(150):
        text, name = mutated(rng)
        if name.endswith(".json"):
            yield f"random {number}", text


@pytest.mark.slow
@situation("""hints of the validator, obeyed one after the other | one diagnostic says `write A`,
    the next one `write B` for the same key | obeying never leads back to a text that was there
    before""")
def test_obeying_hints_never_leads_in_a_circle(here):
    for name in ("water", "ice"):
        write_system(here / "data" / name)
    done, circles = 0, []
    for name, first in faulty_inputs():
        text, seen = first, {first}
        for _ in range(12):
            errors = [i for i in check_text(text).diagnostics if i.severity == "error"]
            try:
                following = (obeyed(text, item) for item in errors)
                new = next((one for one in following if one is not None and one != text), None)
            except (ValueError, KeyError, TypeError):
                break  # the text is not JSON
            if new is None:
                break
            done += 1
            if new in seen:
                circles.append(f"{name}: {[(i.code, i.message, i.hint) for i in errors]}")
                break
            seen.add(new)
            text = new
    assert not circles, "\n".join(circles)
    assert done > 60
