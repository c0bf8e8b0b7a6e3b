"""Random inputs: valid ones, of one task or of several, and mutations of them."""

import copy
import random
from collections.abc import Iterator
from typing import Any

ACTIVATIONS = ("tanh", "gelu", "silu", "relu", "softplus", "silut:3.0")
SYSTEMS = ("data/a", "data/b")
REPINIT: dict[str, list[Any]] = {
    "tebd_dim": [2, 4], "tebd_input_mode": ["concat", "strip"], "set_davg_zero": [True, False],
    "type_one_side": [True, False], "resnet_dt": [True, False],
}  # fmt: skip
REPFORMER: dict[str, list[Any]] = {
    "direct_dist": [True], "update_g1_has_attn": [True, False],
    "update_g1_has_conv": [True, False], "update_g2_has_g1g1": [True, False],
    "update_g2_has_attn": [True, False], "attn2_has_gate": [True],
    "use_sqrt_nnei": [True, False], "g1_out_conv": [True, False], "g1_out_mlp": [True, False],
    "update_h2": [True, False], "update_residual": [0.01, 0.001],
    "update_residual_init": ["norm", "const"], "trainable_ln": [True, False],
    "ln_eps": [1e-5, 1e-3], "activation_function": list(ACTIVATIONS),
}  # fmt: skip
DESCRIPTOR: dict[str, list[Any]] = {
    "seed": [0, 1, 2**32 - 1], "smooth": [True, False], "concat_output_tebd": [True, False],
    "add_tebd_to_repinit_out": [True, False], "use_econf_tebd": [True], "use_tebd_bias": [True],
    "env_protection": [0.0, 1e-6], "exclude_types": [[], [[0, 1]]],
}  # fmt: skip
FITTING: dict[str, list[Any]] = {
    "neuron": [[8, 8], [6], [4, 4, 4]], "activation_function": list(ACTIVATIONS),
    "resnet_dt": [True, False], "seed": [1, 5], "trainable": [True],
}  # fmt: skip
MODEL: dict[str, list[Any]] = {
    "data_stat_nbatch": [1, 20], "pair_exclude_types": [[], [[0, 0]]],
    "preset_out_bias": [{"energy": [None, -3.0]}],
}  # fmt: skip
TRAINING: dict[str, list[Any]] = {
    "seed": [0, 10, 20_240_101], "disp_file": ["lcurve.out", "./curve.txt"],
    "disp_freq": [1, 100, 1000], "save_freq": [100, 1000], "save_ckpt": ["model.ckpt", "dpa2"],
    "gradient_max_norm": [5.0, 1, 10], "max_ckpt_keep": [1, 10, 100_000],
    "disp_avg": [True, False], "time_training": [True], "tensorboard": [False],
}  # fmt: skip
"""Values of keys that an input may have besides: those of each section."""


