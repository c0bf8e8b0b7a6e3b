"""Rules about keys without effect, and about parts of a model that this engine lacks."""

from collections.abc import Iterator

from schemas.diagnostics import Path
from schemas.fields import Field, marked
from schemas.input import Input
from schemas.marks import Needs
from schemas.network import canonical_precision
from schemas.partial import UnusableError
from schemas.rules.data_folders import sections
from schemas.rules.rule import Fault, rule, warning
from schemas.section import Section
from schemas.unsupported import (
    Unsupported,
    foreign_distribution,
    foreign_parts,
    foreign_records,
    foreign_terms,
    unequal_trainable,
)

_IGNORED = {
    "model": ("data_bias_nsample", "srtab_add_bias"),
    "model.fitting_net": ("layer_name", "rcond"),
    "learning_rate": ("scale_by_worker",),
    "training": (
        "acc_freq",
        "mixed_precision",
        "enable_compile",
        "enable_tf32",
        "neighbor_graph_method",
    ),
    "validating": ("compiled_infer", "tf32_infer", "amp_infer"),
}


@rule("ZOO111", "keys have an effect")
def keys_have_effect(config: Input) -> Iterator[Fault]:
    """Warn of keys that are ignored: by the PyTorch backend, or because of another key."""
    yield from _keys_of_what_is_off(config)
    for path, names in _IGNORED.items():
        section: Section = config
        for part in path.split("."):
            section = getattr(section, part)
        for name in names:
            if name in section.model_fields_set and _matters(section, name):
                message = f"`{name}` has no effect in the PyTorch backend"
                fault = warning(f"{path}.{name}", message, "remove it")
                yield Fault(fault.path, message, "remove it", severity="warning", at="key")


def _keys_of_what_is_off(config: Input) -> Iterator[Fault]:
    for field, needs in marked(config, Needs):
        if field.given and field.value != field.default and unmet(field, needs):
            name, others = str(field.path[-1]), " or ".join(f"`{key}`" for key in needs.keys)
            message = f"`{name}` has no effect: it goes with {others}"
            yield Fault(field.path, message, "remove it", severity="warning", at="key")


def unmet(field: Field, needs: Needs) -> bool:
    """Return whether a key is without effect because of the other keys of its section."""
    return not any(getattr(field.section, key) for key in needs.keys)


def _matters(section: Section, name: str) -> bool:
    """Return whether a key is written with a value other than its default."""
    defaults = {"data_bias_nsample": 10, "srtab_add_bias": True, "scale_by_worker": "linear"}
    defaults |= {"acc_freq": 1, "neighbor_graph_method": "auto"}
    try:
        value = getattr(section, name)
    except UnusableError:
        return False
    return value not in (None, False) if name not in defaults else value != defaults[name]


@rule("ZOO113", "the model has only parts that this engine has")
def parts_are_ours(config: Input) -> Iterator[Fault]:
    """Refuse parts of a model that this engine does not have."""
    for item in foreign_parts(config.model):
        yield elsewhere(("model", *item.path), item)
    if config.model.type_embedding is not None:
        message = "`type_embedding` is of the TensorFlow backend; DPA-2 has its own"
        hint = "remove it; `tebd_dim` of repinit is its width"
        yield Fault("model.type_embedding", message, hint, at="key")
    if config.nvnmd is not None:
        message = "`nvnmd`: this engine does not train for that hardware"
        yield Fault("nvnmd", message, "remove it", at="key")


def elsewhere(path: Path, item: Unsupported) -> Fault:
    """Return the fault of what only deepmd-kit trains: for its users it is none."""
    return Fault(path, item.message, item.hint, at="key", for_deepmd="note")


@rule("ZOO345", "the training is one process", scope="single-task")
def one_process_trains(config: Input) -> Iterator[Fault]:
    """Refuse to distribute what only deepmd-kit distributes; it does so in single tasks only."""
    for item in foreign_distribution(config.training):
        yield elsewhere(("training", *item.path), item)


@rule("ZOO341", "the run and the loss ask for what the trainer does")
def run_is_ours(config: Input) -> Iterator[Fault]:
    """Refuse records of a run and terms of a loss that only deepmd-kit has."""
    for item in foreign_records(config.training):
        yield elsewhere(("training", *item.path), item)
    for item in foreign_terms(config.loss):
        yield elsewhere(("loss", *item.path), item)


@rule("ZOO342", "a list trainable has a value for each layer")
def every_layer_is_told(config: Input) -> Iterator[Fault]:
    """Demand one value a layer; the list counts as a whole."""
    for item in unequal_trainable(config.model):
        yield Fault(("model", *item.path), item.message, item.hint)


@rule("ZOO343", "deepmd-kit makes batches by the same rule")
def batches_are_portable(config: Input) -> Iterator[Fault]:
    """Say that a rule for batches is ours alone."""
    for name, section in sections(config):
        if isinstance(section.batch_size, str) and section.batch_size.startswith("mixed:"):
            message = f"deepmd-kit's PyTorch backend does not know `{section.batch_size}`"
            hint = 'it trains here; for deepmd-kit write "auto:N" or "max:N"'
            path = f"training.{name}.batch_size"
            yield Fault(path, message, hint, severity="note", for_deepmd="error")


@rule("ZOO344", "descriptor and fitting net have one precision")
def precision_is_one(config: Input) -> Iterator[Fault]:
    """Warn of networks of different precision, most often a key that was forgotten."""
    descriptor = canonical_precision(config.model.descriptor.precision)
    fitting = canonical_precision(config.model.fitting_net.precision)
    if descriptor != fitting:
        message = f"the descriptor computes in {descriptor}, the fitting net in {fitting}"
        hint = "the coarser one decides how exact energies are; write one `precision` in both"
        yield warning("model.fitting_net.precision", message, hint)
