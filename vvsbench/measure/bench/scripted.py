"""Acceptance and skips as often as one says: what would such a drafter be worth in seconds?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vvsbench.axes import Guarantee
from vvsbench.decoding.acceptance import Match, Verdict
from vvsbench.decoding.schedule import Moment, Schedule
from vvsbench.drafting.tree import TokenTree


class Scripted(Match):
    """Accepts each level of the tree with a set probability, at the cost of the rule that it is derived from.

    It follows the path to the deepest node, so as far as the script goes there is always something to accept. For
    benches alone: its tokens mean nothing.

    Args:
        rate: probability that one more level is accepted.
    """

    guarantee = Guarantee.none
    chancy = True

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def judge(self, tree: TokenTree, scores: Tensor, chance: Tensor) -> Verdict:
        """See `AcceptanceRule.judge`."""
        own = super().judge(tree, scores, chance)
        depths = tree.depths.expand(len(scores), -1)
        deepest = depths.argmax(1)
        path = tree.path_to(deepest)
        passed = (chance.gather(1, path)[:, 1:] <= self.rate).long().cumprod(1).sum(1)
        accepted = torch.minimum(passed, depths.gather(1, deepest[:, None])[:, 0])
        return Verdict(path.gather(1, accepted[:, None])[:, 0], accepted, own.bonus)


@dataclass
class Bursts(Schedule):
    """One verified step, then so many skipped ones: what one skip more costs is what a skip costs.

    Attributes:
        skipped: in a row; decoder.skip.in_a_row must allow it.
    """

    name: str = "bursts"
    skipped: int = 1

    @property
    def period(self) -> int:
        """See `Schedule.period`."""
        return 1 + self.skipped

    def skips(self, moment: Moment) -> bool:
        """See `Schedule.skips`."""
        return moment.step % self.period > 0


def tokens_per_round(rate: float, levels: int) -> float:
    """Expected tokens of a verified round: the accepted ones and one more."""
    return sum(rate**level for level in range(levels + 1))


def rate_for(tokens: float, levels: int) -> float:
    """The rate at which a verified round gives so many tokens on average; at most 1."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if tokens_per_round(middle, levels) < tokens else (low, middle)
    return high
