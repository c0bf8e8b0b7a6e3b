"""How the parameters of functions become options, and the options that several commands share.

The parameters of a function are its options. One whose type is a data class stands for the options
that are the fields of that class, in its place; `*words` are what is left of a command line. What a
function returns is its result: printed under `--json`, with exit code 1 where it is not `ok`.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer
from typer import Argument, Option

from cli.output import Output, transfer_progress
from schemas.base.errors import ZooError

Document = dict[str, Any]
Command = Callable[..., Document | None]


@dataclass(frozen=True, slots=True)
class Group:
    """Commands under one name.

    Args:
        help: What the page of the group says.
        commands: The functions, by name.
    """

    help: str
    commands: Mapping[str, Command]


def add_commands(app: typer.Typer, commands: "Mapping[str, Command | Group]") -> None:
    """Add commands and groups of commands to an application, in order."""
    for name, entry in commands.items():
        if isinstance(entry, Group):
            inner = typer.Typer(help=entry.help, no_args_is_help=True)
            add_commands(inner, entry.commands)
            app.add_typer(inner, name=name)
            continue
        takes_words = any(
            parameter.kind is parameter.VAR_POSITIONAL
            for parameter in inspect.signature(entry).parameters.values()
        )
        as_given = {"allow_extra_args": True, "ignore_unknown_options": True}
        app.command(name, context_settings=as_given if takes_words else None)(_taken_apart(entry))


def _taken_apart(function: Command) -> Callable[..., None]:
    """Return a function with all options as parameters of its own, which is what Typer looks at."""
    parameters = inspect.signature(function).parameters.values()
    groups: dict[str, Any] = {
        one.name: one.annotation for one in parameters if is_dataclass(one.annotation)
    }

    def call(**given: Any) -> None:
        words = given.pop("context").args if "context" in given else ()
        for name, group in groups.items():
            given[name] = group(
                **{key: given.pop(key) for key in inspect.signature(group).parameters}
            )
        document = function(*words, **given)
        if document is not None:
            next(one for one in given.values() if isinstance(one, Output)).result(document)
            if not document["ok"]:
                raise typer.Exit(1)

    options = [parameter for one in parameters for parameter in _options(one)]
    call.__doc__ = function.__doc__
    call.__annotations__ = {option.name: option.annotation for option in options}
    call.__dict__["__signature__"] = inspect.Signature(options)
    return call


def _options(parameter: inspect.Parameter) -> Iterator[inspect.Parameter]:
    """Yield the options that a parameter stands for."""
    if parameter.kind is parameter.VAR_POSITIONAL:
        yield inspect.Parameter("context", parameter.KEYWORD_ONLY, annotation=typer.Context)
    elif is_dataclass(parameter.annotation):
        group: Any = parameter.annotation
        for option in inspect.signature(group).parameters.values():
            yield option.replace(kind=parameter.KEYWORD_ONLY)
    else:
        yield parameter.replace(kind=parameter.KEYWORD_ONLY)


Reference = TypeVar("Reference", str, Path, str | None)


def complete_model(incomplete: str) -> Iterator[tuple[str, str]]:
    """Yield the names that go on from what was typed, each with what the model is.

    They are those of the registries on this machine, never of the network.
    """
    from zoo.known_models import known_models

    try:
        models = known_models().models
    except ZooError:
        return  # a shell waits for names, not for an explanation
    start = incomplete.lower()
    for known in models:
        for name in dict.fromkeys((*known.model.names, known.model.reference)):
            # `NAME@` lists revisions; without it a name that has several is enough
            if name.lower().startswith(start) and (("@" in name) == ("@" in incomplete)):
                yield name, known.model.description


def complete_registry(incomplete: str) -> Iterator[str]:
    """Yield the names of the user's registries."""
    from zoo.registry import user_registries

    try:
        names = [registry.name for registry in user_registries()]
    except ZooError:
        return
    yield from (name for name in names if name.startswith(incomplete))


def find_model(reference: Reference) -> Reference:
    """Return the file of a model that a command line names; fetch it if it is not here.

    Args:
        reference: A path, a registered name, `name@revision`, or an address
            (`zoo.resolve.parse_reference`); None stays None.

    Raises:
        RegistryError: When it is none of these, or is known not to be a DPA-2 model.
        TransferError: When it cannot be fetched.
    """
    return reference if reference is None else type(reference)(_file_of(reference))


def find_file(reference: Path) -> Path:
    """Return the same for a command that copies a model and computes nothing: any family will do.

    Raises:
        As `find_model`.
    """
    return _file_of(reference, any_family=True)


def _file_of(reference: str | Path, *, any_family: bool = False) -> Path:
    from zoo.resolve import LocalPath, model_file, parse_reference

    # as a path, an address has lost one of its two slashes
    text = re.sub(r"^([A-Za-z][A-Za-z0-9+.\-]+):/(?=[^/])", r"\1://", str(reference))
    if isinstance(parse_reference(text), LocalPath):
        return model_file(text)
    with transfer_progress(Output()) as progress:
        return model_file(text, progress=progress, any_family=any_family)


