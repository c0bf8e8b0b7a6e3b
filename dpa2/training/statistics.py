"""Statistics of the data that are part of the model: normalisation and energy bias.

docs/deepmd-format.md, 5.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dpa2.data.cells import check_labels
from dpa2.data.frames import Frames
from dpa2.data.sampler import Sampler
from dpa2.model.energy import EnergyModel
from dpa2.training.drawn_frames import draw_frames, shortest_distance
from dpa2.training.energy_bias import EnergyBias, fit_energy_bias
from dpa2.training.environment_statistics import (
    BlockMoments,
    InputMoments,
    Moments,
    ParameterMoments,
    environment_moments,
    set_normalisation,
    set_parameter_normalisation,
)
from dpa2.training.stat_file import (
    FINGERPRINT,
    SHORTEST,
    StatisticsFile,
    environment_key,
    statistics_fingerprint,
    statistics_settings,
)
from schemas.base.elements import SYMBOLS
from schemas.base.errors import DataError
from schemas.input.model import preset_energies

Say = Callable[[str], None]

ENERGIES_UNTRAINED = (
    "the loss trains no energies: the energies of the elements are not fitted to the data, nor "
    "taken from preset_out_bias (as in deepmd-kit)"
)


@dataclass(frozen=True)
class Statistics:
    """What was found in the data.

    Attributes:
        observed_types: Elements that occur, by atomic number.
        bias: (T,) eV.
        from_file: Whether everything came from the stat_file.
        moments: Of the inputs of the networks; branches that share these add theirs.
    """

    observed_types: list[str]
    bias: NDArray[np.float64]
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
        store: StatisticsFile | None,
        say: Say,
        *,
        fits_energies: bool = True,
    ) -> None:
        self.model = model
        self.fits_energies = fits_energies
        self.store = store
        self.say = say
        self.num_types = len(model.type_map)
        self._source = frames
        self._frames: Sequence[Frames] | None = None

    def run(self) -> Statistics:
        """Fill the buffers of the model.

        Raises:
            DataError: When the data lack what is needed, or the stat_file is read-only and
                incomplete.
        """
        moments = InputMoments(self._normalise_environment(), self.normalise_parameters())
        bias = self.fit_bias()
        observed = self._observed_types()
        self.model.statistics_changed()
        return Statistics(observed, bias, from_file=self._frames is None, moments=moments)

    @property
    def frames(self) -> Sequence[Frames]:
        """The frames to look at, read once."""
        if self._frames is None:
            self._frames = self._source()
            fitting = self.model.fitting
            inputs = (("fparam", fitting.num_fparam), ("aparam", fitting.num_aparam))
            need = ["energy", "atom_energy", *(name for name, width in inputs if width)]
            for batch in self._frames:
                check_labels(batch, need)
        return self._frames

    def _load(self, names: Sequence[str]) -> dict[str, NDArray[Any]] | None:
        return None if self.store is None else self.store.read(names)

    def _save(self, entries: dict[str, NDArray[Any]]) -> None:
        if self.store is not None:
            self.store.write(entries)

    def _normalise_environment(self) -> dict[str, BlockMoments]:
        blocks = self.model.descriptor.blocks()
        groups = {
            name: environment_key(self.num_types, block.rcut, block.rcut_smth, block.nsel)
            for name, block in blocks.items()
        }
        known: dict[str, BlockMoments] = {}
        for name, group in groups.items():
            keys = [f"{part}_{t}" for t in range(self.num_types) for part in "ra"]
            stored = self._load([f"{group}/{key}" for key in keys])
            if stored is not None:
                known[name] = {k: Moments.from_array(stored[f"{group}/{k}"]) for k in keys}
        missing = {name: block for name, block in blocks.items() if name not in known}
        if missing:
            config = self.model.config
            found = environment_moments(
                self.frames,
                missing,
                self.num_types,
                protection=config.descriptor.env_protection,
                keep=_kept_pairs(config, self.num_types),
            )
            known |= found.blocks
            for name, block in missing.items():
                if found.largest[name] > block.nsel:
                    self.say(
                        f"warning: an atom has {found.largest[name]} neighbours within "
                        f"{block.rcut} Å, but {name} keeps only the nearest {block.nsel}"
                    )
                self._save(
                    {f"{groups[name]}/{key}": m.to_array() for key, m in known[name].items()}
                )
        for name, block in blocks.items():
            set_normalisation(block, known[name])
        return known

    def normalise_parameters(self) -> ParameterMoments:
        """Set mean and spread of fparam and aparam."""
        fitting = self.model.fitting
        found: ParameterMoments = {}
        for name, width in (("fparam", fitting.num_fparam), ("aparam", fitting.num_aparam)):
            if not width:
                continue
            stored = self._load([name])
            if stored is None:
                stored = {name: self._parameter_moments(name, width)}
                self._save(stored)
            found[name] = [Moments.from_array(row) for row in stored[name]]
            set_parameter_normalisation(self.model, name, found[name])
        return found

    def _parameter_moments(self, name: str, width: int) -> NDArray[np.float64]:
        """Return (width, 3): count, sum, sum of squares of each component.

        Frames without fparam count with the default, which they are trained with.
        """
        fitting = self.model.fitting
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
        return np.stack([Moments.of(values[:, i]).to_array() for i in range(width)])

    def fit_bias(self) -> NDArray[np.float64]:
        """Set the energies of the elements and return them (T,), eV."""
        names = ["bias_atom_energy", "std_atom_energy"]
        stored = self._load(names)
        if stored is None and not self.fits_energies:
            self.say(ENERGIES_UNTRAINED)
            return self.model.out_bias.cpu().numpy().reshape(self.num_types)
        if stored is None:
            config = self.model.config
            fitted = fit_energy_bias(
                self.frames,
                self.num_types,
                preset=preset_energies(config),
                excluded_types=config.atom_exclude_types,
            )
            if fitted.rmse_per_atom is not None:
                self.say(
                    f"energy per element fitted; {fitted.rmse_per_atom:.3e} eV/atom left to learn"
                )
            stored = {names[0]: fitted.bias[:, None], names[1]: fitted.std[:, None]}
            self._save(stored)
        bias, std = (stored[name].reshape(self.num_types) for name in names)
        self.model.out_bias.copy_(torch.from_numpy(np.array(bias)))
        self.model.out_std.copy_(torch.from_numpy(np.array(std)))
        return np.array(bias)

    def _observed_types(self) -> list[str]:
        stored = self._load(["observed_type"])
        if stored is not None:
            return [value.decode() for value in stored["observed_type"].tolist()]
        seen = {int(t) for batch in self.frames for t in np.unique(batch.atom_types) if t >= 0}
        names = [self.model.type_map[kind] for kind in sorted(seen)]
        order = {symbol: number for number, symbol in enumerate(SYMBOLS)}
        observed = sorted(names, key=lambda name: order.get(name, len(order)))
        self._save({"observed_type": np.array(observed, dtype="S")})
        return observed


def initialise_statistics(
    model: EnergyModel,
    sampler: Sampler,
    *,
    stat_file: Path | None,
    read_only: bool,
    seed: int | None,
    say: Say,
    fits_energies: bool = True,
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

    Raises:
        DataError: When the stat_file is of other data or incomplete, or data lack what is needed.
    """
    store = None
    if stat_file is not None:
        store = StatisticsFile(stat_file, model.type_map, read_only=read_only)
        fingerprint = statistics_fingerprint(sampler.systems, statistics_settings(model.config))
        known = store.check_fingerprint(fingerprint)
        if not known and not read_only:
            store.write({FINGERPRINT: np.array([fingerprint], dtype="S")})
    num_batches = model.config.data_stat_nbatch
    builder = StatisticsBuilder(
        model,
        lambda: draw_frames(sampler, num_batches, seed, say),
        store,
        say,
        fits_energies=fits_energies,
    )
    found = builder.run()
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


