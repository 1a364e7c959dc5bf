"""The target as its own drafter, with noise on its logits: a drafter whose quality is a number one can turn.

At noise 0 it drafts what the target will draw; with more noise it agrees less. It asks of a target nothing but the
contract, so it drafts for any. Its calls are calls of a drafter: they go through a module of their own, so that those
who count the target's calls, or time them, do not see them.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from vvsbench.drafting.cached import seen
from vvsbench.drafting.tree import Expansions
from vvsbench.models.protocols import Block, TokenModel
from vvsbench.noise import Purpose, normal

M = TypeVar("M", bound=nn.Module)


def unhooked(module: M) -> M:
    """Another face of a module: the same weights and forward, and none of its hooks."""
    double = copy.copy(module)
    double._forward_hooks = OrderedDict()
    return double


@dataclass
class OracleState:
    """The drafter's memory of a batch.

    Attributes:
        state: of the target's other face: all known tokens are committed there, and a tree lies behind them.
        keys: int64 [B, 1], image indices on the device.
        root: [B, 1, V], logits of the children of the root, without noise.
        ancestors: bool [B, S, S], which expanded nodes each expanded node sees.
        width: of the target's features, and their branches.
        level: depth of the next nodes to be expanded.
        expanded: nodes of the tree that were expanded so far.
    """

    state: Any
    keys: Tensor
    root: Tensor
    ancestors: Tensor
    width: tuple[int, int]
    totals: list[int]
    level: int = 0
    expanded: int = 0


class OracleSource:
    """A target over a memory of its own, plus a fixed noise, as a `DraftSource`.

    Args:
        target: whose weights are used.
        noise: standard deviation of the noise on the guided logits.
        seed: of the noise, which is keyed by image, position and token: it does not depend on the batch or the tree.
    """

    def __init__(self, target: TokenModel[Any], noise: float, seed: int) -> None:
        twin: Any = copy.copy(target)
        twin.transformer = unhooked(twin.transformer)
        self.target: TokenModel[Any] = twin
        self.noise, self.seed = noise, seed

    @property
    def network(self) -> nn.Module:
        """See `DraftSource.network`."""
        return self.target.network

    def start(self, target: Any, tokens: Tensor, room: int, levels: int = 1) -> OracleState:
        """See `DraftSource.start`; the prefix is one forward and the first tokens are another."""
        state = self.target.start(target.conditions, target.images, 1 + room)
        batch = len(tokens)
        features = state.prefix_features
        draft = OracleState(
            state=state,
            keys=torch.tensor(target.images, device=tokens.device)[:, None],
            root=state.first_logits[:, None].clone(),
            ancestors=torch.zeros(batch, room, room, dtype=torch.bool, device=tokens.device),
            width=(features.shape[1], features.shape[3]),
            totals=[0] * batch,
        )
        self.extend(draft, features, tokens[:, None], torch.ones_like(tokens))
        self.note(draft, [1] * batch, exact=True)
        return draft

    def extend(self, state: OracleState, features: Tensor, tokens: Tensor, added: Tensor) -> None:
        """See `DraftSource.extend`; the target's features are not needed."""
        length = tokens.shape[1]
        offsets = torch.arange(length, device=tokens.device)[None]
        visible = torch.ones(length, length, dtype=torch.bool, device=tokens.device).tril()[None]
        logits, _ = self.target.forward(state.state, Block(tokens, offsets, visible))
        self.target.commit(state.state, None, added)
        added = added[:, None, None]
        last = logits.gather(1, (added - 1).clamp_min(0).expand(-1, 1, logits.shape[2]))
        state.root.copy_(torch.where(added > 0, last, state.root))

    def rewind(self, state: OracleState, removed: Tensor) -> None:
        """See `DraftSource.rewind`."""
        self.target.commit(state.state, None, -removed)
        self.target.note(state.state, state.totals, exact=False)  # the host does not know how much was removed

    def note(self, state: OracleState, totals: Sequence[int], exact: bool) -> None:
        """See `DraftSource.note`."""
        state.totals = list(totals)
        self.target.note(state.state, totals, exact)

    def _noisy(self, state: OracleState, logits: Tensor) -> Tensor:
        """Logits [B, W, V] of the children of nodes at one depth, each with the noise of its image and place."""
        if self.noise == 0:
            return logits
        index = (state.state.lengths + state.level)[:, None]
        noise = normal(self.seed, state.keys, index, logits.shape[2], Purpose.ORACLE)
        return logits + self.noise * noise.to(logits.dtype)

    def root_logits(self, state: OracleState, plan: Expansions | None = None) -> Tensor:
        """See `DraftSource.root_logits`."""
        state.level = state.expanded = 0
        return self._noisy(state, state.root)

    def expand(self, state: OracleState, tokens: Tensor, parents: Tensor) -> Tensor:
        """See `DraftSource.expand`."""
        width, before = tokens.shape[1], state.expanded
        own = seen(state.ancestors[:, :before, :before], parents)
        offsets = torch.full((1, width), state.level, device=tokens.device)
        logits, _ = self.target.forward(state.state, Block(tokens, offsets, own, start=before))
        state.expanded, state.level = before + width, state.level + 1
        state.ancestors[:, before : state.expanded, : state.expanded] = own
        return self._noisy(state, logits)

    def predicted(self, state: OracleState, nodes: Tensor) -> Tensor:
        """Zeros [B, G, M, D] as wide as the target's features: this source predicts none, and reads none either."""
        branches, dim = state.width
        return state.state.prefix_features.new_zeros(len(nodes), branches, nodes.shape[1], dim)

    def observe(self, *_: Any) -> None:
        """See `DraftSource.observe`; all that it needs of the target comes with `extend`."""

    def ahead(self, *_: Any) -> None:
        """See `DraftSource.ahead`; every node is run."""

    def select(self, state: OracleState, rows: list[int], totals: Sequence[int]) -> None:
        """See `DraftSource.select`."""
        index = torch.tensor(rows, device=state.root.device)
        self.target.select(state.state, rows, totals)
        state.keys, state.root, state.ancestors = state.keys[index], state.root[index], state.ancestors[index]
        state.totals = list(totals)

    def place(self, state: OracleState, rows: list[int], fresh: OracleState) -> None:
        """See `DraftSource.place`."""
        index = torch.tensor(rows, device=state.root.device)
        self.target.place(state.state, rows, fresh.state)
        state.keys.index_copy_(0, index, fresh.keys)
        state.root.index_copy_(0, index, fresh.root)

    def fix(self, state: OracleState) -> None:
        """See `DraftSource.fix`."""
        self.target.fix(state.state)

    def shape(self, state: OracleState) -> Hashable:
        """See `DraftSource.shape`."""
        return self.target.shape(state.state)
