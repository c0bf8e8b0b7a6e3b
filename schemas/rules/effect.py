"""Rules about keys without effect, and about parts of a model that this engine lacks."""

from collections.abc import Iterator

from schemas.fields import Field, marked
from schemas.input import Input
from schemas.marks import Needs
from schemas.partial import UnusableError
from schemas.rules.rule import Fault, rule, warning
from schemas.section import Section

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
_LACKING = ("spin", "modifier", "type_embedding", "compress", "use_srtab")


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
    for name in _LACKING:
        if getattr(config.model, name) is not None:
            message = f"`{name}`: this engine does not have it"
            hint = "remove it, or train this model with deepmd-kit"
            if name == "type_embedding":
                message = "`type_embedding` is of the TensorFlow backend; DPA-2 has its own"
                hint = "remove it; `tebd_dim` of repinit is its width"
            yield Fault(f"model.{name}", message, hint, at="key")
    if config.model.bridging_method.lower() != "none":
        message = "`bridging_method`: this engine does not have it"
        yield Fault("model.bridging_method", message, "remove it")
    if config.nvnmd is not None:
        message = "`nvnmd`: this engine does not train for that hardware"
        yield Fault("nvnmd", message, "remove it", at="key")
