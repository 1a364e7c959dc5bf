from __future__ import annotations

import pytest
import torch
from torch import nn

from vvsbench.training.muon import Muon, orthogonal

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


@pytest.mark.parametrize("shape", [(3, 8, 24), (2, 24, 8), (1, 8, 8)])
def test_singular_values_come_near_one_and_vectors_stay(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(shape)
    found = orthogonal(matrices, COEFFICIENTS, 5, 1e-7)
    assert ((torch.linalg.svdvals(found) - 1).abs() < 0.5).all()
    u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
    inside = u.mT @ found @ vh.mT
    off = inside - torch.diag_embed(inside.diagonal(dim1=1, dim2=2))
    assert float(off.abs().max()) < 1e-3


def test_steps_are_those_of_torch() -> None:
    """But for the bfloat16 in which torch takes them."""
    weights = [[nn.Parameter(torch.randn(size)) for size in ((6, 10), (6, 10), (12, 4))] for _ in range(2)]
    for one, other in zip(*weights, strict=True):
        other.data.copy_(one.data)
    settings = {"lr": 0.1, "weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}
    optimizers = [Muon(weights[0], **settings), torch.optim.Muon(weights[1], **settings)]  # type: ignore[arg-type]
    for _ in range(3):
        for number, (one, other) in enumerate(zip(*weights, strict=True)):
            one.grad = None if number == 1 and len(optimizers[0].state) == 0 else torch.randn(one.shape)
            other.grad = None if one.grad is None else one.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for one, other in zip(*weights, strict=True):
        torch.testing.assert_close(one, other, atol=0.03, rtol=0.03)
