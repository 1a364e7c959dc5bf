"""What a tree asks of a draft source: the contract between structures and whatever proposes tokens."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from torch import Tensor, nn

from vvsbench.drafting.tree import Expansions, TokenTree

DraftStateT = TypeVar("DraftStateT")


class DraftSource(Protocol[DraftStateT]):
    """Proposes tokens along a tree; what it remembers of a batch, of type DraftStateT, is its own business."""

    @property
    def network(self) -> nn.Module | None:
        """The module whose calls are counted; its forward takes (input [R*G, T, D], step) like the target's."""
        ...

    def start(self, target: Any, tokens: Tensor, room: int, levels: int = 1) -> DraftStateT:
        """Read the prefix and the first image tokens.

        Args:
            target: the target's state of the same images, just started.
            tokens: int64 [B].
            room: nodes of a tree that may be expanded.
            levels: depth of the deepest node of a tree.
        """
        ...

    def observe(
        self, state: DraftStateT, rows: Tensor, tree: TokenTree, logits: Tensor, counted: Tensor | None
    ) -> None:
        """See what the target has said of a tree; `extend` follows. Most sources have no use for it.

        Args:
            state: of the batch.
            rows: int64 [R], the rows of the batch that the trees are of.
            tree: of these rows; near the end of an image maybe without its deepest nodes.
            logits: the target's guided logits [R, T, V] at all nodes, those off the accepted path included.
            counted: bool [R], rows that really verify; the others are there for the shape. None for all.
        """
        ...

    def extend(self, state: DraftStateT, features: Tensor, tokens: Tensor, added: Tensor) -> None:
        """Take in new known tokens, forgetting the last tree.

        Args:
            state: of the batch.
            features: [B, G, M, D], the target's features at the positions before the tokens.
            tokens: int64 [B, M]; row b has added[b] of them, the rest is padding. The last one is the new root.
            added: int64 [B]; a row with none keeps its root.
        """
        ...

    def rewind(self, state: DraftStateT, removed: Tensor) -> None:
        """Forget the last known tokens, removed[b] of row b, and the last tree; `extend` follows."""
        ...

    def note(self, state: DraftStateT, totals: Sequence[int], exact: bool) -> None:
        """Tell the host's side how many tokens of each row are known, or (not exact) how many there may be at most."""
        ...

    def ahead(self, state: DraftStateT, levels: int) -> Tensor | None:
        """Guided logits [B, levels, V] for the nodes of each level, from the root's children on.

        None for a source whose logits depend on the drafts above a node: it is asked level by level.
        """
        ...

    def root_logits(self, state: DraftStateT, plan: Expansions | None = None) -> Tensor:
        """Guided logits [B, 1, V] for the children of the root, with which a tree begins.

        Args:
            state: of the batch.
            plan: the nodes that will be expanded, where they are known: what they see, and where they lie, can then
                be worked out for all of them together.
        """
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
        """Keep only these rows of the batch, with so many known tokens."""
        ...

    def place(self, state: DraftStateT, rows: list[int], fresh: DraftStateT) -> None:
        """Put the images of a fresh state, one of `start`, into rows whose images are finished."""
        ...

    def fix(self, state: DraftStateT) -> None:
        """From now on shapes depend on `shape` alone, and nothing is read on the host."""
        ...

    def shape(self, state: DraftStateT) -> Hashable:
        """What the shape of a forward depends on, once the state is fixed."""
        ...


@dataclass(frozen=True)
class Redraft:
    """By what a source decides which of its drafts of the step before it keeps.

    Attributes:
        chance: uniforms float [B, levels].
        noise: Gumbel noise float [B, levels, V] for the positions whose draft is not kept.
    """

    chance: Tensor
    noise: Tensor


@runtime_checkable
class RetainingSource(Protocol):
    """A source that can keep the drafts of the step before, for `Candidates.retained`."""

    def retain(self, state: Any, laws: Tensor, redraft: Redraft) -> tuple[Tensor, Tensor]:
        """Draw the drafts of the next positions, each of them that of the step before if it can be.

        Args:
            state: of the batch.
            laws: log-probabilities float [B, levels, V] that the drafts must have the law of.
            redraft: chance and noise.

        Returns:
            Tokens int64 [B, levels], and the log-probabilities that they are weighed by: those given.
        """
        ...
