"""Grouped speculative decoding (GSD, arXiv 2508.07747): a draft is judged by a group of tokens that are like it.

Image tokens stand for each other, so the drafter need not hit the token, only its group: draft x is accepted with
probability min(1, p(C) / q(C)), the mass of its group under both laws. The group of x are the tokens next to it in the
order of the target's probabilities, of those the ones of nearly the same probability whose codes lie close to that
of x. What a rejection leaves is max(p - q, 0), as in the exact rule, so the law is not the target's.

As in the authors' code the group goes by rank, from size / 2 below x to size / 2 - 1 above it, x included.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vvsbench.axes import Guarantee
from vvsbench.decoding.acceptance.sequential import Walk, remainder


class GSD(Walk):
    """Sequential acceptance by groups.

    Args:
        codes: float [V, D] unit-length rows of the codebook.
        size: tokens of a group before the filters; 1 is the exact rule.
        probability: largest difference in probability within a group.
        distance: largest cosine distance of codes within a group.
    """

    guarantee = Guarantee.none

    def __init__(self, codes: Tensor, size: int, probability: float, distance: float) -> None:
        self.codes, self.size = codes, size
        self.probability, self.distance = probability, distance

    def weigh(self, rest: Tensor, q: Tensor, token: Tensor, sampled: bool, depth: int) -> tuple[Tensor, Tensor]:
        """See `Walk.weigh`."""
        members, within = self._group(rest, token)
        ours = (rest.gather(1, members) * within).sum(1, keepdim=True)
        theirs = (q.gather(1, members) * within).sum(1, keepdim=True)
        return ours / theirs * q.gather(1, token), remainder(rest, q, otherwise=rest)

    def _group(self, law: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens int64 [B, size] around `token` [B, 1] by rank under a law [B, V], and bool which of them count."""
        order = law.argsort(dim=1)
        place = (order == token).long().argmax(1, keepdim=True)
        ranks = place + torch.arange(self.size, device=law.device) - self.size // 2
        members = order.gather(1, ranks.clamp(0, law.shape[1] - 1))
        alike = (law.gather(1, members) - law.gather(1, token)).abs() < self.probability
        near = 1 - (self.codes[members] * self.codes[token]).sum(-1) < self.distance
        real = (ranks >= 0) & (ranks < law.shape[1])
        return members, (real & alike & near) | (members == token)
