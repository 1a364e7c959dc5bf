"""The target drafts for itself: what it said of a position in an earlier round is the proposal for it in this one.

A forward over a window of guesses leaves behind the target's logits at every position of the window, also at those
behind the first wrong guess, where they are *stale*: computed for a context that has changed since. Under shared noise
a token is a function of its context, the image is the fixed point of that function, and a round is one Jacobi
iteration of it (SJD, arXiv 2410.01699; under a noise that stays with its position, SCD, arXiv 2510.24211). No network
drafts, and nothing is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vvsbench.drafting.protocols import Redraft
from vvsbench.drafting.tree import Expansions, TokenTree
from vvsbench.fusing import fusible
from vvsbench.models.protocols import State, TokenModel


@dataclass
class Drafts:
    """What was drafted in the step before, and from which laws; that of position p in slot p % R.

    Attributes:
        tokens: int64 [B, R].
        laws: distributions float [B, R, V] that the tokens were drawn from.
        end: int64 [B], positions before this one have a draft.
    """

    tokens: Tensor
    laws: Tensor
    end: Tensor


@dataclass
class JacobiState:
    """The laws that the target left behind, of the positions that a step may look at.

    Attributes:
        laws: [B, R + 1, V] guided logits, that of position p in slot p % R; the last slot takes what nobody wants.
        known: int64 [B], known tokens: the next position.
        seen: int64 [B], positions before this one have a law.
        level: depth of the next nodes to be expanded.
        drafts: of the step before, where they may be kept.
    """

    laws: Tensor
    known: Tensor
    seen: Tensor
    level: int = 0
    drafts: Drafts | None = None

    @property
    def slots(self) -> int:
        """Positions whose laws are remembered, R."""
        return self.laws.shape[1] - 1


class JacobiSource:
    """A `DraftSource` without a network.

    A position that no forward has reached has the law of the position above it, a row of the image earlier, and in the
    first row that of the first token.

    Args:
        target: whose logits are remembered.
    """

    network = None

    def __init__(self, target: TokenModel[Any]) -> None:
        self.side, self.vocab = target.spec.grid, target.spec.vocab
        self.branches, self.dim = target.spec.branches, target.spec.dim

    def start(self, target: State, tokens: Tensor, room: int, levels: int = 1) -> JacobiState:
        """See `DraftSource.start`."""
        laws = target.first_logits[:, None].repeat(1, levels + 1 + self.side + 1, 1)
        return JacobiState(laws, torch.ones_like(tokens), torch.ones_like(tokens))

    def observe(
        self, state: JacobiState, rows: Tensor, tree: TokenTree, logits: Tensor, counted: Tensor | None
    ) -> None:
        """See `DraftSource.observe`: at each depth, what the first of its nodes has been told is kept."""
        nodes, there = tree.first_of_depths
        known, seen = state.known[rows], state.seen[rows]
        if counted is not None:
            there = there & counted[:, None]
        slots, far = _kept(known, seen, rows, there, state.slots)
        laws = logits.gather(1, nodes.expand(len(rows), -1)[..., None].expand(-1, -1, self.vocab))
        state.laws.view(-1, self.vocab).index_copy_(0, slots, laws.flatten(0, 1))
        state.seen.index_copy_(0, rows, far)

    def ahead(self, state: JacobiState, levels: int) -> Tensor:
        """See `DraftSource.ahead`."""
        slots = _looked_up(state.known, state.seen, levels, self.side, state.slots)
        return state.laws.view(-1, self.vocab).index_select(0, slots).unflatten(0, (-1, levels))

    def retain(self, state: JacobiState, laws: Tensor, redraft: Redraft) -> tuple[Tensor, Tensor]:
        """See `RetainingSource.retain`: maximal coupling of a draft with its new law (SCD, arXiv 2510.24211).

        What a position has been drafted from is then the new law, also where the draft has stayed: the released code
        keeps the old one there, which biases the tokens.
        """
        if state.drafts is None:
            rows, slots = len(laws), state.slots
            tokens = torch.zeros(rows, slots, dtype=torch.long, device=laws.device)
            state.drafts = Drafts(tokens, laws.new_zeros(rows, slots, laws.shape[-1]), torch.zeros_like(state.known))
        before = state.drafts
        positions = state.known[:, None] + torch.arange(laws.shape[1], device=laws.device)
        slot = positions % state.slots
        wide = slot[..., None].expand(-1, -1, laws.shape[-1])
        old = before.tokens.gather(1, slot)
        there = positions < before.end[:, None]
        new = laws.exp()
        tokens = _coupled(old, before.laws.gather(1, wide), new, there, redraft.chance, redraft.noise)
        before.tokens.scatter_(1, slot, tokens)
        before.laws.scatter_(1, wide, new)
        before.end.copy_(torch.maximum(before.end, positions[:, -1] + 1))
        return tokens, laws

    def root_logits(self, state: JacobiState, plan: Expansions | None = None) -> Tensor:
        """See `DraftSource.root_logits`."""
        state.level = 0
        return self.ahead(state, 1)

    def expand(self, state: JacobiState, tokens: Tensor, parents: Tensor) -> Tensor:
        """See `DraftSource.expand`: whatever a node is, its children have the law of their position."""
        state.level += 1
        return self.ahead(state, state.level + 1)[:, -1:].expand(-1, tokens.shape[1], -1)

    def extend(self, state: JacobiState, features: Tensor, tokens: Tensor, added: Tensor) -> None:
        """See `DraftSource.extend`."""
        state.known.add_(added)

    def rewind(self, state: JacobiState, removed: Tensor) -> None:
        """See `DraftSource.rewind`."""
        state.known.sub_(removed)
        if state.drafts is not None:  # their fate has been decided once
            torch.minimum(state.drafts.end, state.known, out=state.drafts.end)

    def note(self, state: JacobiState, totals: Sequence[int], exact: bool) -> None:
        """See `DraftSource.note`; no shape depends on it."""

    def predicted(self, state: JacobiState, nodes: Tensor) -> Tensor:
        """Zeros [B, G, M, D]: this source predicts no features, and reads none either."""
        return state.laws.new_zeros(len(nodes), self.branches, nodes.shape[1], self.dim)

    def select(self, state: JacobiState, rows: list[int], totals: Sequence[int]) -> None:
        """See `DraftSource.select`."""
        index = torch.tensor(rows, device=state.known.device)
        state.laws, state.known, state.seen = state.laws[index], state.known[index], state.seen[index]
        if (drafts := state.drafts) is not None:
            state.drafts = Drafts(drafts.tokens[index], drafts.laws[index], drafts.end[index])

    def place(self, state: JacobiState, rows: list[int], fresh: JacobiState) -> None:
        """See `DraftSource.place`; nothing of the images that were there before is kept."""
        index = torch.tensor(rows, device=state.known.device)
        for own, new in ((state.laws, fresh.laws), (state.known, fresh.known), (state.seen, fresh.seen)):
            own.index_copy_(0, index, new)
        if state.drafts is not None:
            state.drafts.end.index_fill_(0, index, 0)

    def fix(self, state: JacobiState) -> None:
        """See `DraftSource.fix`; its shapes are fixed as they are."""

    def shape(self, state: JacobiState) -> int:
        """See `DraftSource.shape`."""
        return 0


@fusible
def _kept(known: Tensor, seen: Tensor, rows: Tensor, there: Tensor, slots: int) -> tuple[Tensor, Tensor]:
    """Where the laws of the positions from known on go, int64 [R D], and which positions are seen after that, [R].

    Args:
        known, seen, rows: int64 [R], see `JacobiState`.
        there: bool [R or 1, D], which of the positions have a law to be kept.
        slots: of a row.
    """
    positions = known[:, None] + torch.arange(there.shape[1], device=known.device)
    slot = torch.where(there, positions % slots, slots) + rows[:, None] * (slots + 1)
    return slot.flatten(), torch.maximum(seen, known + there.sum(1))


@fusible
def _looked_up(known: Tensor, seen: Tensor, levels: int, side: int, slots: int) -> Tensor:
    """Where the laws of the next positions are, or of those above them that have been seen: int64 [B levels]."""
    positions = known[:, None] + torch.arange(levels, device=known.device)
    unseen = positions - seen[:, None]
    above = positions - side * (unseen // side + 1)
    row = torch.arange(len(known), device=known.device)[:, None] * (slots + 1)
    return (torch.where(unseen < 0, positions, above) % slots + row).flatten()


@fusible
def _coupled(old: Tensor, q: Tensor, p: Tensor, there: Tensor, chance: Tensor, noise: Tensor) -> Tensor:
    """Draws int64 [B, L] from p that are the old ones, drawn from q, as often as can be.

    Args:
        old: int64 [B, L].
        q, p: distributions [B, L, V].
        there: bool [B, L], where there is an old one.
        chance, noise: uniforms [B, L] and Gumbel noise [B, L, V].
    """
    at = old[..., None]
    kept = there & (chance * q.gather(-1, at)[..., 0] <= p.gather(-1, at)[..., 0])
    # what p has more than q; all of p where there is no draft, or where rounding has left nothing
    more = torch.where(there[..., None], (p - q).clamp_min(0), p)
    more = torch.where(more.sum(-1, keepdim=True) > 0, more, p)
    return torch.where(kept, old, (more.log() + noise).argmax(-1))
