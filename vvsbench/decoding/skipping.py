"""What a skipped step commits, and what the drafter goes on with (VVS, arXiv 2511.13587).

A path of the tree is chosen and cut; its tokens become image although nobody verified them. The target has no features
for them yet, so the drafter is fed stand-ins.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vvsbench.axes import Selector, Truncation
from vvsbench.decoding.settings import SkipConfig
from vvsbench.decoding.similarity import central_leaf
from vvsbench.drafting.tree import TokenTree
from vvsbench.fusing import fusible

DECAY = 0.9
"""Weight of a depth relative to the one above it where paths are compared; the released code has it."""


def choose_leaf(tree: TokenTree, selector: Selector, chance: Tensor, codebook: Tensor) -> Tensor:
    """The leaf int64 [B] whose path is followed.

    Args:
        tree: of the batch.
        selector: how.
        chance: uniforms (0, 1] [B], one per image.
        codebook: float [V, C], what paths are compared by.
    """
    if selector is Selector.random:
        return _random_leaf(tree, chance)
    if selector is Selector.central:
        return central_leaf(tree, codebook, DECAY)
    if selector is Selector.best:
        per_token = tree.log_reach / tree.depths.clamp_min(1)
        return per_token.masked_fill(~tree.leaves, -math.inf).argmax(1)
    return first_leaf(tree)


def _random_leaf(tree: TokenTree, chance: Tensor) -> Tensor:
    return _leaf_by_number(tree.leaves.expand(len(chance), -1), chance)


@fusible
def _leaf_by_number(leaves: Tensor, chance: Tensor) -> Tensor:
    """The leaf at a share chance [B] in (0, 1] of all."""
    count = leaves.sum(1)
    wanted = (chance * count).ceil().long().clamp(min=1).minimum(count)
    return ((leaves.cumsum(1) == wanted[:, None]) & leaves).long().argmax(1)


def first_leaf(tree: TokenTree) -> Tensor:
    """The leaf int64 [B] that is reached by the first candidate of each level."""
    batch, nodes = tree.tokens.shape
    parents = tree.parents.expand(batch, -1)
    number = torch.arange(nodes, device=parents.device).expand_as(parents)
    first_child = torch.full_like(parents, nodes).scatter_reduce(1, parents[:, 1:], number[:, 1:], "amin")
    node = torch.zeros_like(parents[:, :1])
    for _ in range(tree.levels):
        below = first_child.gather(1, node)
        node = torch.where(below < nodes, below, node)
    return node[:, 0]


def path_length(tree: TokenTree, leaf: Tensor, skip: SkipConfig) -> Tensor:
    """How many nodes of the path to each leaf are followed, the root included, int64 [B]; at least 2.

    VVS, dynamic truncation: min(length of the path, floor of the mean length of the tree's paths).
    """
    lengths = tree.depths.expand(len(leaf), -1) + 1
    if skip.truncation == Truncation.dynamic:
        return _no_longer_than_the_mean(lengths, leaf, tree.leaves.expand(len(leaf), -1))
    own = lengths.gather(1, leaf[:, None])[:, 0]
    if skip.truncation == Truncation.none:
        return own
    if skip.truncation == Truncation.fixed:
        return own.clamp_max(skip.length + 1)
    reach = tree.log_reach.gather(1, tree.path_to(leaf))
    likely = (reach >= math.log(max(skip.least_hits, 1e-30))).sum(1)
    return own.minimum(likely.clamp_min(2))


@fusible
def _no_longer_than_the_mean(lengths: Tensor, leaf: Tensor, leaves: Tensor) -> Tensor:
    """Of the paths to leaf [B]: own length, or the floor of the mean over all leaves."""
    own = lengths.gather(1, leaf[:, None])[:, 0]
    return own.minimum((lengths * leaves).sum(1) // leaves.sum(1))


def last_features(recent: Tensor, count: Tensor, width: int, back: Tensor | int = 0) -> Tensor:
    """The last count[b] of the cached features of each row, in order, padded to `width`.

    Args:
        recent: [B, G, K, D], the last K features that the target computed, oldest first.
        count: int64 [B].
        width: of the result.
        back: leave out so many of the newest, int or int64 [B]; count + back is at most K.

    Returns:
        [B, G, width, D]; row b is valid up to count[b].
    """
    kept = recent.shape[2]
    start = kept - back - count
    index = (start[:, None] + torch.arange(width, device=recent.device)).clamp(0, kept - 1)
    return recent.gather(2, index[:, None, :, None].expand(-1, recent.shape[1], -1, recent.shape[3]))
