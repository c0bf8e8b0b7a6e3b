"""Statistics against numbers computed by deepmd-kit (data/make_reference.py), and their file."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from dpa2.data.frames import Frames
from dpa2.data.sampler import Sampler
from dpa2.data.systems import open_systems
from dpa2.model.build import build_model
from dpa2.training.energy_bias import fit_energy_bias
from dpa2.training.stat_file import environment_key
from dpa2.training.statistics import (
    StatisticsBuilder,
    enlarged,
    initialise_statistics,
    most_neighbors,
    resolve_auto_nsel,
)
from schemas.base.errors import DataError
from schemas.input.model import parse_model

REFERENCE = json.loads((Path(__file__).parent / "data" / "statistics.json").read_text())


@pytest.fixture(scope="module")
def frames():
    batches = []
    for system in REFERENCE["systems"]:
        count = len(system["energy"])
        batches.append(
            Frames(
                system="random",
                indices=np.arange(count),
                coord=np.array(system["coord"]),
                box=np.repeat([system["box"]], count, axis=0),
                atom_types=np.repeat([system["types"]], count, axis=0),
                energy=np.array(system["energy"]),
            )
        )
    return batches


def ignore(_line):
    pass


def test_normalisation_and_energy_bias_equal_those_of_deepmd_kit(model_section, frames):
    model = build_model(parse_model(model_section))
    found = StatisticsBuilder(model, lambda: frames, None, ignore).run()
    for name, block in model.descriptor.blocks().items():
        expected = REFERENCE["blocks"][name]
        assert block.mean[:, 0].numpy() == pytest.approx(np.array(expected["mean"]), abs=1e-12)
        assert block.stddev[:, 0].numpy() == pytest.approx(np.array(expected["stddev"]), abs=1e-12)
    assert model.out_bias.numpy() == pytest.approx(np.array(REFERENCE["out_bias"]), abs=1e-11)
    assert model.out_std.numpy() == pytest.approx(np.array(REFERENCE["out_std"]), abs=1e-11)
    assert found.observed_types == ["H", "O"]


def water(energy, types=((0, 1, 1),)):
    types = np.array(types)
    return Frames("w", np.arange(len(types)), np.zeros((*types.shape, 3)), None, types, energy)


@pytest.mark.parametrize(
    ("options", "bias"),
    [
        ({}, [-1.0, -2.0]),  # one composition: the solution of smallest norm
        ({"preset": [-3.0, None]}, [-3.0, -1.0]),
        ({"excluded_types": [1]}, [-5.0, 0.0]),
    ],
)
def test_energies_are_fitted_to_what_is_free(options, bias):
    assert fit_energy_bias([water(np.array([-5.0]))], 2, **options).bias == pytest.approx(bias)


def test_data_without_energies_are_refused():
    with pytest.raises(DataError, match="no energies"):
        fit_energy_bias([water(None)], 2)


def run_with_file(config, path, systems=("a", "b"), *, read_only=False):
    model = build_model(parse_model(config["model"]))
    sampler = Sampler(open_systems(systems, model.type_map), 2)
    found = initialise_statistics(
        model, sampler, stat_file=Path(path), read_only=read_only, seed=1, say=ignore
    )
    return model, found


@pytest.mark.parametrize("path", ["stat.h5", "stat_folder"])
def test_a_second_run_takes_everything_from_the_file(tiny_input, path):
    first, computed = run_with_file(tiny_input, path)
    second, loaded = run_with_file(tiny_input, path, read_only=True)
    assert not computed.from_file
    assert loaded.from_file
    assert loaded.observed_types == ["H", "O"]
    assert second.out_bias.tolist() == first.out_bias.tolist()
    for name, block in first.descriptor.blocks().items():
        assert second.descriptor.blocks()[name].stddev.tolist() == block.stddev.tolist()


def test_the_file_has_the_layout_of_deepmd_kit(tiny_input):
    run_with_file(tiny_input, "stat.h5")
    with h5py.File("stat.h5") as file:
        group = file["O H"]
        assert group[f"{environment_key(2, 3.5, 1.0, 40)}/r_0"].shape == (3,)
        assert group["bias_atom_energy"].shape == (2, 1)
        assert group["observed_type"][()].tolist() == [b"H", b"O"]


def test_a_block_has_the_name_that_deepmd_kit_gives_it():
    # Names in a file that deepmd-kit 3.2.0 wrote.
    assert environment_key(2, 6.0, 0.5, 120) == "94f442591d164744d01c2a8ec1ceaada5ac445f2"
    assert environment_key(2, 4.0, 3.5, 48) == "e9ecfa0906b6b24a96ad7bead4ef2b77de6169f5"


@pytest.mark.parametrize("path", ["stat.h5", "stat_folder"])
def test_files_that_are_missing_of_other_data_or_damaged_are_refused(tiny_input, path):
    with pytest.raises(DataError, match="does not exist"):
        run_with_file(tiny_input, path, read_only=True)
    run_with_file(tiny_input, path)
    with pytest.raises(DataError, match="other data"):
        run_with_file(tiny_input, path, systems=("a",))
    for file in [Path(path)] if path == "stat.h5" else Path(path).rglob("*.npy"):
        file.write_bytes(b"not HDF5 at all")
    with pytest.raises(DataError, match=r"cannot be read|is damaged"):
        run_with_file(tiny_input, path)


@pytest.mark.parametrize(
    ("most", "rule", "capacity"), [(38, "auto", 44), (40, "auto:1.0", 40), (41, "auto:1", 44)]
)
def test_automatic_capacities_are_enlarged_to_a_multiple_of_four(most, rule, capacity):
    assert enlarged(most, rule) == capacity


def test_neighbours_are_counted_across_the_boundary():
    lattice = Frames(
        "s", np.arange(1), np.zeros((1, 1, 3)), np.eye(3)[None] * 2.0, np.zeros((1, 1), int)
    )
    assert most_neighbors([lattice], [2.5, 3.0]) == {2.5: 6, 3.0: 18}


def test_auto_becomes_a_number_in_the_model_section(tiny_input):
    tiny_input["model"]["descriptor"]["repformer"]["nsel"] = "auto"
    systems = open_systems(["a"], ["O", "H"])
    config = resolve_auto_nsel(parse_model(tiny_input["model"]), systems)
    assert config.descriptor.repformer.nsel % 4 == 0
    assert config.descriptor.repinit.nsel == 40
