"""A drafter's tree and a window of stale guesses below one root: two sources, one verification.

The tree is right more often near the root, the window reaches further and costs no draft forward. A prefix that both
propose is verified twice: what a tree of fixed shape costs, and no token is lost by it, since a path that hits is
followed in either copy. Under `match` a root may have the same child twice.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from vvsbench.drafting.growing import Growth, Structure
from vvsbench.drafting.jacobi import JacobiSource, JacobiState
from vvsbench.drafting.protocols import DraftSource
from vvsbench.drafting.tree import Expansions, TokenTree


@dataclass
class JointState:
    """What the drafter and the stale guesses remember of a batch."""

    drafter: Any
    stale: JacobiState


class JointSource:
    """A `DraftSource` that drafts with a drafter and remembers stale guesses beside it.

    Args:
        drafter: any source.
        stale: the guesses; `Joint` asks for them.
    """

    def __init__(self, drafter: DraftSource[Any], stale: JacobiSource) -> None:
        self.drafter, self.stale = drafter, stale

    @property
    def network(self) -> nn.Module | None:
        """The drafter's."""
        return self.drafter.network

    def start(self, target: Any, tokens: Tensor, room: int, levels: int = 1) -> JointState:
        """See `DraftSource.start`."""
        drafted = self.drafter.start(target, tokens, room, levels)
        return JointState(drafted, self.stale.start(target, tokens, room, levels))

    def observe(self, state: JointState, rows: Tensor, tree: TokenTree, logits: Tensor, counted: Tensor | None) -> None:
        """See `DraftSource.observe`."""
        self.drafter.observe(state.drafter, rows, tree, logits, counted)
        self.stale.observe(state.stale, rows, tree, logits, counted)

    def ahead(self, state: JointState, levels: int) -> None:
        """See `DraftSource.ahead`; the drafter is asked level by level."""
        return

    def root_logits(self, state: JointState, plan: Expansions | None = None) -> Tensor:
        """See `DraftSource.root_logits`."""
        return self.drafter.root_logits(state.drafter, plan)

    def expand(self, state: JointState, tokens: Tensor, parents: Tensor) -> Tensor:
        """See `DraftSource.expand`."""
        return self.drafter.expand(state.drafter, tokens, parents)

    def extend(self, state: JointState, features: Tensor, tokens: Tensor, added: Tensor) -> None:
        """See `DraftSource.extend`."""
        self.drafter.extend(state.drafter, features, tokens, added)
        self.stale.extend(state.stale, features, tokens, added)

    def rewind(self, state: JointState, removed: Tensor) -> None:
        """See `DraftSource.rewind`."""
        self.drafter.rewind(state.drafter, removed)
        self.stale.rewind(state.stale, removed)

    def note(self, state: JointState, totals: Sequence[int], exact: bool) -> None:
        """See `DraftSource.note`."""
        self.drafter.note(state.drafter, totals, exact)

    def predicted(self, state: JointState, nodes: Tensor) -> Tensor:
        """See `DraftSource.predicted`."""
        return self.drafter.predicted(state.drafter, nodes)

    def select(self, state: JointState, rows: list[int], totals: Sequence[int]) -> None:
        """See `DraftSource.select`."""
        self.drafter.select(state.drafter, rows, totals)
        self.stale.select(state.stale, rows, totals)

    def place(self, state: JointState, rows: list[int], fresh: JointState) -> None:
        """See `DraftSource.place`."""
        self.drafter.place(state.drafter, rows, fresh.drafter)
        self.stale.place(state.stale, rows, fresh.stale)

    def fix(self, state: JointState) -> None:
        """See `DraftSource.fix`."""
        self.drafter.fix(state.drafter)
        self.stale.fix(state.stale)

    def shape(self, state: JointState) -> Hashable:
        """See `DraftSource.shape`."""
        return self.drafter.shape(state.drafter)


class Joint(Structure):
    """The window first, so that its chain is what the next round's guesses come from, then the drafter's tree.

    Args:
        tree: of the drafter.
        window: of the stale guesses.
    """

    def __init__(self, tree: Structure, window: Structure) -> None:
        self.tree, self.window = tree, window
        self.levels = max(tree.levels, window.levels)
        self.nodes = tree.nodes + window.nodes - 1
        self.expanded, self.scored = tree.expanded, tree.scored

    def grow(self, growth: Growth, roots: Tensor) -> TokenTree:
        """See `Structure.grow`."""
        source, state = growth.source, growth.state
        assert isinstance(source, JointSource)
        stale = replace(growth, source=source.stale, state=state.stale, _laws=[], _peaks=[])
        window = self.window.grow(stale, roots)
        growth.source, growth.state = source.drafter, state.drafter  # what it remembers is asked for afterwards
        return replace(joined(window, self.tree.grow(growth, roots)), levels=self.levels)


def joined(first: TokenTree, second: TokenTree) -> TokenTree:
    """Two trees of the same roots as one; the expansions are those of the second, which a drafter has grown."""
    shift = first.tokens.shape[1] - 1
    batch = max(len(first.parents), len(second.parents))
    one, two = (each.visible.expand(batch, -1, -1) for each in (first, second))
    above = torch.nn.functional.pad(one, (0, two.shape[2] - 1))
    below = torch.cat([two[:, 1:, :1], two.new_zeros(batch, two.shape[1] - 1, shift), two[:, 1:, 1:]], 2)
    parents = torch.where(second.parents > 0, second.parents + shift, 0)

    def both(head: Tensor, tail: Tensor) -> Tensor:
        rows = max(len(head), len(tail))
        return torch.cat([head.expand(rows, -1), tail.expand(rows, -1)[:, 1:]], 1)

    hits = None
    if first.log_hits is not None and second.log_hits is not None:
        hits = both(first.log_hits, second.log_hits)
    return replace(
        second,
        tokens=both(first.tokens, second.tokens),
        parents=both(first.parents, parents),
        depths=both(first.depths, second.depths),
        visible=torch.cat([above, below], 1),
        expansions=both(torch.full_like(first.expansions, -1), second.expansions),
        width=first.width + second.width,
        log_hits=hits,
    )
