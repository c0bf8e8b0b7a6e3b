"""`zoo lock` and `zoo reproduce`: all that decides a run, written down and checked."""

import os
import shlex
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from cli import VERSION
from cli.options import Command, Document, add_commands, find_model
from cli.output import JsonOutput, Output
from cli.train import finetune, train
from schemas.base.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemas.input.root import Input, MultiTaskInput
    from schemas.input.start import Start
    from schemas.input.training import DataSection
    from schemas.lock import Lock, LockedData


_TRAINING: dict[str, Command] = {"train": train, "finetune": finetune}
_STARTS = ("model", "finetune", "init_model", "restart")
"""Parameters that name a checkpoint, of either command."""


def lock(
    *command: str,
    output: Annotated[Path, Option("--output", "-o", metavar="FILE", help="The lock file.")] = Path(
        "zoo.lock"
    ),
    result: Annotated[
        Path | None,
        Option("--result", metavar="CKPT", help="The checkpoint that came out of it."),
    ] = None,
    out: JsonOutput,
) -> Document:
    """Write down all that decides a run: input, data, model, branch, seeds, versions.

    The run is given as its command; options of zoo lock come before it.

    Example: zoo lock --result model.ckpt.pt finetune input.json --model DPA2_water_tiny
    """
    from schemas.base.writing import write_json
    from schemas.checkpoint.header import read_header

    if result is not None:
        read_header(result)  # the lock would name what no run has written
    found = _lock([*command], result)
    write_json(output, found.model_dump(), indent=2)
    out.text(f"{output}: {_summary(found)}")
    for place, seed in found.seeds.items():
        if seed is None:
            out.warning(f"{place} is not set: every run draws its own numbers")
    return {"ok": True, "file": output, **found.model_dump()}


def reproduce(
    *,
    lock_file: Annotated[Path, Argument(metavar="LOCK")] = Path("zoo.lock"),
    run: Annotated[bool, Option("--run", help="Train again, and compare the checkpoint.")] = False,
    output_dir: Annotated[
        Path,
        Option("--output-dir", metavar="FOLDER", help="Where the new run writes."),
    ] = Path("reproduced"),
    out: JsonOutput,
) -> Document:
    """Check that input, data, model and versions are those of a lock file; train again.

    A checkpoint is the same to the last bit on the same kind of machine with the same versions.
    """
    from schemas.lock import differences, read_lock

    locked = read_lock(lock_file)
    found = differences(locked, _lock(locked.command, None))
    same = all(item.weight != "error" for item in found)
    if found:
        rows = [(f"{x.what} {x.where}".strip(), x.locked, x.found, x.weight) for x in found]
        out.table("", ("differs", "locked", "here", "weight"), rows)
    document: dict[str, Any] = {
        "ok": same,
        "command": locked.command,
        "differences": [asdict(item) for item in found],
    }
    if same and run:
        document |= _run(out, locked, output_dir)
    elif same:
        out.text(f"the same run; start it with: zoo reproduce {shlex.quote(str(lock_file))} --run")
    return document


def _lock(command: list[str], result: Path | None) -> "Lock":
    """Return the lock of a training command, for what is there now."""
    from schemas.check.input_file import check_file, checked
    from schemas.input.root import normalized
    from schemas.lock import (
        Lock,
        LockedInput,
        LockedModel,
        LockedResult,
        canonical_sha256,
        model_sha256,
        seeds,
        versions,
    )

    given = _parsed(command)
    option = next((name for name in _STARTS if given.get(name)), None)
    model, start = None, None
    if option is not None:
        reference = str(given[option])
        file = find_model(reference)
        digest = model_sha256(Path(file))
        model = LockedModel(reference=reference, branch=given.get("branch"), sha256=digest)
        start = _start(option, file, given)
    path = str(given["input_file"])
    config = checked(check_file(path, given.get("overrides") or [], start))
    content = normalized(config)
    return Lock(
        command=command,
        made_with=versions(VERSION),
        input=LockedInput(path=path, sha256=canonical_sha256(content), content=content),
        seeds=seeds(content),
        model=model,
        data=_locked_data(config),
        result=None
        if result is None
        else LockedResult(path=str(result), sha256=model_sha256(result)),
    )


