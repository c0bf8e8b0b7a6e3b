"""Statistics of the data that are part of the model: normalisation, energy bias, capacities.

docs/deepmd-format.md, 5.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpa2.data.cells import census, check_labels, far_enough
from dpa2.data.frames import Frames, one_frame
from dpa2.data.preflight.capacity import enlarged
from dpa2.data.sampler import Sampler, iterate
from dpa2.data.system import System
from dpa2.model.energy import EnergyModel
from dpa2.model.neighbors import pairs_within
from dpa2.training.energy_bias import ENERGIES_UNTRAINED, EnergyBias, fit_to_data
from dpa2.training.moments import (
    BlockMoments,
    InputMoments,
    Moments,
    ParameterMoments,
    Say,
    draw_frames,
    environment_moments,
    input_widths,
    set_normalisation,
    set_parameter_normalisation,
)
from dpa2.training.stat_file import (
    SHORTEST,
    StatisticsFile,
    environment_key,
    open_statistics,
)
from schemas.base.errors import DataError
from schemas.base.names import by_atomic_number

Entries = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Statistics:
    """What was found in the data.

    Attributes:
        observed_types: Elements that occur, by atomic number.
        from_file: Whether everything came from the stat_file.
        moments: Of the inputs of the networks; branches that share these add theirs.
    """

    observed_types: list[str]
    from_file: bool
    moments: InputMoments


class StatisticsBuilder:
    """Computes the statistics of a model, or takes them from a `stat_file`.

    Args:
        model: The model whose buffers are filled.
        frames: Returns the frames to look at; called only if something has to be computed.
        store: The open stat_file, or None.
        say: Receives lines for the log.
        fits_energies: Whether energies are trained; the energies of the elements stay 0 otherwise.
    """

    def __init__(
        self,
        model: EnergyModel,
        frames: Callable[[], Sequence[Frames]],
        store: StatisticsFile | None = None,
        say: Say = lambda _: None,
        *,
        fits_energies: bool = True,
    ) -> None:
        self.model = model
        self.fits_energies = fits_energies
        self.store = store
        self.say = say
        self.num_types = len(model.type_map)
        self.widths = input_widths(model)
        self._source = frames

    def run(self) -> Statistics:
        """Fill the buffers of the model.

        Raises:
            DataError: When the data lack what is needed, or the stat_file is read-only and
                incomplete.
        """
        moments = InputMoments(self._normalise_environment(), self.normalise_parameters())
        self._fit_bias()
        stored = self._known_or(["observed_type"], self._observe)["observed_type"]
        self.model.statistics_changed()
        observed = [value.decode() for value in stored.tolist()]
        return Statistics(observed, from_file="frames" not in vars(self), moments=moments)

    @cached_property
    def frames(self) -> Sequence[Frames]:
        """The frames to look at, read once."""
        frames = self._source()
        for batch in frames:
            check_labels(batch, ["energy", "atom_energy", *self.widths])
        return frames

    def _known(self, names: Sequence[str]) -> Entries | None:
        return None if self.store is None else self.store.read(names)

    def _known_or(self, names: Sequence[str], compute: Callable[[], Entries]) -> Entries:
        """Return entries of the stat_file, or compute them and write them there."""
        stored = self._known(names)
        if stored is None:
            stored = compute()
            self._save(stored)
        return stored

    def _save(self, entries: Entries) -> None:
        if self.store is not None:
            self.store.write(entries)

    def _normalise_environment(self) -> dict[str, BlockMoments]:
        blocks = self.model.descriptor.blocks()
        keys = [f"{part}_{t}" for t in range(self.num_types) for part in "ra"]
        groups = {
            name: environment_key(self.num_types, block.rcut, block.rcut_smth, block.nsel)
            for name, block in blocks.items()
        }
        known: dict[str, BlockMoments] = {}
        for name, group in groups.items():
            stored = self._known([f"{group}/{key}" for key in keys])
            if stored is not None:
                known[name] = {k: Moments.from_array(stored[f"{group}/{k}"]) for k in keys}
        missing = {name: block for name, block in blocks.items() if name not in known}
        if missing:
            found, largest = environment_moments(self.frames, missing, self.model)
            known |= found
            for name, block in missing.items():
                if largest[name] > block.nsel:
                    self.say(
                        f"warning: an atom has {largest[name]} neighbours within "
                        f"{block.rcut} Å, but {name} keeps only the nearest {block.nsel}"
                    )
                self._save({f"{groups[name]}/{k}": m.to_array() for k, m in known[name].items()})
        for name, block in blocks.items():
            set_normalisation(block, known[name])
        return known

    def normalise_parameters(self) -> ParameterMoments:
        """Set mean and spread of fparam and aparam."""
        found: ParameterMoments = {}
        for name in self.widths:
            stored = self._known_or([name], partial(self._parameter_moments, name))
            found[name] = [Moments.from_array(row) for row in stored[name]]
            set_parameter_normalisation(self.model, name, found[name])
        return found

    def _parameter_moments(self, name: str) -> Entries:
        """Return (width, 3): count, sum, sum of squares of each component.

        Frames without fparam count with the default, which they are trained with.
        """
        fitting, width = self.model.fitting, self.widths[name]
        present: list[NDArray[np.float64]] = []
        without = 0
        for batch in self.frames:
            values = getattr(batch, name)
            if values is not None:
                present.append(values.reshape(-1, width))
            elif name == "fparam" and fitting.has_default_fparam:
                default = fitting.default_fparam_tensor.double().cpu().numpy()
                present.append(np.tile(default, (batch.num_frames, 1)))
                without += 1
        if 0 < without < len(self.frames):
            self.say(
                f"{without} of {len(self.frames)} systems have no fparam.npy: their frames count "
                "with default_fparam"
            )
        if not present:
            raise DataError(
                f"the model uses {width} {name}, but the training data have no {name}.npy",
                hint=f"add {name}.npy to every set, or set model.fitting_net.numb_{name} to 0",
            )
        values = np.concatenate(present)
        return {name: np.stack([Moments.of(values[:, i]).to_array() for i in range(width)])}

    def _fit_bias(self) -> None:
        """Set the energies of the elements, eV."""
        names = ["bias_atom_energy", "std_atom_energy"]
        stored = self._known(names)
        if stored is None and not self.fits_energies:
            self.say(ENERGIES_UNTRAINED)
            return
        if stored is None:
            fitted = fit_to_data(self.model, self.frames)
            if fitted.rmse_per_atom is not None:
                self.say(
                    f"energy per element fitted; {fitted.rmse_per_atom:.3e} eV/atom left to learn"
                )
            stored = {names[0]: fitted.bias[:, None], names[1]: fitted.std[:, None]}
            self._save(stored)
        bias, std = (stored[name].reshape(self.num_types) for name in names)
        EnergyBias(bias, std).write_to(self.model)

    def _observe(self) -> Entries:
        seen = {int(t) for batch in self.frames for t in np.unique(batch.atom_types) if t >= 0}
        names = by_atomic_number(self.model.type_map[kind] for kind in sorted(seen))
        return {"observed_type": np.array(names, dtype="S")}


def initialise_statistics(
    model: EnergyModel,
    sampler: Sampler,
    *,
    stat_file: Path | None,
    read_only: bool,
    seed: int | None,
    say: Say,
    fits_energies: bool = True,
    searches_distance: bool = True,
) -> Statistics:
    """Set davg, dstd, the energy bias and fparam/aparam statistics of a fresh model.

    Args:
        model: The model; its buffers are changed.
        sampler: Lends its systems and batch sizes.
        stat_file: Where statistics are kept between runs, or None.
        read_only: `stat_file_mode` is `read`.
        seed: Seed of the choice of frames.
        say: Receives lines for the log.
        fits_energies: Whether energies are trained; the energies of the elements stay 0 otherwise.
        searches_distance: Whether all frames are read for the shortest distance between atoms.

    Raises:
        DataError: When the stat_file is of other data or incomplete, or data lack what is needed.
    """
    store = None
    if stat_file is not None:
        store = open_statistics(stat_file, model.config, sampler.systems, read_only=read_only)
    num_batches = model.config.data_stat_nbatch
    builder = StatisticsBuilder(
        model,
        lambda: draw_frames(sampler, num_batches, seed, say),
        store,
        say,
        fits_energies=fits_energies,
    )
    found = builder.run()
    if searches_distance:
        note_shortest_distance(model, sampler, store)
    return found


def note_shortest_distance(
    model: EnergyModel, sampler: Sampler, store: StatisticsFile | None = None
) -> None:
    """Write the shortest distance between atoms of the training data into a model, Å.

    Args:
        model: Its `min_nbor_dist` is set; unchanged (-1, unknown) where no atom has a neighbour.
        sampler: Lends its systems.
        store: Where the distance may be known from an earlier run.
    """
    known = {} if store is None else store.find([SHORTEST])
    if SHORTEST in known:
        model.min_nbor_dist.fill_(float(known[SHORTEST].item()))
        return
    found = shortest_distance(sampler.systems, sampler.min_pair_dist)
    if found is None:
        return
    model.min_nbor_dist.fill_(found)
    if store is not None and not store.read_only:
        store.write({SHORTEST: np.array(found)})


_CLOSE = 1.5
"""Å; nearest neighbours are about that far apart. Searching within less takes no less time."""
_FAR = 10.0
"""Å; atoms farther apart than this have no neighbours."""


def most_neighbors(batches: Iterable[Frames], cutoffs: Sequence[float]) -> dict[float, int]:
    """Return the most neighbours of an atom in all frames, by cutoff in Å; padding left out.

    They are counted as `zoo validate` counts them.

    Raises:
        FrameError: When a coordinate is not finite; names system and frame.
    """
    most = np.zeros(len(cutoffs), dtype=np.int64)
    for batch in batches:
        check_labels(batch, ())
        counts = census(batch.coord, batch.box, batch.atom_types, cutoffs).counts
        most = np.maximum(most, counts.max(axis=(1, 2), initial=0))
    return dict(zip(cutoffs, most.tolist(), strict=True))


def shortest_distance(systems: Sequence[System], min_pair_dist: float = 0.0) -> float | None:
    """Return the distance of the closest two atoms of all frames, Å; None where all are alone.

    Every frame is searched, but only for pairs closer than the closest so far.

    Args:
        systems: Where the frames are.
        min_pair_dist: Frames with a shorter distance are not trained on and do not count, Å.

    Raises:
        FrameError: When atoms coincide or a coordinate is not finite; names system and frame.
    """
    shortest = _FAR
    for batch in iterate(systems, "auto:4096", need=()):
        check_labels(batch, ())
        frames = batch.select(far_enough(batch, min_pair_dist)) if min_pair_dist > 0 else batch
        for f in range(frames.num_frames):
            shortest = min(shortest, _closest(frames, f, shortest))
    return shortest if shortest < _FAR else None


def _closest(frames: Frames, f: int, known: float) -> float:
    """Return the shortest distance in a frame, or anything longer than what is known."""
    coord = frames.coord[f][frames.atom_types[f] >= 0]
    box = None if frames.box is None else frames.box[f]
    for reach in (_CLOSE, known) if known > _CLOSE else (_CLOSE,):
        with one_frame(frames, f):
            distance = pairs_within(coord, box, reach)[3]
        if len(distance):
            return float(distance.min())
    return _FAR


def resolve_auto_nsel(config: Any, systems: Sequence[System]) -> Any:
    """Replace `auto` capacities of a checked `model` section by numbers.

    Args:
        config: The section (`schemas.input.model`).
        systems: All training systems; read once if there is anything to resolve.

    Returns:
        The section.
    """
    descriptor = config.descriptor
    repinit, repformer = descriptor.repinit, descriptor.repformer
    wanted = {
        ("repinit", "nsel"): (repinit.nsel, repinit.rcut),
        ("repinit", "three_body_sel"): (repinit.three_body_sel, repinit.three_body_rcut),
        ("repformer", "nsel"): (repformer.nsel, repformer.rcut),
    }
    automatic = {key: value for key, value in wanted.items() if isinstance(value[0], str)}
    if not automatic:
        return config
    most = most_neighbors(
        iterate(systems, "auto:256", need=()), sorted({rcut for _, rcut in automatic.values()})
    )
    changes: dict[str, dict[str, int]] = {"repinit": {}, "repformer": {}}
    for (section, key), (rule, rcut) in automatic.items():
        changes[section][key] = enlarged(most[rcut], rule)
    new_descriptor = descriptor.model_copy(
        update={
            section: getattr(descriptor, section).model_copy(update=values)
            for section, values in changes.items()
            if values
        }
    )
    return config.model_copy(update={"descriptor": new_descriptor})
