"""What several models have in common: the very same modules and buffers.

docs/deepmd-format.md, 1.9, 4.5.
"""

from collections.abc import Mapping, Sequence

from dpa2.model.descriptor import Descriptor
from dpa2.model.energy import EnergyModel
from dpa2.model.fitting import EnergyFitting
from schemas.multitask import Link

_FITTING_BUFFERS = ("fparam_avg", "fparam_inv_std", "aparam_avg", "aparam_inv_std")


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
        model, owner = models[link.branch], models[link.owner]
        if link.component == "descriptor":
            _share_descriptor(model.descriptor, owner.descriptor, link.level)
        else:
            _share_fitting(model.fitting, owner.fitting)


def _share_descriptor(descriptor: Descriptor, owner: Descriptor, level: int) -> None:
    descriptor.type_embedding = owner.type_embedding
    if level == 0:
        descriptor.repinit = owner.repinit
        descriptor.three_body = owner.three_body
        descriptor.shape_map = owner.shape_map
        descriptor.repformer = owner.repformer


def _share_fitting(fitting: EnergyFitting, owner: EnergyFitting) -> None:
    fitting.hidden_layers = owner.hidden_layers
    fitting.output = owner.output
    for name in _FITTING_BUFFERS:
        setattr(fitting, name, getattr(owner, name))
