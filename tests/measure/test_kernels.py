"""What a step dispatches is counted, and stays as low as it was brought."""

from __future__ import annotations

import pytest
import torch

from vvsbench.composition import composed
from vvsbench.decoding import build
from vvsbench.measure.kernels import KernelCounter, per_step

MOST = {"ar": 78, "sd": 325, "eagle2": 530, "jacobi": 200}
"""Operations per step of the tiny zoo: what they were, and a twentieth."""


def test_views_are_not_counted() -> None:
    x = torch.zeros(4, 4)
    with KernelCounter() as counter:
        y = (x.T[:2] + 1).T
    assert y.shape == (4, 2)
    assert counter.seen == {"aten.add.Tensor": 1}


@pytest.mark.parametrize("name", MOST)
def test_a_step_has_no_more_operations_than_it_had(name: str) -> None:
    decoder = build(composed(["model=tiny", f"decoder={name}"]), torch.device("cpu"), torch.float32)
    assert per_step(decoder) <= MOST[name]
