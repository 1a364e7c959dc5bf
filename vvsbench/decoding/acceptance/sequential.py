"""The sequential rule (EAGLE-1 and EAGLE-2, as released by LANTERN and VVS): siblings are tried one after the other.

A candidate x is accepted with probability min(1, p(x) / q(x)); a rejection leaves max(p - q, 0), renormalised, to the
next sibling, and what is left of p at the last accepted node gives the bonus token. Here q is the law that this very
candidate was drawn from:

- candidates that do not depend on chance (EAGLE-2's top-k): q is one at the candidate. It is accepted with p(x), and
  a rejection takes it out of p.
- a sample without replacement (EAGLE-1): q is the drafter's law without the siblings drawn before, renormalised.

Both have the law of the target, exactly, as long as siblings are tried in the order in which they were drawn and none
of those drawn is left out between two that are tried.

Of candidates that do not depend on chance a rejection leaves nothing but the other tokens: of siblings with p(x1),
p(x2), ... the j-th is accepted, where the ones before it were not, with p(xj) / (1 - p(x1) - ... - p(x(j-1))). So
every node is judged at once (`Sequential`). In general there is a law to be kept from sibling to sibling (`Walk`), in a
loop over levels and ranks, not over nodes: every image of the batch tries the same rank at the same time.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vvsbench.axes import Guarantee
from vvsbench.decoding.acceptance.base import AcceptanceRule, Verdict
from vvsbench.drafting.tree import TokenTree
from vvsbench.fusing import fusible
from vvsbench.sampling import EXCLUDED, draw


class Walk(AcceptanceRule):
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
        rest = _law(scores, node)
        moved = torch.ones_like(node, dtype=torch.bool)
        for depth in range(tree.levels):
            children = below_root & (parents == node[:, None]) & moved[:, None]
            rank = torch.where(children, children.cumsum(1), 0)
            log_q = _drafted(tree, node)
            chosen = torch.zeros_like(node)
            for number in range(1, tree.width + 1):
                open_ = (rank == number) & (chosen == 0)[:, None]
                candidate = open_.long().argmax(1, keepdim=True)
                token, exists = tree.tokens.gather(1, candidate), open_.any(1)
                q = self.proposal(log_q, token, rest)
                mass, left = self.weigh(rest, q, token, log_q is not None, depth)
                accepted = exists & (chance.gather(1, candidate) <= mass / q.gather(1, token))[:, 0]
                rest = torch.where((exists & ~accepted)[:, None], left, rest)
                log_q = None if log_q is None else self.drawn(log_q, token)
                chosen = torch.where(accepted, candidate[:, 0], chosen)
            moved = chosen > 0
            node = torch.where(moved, chosen, node)
            rest = torch.where(moved[:, None], _law(scores, node), rest)
        return node, rest

    def proposal(self, log_q: Tensor | None, token: Tensor, rest: Tensor) -> Tensor:
        """The law [B, V] that candidates were drawn from, in the dtype of `rest`.

        Args:
            log_q: log-probabilities [B, V] of the tokens that were still to be drawn, of any sum; None for candidates
                that do not depend on chance.
            token: int64 [B, 1], the candidates. Once every token that has a probability is drawn, chance has no part
                in the next ones either.
            rest: the target's distribution [B, V].
        """
        certain = torch.zeros_like(rest).scatter(1, token, 1.0)
        if log_q is None:
            return certain
        return torch.where(log_q.gather(1, token) > EXCLUDED, log_q.to(rest.dtype).softmax(-1), certain)

    def drawn(self, log_q: Tensor, token: Tensor) -> Tensor:
        """What the next sibling is drawn from once `token` [B, 1] is: see `proposal`."""
        return log_q.scatter(1, token, EXCLUDED)

    def weigh(self, rest: Tensor, q: Tensor, token: Tensor, sampled: bool, depth: int) -> tuple[Tensor, Tensor]:
        """With what probability candidates may be emitted, and the distribution that their rejection leaves.

        Args:
            rest: the distribution [B, V] as earlier rejections have left it.
            q: the law [B, V] that the candidates were drawn from.
            token: int64 [B, 1], the candidates.
            sampled: whether chance had a part in it.
            depth: drafts that were accepted before them in this step.

        Returns:
            Probability [B, 1], and a distribution [B, V].
        """
        return rest.gather(1, token), remainder(rest, q, otherwise=rest)


class Sequential(Walk):
    """The rule itself: nothing is relaxed."""

    def judge(self, tree: TokenTree, scores: Tensor, chance: Tensor) -> Verdict:
        """See `AcceptanceRule.judge`."""
        if tree.laws is not None:
            return super().judge(tree, scores, chance)
        batch, _, vocab = scores.shape
        depths, parents = tree.depths.expand(batch, -1), tree.parents.expand(batch, -1)
        wide = scores.to(torch.promote_types(scores.dtype, torch.float32))
        above = wide.flatten(1).gather(1, parents * vocab + tree.tokens)
        mass = (above - wide.logsumexp(-1).gather(1, parents)).exp()
        node = _reached(mass, tree.tokens, chance, depths, parents, tree.visible)
        own = scores.gather(1, node[..., None].expand(-1, -1, vocab))[:, 0]
        depth = depths.gather(1, node)
        # its children were rejected; where they were all that could be drawn, rounding is to blame, and they may be
        gone = torch.where((parents == node) & (depths > 0), tree.tokens, tree.tokens.new_full((), vocab))
        spare = torch.nn.functional.pad(own, (0, 1)).scatter(1, gone, EXCLUDED)[:, :-1]
        rest = torch.where(spare.amax(1, keepdim=True) > EXCLUDED, spare, own)
        noise = tree.noise.gather(1, depth[..., None].expand(-1, -1, vocab))[:, 0]
        return Verdict(node[:, 0], depth[:, 0], draw(rest, noise))


@fusible
def _reached(mass: Tensor, tokens: Tensor, chance: Tensor, depths: Tensor, parents: Tensor, visible: Tensor) -> Tensor:
    """The deepest node int64 [B, 1] to which every step is accepted.

    Args:
        mass: [B, T], the target's probability of each node's token after its parent.
        tokens: int64 [B, T]; a sibling that comes again has been rejected before.
        chance: uniforms [B, T].
        depths, parents: int64 [B, T].
        visible: bool [B or 1, T, T], see `TokenTree`.
    """
    number = torch.arange(mass.shape[1], device=mass.device)
    before = (parents[:, None] == parents[..., None]) & (number < number[:, None]) & (depths > 0)[:, None]
    again = (before & (tokens[:, None] == tokens[..., None])).any(-1)
    mass = mass.masked_fill(again, 0)
    left = 1 - (before.to(mass.dtype) @ mass[..., None])[..., 0]
    passed = chance * left <= mass
    chosen = (passed & ~(before & passed[:, None]).any(-1)) | (depths == 0)
    reached = (chosen[:, None] | ~visible).all(-1)
    return torch.where(reached, depths, -1).argmax(1, keepdim=True)


def remainder(rest: Tensor, taken: Tensor, otherwise: Tensor) -> Tensor:
    """The distribution max(rest - taken, 0) [B, V], renormalised; `otherwise` where rounding or relaxing left nothing.

    Args:
        rest: a distribution [B, V].
        taken: at least 0, [B, V].
        otherwise: a distribution [B, V].
    """
    left = (rest - taken).clamp_min(0.0)
    total = left.sum(-1, keepdim=True)
    return torch.where(total > 0, left / total, otherwise)


def _law(scores: Tensor, node: Tensor) -> Tensor:
    """The target's distribution [B, V] after nodes [B], in float32 or better."""
    own = scores.gather(1, node[:, None, None].expand(-1, 1, scores.shape[-1]))[:, 0]
    return own.softmax(-1, dtype=torch.promote_types(own.dtype, torch.float32))


def _drafted(tree: TokenTree, node: Tensor) -> Tensor | None:
    """The drafter's log-probabilities [B, V] after nodes [B], where candidates are sampled from them."""
    if tree.laws is None:
        return None
    row = 1 + tree.expansions.expand(len(node), -1).gather(1, node[:, None])
    return tree.laws.gather(1, row[..., None].expand(-1, -1, tree.laws.shape[-1]))[:, 0]
