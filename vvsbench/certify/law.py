"""Does a sample have the enumerated law? Tests, their correction for many of them, and their power.

Two statistics are looked at: Pearson's chi-square over all outcomes, and the same over pairs of tokens, each with its
neighbour and the first with the last, which puts all power into the few degrees of freedom where a decoder that
forgets what it has drafted goes wrong.

Power. If a decoder's law q lies at total variation t from the target's p, then the noncentrality of the chi-square over
all outcomes is n sum (q - p)^2 / p >= n (sum |q - p|)^2 = 4 n t^2 by Cauchy and Schwarz, whatever the deviation looks
like. So the noncentral distribution gives the t from which on every deviation is detected.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.stats import chi2, ncx2
from torch import Tensor

ENOUGH = 5
"""Outcomes that are expected fewer times than this are pooled."""
STATISTICS = 2
"""The whole outcome, and the pairs: each has half of a test's level."""


def counts(outcomes: Tensor, law: Tensor) -> Tensor:
    """How often each outcome came up, float64 [K]."""
    return torch.bincount(outcomes, minlength=len(law)).double()


def chi_square(observed: Tensor, law: Tensor) -> float:
    """P-value of counts float64 [K] against a law [K]; 0 where something impossible came up."""
    if observed[law == 0].any():
        return 0.0
    expected = law * observed.sum()
    rare = (expected < ENOUGH) & (law > 0)
    common = (law > 0) & ~rare
    seen, wanted = observed[common], expected[common]
    if rare.any():
        seen, wanted = (torch.cat([a, b[rare].sum()[None]]) for a, b in ((seen, observed), (wanted, expected)))
    statistic = float(((seen - wanted) ** 2 / wanted).sum())
    return float(chi2.sf(statistic, len(seen) - 1)) if len(seen) > 1 else 1.0


def pairs(tokens: int) -> list[tuple[int, int]]:
    """Positions of neighbouring tokens, and of the first and the last."""
    neighbours = [(place, place + 1) for place in range(tokens - 1)]
    return neighbours + ([(0, tokens - 1)] if tokens > 2 else [])


def p_value(outcomes: Tensor, law: Tensor, tokens: int) -> float:
    """Of a sample: the least of its statistics, corrected for their number.

    Args:
        outcomes: int64 [n].
        law: float64 [V ** N].
        tokens: N.
    """
    found = counts(outcomes, law)
    vocab = round(len(law) ** (1 / tokens))
    shape = [vocab] * tokens
    smallest = []
    for pair in pairs(tokens):
        others = [place for place in range(tokens) if place not in pair]
        both = (grid.view(shape).sum(others).flatten() if others else grid for grid in (found, law))
        smallest.append(chi_square(*both))
    joint = min(1.0, len(smallest) * min(smallest))
    return min(1.0, STATISTICS * min(chi_square(found, law), joint))


def holm(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Which of many tests stand when at most a share alpha of all such families may raise a false alarm (Holm 1979)."""
    stands = [True] * len(p_values)
    for place, index in enumerate(np.argsort(p_values)):
        if p_values[index] > alpha / (len(p_values) - place):
            break
        stands[index] = False
    return stands


def detectable(law: Tensor, draws: int, level: float, power: float = 0.99) -> float:
    """The total variation from which on the chi-square over all outcomes rejects with the given power.

    What deviates within the pooled outcomes only is not seen.

    Args:
        law: of the target.
        draws: sample size.
        level: of the test of one sample, both statistics together.
        power: probability of rejection.
    """
    expected = law * draws
    rare = (expected < ENOUGH) & (law > 0)
    freedom = int((expected >= ENOUGH).sum()) + int(rare.any()) - 1
    critical = chi2.isf(level / STATISTICS, freedom)
    needed = brentq(lambda value: ncx2.sf(critical, freedom, value) - power, 1e-6, 100 * critical)
    return float((needed / (4 * draws)) ** 0.5)


def differing(images: int, power: float = 0.99) -> float:
    """The share of differing images that a comparison of so many, image by image, finds with the given power.

    Two decoders that draw the same in all but a share f of the images lie within total variation f of each other.
    """
    return float(1 - (1 - power) ** (1 / images))
