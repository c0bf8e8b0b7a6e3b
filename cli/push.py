"""`zoo push`: a trained model and its card to Hugging Face."""

from pathlib import Path
from typing import Annotated

import typer

from cli.options import FileArgument, Json, Quiet
from cli.output import Output


def push(
    model: FileArgument,
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Repository; made if missing.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Send nothing; write the card and list the files.")
    ] = False,
    card: Annotated[
        Path, typer.Option("--card", metavar="FILE", help="Where --dry-run writes the card.")
    ] = Path("MODEL_CARD.md"),
    private: Annotated[
        bool, typer.Option("--private", help="Make a new repository private.")
    ] = False,
    revision: Annotated[
        str | None, typer.Option("--revision", help="Branch of the repository; made if missing.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", "--license", help="Such as CC-BY-4.0.")
    ] = None,
    description: Annotated[
        str | None, typer.Option("--description", help="A sentence: what the model is for.")
    ] = None,
    citation: Annotated[
        str | None, typer.Option("--citation", help="What to cite besides the architecture.")
    ] = None,
    training_input: Annotated[
        Path | None, typer.Option("--input", metavar="FILE", help="The training input.")
    ] = None,
    metrics: Annotated[
        Path | None, typer.Option("--metrics", metavar="FILE", help="Output of `zoo test --json`.")
    ] = None,
    json_mode: Json = False,
    quiet: Quiet = False,
) -> None:
    """Upload a trained model with a generated card to Hugging Face.

    A zoo.lock beside the model is sent along: look at it first with --dry-run.

    Example: zoo push model.pt me/water-dpa2 --licence CC-BY-4.0 --metrics test.json
    """
    from zoo.push import prepare
    from zoo.push import push as send

    out = Output(json_mode=json_mode, quiet=quiet)
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
        out.result({**document, "pushed": False, "card": str(card)})
        for name, size in upload.sizes.items():
            out.text(f"{size:>13,} bytes  {name}")
        out.info(f"nothing was sent; the card is in {card}")
        return
    out.info(f"sending {sum(upload.sizes.values()):,} bytes to {repo}")
    bars = out.console().is_terminal and not (quiet or json_mode)
    address = send(upload, private=private, bars=bars)
    out.result({**document, "pushed": True, "commit": address})
    out.text(address)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(push)
