"""What a tree asks of a draft source: the contract between structures and whatever proposes tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from vvsbench.models.protocols import State


class DraftState(Protocol):
    """What a draft source remembers of a batch; owned and understood by the source alone."""


class DraftSource(Protocol):
    """Proposes tokens along a tree.

    Attributes:
        network: the module whose calls are counted; its forward takes (input [R*G, T, D], step) like the target's.
    """

    network: nn.Module

    def start(self, target: State, tokens: Tensor, room: int) -> DraftState:
        """Read the prefix and the first image tokens [B]; `room` is the number of tree nodes that may be expanded."""
        ...

    def extend(self, state: DraftState, features: Tensor, tokens: Tensor, added: Tensor, totals: Sequence[int]) -> None:
        """Take in new known tokens, forgetting the last tree.

        Args:
            state: of the batch.
            features: [B, G, M, D], the target's features at the positions before the tokens.
            tokens: int64 [B, M]; row b has added[b] of them, the rest is padding. The last one is the new root.
            added: int64 [B], at least 1.
            totals: known tokens per row afterwards, on the host.
        """
        ...

    def root_logits(self, state: DraftState) -> Tensor:
        """Guided logits [B, 1, V] for the children of the root."""
        ...

    def expand(self, state: DraftState, tokens: Tensor, parents: Tensor) -> Tensor:
        """Run one level of the tree.

        Args:
            state: of the batch.
            tokens: int64 [B, W].
            parents: int64 [B, W], number of the parent in the order of expansion; -1 for the root.

        Returns:
            Guided logits [B, W, V] for the children of each node.
        """
        ...

    def select(self, state: DraftState, rows: list[int], totals: Sequence[int]) -> None:
        """Keep only these rows of the batch."""
        ...
