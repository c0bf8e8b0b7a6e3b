"""Networks built from the checked `model` section, and what several of them share.

docs/deepmd-format.md, 1.2 - 1.5, 1.9, 3.12, 4.5.
"""

from collections.abc import Mapping, Sequence

from dpa2.model.energy import EnergyModel
from schemas.input.model import Model
from schemas.input.root import Link

_SHARED_PARTS = {
    "descriptor": ("type_embedding", "repinit", "three_body", "shape_map", "repformer"),
    "fitting_net": (
        *("hidden_layers", "output"),
        *("fparam_avg", "fparam_inv_std", "aparam_avg", "aparam_inv_std"),
    ),
}


def build_model(config: Model) -> EnergyModel:
    """Build a DPA-2 energy model with deepmd-kit's initial weights for the same seeds.

    Args:
        config: The checked model section; every neighbour capacity is a number.

    Raises:
        ConfigError: If a capacity is still `auto`, or the precision is unusable.
    """
    model = EnergyModel(config)
    if not config.descriptor.trainable:
        model.descriptor.requires_grad_(False)
    trainable = config.fitting_net.trainable
    if not (all(trainable) if isinstance(trainable, list) else trainable):
        model.fitting.requires_grad_(False)
    return model


def share(models: Mapping[str, EnergyModel], links: Sequence[Link]) -> None:
    """Let linked branches use the owner's modules; what was theirs is dropped.

    Level 0 of a descriptor shares all but `tebd_transform`, which stays with each branch; level 1
    the type embedding alone. A fitting net keeps `bias_atom_e` and `case_embd` for each branch.

    Args:
        models: The branches, all on the same device: moving a model afterwards would give each a
            buffer of its own again.
        links: What is shared, the owner first.
    """
    for link in links:
        if link.branch == link.owner:
            continue
        mine, owners = (
            model.descriptor if link.component == "descriptor" else model.fitting
            for model in (models[link.branch], models[link.owner])
        )
        parts = _SHARED_PARTS[link.component]
        if link.component == "descriptor" and link.level > 0:
            parts = ("type_embedding",)
        for name in parts:
            setattr(mine, name, getattr(owners, name))
