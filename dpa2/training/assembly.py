"""The branches of a run, put together: data, model, loss (docs/deepmd-format.md, 1.9)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from dpa2.data.sampler import Sampler
from dpa2.data.system import System
from dpa2.data.systems import open_systems
from dpa2.model.build import build_model
from dpa2.model.layers import mix
from dpa2.training.drawn_frames import resolve_auto_nsel
from dpa2.training.loss import EnergyLoss
from dpa2.training.task import BatchBuilder, BatchStream, Task
from schemas.base.errors import DataError
from schemas.checkpoint.branch_names import SINGLE_TASK_BRANCH
from schemas.input.root import Input, Link, MultiTaskInput, normalized


def seed_global_generator(seed: Any) -> None:
    """Seed torch's generator, from which layers without a seed of their own draw, as deepmd-kit.

    Without a seed the generator starts anywhere: torch's default one differs in every process.
    """
    if seed is not None:
        torch.manual_seed(mix([0, *seed] if isinstance(seed, list) else [0, seed]))


def stream_seed(seed: Any, stream: int) -> int | None:
    """Return the seed of a stream of random numbers; None stays random."""
    if seed is None:
        return None
    number = seed[0] if isinstance(seed, list) else seed
    return int(number) if stream == 0 else int(number) * 2654435761 % 2**32 + stream


def assemble(
    config: Input | MultiTaskInput, device: torch.device, say: Callable[[str], None]
) -> dict[str, Task]:
    """Open the data and build the models of all branches.

    Args:
        config: The checked input.
        device: Where the models go.
        say: Receives what the samplers have to warn of.

    Raises:
        DataError: When data cannot be used.
        ConfigError: When a model cannot be built.
    """
    branches = config.branches
    systems = {
        name: open_systems(
            branch.data.training_data.systems,
            branch.model.type_map,
            branch.data.training_data.rglob_patterns,
        )
        for name, branch in branches.items()
    }
    seed = config.training.seed
    start_lr = float(config.learning_rate.start_lr)
    found = {}
    for number, (name, branch) in enumerate(branches.items()):
        partners = _partners(name, config.links)
        model_config = resolve_auto_nsel(
            branch.model, [system for partner in partners for system in systems[partner]]
        )
        model = build_model(model_config).to(device)
        if model.fitting.dim_case and isinstance(config, MultiTaskInput):
            model.fitting.case_embd.zero_()[sorted(branches).index(name)] = 1.0
        loss = EnergyLoss(branch.loss, start_lr, rounds_factors=True)
        builder = BatchBuilder(model, loss)
        stream = stream_seed(seed, 2 * number)
        sampler = _sampler(branch.data.training_data, systems[name], builder, stream)
        for warning in sampler.warnings:
            say(warning)
        _say_what_teaches_nothing(sampler.systems, loss, say)
        validation = None
        if branch.data.validation_data is not None:
            data = branch.data.validation_data
            opened = open_systems(data.systems, model_config.type_map, data.rglob_patterns)
            drawn = _sampler(data, opened, builder, stream_seed(seed, 2 * number + 1))
            validation = BatchStream(drawn, builder)
        params = normalized(model_config)
        batches = BatchStream(sampler, builder)
        found[name] = Task(branch, model, loss, batches, validation, params, stream)
    return found


def joined_model_params(
    config: Input | MultiTaskInput, tasks: Mapping[str, Task]
) -> dict[str, Any]:
    """Return the `model` section of a checkpoint, as deepmd-kit lays it out.

    docs/deepmd-format.md, 4.1, 4.5.
    """
    sections = {name: task.model_params for name, task in tasks.items()}
    if isinstance(config, MultiTaskInput):
        return {"shared_dict": config.shared_dict, "model_dict": sections}
    return sections[SINGLE_TASK_BRANCH]


def _partners(name: str, links: Sequence[Link]) -> list[str]:
    """Return the branches whose descriptor is this one's, itself among them, in a fixed order."""
    shared = [link for link in links if link.component == "descriptor" and link.level == 0]
    groups = {link.owner for link in shared if link.branch == name}
    partners = {link.branch for link in shared if link.owner in groups}
    return sorted(partners | {name})


def _say_what_teaches_nothing(
    systems: Sequence[System], loss: EnergyLoss, say: Callable[[str], None]
) -> None:
    """Name the systems without any label that the loss trains.

    Raises:
        DataError: When all of them are.
    """
    idle = [system.name for system in systems if not loss.learns_from(system.labels)]
    if not idle:
        return
    named = f"{idle[0]} and {len(idle) - 1} other systems have" if idle[1:] else f"{idle[0]} has"
    trained = f"no label that the loss trains ({', '.join(loss.labels_used)})"
    if len(idle) == len(systems):
        raise DataError(
            f"{named} {trained}: nothing would be trained",
            hint="add these labels, or give weight to one that the data have",
        )
    say(
        f"{named} {trained}: steps that draw such frames train nothing (their gradient is 0; "
        "the optimiser's moments decay, as in deepmd-kit)"
    )


def _sampler(
    data: Any, systems: Sequence[System], builder: BatchBuilder, seed: int | None
) -> Sampler:
    return Sampler(
        systems,
        data.batch_size,
        auto_prob=data.auto_prob,
        sys_probs=data.sys_probs,
        seed=seed,
        min_pair_dist=getattr(data, "min_pair_dist", 0.0),
        need=builder.needed,
    )
