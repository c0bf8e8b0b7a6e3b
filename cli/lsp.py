"""`zoo lsp`: the language server for editors."""

import importlib.util

import typer


def lsp() -> None:
    """Serve an editor over standard input and output (Language Server Protocol)."""
    if importlib.util.find_spec("pygls") is None:
        from schemas.errors import ConfigError

        raise ConfigError(
            "the language server needs the package pygls, which is not installed",
            hint="install it: pip install 'dpa-zoo[lsp]'",
        )
    from cli.language_server.server import create_server

    create_server().start_io()


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("lsp")(lsp)
