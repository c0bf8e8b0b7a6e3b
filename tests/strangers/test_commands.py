"""What commands do with arguments that are not what they need, and where they must not go."""

import json
import shutil
import socket
import sys
from pathlib import Path

import pytest
import yaml

from cli.output import Output
from schemas.base.terminal import console
from tests.cli.conftest import MULTI_TASK, SINGLE_TASK, changed, write_system
from tests.commands import answer, outcome
from tests.strangers.situations import case, situation

GOLDEN = Path(__file__).parents[1] / "golden" / "small"


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A folder with data and an input, and settings of its own."""
    for variable in ("ZOO_CACHE", "ZOO_CONFIG", "HF_HUB_CACHE", "MODELSCOPE_CACHE"):
        monkeypatch.setenv(variable, str(tmp_path / "home" / variable))
    for variable in ("ZOO_OFFLINE", "HF_HUB_OFFLINE", "ZOO_DEBUG"):
        monkeypatch.delenv(variable, raising=False)
    work = tmp_path / "work"
    write_system(work / "data" / "water")
    document = changed(SINGLE_TASK, {"training.validation_data": "<remove>"})
    (work / "input.json").write_text(json.dumps(document))
    monkeypatch.chdir(work)
    return work


REMOTE = [
    "pull Water",
    "pull Water --branch x",
    "pull Water --branch x --dry-run",
    "show Water --remote",
    "show hf://owner/repo/model.pt",
    "show ms://owner/repo/model.pt",
    "branches Water",
    "branches Water --remote",
    "branches https://host.example/model.pt",
    "verify Water",
    "extract Water --branch x -o out.pt",
    "export Water -o out.safetensors --safetensors",
    "convert Water out.yaml",
    "test -m Water -s data/water",
    "compare a=Water -s data/water",
    "compare a=Water:x -s data/water",
    "speed hf://owner/repo/model.pt:x -s data/water",
    "predict -m Water data/water -o out.xyz",
    "deviation -m Water -m Water -s data/water",
    "md data/water -m Water",
    "recommend data/water -m Water",
    "finetune input.json -m Water",
    "train input.json --finetune Water",
    "train input.json --init-model Water",
    "validate input.json --finetune Water",
    "validate input.json --init-model Water",
    "init data/water --finetune Water --force",
    "freeze -c Water -o out.pth",
    "bias Water -s data/water -o out.pt",
    "bundle Water -o out",
    "lock finetune input.json -m Water",
    "registry add https://host.example/registry.yaml",
    "search water --online",
]


@pytest.fixture
def no_network(monkeypatch):
    """Attempts to reach another machine; none succeeds."""
    tried = []

    def refuse(*arguments, **_):
        tried.append(arguments)
        raise OSError("the test has no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tried


@pytest.fixture
def registered(workspace):
    """A registry that knows `Water`, which is not on this machine."""
    model = {
        "name": "Water",
        "description": "Water.",
        "family": "DPA-2",
        "trainable": True,
        "file": {
            "name": "water.pt",
            "sha256": "0" * 64,
            "sources": [{"kind": "https", "url": "https://host.example/water.pt"}],
        },
    }
    Path("registry.yaml").write_text(yaml.safe_dump({"version": 1, "models": [model]}))
    code, said = answer("registry", "add", "registry.yaml")
    assert code == 0, said


@pytest.mark.parametrize("line", REMOTE)
@situation("""compute nodes without a network | HF_HUB_OFFLINE or ZOO_OFFLINE is set and the model
    is not here | the network is not touched, and the message says why and what to do""")
def test_offline_variables_are_respected(line, registered, no_network, monkeypatch):
    monkeypatch.setenv("ZOO_OFFLINE" if len(line) % 2 else "HF_HUB_OFFLINE", "1")
    code, said = answer(*line.split())
    assert code != 0
    assert no_network == []
    assert "network" in said or "is not on this machine" in said
    assert not list(Path().glob("out*"))


@pytest.mark.parametrize("line", ["show Water --remote", "branches Water", "pull Water"])
@situation("""compute nodes without a network | zoo show or zoo branches of a model that is not
    here, with --offline | the network is not touched; the hint names --offline""")
def test_the_option_is_respected_too(line, registered, no_network):
    code, said = answer(*line.split(), "--offline")
    assert code != 0
    assert no_network == []
    assert "network" in said


SWEEP = [
    "branches {}",
    "show {}",
    "verify {}",
    "extract {} -o out.pt --branch x",
    "export {} -o out.safetensors --safetensors",
    "export {} -o out.pt",
    "convert {} out.dp",
    "freeze -c {} -o out.pth",
    "test -m {} -s data/water",
    "test -m good.pt -s {}",
    "test -m good.pt -f {}",
    "compare a={} -s data/water",
    "compare good.pt -s {}",
    "speed good.pt -s {}",
    "predict -m good.pt {} -o out.xyz",
    "deviation -m good.pt -m {} -s data/water -o out.devi",
    "deviation -m good.pt -m good.pt -s {} -o out.devi",
    "md {} -m good.pt -o out",
    "recommend {} -m good.pt",
    "recommend data/water -m {}",
    "bias {} -s data/water -o out.pt",
    "bias good.pt -s {} -o out.pt",
    "finetune input.json -m {}",
    "finetune {} -m good.pt",
    "train {}",
    "train input.json --restart {}",
    "train input.json --init-model {}",
    "validate {}",
    "validate input.json --finetune {}",
    "plan {}",
    "plan input.json --restart {}",
    "diff {} input.json",
    "diff good.pt {}",
    "init {} -o out.json",
    "init data/water --finetune {} -o out.json",
    "lock -o out.lock train {}",
    "lock -o out.lock --result {} train input.json",
    "reproduce {}",
    "plot {}",
    "data info {}",
    "data check {}",
    "data convert {} -o out",
    "registry add {}",
    "registry remove {}",
    "registry update {}",
    "bundle {} -o out",
    "pull {}",
    "push {} me/model --dry-run --card out.md",
    "push good.pt me/model --dry-run --card out.md --metrics {}",
    "push good.pt me/model --dry-run --card out.md --input {}",
    "cache rm {}",
    "explain {}",
]
MAY_SUCCEED = ("verify", "explain")
RIGHT = {"model.json", ".", "escape\x1b[31m.json"}
"""What is only called strangely: a checkpoint, a folder with data, an object without keys."""
ALWAYS = ["missing", "folder", "junk.pt", "\udcff\udcfe.pt"]
"""Given to every command; the others take turns."""


def bad_files(folder: Path) -> dict[str, str]:
    """Write what strangers give by mistake; return the names as they are written."""
    page = "<!DOCTYPE html><html><body>404 Not Found</body></html>"
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12\n"
    good = (GOLDEN / "model.pt").read_bytes()
    contents = {
        "empty": b"",
        "empty.pt": b"",
        "empty.json": b"",
        "junk.pt": bytes(range(256)) * 20,
        "junk.out": bytes(range(256)) * 20,
        "page.pt": page.encode(),
        "page.json": page.encode(),
        "pointer.pt": pointer.encode(),
        "pointer.json": pointer.encode(),
        "short.pt": good[: len(good) // 2],
        "model.json": good,
        "text.pth": b"hello\n",
        "list.json": b"[1, 2]",
        "list.yaml": b"- 1\n- 2\n",
        "null.yaml": b"null\n",
        "deep.json": b"[" * 5000,
        "\udcff\udcfe.pt": b"x",
        "escape\x1b[31m.json": b"{}",
        "archive.pt": b"PK\x05\x06" + bytes(18),
        "plain.hdf5": b"\x89HDF\r\n\x1a\n" + bytes(64),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "folder").mkdir()
    (folder / "folder.pt").mkdir()
    (folder / "loop").symlink_to("loop")
    (folder / "nowhere.pt").symlink_to("gone.pt")
    others = ["missing", "missing.json", "a/b/c.pt", "x" * 300, "nul\0.pt", "/dev/null", ".", "~"]
    return {
        name: name for name in [*contents, *others, "folder", "folder.pt", "loop", "nowhere.pt"]
    }


@pytest.fixture(scope="module")
def strange(tmp_path_factory):
    """A folder with a good model, an input, data and everything bad."""
    folder = tmp_path_factory.mktemp("strange")
    write_system(folder / "data" / "water")
    document = changed(SINGLE_TASK, {"training.validation_data": "<remove>"})
    (folder / "input.json").write_text(json.dumps(document))
    (folder / "good.pt").write_bytes((GOLDEN / "model.pt").read_bytes())
    return folder, list(bad_files(folder))


@pytest.mark.parametrize("line", SWEEP)
@situation("""every command, given the wrong file | missing, empty, a folder, junk, a web page, a
    Git LFS pointer, half a file, another kind, a name that is no text, a loop of links, a device |
    exit code other than 0 and words; no traceback, nothing written""")
def test_a_wrong_argument_is_answered_with_words(line, strange, monkeypatch, tmp_path):
    folder, names = strange
    monkeypatch.chdir(folder)
    for variable in ("ZOO_CACHE", "ZOO_CONFIG", "HF_HUB_CACHE", "MODELSCOPE_CACHE"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    wrong = []
    rest = [name for name in names if name not in ALWAYS]
    turn = 2 * SWEEP.index(line)
    for name in (*ALWAYS, *(rest[(turn + step) % len(rest)] for step in range(2))):
        words = [word.replace("{}", name) for word in line.split()]
        code, said = answer(*words)
        if code == 0 and not line.startswith(MAY_SUCCEED) and name not in RIGHT:
            wrong.append((name, "exit code 0", said))
        if code not in (0, 1, 2) or not said.strip():
            wrong.append((name, f"exit code {code}", said))
        if "Traceback" in said:
            wrong.append((name, "a traceback", said))
        for path in folder.glob("out*"):
            if code != 0:
                wrong.append((name, f"left {path.name}", said))
            path.unlink() if path.is_file() else shutil.rmtree(path)
    assert not wrong, "\n".join(f"{name!r}: {what}: {said[-300:]!r}" for name, what, said in wrong)


HEADER = "# step  rmse_val  rmse_trn  rmse_e_val  rmse_e_trn  rmse_f_val  rmse_f_trn  lr\n"
ROW = "{:>8}      1.0e+00    2.0e+00    3.0e-01    4.0e-01    5.0e-01    6.0e-01    1.0e-03\n"
BRANCHES = "# step   rmse_val_water   rmse_trn_water   rmse_val_salt   rmse_trn_salt   lr\n"
CURVES = [
    case("lcurve.out of a killed run | the last line is cut | the lines before it are drawn",
         HEADER + ROW.format(1) + ROW.format(100)[:40], 1, id="cut"),
    case("lcurve.out of a restarted run | a second header, steps that are repeated | the later "
         "rows count", HEADER + ROW.format(1) + ROW.format(200) + HEADER + ROW.format(101), 101,
         id="restarted"),
    case("lcurve.out of a multi-task run of deepmd-kit | columns by branch, nan where no data are "
         "| drawn by branch", BRANCHES + "  1  1.0  2.0  nan  3.0  1e-3\n", 1, id="multi-task"),
    case("lcurve.out of DeePMD-kit 1 | `# batch l2_tst` | refused with words",
         "# batch  l2_tst  l2_trn  lr\n 0  1.0  2.0  1e-3\n", None, id="version 1"),
    pytest.param(HEADER + ROW.format("nan"), None, id="step nan"),
    pytest.param(HEADER + ROW.format("inf"), None, id="step inf"),
    pytest.param(HEADER + ROW.format("1e300"), None, id="step huge"),
    pytest.param(HEADER + "  1" + "  nan" * 6 + "  1e-3\n", None, id="all nan"),
    pytest.param("# step lr\n 1 1e-3\n", None, id="no errors"),
    pytest.param("# step rmse_val rmse_val lr\n 1 1 2 1e-3\n", 1, id="a column twice"),
    pytest.param(HEADER + "".join(ROW.format(n).replace("1.0e+00", "1e30") for n in (1, 2)), 2,
        id="huge"),
    pytest.param(HEADER + ROW.format(1).replace("5.0e-01", "inf"), 1, id="inf"),
    pytest.param(HEADER + ROW.format(1).replace("5.0e-01", "-1.0"), 1, id="negative"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "last"), CURVES)
def test_learning_curves_of_strangers_are_drawn_or_refused(text, last, workspace):
    Path("lcurve.out").write_text(text)
    code, said = answer("plot", "lcurve.out")
    assert code == (2 if last is None else 0), said
    if last is not None:
        code, said = answer("plot", "lcurve.out", "--json", "-q")
        assert json.loads(said)["last"]["step"] == last


def test_a_learning_curve_without_anything_to_draw_says_so(workspace):
    Path("lcurve.out").write_text("# step lr\n 1 1e-3\n")
    code, said = answer("plot", "lcurve.out")
    assert code == 2
    assert "lcurve.out" in said


AWAY = {"training.training_data.systems": ["data/water", "/cluster/data/ice"]}


@situation("""inputs written on a laptop for a cluster | zoo plan, and the data are elsewhere | the
    hint names --no-data; rates, parameters and disk need no data""")
def test_a_run_is_planned_without_its_data(workspace):
    document = changed(SINGLE_TASK, {"training.validation_data": "<remove>", **AWAY})
    Path("input.json").write_text(json.dumps(document))
    assert answer("plan", "input.json")[0] == 1
    code, said = answer("plan", "input.json", "--no-data")
    assert code == 0
    assert "1 of 2 paths of data do not exist" in said
    assert "the data were not looked at" in said
    plan = json.loads(outcome("plan", "input.json", "--no-data", "--json").stdout)
    assert plan["num_steps"] == 10000
    assert plan["memory"] is None
    assert plan["branches"][0]["epochs"] is None
    assert plan["disk"]["total"] > 0
    assert answer("plan", "input.json", "--no-data", "--probe")[0] == 2
    document = changed(document, {"training.training_data.systems": ["/cluster/data/ice"]})
    Path("input.json").write_text(json.dumps(document))
    code, said = answer("plan", "input.json")
    assert code == 2
    assert "--no-data" in said
    document = changed(document, {"training.numb_steps": "<remove>", "training.numb_epoch": 3})
    Path("input.json").write_text(json.dumps(document))
    code, said = answer("plan", "input.json", "--no-data")
    assert code != 0
    assert "training.numb_steps" in said


@pytest.mark.parametrize("width", [30, 60, 80, 100])
@situation("""multi-task inputs with many branches, narrow terminals | zoo plan: columns are broken,
    the first one is gone | a table goes on below with its first column; no number is broken""")
def test_wide_tables_go_on_below(width, workspace, monkeypatch):
    names = [f"Domains_Alloy_branch_{number}" for number in range(6)]
    document = changed(MULTI_TASK, {
        "model.model_dict": dict.fromkeys(names, MULTI_TASK["model"]["model_dict"]["water"]),
        "loss_dict": {name: {"start_pref_f": 100 + n} for n, name in enumerate(names)},
        "training.data_dict": {
            name: {"training_data": {"systems": ["data/water"]}} for name in names},
    })  # fmt: skip
    Path("input.json").write_text(json.dumps(document))
    monkeypatch.setattr(Output, "console", lambda *_, **__: console(sys.stdout, width=width))
    result = outcome("plan", "input.json")
    assert result.exit_code == 0
    words = result.stdout.split()
    assert {"1,137,923", *(f"{100 + number}" for number in range(6))} <= set(words)
    lines = result.stdout.splitlines()
    assert all(line.lstrip().startswith("fitt") for line in lines if "45,841" in line)
    tables = [line for line in lines if line.startswith(" ")]
    assert max(map(len, tables)) <= width
