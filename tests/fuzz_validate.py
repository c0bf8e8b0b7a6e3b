"""Throw broken inputs at the checker: no traceback, no hang; `python -m tests.fuzz_validate`.

Structure-aware mutations change keys and values of good inputs; byte-level ones change bytes of
their texts. Every tenth input is repaired too, twice: the second time must change nothing.
"""

import copy
import json
import random
import string
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from schemas.check.input_file import check_file, check_text, fix_text
from schemas.check.report import Report
from tests.cli.conftest import MULTI_TASK, SINGLE_TASK, write_system
from tests.fuzzing import Tally, broken_bytes, run_fuzzer

JUNK: list[Any] = [
    None, True, False, 0, -1, 1, 3.5, 1e300, -1e-300, 2**63, 10**40, "", "auto", "auto:9", "1e-3",
    "dpa2", "DPA2", "ener", "se_e2_a", "exp", "é\u2028", "a\x00b", "x" * 5000, [], {}, [[]], [0, 1],
    [None], ["O", "H"], {"type": "dpa2"}, {"type": []}, {"_c": 1}, [[0, 1], [1, 2, 3]],
    float("nan"), float("inf"),
]  # fmt: skip
KEYS = [
    "type", "_comment", "systems", "set_prefix", "opt_type", "warmup_steps", "stop_batch", "sel",
    "repinit_rcut", "repformer_nlayers", "repformer_axis_dim", "load_ckpt", "model_dict",
    "shared_dict", "loss_dict", "data_dict", "model_prob", "num_epoch_dict", "nsel", "$schema", "",
    "tebd_dim", "numb_test", "descriptor", "training_data", "decay_rate", "finetune_head",
    "rglob_patterns", "seed", "preset_out_bias", "info", "validating", "optimizer",
]  # fmt: skip


def holders(value: Any) -> Iterator[Any]:
    """Yield every object and list below a value that has something in it."""
    if isinstance(value, dict | list) and value:
        yield value
        for item in value.values() if isinstance(value, dict) else value:
            yield from holders(item)


def misspelt(rng: random.Random, word: str) -> str:
    """Return a word with a letter dropped, doubled, swapped, replaced or its case changed."""
    if not word:
        return "x"
    at = rng.randrange(len(word))
    letter = rng.choice(string.ascii_lowercase + "_-")
    ways = [word[:at] + word[at + 1 :], word[:at] + letter + word[at:], word[:at] + letter
            + word[at + 1 :], word.upper(), word.replace("_", "-"), "_" + word]  # fmt: skip
    return rng.choice(ways)


def mutated(rng: random.Random, most: int = 5) -> tuple[str, str]:
    """Return the text of an input with a few changes of its structure, and a name for it."""
    document = copy.deepcopy(rng.choice([SINGLE_TASK, SINGLE_TASK, MULTI_TASK]))
    document = json.loads(json.dumps(document))
    for _ in range(rng.randint(1, most)):
        _change(rng, document)
    if rng.random() < 0.1:
        return yaml.safe_dump(document, allow_unicode=rng.random() < 0.5), "input.yaml"
    return json.dumps(document, indent=rng.choice([None, 1, 4]), ensure_ascii=False), "input.json"


def _change(rng: random.Random, document: dict[str, Any]) -> None:
    places = list(holders(document)) or [document]
    holder = rng.choice(places)
    keys: list[Any] = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
    key = rng.choice(keys) if keys else "x"
    if isinstance(holder, list):
        holder[key] = copy.deepcopy(rng.choice(JUNK))
        return
    match rng.randrange(8):
        case 0:
            holder.pop(key, None)
        case 1 if key in holder:
            holder[misspelt(rng, key)] = holder.pop(key)
        case 2:
            holder[key] = copy.deepcopy(rng.choice(JUNK))
        case 3:
            holder[rng.choice(KEYS)] = copy.deepcopy(rng.choice(JUNK))
        case 4 if key in holder and (home := rng.choice(places)) is not holder[key]:
            if isinstance(home, dict):
                home[key] = copy.deepcopy(holder.pop(key))
        case 5 if key in holder:
            holder[key] = [copy.deepcopy(holder[key])]
        case 6 if key in holder:
            holder[key] = json.dumps(holder[key])
        case _ if key in holder:
            holder[rng.choice(KEYS)] = copy.deepcopy(holder[key])


def broken(rng: random.Random) -> bytes:
    """Return the bytes of an input, some of them changed."""
    text, _ = mutated(rng)
    return broken_bytes(rng, text.encode("utf-8", "surrogatepass"), b'{}[],:"\\#/*\n')


def repaired_twice(text: str, name: str) -> Report:
    """Repair a text; raise if that brings new faults or a second repair changes anything."""
    before = read_faults(check_text(text, name))
    once = fix_text(text, name)
    twice = fix_text(once.text, name)
    assert twice.text == once.text, "a second repair changes the text"
    assert read_faults(once.report) <= before, "the repair brought faults"
    return once.report


def read_faults(report: Report) -> int:
    """Return the number of errors in the text, in keys and in values."""
    return sum(item.severity == "error" and item.code < "ZOO2" for item in report.diagnostics)


def fuzz(rng: random.Random, tally: Tally, structured: int, **more: int) -> None:
    """Check and repair that many inputs, in the current folder."""
    for name in ("water", "ice"):
        write_system(Path("data") / name)

    def check(kind: str, shown: str, task: Callable[[], Report]) -> None:
        verdict = {True: "accepted", False: "refused"}
        tally.run(kind, shown, lambda: f"{kind}: {verdict[task().ok]}")

    for number in range(structured):
        text, name = mutated(rng)
        check("structured", text, partial(check_text, text, name))
        if number % 10 == 0:
            check("repair", text, partial(repaired_twice, text, name))
    for number in range(more["bytes"]):
        content = broken(rng)
        path = Path("input.yaml" if number % 20 == 0 else "input.json")
        path.write_bytes(content)
        check("bytes", repr(content), partial(check_file, path))
        if number % 10 == 0:
            text = content.decode("utf-8", "replace")
            check("repair", text, partial(repaired_twice, text, path.name))


if __name__ == "__main__":
    sys.exit(run_fuzzer(__doc__, fuzz, structured=50_000, bytes=5_000))
