"""`zoo push`, `bundle` and `serve`: models for other people and machines."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from cli.options import Document, FileArgument, Offline
from cli.output import MessageOutput, Output
from schemas.base import environment

if TYPE_CHECKING:
    from zoo.server import MirrorServer, Served


def push(
    *,
    model: FileArgument,
    repo: Annotated[str, Argument(metavar="OWNER/NAME", help="Repository; made if missing.")],
    dry_run: Annotated[
        bool, Option("--dry-run", help="Send nothing; write the card and list the files.")
    ] = False,
    card: Annotated[
        Path, Option("--card", metavar="FILE", help="Where --dry-run writes the card.")
    ] = Path("MODEL_CARD.md"),
    private: Annotated[bool, Option("--private", help="Make a new repository private.")] = False,
    revision: Annotated[
        str | None, Option("--revision", help="Branch of the repository; made if missing.")
    ] = None,
    licence: Annotated[
        str | None, Option("--licence", "--license", help="Such as CC-BY-4.0.")
    ] = None,
    description: Annotated[
        str | None, Option("--description", help="A sentence: what the model is for.")
    ] = None,
    citation: Annotated[
        str | None, Option("--citation", help="What to cite besides the architecture.")
    ] = None,
    training_input: Annotated[
        Path | None, Option("--input", metavar="FILE", help="The training input.")
    ] = None,
    metrics: Annotated[
        Path | None, Option("--metrics", metavar="FILE", help="Output of `zoo test --json`.")
    ] = None,
    out: Output,
) -> Document:
    """Upload a trained model with a generated card to Hugging Face.

    A zoo.lock beside the model is sent along: look at it first with --dry-run.

    Example: zoo push model.pt me/water-dpa2 --licence CC-BY-4.0 --metrics test.json
    """
    from zoo.push import prepare
    from zoo.push import push as send

    upload = prepare(
        model,
        repo,
        revision=revision,
        licence=licence,
        description=description,
        citation=citation,
        training_input=training_input,
        metrics=metrics,
    )
    document = {"ok": True, "repo": repo, "revision": revision, "files": upload.sizes}
    if licence is None:
        out.warning("without a --licence nobody may use the model")
    if dry_run:
        upload.write_card(card)
        for name, size in upload.sizes.items():
            out.text(f"{size:>13,} bytes  {name}")
        out.info(f"nothing was sent; the card is in {card}")
        return {**document, "pushed": False, "card": card}
    out.info(f"sending {sum(upload.sizes.values()):,} bytes to {repo}")
    bars = out.console().is_terminal and not (out.quiet or out.json_mode)
    address = send(upload, private=private, bars=bars)
    out.text(address)
    return {**document, "pushed": True, "commit": address}


def bundle(
    *,
    models: Annotated[
        list[str], Argument(metavar="MODEL...", help="Names, addresses or checkpoints.")
    ],
    output: Annotated[
        Path,
        Option("--output", "-o", metavar="FOLDER|FILE.tar", help="Where the bundle goes."),
    ],
    branch: Annotated[
        str | None,
        Option(
            "--branch",
            "--head",
            help="Only this branch of a multi-task model; no more than it needs is fetched.",
        ),
    ] = None,
    offline: Offline = False,
    out: Output,
) -> Document:
    """Write models, their cards and a registry into a folder or an archive to carry elsewhere.

    There: `zoo registry add FOLDER`, or `zoo serve FOLDER` for a whole network. Models are added
    to a bundle that is in the folder already. The bytes of an archive depend on the models only.

    Example: zoo bundle DPA-2.4-7M my_model.pt -o models.tar
    """
    import tempfile

    from cli.output import transfer_progress
    from zoo.bundle import bundle as write
    from zoo.bundle import model_to_bundle

    offline = offline or environment.is_offline()
    with tempfile.TemporaryDirectory(prefix="zoo-bundle-") as folder:
        with transfer_progress(out) as progress:
            chosen = [
                model_to_bundle(model, branch, Path(folder), progress=progress, offline=offline)
                for model in models
            ]
        with out.status("writing"):
            made = write(chosen, output)
    names = ", ".join(model.name for model in made.models)
    out.text(f"{made.place}: {names} ({made.size:,} bytes written)")
    if output.suffix == ".tar":
        out.info(
            f"there: mkdir models && tar -xf {output.name} -C models && zoo registry add models"
        )
    else:
        out.info(f"there: zoo registry add {output}, or for a network: zoo serve {output}")
    return {
        "ok": True,
        "bundle": made.place,
        "files": made.files,
        "size": made.size,
        "models": [model.model_dump(mode="json") for model in made.models],
    }


_EVERYWHERE = {"0.0.0.0", "::", ""}  # noqa: S104 - compared with, not bound to


def serve(
    *,
    folder: Annotated[Path, Argument(metavar="FOLDER", help="Made by `zoo bundle`.")],
    host: Annotated[
        str,
        Option("--host", help="Address to listen at; 0.0.0.0: everyone on the network."),
    ] = "127.0.0.1",
    port: Annotated[int, Option("--port", min=0, max=65535, help="0: a free one.")] = 8765,
    out: MessageOutput,
) -> None:
    """Serve a bundle to other machines, until Ctrl-C; interrupted downloads go on.

    Example: zoo serve models/ --host 0.0.0.0
    """
    from zoo.bundle import REGISTRY
    from zoo.server import MirrorServer

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
    from zoo.transfer.remote import is_loopback

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
