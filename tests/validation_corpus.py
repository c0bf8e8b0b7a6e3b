"""Run `zoo validate` over a corpus of inputs and compare with the verdicts that it lists.

    python -m tests.validation_corpus FOLDER [--checkpoints FOLDER]

The corpus is a folder with `index.tsv`: columns slug, category, ideal_verdict (`error`,
`warning`, `ok`), json_path (parts joined by slashes), file, extra_cli_args, and data beside it.
`CKPT_NAME` in the extra arguments is the file of that name, with its suffix, among the
checkpoints. The command runs in this process, in the folder of the corpus.
"""

import argparse
import csv
import json
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.commands import zoo

SPELLINGS = {"--model-branch": "--branch"}
_ONE_STEP = (
    "training.numb_steps=1",
    "training.save_freq=1",
    "training.disp_freq=1",
    "learning_rate.decay_rate=0.9",
)
AT_THE_END = {"restart-steps-reached": [word for key in _ONE_STEP for word in ("--set", key)]}
"""The checkpoints here have done one step, which must be the last to show this fault; what would
be wrong with so short a run is set right."""
NOT_INSTALLED = {"tr-tensorboard-missing": "tensorboard"}
"""Packages that a case assumes to be missing; they are hidden while it runs."""


@dataclass(frozen=True)
class Case:
    """A row of the index."""

    slug: str
    verdict: str
    path: tuple[str, ...]
    file: str
    arguments: list[str]


@dataclass(frozen=True)
class Outcome:
    """What the validator said about a case."""

    case: Case
    verdict: str
    paths: list[tuple[str, ...]]
    errors: list[str]

    @property
    def verdict_agrees(self) -> bool:
        return self.verdict == self.case.verdict

    @property
    def path_agrees(self) -> bool:
        """Whether the first diagnostic of the expected severity is where it was expected."""
        if self.case.verdict == "ok" or not self.case.path:
            return True
        return self.paths[:1] == [self.case.path]


def read_index(folder: Path, checkpoints: Path | None) -> list[Case]:
    """Return the cases of a corpus."""
    with (folder / "index.tsv").open(encoding="utf-8", newline="") as stream:
        return [_case(row, checkpoints) for row in csv.DictReader(stream, delimiter="\t")]


def _case(row: dict[str, str], checkpoints: Path | None) -> Case:
    words = [] if row["extra_cli_args"].strip().startswith("[") else row["extra_cli_args"].split()
    arguments = [_checkpoint(word, checkpoints) for word in words]
    written = row["json_path"]
    whole = written in ("-", "file") or written.startswith("line ")
    path = () if whole else tuple(SPELLINGS.get(part, part) for part in written.split("/"))
    arguments += AT_THE_END.get(row["slug"], [])
    return Case(row["slug"], row["ideal_verdict"], path, row["file"], arguments)


def _checkpoint(word: str, checkpoints: Path | None) -> str:
    if not word.startswith("CKPT_") or checkpoints is None:
        return word
    found = sorted(checkpoints.glob(f"{word}.*"))
    return str(found[0].resolve()) if found else word


def run(case: Case, more: Sequence[str] = ()) -> Outcome:
    """Return what the command says about a case."""
    with pytest.MonkeyPatch.context() as patched:
        if case.slug in NOT_INSTALLED:
            patched.setitem(sys.modules, NOT_INSTALLED[case.slug], None)  # type: ignore[misc]
        result = zoo("validate", case.file, "--json", *case.arguments, *more)
    found = json.loads(result.stdout)["files"][0]["diagnostics"]
    severities = {item["severity"] for item in found}
    verdict = next((kind for kind in ("error", "warning") if kind in severities), "ok")
    wanted = [item for item in found if item["severity"] == case.verdict] or found
    paths = [tuple(map(str, item["path"])) for item in wanted]
    shown = "error" if case.verdict != "warning" else verdict
    errors = [
        f"{'/'.join(map(str, item['path']))}: {item['code']} {item['message']}"
        for item in found
        if item["severity"] == shown
    ]
    return Outcome(case, verdict, paths, errors)


def report(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Yield a line about each case that is not as the index says, and the counts."""
    for item in outcomes:
        if not item.verdict_agrees:
            yield f"VERDICT {item.case.slug}: {item.verdict}, expected {item.case.verdict}"
        elif not item.path_agrees:
            found = "/".join(item.paths[0]) if item.paths else "nothing"
            yield f"PATH    {item.case.slug}: {found}, expected {'/'.join(item.case.path)}"
        elif len(item.errors) > 1:
            yield f"EXTRA   {item.case.slug}"
        else:
            continue
        yield from (f"          {line}" for line in item.errors)
    number = len(outcomes)
    verdicts = sum(item.verdict_agrees for item in outcomes)
    paths = sum(item.verdict_agrees and item.path_agrees for item in outcomes)
    extra = sum(len(item.errors) > 1 for item in outcomes)
    yield (
        f"verdict right: {verdicts}/{number}; first path right: {paths}/{number}; "
        f"with more than one error: {extra}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the corpus and print what is not as it says; 1 if a verdict differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--checkpoints", type=Path)
    parser.add_argument("--only", help="slugs that contain this text", default="")
    parser.add_argument("--extra", default="", help="more arguments of `zoo validate`")
    chosen = parser.parse_args(arguments)
    checkpoints = chosen.checkpoints.resolve() if chosen.checkpoints else None
    cases = read_index(chosen.folder, checkpoints)
    os.chdir(chosen.folder)
    more = shlex.split(chosen.extra)
    outcomes = [run(case, more) for case in cases if chosen.only in case.slug]
    sys.stdout.write("\n".join(report(outcomes)) + "\n")
    return 0 if all(item.verdict_agrees for item in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
