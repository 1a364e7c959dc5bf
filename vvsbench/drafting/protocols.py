"""What a tree asks of a draft source: the contract between structures and whatever proposes tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from torch import Tensor, nn

DraftStateT = TypeVar("DraftStateT")


class DraftSource(Protocol[DraftStateT]):
    """Proposes tokens along a tree; what it remembers of a batch, of type DraftStateT, is its own business."""

    @property
    def network(self) -> nn.Module:
        """The module whose calls are counted; its forward takes (input [R*G, T, D], step) like the target's."""
        ...

    def start(self, target: Any, tokens: Tensor, room: int) -> DraftStateT:
        """Read the prefix and the first image tokens [B]; `room` is the number of tree nodes that may be expanded."""
        ...

    def extend(
        self, state: DraftStateT, features: Tensor, tokens: Tensor, added: Tensor, totals: Sequence[int]
    ) -> None:
        """Take in new known tokens, forgetting the last tree.

        Args:
            state: of the batch.
            features: [B, G, M, D], the target's features at the positions before the tokens.
            tokens: int64 [B, M]; row b has added[b] of them, the rest is padding. The last one is the new root.
            added: int64 [B], at least 1.
            totals: known tokens per row afterwards, on the host.
        """
        ...

    def rewind(self, state: DraftStateT, removed: Tensor, totals: Sequence[int]) -> None:
        """Forget the last known tokens and the last tree; `extend` follows.

        Args:
            state: of the batch.
            removed: int64 [B], tokens to forget.
            totals: known tokens per row afterwards, on the host.
        """
        ...

    def root_logits(self, state: DraftStateT) -> Tensor:
        """Guided logits [B, 1, V] for the children of the root."""
        ...

    def expand(self, state: DraftStateT, tokens: Tensor, parents: Tensor) -> Tensor:
        """Run one level of the tree.

        Args:
            state: of the batch.
            tokens: int64 [B, W].
            parents: int64 [B, W], number of the parent in the order of expansion; -1 for the root.

        Returns:
            Guided logits [B, W, V] for the children of each node.
        """
        ...

    def predicted(self, state: DraftStateT, nodes: Tensor) -> Tensor:
        """Features [B, G, M, D] that the source predicted for nodes of its tree.

        Args:
            state: of the batch.
            nodes: int64 [B, M], numbers in the order of expansion; -1 for the root.
        """
        ...

    def select(self, state: DraftStateT, rows: list[int], totals: Sequence[int]) -> None:
        """Keep only these rows of the batch."""
        ...
