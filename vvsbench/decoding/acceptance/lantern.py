"""LANTERN and LANTERN++ (arXiv 2410.03355, 2502.06352): a candidate may borrow the probability of its neighbours.

Tokens whose codes lie close decode to nearly the same picture. So candidate x counts with the mass
P(x) = p(x) + p(n1) + ... + p(nJ) in place of p(x), where n1, n2, ... are its neighbours in the codebook, nearest first,
at most k of them, and J is as large as a bound allows: what is borrowed stays at or below delta (LANTERN), or below
(lambda - 1) p(x) (LANTERN++).

The bound holds for one candidate, not for the law of the tokens: up to ten siblings borrow in turn, and each rejection
removes a neighbourhood. What a rejection removes is the residual mode.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vvsbench.axes import Guarantee, Residual
from vvsbench.decoding.acceptance.base import AcceptanceRule, Verdict
from vvsbench.decoding.acceptance.sequential import Walk, remainder
from vvsbench.drafting.tree import TokenTree
from vvsbench.sampling import Sampling

GONE = float("inf")
"""More than any probability: what is taken out of p as a whole."""


@dataclass(frozen=True)
class Relaxation:
    """What a candidate may borrow, and from whom.

    Attributes:
        neighbours: int32 [V, k or more], see `vvsbench.decoding.acceptance.neighbours`.
        k: neighbours that may be borrowed from.
        delta: the bound on what is borrowed, in [0, 1]; above 1 it is LANTERN++'s lambda.
    """

    neighbours: Tensor
    k: int
    delta: float

    def near(self, token: Tensor, count: int) -> Tensor:
        """The nearest codes int64 [N, count or fewer] of tokens [N, 1], nearest first."""
        return self.neighbours[token[:, 0], :count].long()

    def borrow(self, law: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
        """What tokens count with under a law.

        Args:
            law: distributions [N, V].
            token: int64 [N, 1].

        Returns:
            P [N, 1], and which of the k nearest are borrowed from, bool [N, k].
        """
        own = law.gather(1, token)
        borrowed = law.gather(1, self.near(token, self.k)).cumsum(1)
        within = borrowed <= (self.delta if self.delta <= 1 else (self.delta - 1) * own)
        return own + torch.where(within, borrowed, 0.0).amax(1, keepdim=True), within


class Lantern(Walk):
    """Relaxed acceptance: with probability P(x) / q(x) in place of p(x) / q(x).

    Args:
        relaxation: its table needs k + 1 columns for the residual `released`, where the codebook has as many.
        residual: what a rejection leaves of p, beside max(p - q, 0), where x had anybody to borrow from.
            `strict`: nothing else is done. `accepted_set`: those that x borrowed from are out of p; a rejection
            always leaves something, because it means that p has more outside them than q. `released`, the authors'
            code: for deterministic candidates all k + 1 nearest are out of p, and if nothing is left then every code
            of the codebook is equally likely; for sampled ones the k + 1 nearest keep all their p, since they are
            taken out of q first, and q is not renormalised.
    """

    guarantee = Guarantee.none

    def __init__(self, relaxation: Relaxation, residual: Residual) -> None:
        self.relaxation, self.residual = relaxation, residual

    def weigh(self, rest: Tensor, q: Tensor, token: Tensor, sampled: bool, depth: int) -> tuple[Tensor, Tensor]:
        """See `Walk.weigh`."""
        mass, within = self.relaxation.borrow(rest, token)
        otherwise = rest
        if self.residual is Residual.accepted_set:
            near = self.relaxation.near(token, self.relaxation.k)
            q = q.scatter(1, near, torch.where(within, GONE, q.gather(1, near)))
        elif self.residual is Residual.released:
            near = self.relaxation.near(token, self.relaxation.k + 1)
            q = q.scatter(1, near, torch.where(within[:, :1], 0.0 if sampled else GONE, q.gather(1, near)))
            otherwise = rest if sampled else torch.full_like(rest, 1 / rest.shape[-1])
        return mass, remainder(rest, q, otherwise)


class GreedyLantern(AcceptanceRule):
    """LANTERN at temperature 0: a candidate is kept if it is the likeliest token once it counts with P(x).

    No chance is involved. Several siblings may pass; the longest path is kept, and among equals the one that leads to
    the leaf of lowest number, which is the first in the authors' list. The bonus is the likeliest token after it,
    nothing borrowed.
    """

    guarantee = Guarantee.none
    chancy = False

    def __init__(self, relaxation: Relaxation) -> None:
        self.relaxation = relaxation

    def judged(self, sampling: Sampling) -> Sampling:
        """Guided logits as they are: borrowing is measured at temperature 1, without filters."""
        return Sampling()

    def judge(self, tree: TokenTree, scores: Tensor, chance: Tensor) -> Verdict:
        """See `AcceptanceRule.judge`."""
        batch, nodes, vocab = scores.shape
        parents, depths = tree.parents.expand(batch, -1), tree.depths.expand(batch, -1)
        laws = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32))
        laws = laws.gather(1, parents[..., None].expand(-1, -1, vocab)).flatten(0, 1)
        token = tree.tokens.reshape(-1, 1)
        mass, _ = self.relaxation.borrow(laws, token)
        hit = (laws.scatter(1, token, mass).argmax(-1, keepdim=True) == token).view(batch, nodes)
        hit[:, 0] = True
        reached = ~(tree.visible & ~hit[:, None]).any(-1)
        node = _first_deepest(tree, reached)
        bonus = scores.gather(1, node[:, None, None].expand(-1, 1, vocab))[:, 0].argmax(-1)
        return Verdict(node, depths.gather(1, node[:, None])[:, 0], bonus)


def _first_deepest(tree: TokenTree, reached: Tensor) -> Tensor:
    """The deepest of the nodes `reached` bool [B, T]; among equals the one that leads to the leaf of lowest number."""
    depth = torch.where(reached, tree.depths.expand_as(reached), -1)
    deepest = depth == depth.amax(1, keepdim=True)
    above = tree.visible & deepest[:, None] & tree.leaves[..., None]
    leaf = above.any(2).long().argmax(1, keepdim=True)
    return above.gather(1, leaf[..., None].expand(-1, -1, above.shape[2]))[:, 0].long().argmax(1)
