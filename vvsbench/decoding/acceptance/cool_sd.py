"""Cool-SD (arXiv 2601.09212): acceptance that is relaxed for the first drafts of a step and cools down along the path.

The draft at depth i is accepted with probability f = min(1, w_i p / q), where w_i = delta exp(-nu i - mu); what a
rejection leaves is max(p - q f, 0), renormalised, which is the paper's optimum for a given f. At w_i = 1 it is the
exact rule, and below it the exact law with fewer acceptances. The paper's value of mu could not be read; with -0.95
the weights of the five levels of its trees (EAGLE-1) have the mean delta, which is our reading.
"""

from __future__ import annotations

import math

from torch import Tensor

from vvsbench.axes import Guarantee
from vvsbench.decoding.acceptance.sequential import Walk, remainder


class CoolSD(Walk):
    """Sequential acceptance with a weight for each depth.

    Args:
        delta: the knob; the weights are proportional to it.
        nu: how fast they fall with the depth; 0 for the same at all.
        mu: shifts their logarithms down.
    """

    guarantee = Guarantee.none

    def __init__(self, delta: float, nu: float, mu: float) -> None:
        self.delta, self.nu, self.mu = delta, nu, mu

    def weight(self, depth: int) -> float:
        """What the target's probability of a draft at a depth counts with."""
        return self.delta * math.exp(-self.nu * depth - self.mu)

    def weigh(self, rest: Tensor, q: Tensor, token: Tensor, sampled: bool, depth: int) -> tuple[Tensor, Tensor]:
        """See `Walk.weigh`."""
        relaxed = rest * self.weight(depth)
        return relaxed.gather(1, token), remainder(rest, q.minimum(relaxed), otherwise=rest)
