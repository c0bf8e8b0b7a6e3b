"""Numbers of a training that other people's inputs and data make differ from deepmd-kit's."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import dpa2
from dpa2.formats.checkpoint import read_checkpoint
from dpa2.training.energy_bias import rebias
from schemas.check.input_file import check_text
from tests.containers import write_npy
from tests.strangers.runs import quiet
from tests.strangers.situations import case, situation
from tests.train.multitask_cases import multitask_input, write_systems

MODEL = json.loads((Path(__file__).parents[1] / "train" / "data" / "model.json").read_text())
SHUFFLED = [1, 0, 1, 1, 0, 0, 1, 0]
BIAS = "model.Default.atomic_model.out_bias"
FITTING = "model.Default.atomic_model.fitting_net."


def write_system(folder, types, num_frames, seed, *, order=None, mixed=False, **extra):
    """Write a system on a lattice; `order` puts its atoms into another order.

    Args:
        folder: Where.
        types: Of the atoms.
        num_frames: How many frames.
        seed: Of everything random.
        order: Which atom comes where.
        mixed: Write types frame by frame.
        extra: Widths of more arrays: `fparam`, and per atom `aparam`, `atom_pref`, `atom_ener`.
    """
    rng = np.random.default_rng(seed)
    types = np.array(types)
    order = np.arange(len(types)) if order is None else np.array(order)
    lattice = np.stack(np.meshgrid(*[np.arange(2) * 2.0] * 3), -1).reshape(-1, 3)[: len(types)]
    shift = rng.normal(0, 0.15, (num_frames, len(types), 3))
    per_atom = {"coord": lattice + shift, "force": -4.0 * shift}
    arrays = {
        "box": np.tile(np.eye(3) * 4.0, (num_frames, 1, 1)),
        "energy": rng.normal(-3.0 * len(types), 1.0, num_frames),
        "virial": rng.normal(0.0, 1.0, (num_frames, 9)),
    }
    for name, width in extra.items():
        axes = (num_frames, width) if name == "fparam" else (num_frames, len(types), width)
        (arrays if name == "fparam" else per_atom)[name] = rng.uniform(0.5, 2.0, axes)
    arrays |= {name: values[:, order] for name, values in per_atom.items()}
    written = types[order]
    if mixed:
        arrays["real_atom_types"] = np.tile(written, (num_frames, 1))
        written = np.zeros_like(written)
    write_npy(folder, arrays, written)


def training_input(*systems, **model):
    """Return an input of a few steps on these systems."""
    section = copy.deepcopy(MODEL) | {"data_stat_nbatch": 100}
    section["fitting_net"] |= model.pop("fitting", {})
    loss = {"e": (0.2, 1), "f": (100, 1), "v": (0.1, 1)}
    return {
        "model": section | model,
        "learning_rate": {"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-5, "decay_steps": 5},
        "loss": {
            f"{when}_pref_{term}": value
            for term, values in loss.items()
            for when, value in zip(("start", "limit"), values, strict=True)
        },
        "training": {
            "training_data": {"systems": list(systems), "batch_size": 1},
            "numb_steps": 2,
            "seed": 1,
            "disp_freq": 1,
        },
    }


def trained(document, folder, **start):
    return read_checkpoint(quiet(document, output_dir=folder, **start).checkpoint)


def assert_alike(one, other):
    for key, tensor in one.tensors.items():
        torch.testing.assert_close(other.tensors[key], tensor, rtol=0, atol=1e-13, msg=key)


pytestmark = pytest.mark.usefixtures("here", "one_thread")
ATOMS = {"aparam": 2, "atom_pref": 1, "atom_ener": 1}


@pytest.mark.parametrize(("extra", "fitting"), [
    case("deepmd-kit's data loader | atoms are not sorted by type, the mean is not zero | the "
         "weights are those of the same data sorted by type", {}, {}),
    case("deepmd-kit's data loader | unsorted atoms with aparam, atom_pref, atom_ener | labels and "
         "parameters of atoms go with their atoms", ATOMS, {"numb_aparam": 2}),
])  # fmt: skip
def test_unsorted_atoms_train_like_sorted_ones(extra, fitting):
    order = np.argsort(SHUFFLED, kind="stable")
    write_system(Path("as_is"), SHUFFLED, 2, 3, **extra)
    write_system(Path("sorted"), SHUFFLED, 2, 3, order=order, **extra)
    found = []
    for name in ("as_is", "sorted"):
        document = training_input(name, fitting=fitting)
        if extra:
            document["loss"] |= {"start_pref_pf": 10, "limit_pref_pf": 1}
            document["loss"] |= {"start_pref_ae": 1, "limit_pref_ae": 1}
        found.append(trained(document, f"o_{name}"))
    assert_alike(*found)


@situation("""deepmd-kit's data loader | a system of mixed type, whose first atom is not of the
    first type | its atoms stay in the order of the file, as in deepmd-kit""")
def test_atoms_of_mixed_type_stay_where_they_are():
    write_system(Path("mixed"), SHUFFLED, 1, 3, mixed=True)
    write_system(Path("standard"), SHUFFLED, 1, 3)
    trained(training_input("mixed"), "o_mixed")
    trained(training_input("standard"), "o_standard")
    first = [
        Path(folder, "lcurve.out").read_text().splitlines()[2].split()
        for folder in ("o_mixed", "o_standard")
    ]
    assert first == [
        # deepmd-kit 3.2.0 on the same files: step, rmse, rmse_e, rmse_f, rmse_v, rate
        ["1", "7.40e+00", "6.28e-01", "7.35e-01", "1.18e-01", "1.0e-03"],
        ["1", "7.41e+00", "6.30e-01", "7.37e-01", "1.16e-01", "1.0e-03"],
    ]


@pytest.mark.parametrize("preset", [
    case("deepmd-kit 6022 | preset_out_bias of all types, change_bias_after_training | the "
         "energies stay the preset; 3.2.0 doubles them", [-8.4, -2.0]),
    case("deepmd-kit 6022 | preset_out_bias of one type, change_bias_after_training | that type "
         "keeps its preset, the other takes up what is left over", [None, -2.0]),
    case("deepmd-kit 3.2 documentation | a preset energy written as a list of one number | it is "
         "that number", [[-8.4], None]),
])  # fmt: skip
def test_preset_energies_survive_every_change_of_bias(preset):
    write_system(Path("a"), [0, 0, 1, 1, 1], 4, 3)
    write_system(Path("b"), [0, 0, 0, 1, 1, 1], 4, 4)
    document = training_input("a", "b", preset_out_bias={"energy": preset})
    document["training"]["change_bias_after_training"] = True
    given = [value[0] if isinstance(value, list) else value for value in preset]

    def check(checkpoint):
        found = checkpoint.tensors[BIAS].ravel().tolist()
        assert [b for b, g in zip(found, given, strict=True) if g is not None] == [
            g for g in given if g is not None
        ]
        model = dpa2.load(checkpoint.path)
        left = 0.0
        for name in ("a", "b"):
            arrays = {k: np.load(f"{name}/set.000/{k}.npy") for k in ("coord", "box", "energy")}
            types = [int(word) for word in Path(name, "type.raw").read_text().split()]
            shape = (4, len(types), 3)
            result = model.predict(
                arrays["coord"].reshape(shape), arrays["box"].reshape(4, 3, 3), types
            )
            free = sum(given[kind] is None for kind in types)
            left += free * float((np.ravel(result.energy) - arrays["energy"].ravel()).sum())
        if None in given:  # the normal equation of the one energy that is free
            assert abs(left) < 1e-9

    first = trained(document, "o")
    check(first)
    check(trained(document, "tuned", finetune=first.path))
    rebias(first.path, ["a", "b"], "again.pt")
    rebias("again.pt", ["a", "b"], "twice.pt")
    check(read_checkpoint("twice.pt"))


@pytest.mark.parametrize(("widths", "mean", "inverse"), [
    case("deepmd-kit's statistics | default_fparam, and the data have no fparam | mean and spread "
         "are those of the default: as deepmd-kit 0.3, -1.5 and 100", (None, None), [0.3, -1.5],
         [100.0, 100.0]),
    case("deepmd-kit's statistics | default_fparam, and one of two systems has fparam | frames "
         "without fparam count with the default; deepmd-kit ends with a KeyError", (2, None), None,
         None),
])  # fmt: skip
def test_default_frame_parameters_count_in_the_statistics(widths, mean, inverse):
    for name, width in zip("ab", widths, strict=True):
        write_system(Path(name), SHUFFLED, 2, 3, **({"fparam": width} if width else {}))
    fitting = {"numb_fparam": 2, "default_fparam": [0.3, -1.5]}
    found = trained(training_input("a", "b", fitting=fitting), "o").tensors
    if widths[0]:
        rows = np.concatenate([np.load("a/set.000/fparam.npy"), [[0.3, -1.5]] * 2])
        mean, inverse = rows.mean(0), 1 / rows.std(0)
    np.testing.assert_allclose(found[FITTING + "fparam_avg"], mean, rtol=1e-12)
    np.testing.assert_allclose(found[FITTING + "fparam_inv_std"], inverse, rtol=1e-12)


@situation("""deepmd-kit's dp train | nsel is a number, so that no neighbours are counted |
    min_nbor_dist is stored with the model, over all frames, and kept with the stat_file""")
def test_the_shortest_distance_is_stored_whenever_statistics_are_made():
    write_system(Path("a"), SHUFFLED, 6, 3)
    document = training_input("a", data_stat_nbatch=1)
    document["training"] |= {"numb_steps": 1, "stat_file": "stat"}
    coord = np.load("a/set.000/coord.npy").reshape(6, -1, 3)
    difference = coord[:, :, np.newaxis] - coord[:, np.newaxis]
    difference -= 4.0 * np.round(difference / 4.0)
    distance = np.linalg.norm(difference, axis=-1)
    expected = distance[distance > 0].min()
    for folder in ("o", "again"):
        found = trained(document, folder).tensors["model.Default.min_nbor_dist"]
        assert float(found) == pytest.approx(expected, abs=1e-12)


@situation("""multi-task inputs | model_prob 0 for the branch that owns the shared fitting net | the
    net is normalised by the data of the branches that are trained; no division by zero""")
def test_a_branch_that_is_never_drawn_may_own_what_is_shared(tmp_path):
    write_systems(tmp_path)
    document = multitask_input("fitting")
    document["training"]["model_prob"] = {"second": 0.0, "first": 1.0}
    found = trained(document, "o").tensors
    rows = np.load("b/set.000/fparam.npy")
    for branch in ("second", "first"):
        prefix = f"model.{branch}.atomic_model.fitting_net.fparam_"
        np.testing.assert_allclose(found[prefix + "avg"], rows.mean(0), rtol=1e-12)
        np.testing.assert_allclose(found[prefix + "inv_std"], 1 / rows.std(0), rtol=1e-12)
    report = check_text(json.dumps(document))
    seen = {
        item.code: (item.severity, there.severity)
        for item, there in zip(report.diagnostics, report.for_deepmd().diagnostics, strict=True)
    }
    assert seen["ZOO507"] == ("warning", "error")
