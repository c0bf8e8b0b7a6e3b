"""What messages name: commands, options and keys that exist."""

import ast
import re
from functools import cache
from pathlib import Path

import typer

from cli.main import app
from schemas.explain import _paths, explain_path
from tests.strangers.situations import situation

PROJECT = Path(__file__).parents[2]
COMMANDS: dict[str, set[str]] = {}
"""The options of every command, by the words that call it."""
OF_MODULE: dict[str, set[str]] = {}
"""The options of all commands of a module."""


def _collect(command: typer.core.TyperCommand, words: str = "zoo") -> None:
    below = getattr(command, "commands", None)
    if below:
        for name, sub in below.items():
            _collect(sub, f"{words} {name}")
        COMMANDS[words] = {"--help", "--version"}
    else:
        options = (
            option for item in command.params for option in (*item.opts, *item.secondary_opts)
        )
        COMMANDS[words] = {"--help", *(option for option in options if option.startswith("-"))}
        OF_MODULE.setdefault(command.callback.__module__, set()).update(COMMANDS[words])


_collect(typer.main.get_command(app))
OPTION = re.compile(r"(?<![\w-])(--(?!x\b)[a-z][a-z_-]*)")
OTHERS = {"--pt", "--pt-expt"}
"""Options of dp."""


@cache
def messages() -> list[tuple[str, int, str]]:
    """Return file, line and text of every message in the code; what is put in is an x."""
    found = []
    for room in ("cli", "schemas", "zoo", "dpa2"):
        for path in sorted((PROJECT / room).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            inner = set()
            for node in ast.walk(tree):
                if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                    inner.add(node.value)  # a docstring
                if isinstance(node, ast.JoinedStr):
                    inner.update(node.values)
            for node in ast.walk(tree):
                parts = node.values if isinstance(node, ast.JoinedStr) else [node]
                texts = [p.value if isinstance(p, ast.Constant) else "x" for p in parts]
                is_text = isinstance(node, ast.JoinedStr | ast.Constant) and node not in inner
                if is_text and all(isinstance(text, str) for text in texts):
                    found.append((str(path.relative_to(PROJECT)), node.lineno, "".join(texts)))
    return found


def command_at(text: str) -> tuple[str, str] | None:
    """Return the command that a text begins with, and what follows up to where it ends."""
    words = re.match(r"zoo ([a-z]+)(?: ([a-z]+))?", text)
    if words is None:
        return None
    name = f"zoo {words[1]} {words[2]}"
    name = name if name in COMMANDS else f"zoo {words[1]}"
    return name, re.split(r"[`;,)\n]|&&|: | and | or |\. ", text, maxsplit=1)[0]


@situation("""hints of this program | a hint names an option that the command lacks | every command
    and option that a message names exists""")
def test_every_command_and_option_that_a_message_names_exists():
    everywhere = set().union(*COMMANDS.values()) | OTHERS
    named, wrong = 0, []
    for file, line, text in messages():
        told = set()
        for start in re.finditer(r"(?<![\w-])zoo (?=[a-z])", text):
            found = command_at(text[start.start() :])
            if found is None:
                continue
            name, words = found
            is_quoted = text[: start.start()].endswith(("`", ": ", "with "))
            if name not in COMMANDS and not is_quoted:
                continue  # the program is the subject of the sentence
            told.update(OPTION.findall(words))
            named += 1
            if name not in COMMANDS:
                wrong.append(f"{file}:{line}: no command {name}: {text}")
            elif missing := set(OPTION.findall(words)) - COMMANDS[name]:
                wrong.append(f"{file}:{line}: {name} has no {missing}: {text}")
        bare = set(OPTION.findall(text)) - told
        own = OF_MODULE.get(file.removesuffix(".py").replace("/", "."))
        named += len(bare)
        if missing := bare - (own or everywhere):
            wrong.append(f"{file}:{line}: there is no {missing}: {text}")
    assert not wrong, "\n".join(wrong)
    assert named > 200


KEY = re.compile(
    r"(?<![.\w])(?:model|training|learning_rate|loss|optimizer|validating)(?:\.[a-z_0-9]+)+"
)
FILES = (".pt", ".pth", ".pt2", ".yaml", ".out", ".dp", ".ckpt", ".json", ".savedmodel", ".hlo")


@situation("""hints of this program | a hint names a key by a path that does not exist | every path
    of a key that a message names can be explained""")
def test_every_key_that_a_message_names_exists():
    found = {key for _, _, text in messages() for key in KEY.findall(text)}
    found = {
        key for key in found if not key.endswith(FILES) and ".x" not in key and "_x" not in key
    }
    assert {key for key in found if explain_path(key) is None} == set()
    assert len(found) > 10


@situation("""multi-task inputs | zoo explain of model_dict, shared_dict, model_prob.water,
    model/descriptor | every key of both schemas is explained, as a path of dots or slashes, in a
    branch or alone""")
def test_every_key_of_a_multi_task_input_is_explained():
    for name in _paths():
        key = explain_path(name)
        assert key is not None, name
        assert key.effect, name
        assert key.type, name
        assert explain_path(name.replace(".", "/")) == key
    for multi, same in (
        ("model.model_dict.water.fitting_net.neuron", "model.fitting_net.neuron"),
        ("model.model_dict.H2O.v1.type_map", "model.type_map"),
        ("model.shared_dict.my_net.neuron", "model.fitting_net.neuron"),
        ("model.shared_dict.mine.repinit.nsel", "model.descriptor.repinit.nsel"),
        ("loss_dict.water", "loss"),
        ("training.data_dict.water.training_data", "training.training_data"),
        ("training.model_prob.water", "training.model_prob"),
        ("model_prob", "training.model_prob"),
        ("shared_dict", "model.shared_dict"),
    ):
        assert explain_path(multi) == explain_path(same) is not None
    assert explain_path("nsel") is None  # there are two
    several = explain_path("model.model_dict")
    assert {"model.model_dict.descriptor", "model.model_dict.type_map"} <= {
        item.path for item in several.keys
    }
    assert "loss_dict" in {item.path for item in explain_path("").keys}
