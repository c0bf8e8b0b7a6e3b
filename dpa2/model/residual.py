"""How a repformer layer combines a feature with its updates.

docs/deepmd-format.md, 3.8, update styles.
"""

from typing import TYPE_CHECKING, List

import torch
from torch import Tensor, nn

from dpa2.model.seeds import Seed, descend, generator

if TYPE_CHECKING:
    from dpa2.model.repformer_layer import RepformerOptions


class Residual(nn.Module):
    """Combine [u0, u1, ..., uk]: res_avg, res_incr, or res_residual with learnt scales.

    Args:
        width: Length of each scale vector.
        seeds: Seed index of each update's scale, in deepmd-kit's order of registration.
        options: The repformer's options.
        seed: Seed of the layer.
    """

    def __init__(
        self, width: int, seeds: list[int], *, options: "RepformerOptions", seed: Seed
    ) -> None:
        super().__init__()
        self.style = options.update_style
        scales = []
        for index in seeds if self.style == "res_residual" else []:
            scale = torch.full([width], options.update_residual, dtype=options.dtype)
            if options.update_residual_init == "norm":
                scale.normal_(
                    0.0, options.update_residual, generator=generator(descend(seed, index))
                )
            scales.append(nn.Parameter(scale))
        self.scales = nn.ParameterList(scales)

    def forward(self, updates: List[Tensor]) -> Tensor:
        """Return the combination of `updates`, whose first entry is the feature itself."""
        result = updates[0]
        num_updates = len(updates) - 1
        if self.style == "res_residual":
            for k, scale in enumerate(self.scales):
                result = torch.addcmul(result, updates[k + 1], scale)
            return result
        factor = 1.0
        if self.style == "res_incr" and num_updates > 0:
            factor = 1.0 / num_updates**0.5
        for k in range(num_updates):
            result = torch.add(result, updates[k + 1], alpha=factor)
        if self.style == "res_avg":
            result = result * (1.0 / (num_updates + 1) ** 0.5)
        return result
