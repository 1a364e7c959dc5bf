"""The published sequential rule (EAGLE-2, as released by LANTERN and VVS): siblings are tried one after the other.

A candidate x is accepted with probability p(x), its own drafting probability being taken as 1; a rejected one is taken
out of p before the next sibling is tried, and what is left of p at the last accepted node gives the bonus token. For
candidates that do not depend on chance this has the law of the target, exactly. The loop runs over levels and ranks,
not over nodes: every image of the batch tries the same rank at the same time.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vvsbench.axes import Guarantee
from vvsbench.decoding.acceptance.base import AcceptanceRule, Verdict
from vvsbench.drafting.tree import TokenTree
from vvsbench.sampling import draw


class Sequential(AcceptanceRule):
    """Try the children of the last accepted node in their order; subclasses may relax what is accepted."""

    guarantee = Guarantee.exact

    def judge(self, tree: TokenTree, scores: Tensor, chance: Tensor) -> Verdict:
        """See `AcceptanceRule.judge`."""
        node, rest = self.walk(tree, scores, chance)
        depth = tree.depths.expand(len(node), -1).gather(1, node[:, None])
        noise = tree.noise.gather(1, depth[..., None].expand(-1, -1, scores.shape[-1]))[:, 0]
        return Verdict(node, depth[:, 0], draw(rest.log(), noise))

    def walk(self, tree: TokenTree, scores: Tensor, chance: Tensor) -> tuple[Tensor, Tensor]:
        """Accept along the tree.

        Returns:
            The deepest accepted node int64 [B], and the distribution [B, V] that the token after it is drawn from.
        """
        batch = len(scores)
        parents = tree.parents.expand(batch, -1)
        below_root = tree.depths.expand(batch, -1) > 0
        node = torch.zeros(batch, dtype=torch.long, device=scores.device)
        rest = self._law(scores, node)
        moved = torch.ones_like(node, dtype=torch.bool)
        for _ in range(tree.levels):
            children = below_root & (parents == node[:, None]) & moved[:, None]
            rank = torch.where(children, children.cumsum(1), 0)
            chosen = torch.zeros_like(node)
            for number in range(1, tree.width + 1):
                open_ = (rank == number) & (chosen == 0)[:, None]
                candidate = open_.long().argmax(1)
                exists = open_.any(1)
                rest, accepted = self._try(tree, rest, candidate, exists, chance)
                chosen = torch.where(accepted, candidate, chosen)
            moved = chosen > 0
            node = torch.where(moved, chosen, node)
            rest = torch.where(moved[:, None], self._law(scores, node), rest)
        return node, rest

    @staticmethod
    def _law(scores: Tensor, node: Tensor) -> Tensor:
        """The target's distribution [B, V] after a node."""
        return scores.gather(1, node[:, None, None].expand(-1, 1, scores.shape[-1]))[:, 0].softmax(-1)

    def _try(
        self, tree: TokenTree, rest: Tensor, candidate: Tensor, exists: Tensor, chance: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Try one candidate per image.

        Returns:
            What is left of the distribution [B, V] where it was rejected, and whether it was accepted [B].
        """
        token = tree.tokens.gather(1, candidate[:, None])
        mass, removed = self.relaxed(rest, token)
        accepted = exists & (chance.gather(1, candidate[:, None])[:, 0] <= mass)
        left = rest.masked_fill(removed, 0.0)
        total = left.sum(-1, keepdim=True)
        left = torch.where(total > 0, left / total, self.exhausted(rest))
        return torch.where((exists & ~accepted)[:, None], left, rest), accepted

    def relaxed(self, rest: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
        """With what probability a token is accepted, and what its rejection takes out of the distribution.

        Args:
            rest: the distribution [B, V] as earlier rejections have left it.
            token: int64 [B, 1].

        Returns:
            Probability [B], and bool [B, V].
        """
        return rest.gather(1, token)[:, 0], torch.zeros_like(rest, dtype=torch.bool).scatter(1, token, True)

    def exhausted(self, rest: Tensor) -> Tensor:
        """What is drawn from when every token has been rejected, [B, V]: possible by rounding only."""
        return rest