def keep(path: Path, *, force: bool, error: type[ZooError] = ZooError) -> None:
    """Refuse to write over a file, with this kind of error, unless `--force` is given."""
    if path.exists() and not force:
        raise error(
            f"{path} is there already", hint="name another file, or add --force to replace it"
        )


def with_suffix(path: Path) -> Path:
    """Return a path, or the one with `.pt` behind it where only that exists, as with `dp`."""
    other = path.parent / f"{path.name}.pt"
    return other if other.exists() and not path.exists() else path


def split_name(entry: str) -> tuple[str | None, str]:
    """Return the name and the file of `NAME=FILE`; a file whose own name has `=` in it has none."""
    name, _, file = entry.partition("=")
    return (None, entry) if not file or Path(entry).exists() else (name, file)


def split_branch(entry: str) -> tuple[str, str | None]:
    """Return the model and the branch of `MODEL[:BRANCH]`; a file whose own name has `:` has none.

    A `:` before a `/` is one of an address.
    """
    model, _, branch = entry.rpartition(":")
    if not model or not branch or "/" in branch or Path(entry).exists():
        return entry, None
    return model, branch


def numbers(option: str, text: str | None) -> list[float] | None:
    """Return the numbers of an option's text, `1.0,2.0`.

    Raises:
        typer.BadParameter: If it is something else.
    """
    if text is None:
        return None
    try:
        return [float(word) for word in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"{option} {text}: write numbers with commas, 1.0,2.0") from error


def names_of(text: str | None) -> list[str] | None:
    """Return the names in `'O H'` or `O,H`."""
    return None if text is None else text.replace(",", " ").split()


Model = Annotated[
    str,
    Option(
        "--model",
        "-m",
        callback=find_model,
        help="Checkpoint (.pt), frozen model (.pth, .pt2, .savedmodel, .hlo), name or address.",
        autocompletion=complete_model,
    ),
]


def model_argument(
    help: str = "Checkpoint (.pt), name or address of a pretrained model.",  # noqa: A002
    find: Callable[[Path], Path] | None = None,
    metavar: str = "MODEL",
) -> Any:
    """Return an argument that names a model, fetched by `find`, or left as it is written."""
    return Argument(metavar=metavar, callback=find, help=help, autocompletion=complete_model)


ModelArgument = Annotated[Path, model_argument(find=find_model)]
FileArgument = Annotated[Path, model_argument(find=find_file)]
Branch = Annotated[
    str | None, Option("--branch", "--head", help="Branch of a multi-task model: name or alias.")
]
Offline = Annotated[bool, Option("--offline", help="Use only what is on this machine.")]
Device = Annotated[str, Option("--device", help="cpu, cuda, cuda:1 ...")]


def dtype_option(help: str) -> Any:  # noqa: A002
    """Return an option that names a precision, which is None for `auto`."""
    return Option("--dtype", callback=lambda name: None if name == "auto" else name, help=help)


DtypeName = Literal["auto", "float32", "float64"] | None
Dtype = Annotated[
    DtypeName, dtype_option("Compute in float32 or float64; auto: in the model's own precision.")
]
Replace = Annotated[bool, Option("--force", "-f", help="Replace a file that is there.")]
Strict = Annotated[
    bool, Option("--strict", help="Stop at the first frame that cannot be evaluated.")
]
Overrides = Annotated[
    list[str] | None,
    Option("--set", metavar="KEY=VALUE", help="Change a key: --set training.numb_steps=1000."),
]
FrameParameters = Annotated[str | None, Option("--fparam", help="Frame parameters, as 1.0,2.0")]
DataPaths = Annotated[list[str], Argument(metavar="PATH...", help="Folders, HDF5 or LMDB.")]


Unit = Literal["eV/A^3", "GPa", "kbar", "bar", "-eV/A^3", "-GPa", "-kbar", "-bar"]
"""Units of stress; a minus counts compression positive, as VASP prints it."""

_KEY = "KEY"
EnergyKey = Annotated[
    str | None,
    Option(
        "--energy-key",
        metavar=_KEY,
        help="Key of the energy (eV) in ASE's formats; none: no energy.",
    ),
]
ForcesKey = Annotated[
    str | None,
    Option("--forces-key", metavar=_KEY, help="Key of the forces (eV/Å); none: no forces."),
]
StressKey = Annotated[
    str | None,
    Option("--stress-key", metavar=_KEY, help="Key of the stress or virial (eV); none: no virial."),
]
StressUnit = Annotated[
    Unit | None,
    Option(
        "--stress-unit",
        help="Unit of the stress, tension positive; with a minus, compression. Default: eV/A^3.",
    ),
]
FormatName = Annotated[
    str | None,
    Option(
        "--from", metavar="FMT", help="Format, if name and content do not tell (dpdata's, ASE's)."
    ),
]
TypeNames = Annotated[
    str | None,
    Option(
        "--type-map",
        metavar="'O H'",
        help="Elements of the types 1, 2, ... of files that do not name them.",
    ),
]

SkipNeighborStat = Annotated[
    bool,
    Option(
        "--skip-neighbor-stat",
        help="As deepmd-kit's: numbers of neighbours are not taken from the data, nor is their "
        "shortest distance (zoo freeze --compress asks for it).",
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
