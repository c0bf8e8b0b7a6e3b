"""The command line, run in this process."""

import contextlib
import io
import json
from typing import Any

from click.testing import Result
from typer.testing import CliRunner

from cli.main import app, report_error


def outcome(*words: object, stdin: str | bytes | None = None) -> Result:
    """Return what became of `zoo WORDS`, with the exception that ended it."""
    return CliRunner().invoke(app, [str(word) for word in words], input=stdin)


def zoo(*words: object) -> Result:
    """Return the same; raise what `cli.main.main` makes a sentence of."""
    result = outcome(*words)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def document(*words: object, code: int = 0) -> dict[str, Any]:
    """Return what `zoo WORDS --json` prints; its exit code must be this one."""
    result = zoo(*words, "--json")
    assert result.exit_code == code, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def answer(*words: object) -> tuple[int, str]:
    """Return the exit code of `zoo WORDS` and all that it said, with the error that ended it.

    Raises:
        Exception: A fault of ours, for which the command has no sentence.
    """
    result = outcome(*words)
    error = result.exception
    if error is None or isinstance(error, SystemExit):
        return result.exit_code, result.output
    told = io.StringIO()  # takes any character, as stderr does
    with contextlib.redirect_stderr(told):
        code = report_error(error, json_mode=False)
    if "this is a bug of zoo" in told.getvalue():
        raise error
    return code, result.output + told.getvalue()
