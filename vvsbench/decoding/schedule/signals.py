"""What a schedule can ask about a step's tree before it decides: by-products of drafting, measured for a whole batch.

A plug-in may bring a signal of its own: any frozen dataclass with a method `measure`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from vvsbench.drafting.tree import TokenTree


class Signal(Protocol):
    """One number per image and step."""

    def measure(self, tree: TokenTree, leaf: Tensor, depth: Tensor, codebook: Tensor) -> Tensor:
        """The number, float [B].

        Args:
            tree: of the batch, with log_hits.
            leaf: int64 [B], the node whose path a skip would follow.
            depth: int64 [B], how many drafts of the path it would commit.
            codebook: float [V, C], rows of the tokenizer.
        """
        ...


@dataclass(frozen=True)
class PathChance:
    """The estimated chance that the target would draw every token which a skip would commit."""

    def measure(self, tree: TokenTree, leaf: Tensor, depth: Tensor, codebook: Tensor) -> Tensor:
        """See `Signal.measure`."""
        last = tree.path_to(leaf).gather(1, depth[:, None])
        return tree.log_reach.gather(1, last)[:, 0].exp()


@dataclass(frozen=True)
class ExpectedTokens:
    """How many drafts a verification of the tree is expected to accept."""

    def measure(self, tree: TokenTree, leaf: Tensor, depth: Tensor, codebook: Tensor) -> Tensor:
        """See `Signal.measure`."""
        return tree.log_reach[:, 1:].exp().sum(1)


@dataclass(frozen=True)
class Similarity:
    """How alike the paths of the tree are, in [-1, 1] (VVS-D).

    Attributes:
        decay: weight of a depth relative to the one above it.
        stride: one path in so many is looked at.
    """

    decay: float = 0.9
    stride: int = 2

    def measure(self, tree: TokenTree, leaf: Tensor, depth: Tensor, codebook: Tensor) -> Tensor:
        """See `Signal.measure`."""
        from vvsbench.decoding.similarity import mean_similarity

        return mean_similarity(tree, codebook, self.decay, self.stride)
