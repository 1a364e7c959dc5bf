"""How far a decoder's law is from the target's: total variation from samples, with the bias of small samples taken out.

The plug-in estimate, half the sum of |frequency - probability| over all outcomes, is far from 0 even for an exact
decoder: sampling noise alone adds up. Here

- the noise is made small: `ar` draws the same images with the same noise, and what its sample deviates from its own
  known law is taken off as far as the two agree (a control variate); what returns the tokens of `ar` has no noise left;
- what remains is accounted for: the deviation that was seen, shrunk by a factor s, would be seen as large as
  T(s) = 1/2 sum E|s d + noise|. The estimate is the total variation of the s at which T(s) is what was seen, and 0
  where noise alone explains as much;
- the interval's upper end is the s at which what was seen would be as rarely as small as 1 in 40.

The deviation is taken to be spread over the outcomes like the one that was seen. One that sits in a few of them is
overestimated, by less than 0.01 at the sizes used here. So the interval's lower end assumes nothing: one half of the
images says which outcomes are too frequent, the other half how much too frequent these are, which is at most the total
variation, whichever they are. tests/certify samples known laws of either kind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy.stats import norm
from torch import Tensor

from vvsbench.certify.law import counts

CONFIDENCE = 0.95
SIMULATED = 400
"""Gaussian samples that the spread of T is taken from."""


@dataclass(frozen=True)
class Distance:
    """Total variation with its interval."""

    tv: float
    low: float
    high: float


def total_variation(outcomes: Tensor, paired: Tensor, law: Tensor) -> Distance:
    """Distance between the law of a sample and a known one.

    Args:
        outcomes: int64 [n], of the decoder.
        paired: int64 [n], of an exact decoder for the same images.
        law: float64 [K].
    """
    deviation, noise = _deviation(outcomes, paired, law)
    seen = float(deviation.abs().sum() / 2)
    factor = _shrunk(deviation, noise, seen)
    above = seen + norm.isf((1 - CONFIDENCE) / 2) * _spread(deviation, noise, factor)
    tv, high = (min(1.0, value * seen) for value in (factor, _shrunk(deviation, noise, above)))
    return Distance(tv, min(tv, _at_least(outcomes, paired, law)), high)


def _at_least(outcomes: Tensor, paired: Tensor, law: Tensor) -> float:
    """A lower confidence bound: how much too frequent in one half of the images is what was so in the other half."""
    half = torch.arange(len(outcomes)) % 2
    excess, variance = 0.0, 0.0
    for part in (0, 1):
        chosen = _deviation(outcomes[half == part], paired[half == part], law)[0] > 0
        inside = [chosen[drawn[half != part]].double() for drawn in (outcomes, paired)]
        share = float(torch.cov(torch.stack(inside))[0, 1] / inside[1].var().clamp_min(1e-300))
        excess += float((inside[0] - share * inside[1]).mean() - (1 - share) * law[chosen].sum()) / 2
        variance += float((inside[0] - share * inside[1]).var()) / len(inside[0]) / 4
    return max(0.0, excess - norm.isf((1 - CONFIDENCE) / 2) * math.sqrt(variance))


def _deviation(outcomes: Tensor, paired: Tensor, law: Tensor) -> tuple[Tensor, Tensor]:
    """Estimate of what the decoder's law deviates, and its standard error, float64 [K] each."""
    draws = len(outcomes)
    own, other = counts(outcomes, law) / draws, counts(paired, law) / draws
    both = counts(outcomes[outcomes == paired], law) / draws
    covariance = both - own * other
    share = float(covariance.sum() / (law * (1 - law)).sum().clamp_min(1e-300))
    variance = own * (1 - own) + share**2 * other * (1 - other) - 2 * share * covariance
    variance += (1 - share) ** 2 * len(law) / (draws + len(law)) * (law - own)  # what never came up has noise as well
    return own - law - share * (other - law), (variance.clamp_min(0) / draws).sqrt()


def _expected(deviation: Tensor, noise: Tensor, factor: float) -> float:
    """T(factor): the mean of a folded normal variable, summed over the outcomes."""
    mean, floor = factor * deviation.abs(), noise.clamp_min(1e-12)
    z = mean / floor
    folded = floor * math.sqrt(2 / math.pi) * (-z * z / 2).exp() + mean * torch.erf(z / math.sqrt(2))
    return float(folded.sum() / 2)


def _shrunk(deviation: Tensor, noise: Tensor, value: float) -> float:
    """The factor at which T is a value; 0 where it is larger even there."""
    low, high = 0.0, 1.0
    if value <= _expected(deviation, noise, low):
        return low
    while _expected(deviation, noise, high) < value:
        high *= 2
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if _expected(deviation, noise, middle) > value else (middle, high)
    return (low + high) / 2


def _spread(deviation: Tensor, noise: Tensor, factor: float) -> float:
    """The standard deviation of what is seen where the true deviation is the one that was seen, shrunk."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(SIMULATED, len(noise), generator=generator, dtype=noise.dtype)
    return float(((factor * deviation + noise * normal).abs().sum(1) / 2).std())