def change_bias(
    model: EnergyModel, batches: Sequence[Frames], predict: Callable[[Frames], NDArray[np.float64]]
) -> EnergyBias:
    """Add to the energy bias what the trained model leaves over (`change-by-statistic`).

    Energies that `preset_out_bias` gives are afterwards what it says, whatever they were before.
    (deepmd-kit 3.2.0 adds the preset to the energy that was there, every time.)

    Args:
        model: The model; its bias is changed.
        batches: Frames with energies.
        predict: Returns the model's atomic energies (F, N) in eV.
    """
    atoms = [predict(batch) for batch in batches]
    given = preset_energies(model.config) or [None] * len(model.type_map)
    before = model.out_bias.tolist()
    fitted = fit_energy_bias(
        batches,
        len(model.type_map),
        preset=[None if e is None else e - b for e, b in zip(given, before, strict=True)],
        excluded_types=model.config.atom_exclude_types,
        predicted=[values.sum(axis=1) for values in atoms],
        predicted_atoms=atoms,
    )
    after = [
        b + step if e is None else e for e, b, step in zip(given, before, fitted.bias, strict=True)
    ]
    model.out_bias.copy_(torch.tensor(after, dtype=torch.float64))
    model.out_std.copy_(torch.from_numpy(fitted.std))
    return fitted


def _kept_pairs(config: Any, num_types: int) -> NDArray[np.bool_]:
    keep = np.ones((num_types, num_types), dtype=np.bool_)
    for a, b in [*config.pair_exclude_types, *config.descriptor.exclude_types]:
        if 0 <= a < num_types and 0 <= b < num_types:
            keep[a, b] = keep[b, a] = False
    return keep
