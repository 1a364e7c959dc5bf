"""The measured total variation is the true one where that is known, and its interval holds it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vvsbench.certify.distance import total_variation
from vvsbench.certify.relaxed import NEIGHBOURS
from vvsbench.certify.toys import law as law_of
from vvsbench.sampling import Sampling

LAW = law_of(NEIGHBOURS, Sampling())
DRAWS, REPEATS = 20_000, 12


def spread(share: float) -> Tensor:
    """A law whose deviation lies in all outcomes."""
    generator = torch.Generator().manual_seed(2)
    other = LAW * (1 + 0.5 * torch.randn(len(LAW), generator=generator, dtype=LAW.dtype)).clamp_min(0)
    return LAW + share * (other / other.sum() - LAW)


def concentrated(share: float) -> Tensor:
    """A law that gives one outcome too much."""
    other = LAW.clone()
    other[0] += 0.3
    return LAW + share * (other / other.sum() - LAW)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.4, 1.0])
@pytest.mark.parametrize("shape", [spread, concentrated])
def test_known_distances(shape, share: float) -> None:
    true, generator = shape(share), torch.Generator().manual_seed(1)
    expected = float((true - LAW).abs().sum() / 2)
    found = []
    for _ in range(REPEATS):
        sample, other = (torch.multinomial(law, DRAWS, True, generator=generator) for law in (true, LAW))
        found.append(total_variation(sample, other, LAW))
    mean = sum(one.tv for one in found) / REPEATS
    assert mean == pytest.approx(expected, abs=0.015)
    assert sum(one.low <= expected <= one.high for one in found) >= REPEATS - 2
    assert all(one.low <= one.tv <= one.high for one in found)


def test_the_plug_in_estimate_would_be_far_off() -> None:
    generator = torch.Generator().manual_seed(1)
    sample = torch.multinomial(LAW, DRAWS, True, generator=generator)
    plug_in = float((torch.bincount(sample, minlength=len(LAW)) / DRAWS - LAW).abs().sum() / 2)
    assert plug_in > 0.04


def test_the_tokens_of_ar_are_at_no_distance() -> None:
    sample = torch.multinomial(LAW, DRAWS, True, generator=torch.Generator().manual_seed(1))
    found = total_variation(sample, sample.clone(), LAW)
    assert (found.tv, found.low, found.high) == pytest.approx((0, 0, 0), abs=1e-6)


def test_shared_noise_narrows_the_interval() -> None:
    generator = torch.Generator().manual_seed(1)
    first, second = (torch.multinomial(LAW, DRAWS, True, generator=generator) for _ in range(2))
    shifted = torch.where(torch.rand(DRAWS, generator=generator) < 0.05, 0, first)
    expected = 0.05 * float(1 - LAW[0])
    paired, alone = (total_variation(shifted, other, LAW) for other in (first, second))
    assert paired.tv == pytest.approx(expected, abs=0.005)
    assert paired.high - paired.low < (alone.high - alone.low) / 2
