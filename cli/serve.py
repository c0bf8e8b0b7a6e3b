"""`zoo serve`: a folder as a mirror on the local network."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import Quiet
from cli.output import Output

if TYPE_CHECKING:
    from zoo.server import MirrorServer, Served

_EVERYWHERE = {"0.0.0.0", "::", ""}  # noqa: S104 - compared with, not bound to


def serve(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Made by `zoo bundle`.")],
    host: Annotated[
        str,
        typer.Option("--host", help="Address to listen at; 0.0.0.0: everyone on the network."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: a free one.")] = 8765,
    quiet: Quiet = False,
) -> None:
    """Serve a bundle to other machines, until Ctrl-C; interrupted downloads go on.

    Example: zoo serve models/ --host 0.0.0.0
    """
    from zoo.bundle import REGISTRY
    from zoo.server import MirrorServer

    out = Output(quiet=quiet)
    server = MirrorServer(
        folder, host=host, port=port, report=lambda served: out.info(_line(served))
    )
    with server:
        if not (server.folder / REGISTRY).is_file():
            out.warning(
                f"{folder} has no {REGISTRY}: clients must know the names of the files; "
                "zoo bundle writes one"
            )
        _introduce(out, server, host)
        sys.stdout.flush()
        try:
            server.serve_forever(poll_interval=0.1)
        except KeyboardInterrupt:
            out.info("stopped")


def _introduce(out: Output, server: "MirrorServer", host: str) -> None:
    """Say what a client runs, and who can be one."""
    import socket

    from zoo.bundle import REGISTRY
    from zoo.transfer.client import is_loopback

    local = is_loopback(host)
    name = socket.gethostname() if host in _EVERYWHERE else host
    place = f"[{name}]" if ":" in name else name
    address = f"http://{place}:{server.port}/{REGISTRY}"
    out.text(f"zoo registry add {address}" if local else f"zoo registry add {address} --insecure")
    out.info(f"serving {server.folder}; a client runs the command above, then `zoo pull NAME`")
    if local:
        out.info("this machine only; --host 0.0.0.0 serves the network")
    else:
        out.warning(
            f"everyone who reaches {place} can read these files, and nothing is encrypted; "
            "clients compare hashes with a registry that came the same way"
        )


def _line(served: "Served") -> str:
    return (
        f"{served.client} {served.method} {served.path} {served.status} "
        f"{served.sent:,} bytes {served.seconds:.2f} s"
    )


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(serve)
