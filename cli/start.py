"""The options that name a checkpoint to start from, and what they mean together."""

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from typer import Option

from cli.options import find_model

if TYPE_CHECKING:
    from schemas.base.diagnostics import Finding
    from schemas.check.report import Report
    from schemas.input.start import BiasMode, Start, StartOption

SkipNeighborStat = Annotated[
    bool,
    Option(
        "--skip-neighbor-stat",
        help="As deepmd-kit's: the numbers of neighbours are not taken from the data.",
    ),
]


@dataclass(frozen=True)
class StartOptions:
    """What the command line says about a checkpoint to start from, for a check without torch."""

    finetune: Annotated[
        str | None,
        Option(
            "--finetune", metavar="FILE", callback=find_model, help="Check that FILE fine-tunes."
        ),
    ] = None
    restart: Annotated[
        str | None, Option("--restart", metavar="FILE", help="Check that FILE continues.")
    ] = None
    init_model: Annotated[
        str | None,
        Option(
            "--init-model",
            metavar="FILE",
            callback=find_model,
            help="Check that FILE's weights are a start.",
        ),
    ] = None
    branch: Annotated[
        str | None,
        Option(
            "--branch",
            "--head",
            "--model-branch",
            metavar="NAME",
            help="Branch of FILE to fine-tune.",
        ),
    ] = None
    use_pretrain_script: Annotated[
        bool, Option("--use-pretrain-script", help="Take the networks' sections from FILE.")
    ] = False


def read_start(
    *,
    finetune: str | None = None,
    restart: str | None = None,
    init_model: str | None = None,
    branch: str | None = None,
    use_pretrain_script: bool = False,
    bias_mode: "BiasMode | None" = None,
) -> "tuple[Start | None, list[Finding]]":
    """Return the checkpoint to start from, and what is wrong with the options or the file."""
    from schemas.base.diagnostics import Finding
    from schemas.base.errors import CheckpointError
    from schemas.input.start import Start

    named: dict[StartOption, str | None] = {
        "--finetune": finetune,
        "--restart": restart,
        "--init-model": init_model,
    }
    given = [option for option, file in named.items() if file is not None]
    if len(given) > 1:
        message = f"{' and '.join(given)} exclude each other"
        hint = "--restart continues a run, --finetune and --init-model begin one"
        return None, [Finding("ZOO620", (given[-1],), message, hint)]
    option = given[0] if given else None
    needs = {
        "--branch": (branch and option is None, ("--finetune",)),  # else ZOO611 says so
        "--use-pretrain-script": (use_pretrain_script, ("--finetune", "--init-model")),
        "--bias-mode": (bias_mode, ("--finetune",)),
    }
    idle = [
        Finding(
            "ZOO620",
            (name,),
            f"{name} says nothing without {' or '.join(partners)} FILE",
            severity="warning",
        )
        for name, (is_given, partners) in needs.items()
        if is_given and option not in partners
    ]
    file = named[option] if option is not None else None
    if option is None or file is None:
        return None, idle
    from schemas.checkpoint.header import read_header

    try:
        header = read_header(file)
    except OSError as error:
        message = f"{file}: {error.strerror or error}"
        return None, [Finding("ZOO621", (option,), message, "give the path of a .pt checkpoint")]
    except CheckpointError as error:
        return None, [Finding("ZOO621", (option,), error.message, error.hint)]
    start = Start(
        option=option,
        file=file,
        model_params=header.model_params,
        steps=header.steps,
        settings=header.settings,
        last_rate=header.last_rate,
        frames=header.frames,
        has_optimizer=header.has_optimizer,
        branch=branch,
        use_pretrain_script=use_pretrain_script,
        bias_mode=bias_mode,
    )
    return start, idle


def without_neighbors(report: "Report") -> "Report":
    """Return a report that refuses selections that `--skip-neighbor-stat` leaves undecided."""
    from schemas.base.diagnostics import Finding
    from schemas.input.differences import auto_selections
    from schemas.input.view import UnusableError

    findings = []
    for target in report.targets:
        with suppress(UnusableError):
            for parts in auto_selections(target.sound.model.descriptor):
                message = (
                    f"`{parts[-1]}` is to be taken from the data; --skip-neighbor-stat forbids that"
                )
                hint = "leave the option out, or write a number"
                path = target.path("model", *parts)
                findings.append(Finding("ZOO361", path, message, hint))
    return report.extend(findings)
