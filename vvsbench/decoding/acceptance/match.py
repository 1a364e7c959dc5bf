"""Acceptance by matching: the target draws its own token at every node, and the draft is kept while it equals it."""

from __future__ import annotations

import torch
from torch import Tensor

from vvsbench.axes import Guarantee
from vvsbench.decoding.acceptance.base import AcceptanceRule, Verdict
from vvsbench.drafting.tree import TokenTree
from vvsbench.fusing import fusible
from vvsbench.sampling import draw


class Match(AcceptanceRule):
    """Draw the target's own token at every node and walk to the child that equals it.

    The first drawn token that is no child becomes the next root. So each token is the target's own draw, whatever was
    proposed: the law is exact for any drafter and any tree, it is that of the sequential rule for deterministic
    candidates (EAGLE-2), and with noise keyed by position the tokens are those of vanilla AR (spec: shared noise). No
    rejection loop.
    """

    guarantee = Guarantee.exact
    chancy = False

    def judge(self, tree: TokenTree, scores: Tensor, chance: Tensor) -> Verdict:
        """See `AcceptanceRule.judge`."""
        depths = tree.depths.expand(len(scores), -1)
        wanted = draw(scores, tree.noise.gather(1, depths[..., None].expand(-1, -1, scores.shape[-1])))
        return Verdict(*_deepest(wanted, tree.tokens, tree.parents.expand(len(scores), -1), depths, tree.visible))


@fusible
def _deepest(
    wanted: Tensor, tokens: Tensor, parents: Tensor, depths: Tensor, visible: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The deepest node that is all hits, its depth and the token that the target wants behind it; int64 [B] each."""
    missed = (wanted.gather(1, parents) != tokens) & (depths > 0)
    reached = ~(visible & missed[:, None]).any(-1)
    node = torch.where(reached, depths, -1).argmax(1, keepdim=True)
    return node[:, 0], depths.gather(1, node)[:, 0], wanted.gather(1, node)[:, 0]
