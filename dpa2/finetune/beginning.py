"""How a fine-tuning begins: every branch takes over the weights of a checkpoint's branch."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dpa2.data.frames import Frames
from dpa2.finetune.origin import Origin, find_origins
from dpa2.finetune.provenance import Provenance, provenance
from dpa2.finetune.shared_parts import unequal_parts
from dpa2.finetune.transfer import transfer
from dpa2.finetune.tuning import Tuning
from dpa2.io.checkpoint import Checkpoint
from dpa2.model.electron_configuration import SYMBOLS
from dpa2.model.sharing import share
from dpa2.training.assembly import Assembled, links_of
from dpa2.training.bias import BiasShift, adjust_bias, normalise_parameters
from dpa2.training.drawn_frames import draw_frames
from dpa2.training.shared_statistics import InputMoments, merge_statistics
from dpa2.training.snapshot import Snapshot
from dpa2.training.statistics import (
    ENERGIES_UNTRAINED,
    initialise_statistics,
    note_shortest_distance,
)
from schemas.input import Input
from schemas.multitask import MultiTaskInput
from schemas.start import BiasMode, Start

Say = Callable[[str], None]


class FromPretrained:
    """Weights of a checkpoint's branches, energies of the new data; step and optimiser begin anew.

    Args:
        config: The checked input.
        checkpoint: What to start from.
        start: The same for checks, with the branch that is asked for.
        bias_mode: How the energies of the elements are fitted; None as deepmd-kit.
        tuning: What is frozen or trained more slowly.

    Attributes:
        provenance: Where every branch starts, by name; filled by `prepare`.

    Raises:
        ConfigError: When the branch does not exist or is not chosen, or the input does not fit it.
    """

    continued: Checkpoint | None = None

    def __init__(
        self,
        config: Input | MultiTaskInput,
        checkpoint: Checkpoint,
        start: Start,
        bias_mode: BiasMode | None,
        tuning: Tuning,
    ) -> None:
        self.config = config
        self.checkpoint = checkpoint
        self.bias_mode = bias_mode
        self.tuning = tuning
        self.origins = find_origins(config, start)
        self.provenance: dict[str, Provenance] = {}

    def prepare(self, branches: Mapping[str, Assembled], say: Say, /) -> dict[str, InputMoments]:
        """Copy weights, fit energies, and say where everything is from.

        Raises:
            CheckpointError: When the weights do not fit the model.
            DataError: When the data lack what is needed.
        """
        self._add_statistics(branches, say)
        models = {name: item.model for name, item in branches.items()}
        frames = {name: self._frames(item, say) for name, item in branches.items()}
        records = {}
        for name, model in models.items():
            origin = self.origins[name]
            self.tuning.freeze(model)
            _, tensors = self.checkpoint.branch(origin.branch)
            records[name] = transfer(model, origin, tensors)
            note_shortest_distance(model, branches[name].sampler)
            if origin.fitting == "random":
                normalise_parameters(model, frames[name])
        links = links_of(self.config)
        for line in unequal_parts(models, links):
            say(line)
        share(models, links)  # now, so that energies are fitted to the networks that are trained
        for name, model in models.items():
            origin = self.origins[name]
            bias = None
            if origin.fitting != "resumed":
                mode = self.bias_mode or ("set" if origin.fitting == "random" else "change")
                if mode != "none" and not branches[name].loss.trains_energies:
                    say(ENERGIES_UNTRAINED)
                    mode = "none"
                bias = adjust_bias(model, frames[name], mode)
            self.provenance[name] = provenance(name, model, origin, records[name], bias)
            for line in self.provenance[name].lines():
                say(line)
            item = branches[name].model_params
            section, _ = self.checkpoint.branch(origin.branch)
            item["info"] = {**_observed(section, origin, model.type_map, bias), **item["info"]}
        return {}

    def resume(self, _snapshot: Snapshot, /) -> int:
        """Return 0: the run is a new one."""
        return 0

    def _frames(self, item: Assembled, say: Say) -> list[Frames]:
        """Return training data to fit energies to; none for a branch that keeps its energies."""
        if self.origins[item.branch.name].fitting == "resumed":
            return []
        num_batches = item.model.config.data_stat_nbatch
        return draw_frames(item.sampler, num_batches, item.seed, say)

    def _add_statistics(self, branches: Mapping[str, Assembled], say: Say) -> None:
        """Compute statistics of the data if any element is new; those of known ones are replaced.

        A part that branches share is normalised by the data of all of them.
        """
        if not any(self.origins[n].new_elements(i.model.type_map) for n, i in branches.items()):
            return
        moments = {
            name: initialise_statistics(
                item.model,
                item.sampler,
                stat_file=None if item.branch.stat_file is None else Path(item.branch.stat_file),
                read_only=item.branch.stat_file_mode == "read",
                seed=item.seed,
                say=say,
                fits_energies=item.loss.trains_energies,
            ).moments
            for name, item in branches.items()
        }
        models = {name: item.model for name, item in branches.items()}
        evenly = dict.fromkeys(branches, 1.0)
        merge_statistics(models, links_of(self.config), moments, evenly)


def _observed(
    section: Mapping[str, Any],
    origin: Origin,
    type_map: Sequence[str],
    bias: BiasShift | None,
) -> dict[str, list[str]]:
    """Return the elements that a branch has seen, as its file says it; nothing if unknown."""
    known = (section.get("info") or {}).get("observed_type")
    if known is None and origin.fitting != "random":
        return {}
    seen = set() if origin.fitting == "random" else set(known or ()) & set(type_map)
    if bias is not None:
        seen |= {n for n, found in zip(type_map, bias.observed, strict=True) if found}
    order = {symbol: number for number, symbol in enumerate(SYMBOLS)}
    return {"observed_type": sorted(seen, key=lambda name: order.get(name, len(order)))}
