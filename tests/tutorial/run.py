"""Run the tutorial; `python -m tests.tutorial.run` shows the output of that run in it."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.tutorial.text import ROOT, TUTORIAL, matched, steps


def prepare(folder: Path) -> dict[str, str]:
    """Put the examples into a folder; return the environment in which `zoo` is found."""
    (folder / "examples").symlink_to(ROOT / "examples")
    (folder / "benchmarks").symlink_to(ROOT / "benchmarks")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # Unbuffered: results and messages share a pipe and are compared in the order of writing.
    return os.environ | {
        "PATH": path,
        "NO_COLOR": "1",
        "COLUMNS": "100",
        "PYTHONUNBUFFERED": "1",
    }


def execute(commands: str, folder: Path, environment: dict[str, str]) -> list[str]:
    """Run commands in a shell that stops at the first failure; return the lines they print.

    Raises:
        AssertionError: One fails.
    """
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{commands}\n{done.stdout}"
    return done.stdout.splitlines()


def main() -> None:
    """Rewrite the shown output; lines that no longer appear are reported and stay."""
    text = TUTORIAL.read_text(encoding="utf-8")
    changes = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = prepare(folder)
        for step in steps(text):
            sys.stderr.write(f"$ {step.commands}")
            printed = execute(step.commands, folder, environment)
            sys.stderr.write("\n".join(printed) + "\n")
            if step.place is None:
                continue
            lines = []
            for shown, found in matched(step.shown, printed):
                if found is None:
                    sys.stderr.write(f"!! no such line any more: {shown}\n")
                lines.append((found if found is not None else shown).rstrip())
            changes.append((step.place, "".join(f"{line}\n" for line in lines)))
    for (start, end), lines in reversed(changes):
        text = text[:start] + lines + text[end:]
    TUTORIAL.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
