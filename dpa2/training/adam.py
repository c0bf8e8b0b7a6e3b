"""Adam and AdamW, by torch's own arithmetic."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim.adam import adam


class Adam:
    """Adam over groups of parameters; holds and steps what `torch.optim.Adam` does.

    torch's class imports torch's compiler at its first step, which takes longer than all else
    that a training does before it. The arithmetic is the same function.

    Args:
        groups: Each with its `params`, and what else is kept with them.
        lr: Learning rate.
        betas: Decay of the means of the gradient and of its square.
        weight_decay: Of the weights: their share of the gradient, or of the step if `decoupled`.
        decoupled: AdamW.
        fused: All parameters in one kernel, on a GPU.

    Attributes:
        param_groups: Options and parameters of each group, under torch's names.
        state: `step`, `exp_avg` and `exp_avg_sq` of the parameters that have been stepped.
    """

    def __init__(
        self,
        groups: Sequence[Mapping[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
        decoupled: bool,
        fused: bool,
    ) -> None:
        options = {
            "lr": lr,
            "betas": betas,
            "eps": 1e-8,
            "weight_decay": weight_decay,
            "amsgrad": False,
            "maximize": False,
            "foreach": None,
            "capturable": False,
            "differentiable": False,
            "fused": fused,
            "decoupled_weight_decay": decoupled,
        }
        self.param_groups: list[dict[str, Any]] = [{**options, **group} for group in groups]
        self.fused = fused
        self.state: dict[Parameter, dict[str, Tensor]] = {}

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters that have a gradient."""
        for group in self.param_groups:
            stepped = [p for p in group["params"] if p.grad is not None]
            if not stepped:
                continue
            moments = [self._moments(p) for p in stepped]
            beta1, beta2 = group["betas"]
            options = ("lr", "eps", "weight_decay", "amsgrad", "maximize", "foreach", "fused")
            adam(
                stepped,
                [p.grad for p in stepped],
                [m["exp_avg"] for m in moments],
                [m["exp_avg_sq"] for m in moments],
                [],
                [m["step"] for m in moments],
                beta1=beta1,
                beta2=beta2,
                decoupled_weight_decay=group["decoupled_weight_decay"],
                **{name: group[name] for name in options},
            )

    def load(self, parameter: Parameter, moments: Mapping[str, Any]) -> None:
        """Take over the moments of a parameter from a checkpoint."""
        kept = {key: moments[key].to(parameter) for key in ("exp_avg", "exp_avg_sq")}
        step = torch.as_tensor(moments["step"], dtype=torch.float32)
        self.state[parameter] = {"step": step.to(self._place(parameter)), **kept}

    def _moments(self, parameter: Parameter) -> dict[str, Tensor]:
        if parameter not in self.state:
            self.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=self._place(parameter)),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        return self.state[parameter]

    def _place(self, parameter: Parameter) -> torch.device:
        """Return where the number of steps is kept: where the kernel that needs it runs."""
        return parameter.device if self.fused else torch.device("cpu")
