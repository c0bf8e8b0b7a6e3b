"""Our Adam steps, and keeps, what torch's does."""

import pytest
import torch

from dpa2.training.adam import Adam


def parameters() -> list[torch.nn.Parameter]:
    torch.manual_seed(3)
    shapes = [(4, 3), (5,), (2, 2)]
    return [torch.nn.Parameter(torch.randn(s, dtype=torch.float64)) for s in shapes]


@pytest.mark.parametrize(
    ("theirs", "decoupled", "decay"),
    [
        (torch.optim.Adam, False, 0.0),
        (torch.optim.Adam, False, 0.1),
        (torch.optim.AdamW, True, 0.1),
    ],
)
def test_steps_as_torch_does(theirs, decoupled, decay):
    mine, other = parameters(), parameters()
    options = {"lr": 1e-2, "betas": (0.8, 0.99), "weight_decay": decay, "fused": False}
    ours = Adam([{"params": mine[:2]}, {"params": mine[2:]}], decoupled=decoupled, **options)
    peer = theirs([{"params": other[:2]}, {"params": other[2:]}], **options)
    for step in range(5):
        for group in (*ours.param_groups, *peer.param_groups):
            group["lr"] = 1e-2 / (step + 1)
        for optimizer, members in ((ours, mine), (peer, other)):
            optimizer.zero_grad()
            # The last parameter never has a gradient, as one that is frozen.
            sum((p * p).sum() * p.sum() for p in members[:2]).backward()
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(mine, other, strict=True))
    assert mine[2] not in ours.state
    for a, b in zip(mine[:2], other[:2], strict=True):
        assert ours.state[a].keys() == peer.state[b].keys()
        assert all(torch.equal(ours.state[a][key], peer.state[b][key]) for key in ours.state[a])
    for group, known in zip(ours.param_groups, peer.param_groups, strict=True):
        assert {**group, "params": 0} == {**known, "params": 0}