def _parsed(command: list[str]) -> dict[str, Any]:
    """Return the parameters of a training command as they are written on the command line."""
    if not command or command[0] not in _TRAINING:
        raise typer.BadParameter(
            f"say how the run was started: zoo lock {' or '.join(_TRAINING)} INPUT ..."
        )
    app = typer.Typer()
    add_commands(app, _TRAINING)
    known: Any = typer.main.get_command(app)
    parser = known.commands[command[0]]
    context = parser.make_context(command[0], list(command[1:]))  # says what is wrong with them
    given, _, _ = parser.make_parser(context).parse_args(list(command[1:]))
    return dict(given)


def _start(option: str, file: str, given: dict[str, Any]) -> "Start":
    """Return the checkpoint that a run starts from, as the checks of an input need it."""
    from cli.input_check import read_start

    named: dict[str, Any] = {"finetune" if option == "model" else option: file}
    start, faults = read_start(
        **named,
        branch=given.get("branch"),
        use_pretrain_script=bool(given.get("use_pretrain_script")),
    )
    if start is None:
        raise CheckpointError(faults[0].message, hint=faults[0].hint)
    return start


def _run(out: Output, locked: "Lock", folder: Path) -> dict[str, Any]:
    """Train again into a folder of its own; compare the checkpoint with that of the lock."""
    from schemas.lock import model_sha256

    command = [*locked.command, "--output-dir", str(folder)]  # of two, the last one counts
    out.info(f"zoo {shlex.join(command)}")
    words = [sys.executable, "-m", "cli.main", *command]
    kept_apart = subprocess.DEVNULL if out.json_mode else None  # one document on stdout, ours
    done = subprocess.run(words, stdout=kept_apart, check=False)  # noqa: S603 - our own program
    if done.returncode:
        raise typer.Exit(done.returncode)
    if locked.result is None:
        out.text("trained; the lock names no checkpoint to compare with (--result)")
        return {"ok": True, "result": None}
    path = folder / os.path.relpath(
        locked.result.path, _parsed(locked.command).get("output_dir") or os.curdir
    )
    digest = model_sha256(path)
    same = digest == locked.result.sha256
    out.text(
        f"{path}: "
        + ("the same to the last bit" if same else f"SHA-256 {digest}, not {locked.result.sha256}")
    )
    return {"ok": same, "result": {"path": path, "sha256": digest, "same": same}}


def _locked_data(config: "Input | MultiTaskInput") -> "list[LockedData]":
    """Return the fingerprint of every entry of `systems`.

    Raises:
        DataError: Data are missing or faulty.
    """
    from dpa2.data.system import fingerprint
    from dpa2.data.systems import open_systems
    from schemas.lock import LockedData

    found = []
    for place, section in _sections(config):
        for root in [section.systems] if isinstance(section.systems, str) else section.systems:
            systems = open_systems(root, None, section.rglob_patterns)
            frames = sum(system.num_frames for system in systems)
            mark = fingerprint(systems)
            found.append(
                LockedData(
                    section=place, path=root, systems=len(systems), frames=frames, sha256=mark
                )
            )
    return found


def _sections(config: "Input | MultiTaskInput") -> "Iterator[tuple[str, DataSection]]":
    from schemas.input.root import MultiTaskInput

    several = isinstance(config, MultiTaskInput)
    for name, branch in config.branches.items():
        place = f"training.data_dict.{name}" if several else "training"
        yield f"{place}.training_data", branch.data.training_data
        if branch.data.validation_data is not None:
            yield f"{place}.validation_data", branch.data.validation_data


def _summary(found: "Lock") -> str:
    """Return one line about a lock."""
    frames = sum(item.frames for item in found.data)
    line = f"input {found.input.sha256[:12]}, {frames} frames in {len(found.data)} places"
    if found.model is not None:
        line += f", {found.model.reference} {found.model.sha256[:12]}"
    return line + (f", result {found.result.sha256[:12]}" if found.result else "")
