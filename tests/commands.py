"""The command line, run in this process."""

from click.testing import Result
from typer.testing import CliRunner

from cli.main import app


def outcome(*words: object, stdin: str | bytes | None = None) -> Result:
    """Return what became of `zoo WORDS`, with the exception that ended it."""
    return CliRunner().invoke(app, [str(word) for word in words], input=stdin)


def zoo(*words: object) -> Result:
    """Return the same; raise what `cli.main.main` makes a sentence of."""
    result = outcome(*words)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result
