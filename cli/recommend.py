"""`zoo recommend`: which branch of a multi-task model to start from."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.bad_frames import Strict, tell
from cli.options import Device, Json, Model, Quiet
from cli.output import Output
from cli.reading import EnergyKey, ForcesKey, label_keys

if TYPE_CHECKING:
    from dpa2.evaluate.recommendation import BranchFit, Recommendation


def recommend(
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA...",
            help="Labelled data: systems of deepmd-kit, or any format of dpdata or ASE.",
        ),
    ],
    model: Model,
    num_frames: Annotated[
        int, typer.Option("--frames", "-n", min=0, help="Frames to look at in all; 0: every frame.")
    ] = 32,
    all_forces: Annotated[
        bool,
        typer.Option("--all-forces", help="Compare forces on all of them, which takes longer."),
    ] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw the errors: .png, .pdf or .svg.")
    ] = None,
    energy_key: EnergyKey = None,
    forces_key: ForcesKey = None,
    strict: Strict = False,
    device: Device = "cpu",
    json_mode: Json = False,
    quiet: Quiet = False,
) -> None:
    """Rank the branches of a multi-task model by their errors on your labelled frames.

    An energy per element is fitted out first, as fine-tuning does. Branches that lack an element
    of the data come last. The score is the error relative to the best branch, over all energies
    and force components that were compared: 1 is best in both.

    Example: zoo recommend data/water -m DPA-2.4-7M.pt
    """
    from cli.progress import progress_bar, shown_warnings
    from dpa2.evaluate.figures import figure_format
    from dpa2.evaluate.recommend import recommend as compare_branches
    from dpa2.evaluate.recommendation_plot import plot_recommendation

    out = Output(json_mode=json_mode, quiet=quiet)
    if plot is not None:
        figure_format(plot)
    with shown_warnings(out), progress_bar(out, "frames", None) as advance:
        found = compare_branches(
            model,
            data,
            keys=label_keys(energy_key, forces_key, None, None),
            num_frames=num_frames or None,
            all_forces=all_forces,
            strict=strict,
            device=device,
            progress=advance,
        )
    for warning in found.warnings:
        out.warning(warning)
    if plot is not None:
        plot_recommendation(found, plot)
    out.result({"ok": not found.bad, "model": model, **found.to_json()})
    _print(out, model, found)
    if plot is not None:
        out.info(f"wrote {plot}")
    tell(out, found.bad)
    if found.bad:
        raise typer.Exit(1)


def _print(out: Output, model: str, found: "Recommendation") -> None:
    columns = ("branch", "score", "force RMSE (eV/Å)", "energy RMSE (eV/atom)", "remarks")
    title = (
        f"{found.num_frames} frames of {' '.join(found.elements)}: "
        f"energies of {found.num_energy_frames}, forces of {found.num_force_frames}"
    )
    out.table(title, columns, [_row(fit) for fit in found.branches])
    if found.num_descriptors > 1:
        out.info(f"the branches have {found.num_descriptors} descriptors; each was computed once")
    if 0 < found.num_force_frames < found.num_frames:
        out.info(
            "forces take a backward pass per branch: they were compared on as many frames as keep "
            "the cost near that of one branch; --all-forces takes all"
        )
    best = found.best
    if found.rivals:
        out.info(
            f"{', '.join(found.rivals)} did as well within 2 %: more frames may decide "
            "(--frames, --all-forces)"
        )
    if not best.is_covered:
        out.warning(f"no branch knows all elements of the data; {best.branch} knows the most")
    out.text(f"start from {best.branch}: zoo finetune input.json -m {model} --branch {best.branch}")


def _row(fit: "BranchFit") -> tuple[str, ...]:
    remarks = [fit.problem] if fit.problem else []
    if fit.unseen:
        remarks.append(f"never trained on {', '.join(fit.unseen)}")
    return (
        fit.branch,
        _number(fit.score, "{:.2f}"),
        _number(fit.force_rmse, "{:.4g}"),
        _number(fit.energy_rmse, "{:.4g}"),
        "; ".join(remarks) or "-",
    )


def _number(value: float | None, text: str) -> str:
    return "-" if value is None else text.format(value)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(recommend)