def valid_input(rng: random.Random) -> dict[str, Any]:
    """Return an input as a person might write it: everything in it is right and has an effect."""
    multitask = rng.random() < 0.3
    steps = rng.choice([2000, 10_000, 400_000, 1_000_000])
    document: dict[str, Any] = {
        "learning_rate": _schedule(rng, steps),
        "training": _training(rng, steps),
    }
    if rng.random() < 0.4:
        kind = rng.choice(["Adam", "AdamW"])
        document["optimizer"] = {"type": kind, "adam_beta1": rng.choice([0.9, 0.95])}
        if kind == "AdamW":
            document["optimizer"]["weight_decay"] = rng.choice([0.0, 1e-4, 0.01, 0.1])
    validated = rng.random() < 0.3 and not multitask
    if validated:
        document["validating"] = {
            "full_validation": True,
            "validation_freq": rng.choice([100, 1000, steps]),
            "validation_metric": rng.choice(["E:MAE", "F:RMSE", "E:RMSE"]),
            "full_val_start": rng.choice([0.0, 0.5, 0.9]),
            "max_best_ckpt": rng.choice([1, 3]),
        }
    descriptor, types = _descriptor(rng), rng.choice([["O", "H"], ["H", "O"]])
    precision = rng.choice([{}, {"precision": "float32"}, {"precision": "float64"}])
    descriptor |= precision
    if not multitask:
        document["model"] = _model(rng, types, descriptor)
        document["model"]["fitting_net"] |= precision
        document["loss"] = _loss(rng)
        document["training"] |= _data(rng)
        return document
    names = rng.sample(["water", "salt", "H2O_H2O-PD", "Domains_Alloy", "test", "set_2"], 2)
    shared: dict[str, Any] = {"elements": types, "dpa2": descriptor}
    branches = {}
    for name in names:
        branches[name] = _model(rng, "elements", "dpa2")
        branches[name]["fitting_net"] |= precision
    if rng.random() < 0.3:
        shared["fit"] = {**_fitting(rng), **precision, "dim_case_embd": 2}
        for branch in branches.values():
            branch["fitting_net"] = "fit"
    document["model"] = {"shared_dict": shared, "model_dict": branches}
    if rng.random() < 0.3:
        document["model"]["data_stat_nbatch"] = 20
        for branch in branches.values():
            branch.pop("data_stat_nbatch", None)
    document["loss_dict"] = {name: _loss(rng) for name in names}
    document["training"]["data_dict"] = {name: _data(rng) for name in names}
    if rng.random() < 0.5:
        document["training"]["model_prob"] = {name: rng.choice([0.5, 1, 2.5]) for name in names}
    return document


def _some(rng: random.Random, choices: dict[str, list[Any]], share: float = 0.5) -> dict[str, Any]:
    return {key: rng.choice(values) for key, values in choices.items() if rng.random() < share}


def _descriptor(rng: random.Random) -> dict[str, Any]:
    nsel, inner = rng.choice([(20, 10), (40, 20), (24, 12)])
    rcut, short = rng.choice([(6.0, 4.0), (9, 4.5), (7.5, 5)])
    three = rng.random() < 0.5
    block: dict[str, Any] = {
        "rcut": rcut,
        "rcut_smth": rng.choice([0.5, 0, rcut - 1]),
        "nsel": nsel,
        "neuron": rng.choice([[4, 8], [8, 8, 8], [6]]),
        "axis_neuron": rng.choice([1, 2, 4]),
        "activation_function": rng.choice(ACTIVATIONS),
    }
    if three:
        block |= {
            "use_three_body": True,
            "three_body_rcut": short,
            "three_body_rcut_smth": short - 0.5,
            "three_body_sel": inner,
            "three_body_neuron": rng.choice([[2, 4], [2]]),
        }
    block |= _some(rng, REPINIT)
    layers: dict[str, Any] = {
        "rcut": short,
        "rcut_smth": short - rng.choice([0.5, 1]),
        "nsel": inner,
        "nlayers": rng.choice([1, 2]),
        "g1_dim": rng.choice([4, 8]),
        "g2_dim": rng.choice([4, 6]),
        "axis_neuron": rng.choice([1, 2, 4]),
        "attn1_hidden": 4,
        "attn1_nhead": rng.choice([1, 2]),
        "attn2_hidden": 4,
        "attn2_nhead": rng.choice([1, 2]),
        "update_style": rng.choice(["res_avg", "res_residual"]),
    }
    layers |= _some(rng, REPFORMER)
    return {"type": "dpa2", "repinit": block, "repformer": layers} | _some(rng, DESCRIPTOR, 0.3)


def _fitting(rng: random.Random) -> dict[str, Any]:
    return _some(rng, FITTING)


def _model(rng: random.Random, types: Any, descriptor: Any) -> dict[str, Any]:
    model = {"type_map": types, "descriptor": descriptor, "fitting_net": _fitting(rng)}
    return model | _some(rng, MODEL, 0.3)


