"""Measure how often a drafter's candidates hit, which is what a static tree is fitted to.

`python -m vvsbench.decoding.fitting model=tiny` decodes some images with trees of depth one and prints, by rank,
how often the target's token was the drafter's candidate of that rank: the `hit_rates` of conf/drafter. Under shared
noise the ranks are those of log q + G, which depend on the drafter, the target and the sampling setting alike.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
from torch import Tensor

from vvsbench.axes import Candidates
from vvsbench.composition import composed
from vvsbench.decoding import build
from vvsbench.decoding.acceptance import Match, Verdict
from vvsbench.decoding.schedule import Always
from vvsbench.decoding.speculative import Grid, Speculative
from vvsbench.drafting.growing import StaticTree
from vvsbench.drafting.tree import TokenTree

IMAGES, BATCH = 64, 16


class RankCounter(Match):
    """Matches, and counts which child of the root was the target's token."""

    def __init__(self, ranks: int) -> None:
        self.hits = torch.zeros(ranks + 1, dtype=torch.long)

    def judge(self, tree: TokenTree, scores: Tensor, chance: Tensor) -> Verdict:
        """See `AcceptanceRule.judge`; node r of a tree of depth one is the candidate of rank r - 1, node 0 a miss."""
        verdict = super().judge(tree, scores, chance)
        self.hits += torch.bincount(verdict.node.cpu(), minlength=len(self.hits))
        return verdict


def hit_rates(decoder: Speculative, candidates: Candidates, ranks: int, images: int = IMAGES) -> list[float]:
    """How often the target's token is the candidate of each rank.

    Args:
        decoder: lends its target, drafter and sampling setting.
        candidates: which tokens are proposed.
        ranks: how many.
        images: how many to decode; their indices lie far from those of any image set.
    """
    counter = RankCounter(ranks)
    tree = StaticTree([(rank,) for rank in range(ranks)], decoder.target.device)
    probe = Speculative(decoder.target, decoder.source, Grid(tree, candidates, counter, Always()), decoder.sampling)
    for first in range(0, images, BATCH):
        size = min(BATCH, images - first)
        conditions = decoder.target.conditions([7 * (first + row) % 64 for row in range(size)])
        probe.generate(conditions, range(2**32 + first, 2**32 + first + size), seed=0)
    return [round(float(hits) / float(counter.hits.sum()), 4) for hits in counter.hits[1:]]


def main(overrides: Sequence[str]) -> int:
    """Print the rates of both kinds of candidates for the decoder `sd` under the given overrides."""
    cfg = composed(["decoder=sd", *overrides])
    decoder = build(cfg, torch.device("cpu"), torch.float32)
    assert isinstance(decoder, Speculative)
    for candidates in Candidates:
        print(f"{candidates}: {hit_rates(decoder, candidates, ranks=10)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
