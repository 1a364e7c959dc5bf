"""LANTERN and LANTERN++ (arXiv 2410.03355, 2502.06352): a candidate may borrow the probability of its neighbours.

Tokens whose codes lie close decode to nearly the same picture. So candidate x is accepted with probability
p(x) + p(n1) + ... + p(nJ), where n1, n2, ... are its neighbours in the codebook, nearest first, at most k of them, and
J is as large as a bound allows: their sum stays at or below delta (LANTERN), or below (lambda - 1) p(x) (LANTERN++).

The bound holds for one candidate, not for the law of the tokens: up to ten siblings borrow in turn, and each rejection
removes a neighbourhood. What a rejection removes is the residual mode.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vvsbench.axes import Guarantee, Residual
from vvsbench.decoding.acceptance.sequential import Sequential


def nearest(codebook: Tensor, count: int, normalised: bool) -> Tensor:
    """The nearest other codes of every code, nearest first, int64 [V, count].

    Args:
        codebook: rows [V, C] as stored.
        count: neighbours per code, at most V - 1.
        normalised: compare rows of unit length, as the tokenizer decodes them; the authors compare raw rows.
    """
    rows = torch.nn.functional.normalize(codebook.double(), dim=-1) if normalised else codebook.double()
    found = []
    for start in range(0, len(rows), 1024):
        distance = torch.cdist(rows[start : start + 1024], rows)
        own = torch.arange(start, min(start + 1024, len(rows)), device=rows.device)
        distance.scatter_(1, own[:, None], float("inf"))
        found.append(distance.topk(count, largest=False).indices)
    return torch.cat(found)


class Lantern(Sequential):
    """Relaxed acceptance.

    Args:
        neighbours: int64 [V, k + 1] or more columns, see `nearest`; the released rejection removes k + 1 of them.
        k: neighbours that may be borrowed from.
        delta: the bound on what is borrowed, in (0, 1]; above 1 it is LANTERN++'s lambda.
        residual: what a rejection removes beside the candidate. `released`: all k + 1 nearest tokens if any was
            borrowed from (the authors' code; when nothing is left, every code of the codebook is equally likely).
            `accepted_set`: those that were borrowed from. `strict`: none.
    """

    guarantee = Guarantee.none

    def __init__(self, neighbours: Tensor, k: int, delta: float, residual: Residual) -> None:
        self.neighbours, self.k, self.delta, self.residual = neighbours, k, delta, residual

    def relaxed(self, rest: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
        """See `Sequential.relaxed`."""
        own, removed = super().relaxed(rest, token)
        near = self.neighbours[token[:, 0]]
        borrowed = rest.gather(1, near[:, : self.k]).cumsum(1)
        bound = torch.full_like(own, self.delta) if self.delta <= 1 else (self.delta - 1) * own
        within = borrowed <= bound[:, None]
        mass = own + torch.where(within, borrowed, 0.0).amax(1)
        if self.residual is Residual.released:
            removed = removed.scatter(
                1, near[:, : self.k + 1], within[:, :1].expand(-1, near[:, : self.k + 1].shape[1])
            )
        elif self.residual is Residual.accepted_set:
            removed = removed.scatter(1, near[:, : self.k], within)
        return mass, removed.scatter(1, token, True)

    def exhausted(self, rest: Tensor) -> Tensor:
        """See `Sequential.exhausted`; the authors fall back to the whole codebook."""
        return torch.full_like(rest, 1 / rest.shape[-1]) if self.residual is Residual.released else rest