def _schedule(rng: random.Random, steps: int) -> dict[str, Any]:
    schedule: dict[str, Any] = {"start_lr": rng.choice([0.001, 2e-4, 1e-5, 0.005])}
    kind = rng.choice(["exp", "exp", "cosine", "wsd"])
    if kind != "exp" or rng.random() < 0.5:
        schedule["type"] = kind
    schedule |= rng.choice([{"stop_lr": 3.5e-8}, {"stop_lr_ratio": 0.001}, {}])
    if kind == "exp":
        schedule["decay_steps"] = rng.choice([steps // 200, steps // 50])
        if rng.random() < 0.3:
            schedule["decay_rate"] = rng.choice([0.95, 0.98])
            schedule.pop("stop_lr_ratio", None)
            schedule.pop("stop_lr", None)
    if rng.random() < 0.3:
        schedule |= rng.choice([{"warmup_steps": steps // 100}, {"warmup_ratio": 0.02}])
        if rng.random() < 0.5:
            schedule["warmup_start_factor"] = 0.1
    return schedule


def _loss(rng: random.Random) -> dict[str, Any]:
    loss: dict[str, Any] = {}
    if rng.random() < 0.8:
        first, last = rng.choice([(0.02, 1), (0.2, 20), (1, 1), (1, 15), (0.02, 2)])
        loss |= {"start_pref_e": first, "limit_pref_e": last}
        first, last = rng.choice([(1000, 1), (100, 60), (100.0, 20), (1, 1), (10, 10)])
        loss |= {"start_pref_f": first, "limit_pref_f": last}
    if rng.random() < 0.3:
        loss |= rng.choice([{"loss_func": "mae"}, {"use_huber": True, "huber_delta": 0.1}])
    return loss | _some(rng, {"type": ["ener"], "intensive_ener_virial": [True]}, 0.3)


def _data(rng: random.Random) -> dict[str, Any]:
    data: dict[str, Any] = {"systems": list(SYSTEMS)}
    data |= _some(
        rng, {"batch_size": [1, 2, "auto:3", "max:6", [1, 2], "auto:6"], "min_pair_dist": [0.3]}
    )
    probable = [
        {"auto_prob": "prob_uniform"},
        {"auto_prob": "prob_sys_size;0:1:0.3;1:2:0.7"},
        {"sys_probs": [0.25, 0.75]},
        {},
    ]
    validation = {"systems": rng.choice(["data/c", ["data/c"]])} | _some(
        rng, {"batch_size": [1, 2], "numb_btch": [1, 2]}
    )
    return {"training_data": data | rng.choice(probable), "validation_data": validation}


def _training(rng: random.Random, steps: int) -> dict[str, Any]:
    training: dict[str, Any] = {"numb_steps": steps} | _some(rng, TRAINING)
    if rng.random() < 0.3:
        training |= {"enable_ema": True, "ema_decay": 0.99, "ema_ckpt_keep": 2}
    return training


JUNK: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 3, 7, 40, 1000, 10**9, 0.0, 0.5, -0.5, 1.5, 6.0, 1e9, "",
    "auto", "auto:9", "x", "prob_uniform", [], [0], [1, 1], [0.5, 0.5], [[0, 1]], ["O", "H"],
    ["Na"], {},
)  # fmt: skip


def mutated(rng: random.Random, document: dict[str, Any], changes: int = 1) -> dict[str, Any]:
    """Return an input of which a few values are others, or are gone."""
    result: dict[str, Any] = copy.deepcopy(document)
    for _ in range(changes):
        places = list(_places(result))
        holder, key = rng.choice(places)
        if isinstance(holder, dict) and rng.random() < 0.2:
            del holder[key]
        elif rng.random() < 0.3:
            other, source = rng.choice(places)  # a value of another key, such as one of its kind
            holder[key] = copy.deepcopy(other[source]) if source in _keys(other) else 1
        else:
            holder[key] = copy.deepcopy(rng.choice(JUNK))
    return result


def _keys(holder: Any) -> list[Any]:
    return list(holder) if isinstance(holder, dict) else list(range(len(holder)))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the holder and the key of every value that is no section."""
    for key in _keys(value):
        if isinstance(value[key], (dict, list)) and value[key]:
            yield from _places(value[key])
        if not (isinstance(value[key], dict) and value[key]):
            yield value, key
