"""Branches that are about to share a part, but have loaded different ones."""

from collections.abc import Mapping, Sequence

import torch

from dpa2.convert.deepmd import DESCRIPTOR, FITTING, to_deepmd_state
from dpa2.model.energy import EnergyModel
from schemas.multitask import Link


def unequal_parts(models: Mapping[str, EnergyModel], links: Sequence[Link]) -> list[str]:
    """Return a warning for each branch whose weights give way to those of the part's owner.

    Args:
        models: The branches, no part shared yet.
        links: What will be shared, the owner first.
    """
    found = []
    for link in links:
        if link.branch == link.owner:
            continue
        ours, owners = (to_deepmd_state(models[name]) for name in (link.branch, link.owner))
        shared = [name for name in ours if name in owners and _is_shared(name, link)]
        if not all(torch.equal(ours[name], owners[name]) for name in shared):
            found.append(
                f"warning: branch {link.branch} shares its {link.component} with {link.owner}, and "
                f"so starts with the one of {link.owner}: what is loaded or drawn for it differs"
            )
    return found


def _is_shared(name: str, link: Link) -> bool:
    if link.component == "fitting_net":
        return name.startswith(FITTING + "filter_layers.")
    if link.level > 0:
        return name.startswith(DESCRIPTOR + "type_embedding.")
    return name.startswith(DESCRIPTOR) and not name.startswith(DESCRIPTOR + "tebd_transform.")
