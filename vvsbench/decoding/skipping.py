"""What a skipped step commits, and what the drafter goes on with (VVS, arXiv 2511.13587).

A path of the tree is chosen and cut; its tokens become image although nobody verified them. The target has no features
for them yet, so the drafter is fed stand-ins: the last features that the target did compute.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vvsbench.axes import Selector, Truncation
from vvsbench.drafting.tree import TokenTree


def choose_leaf(tree: TokenTree, selector: Selector, chance: Tensor) -> Tensor:
    """The leaf int64 [B] whose path is followed.

    Args:
        tree: of the batch.
        selector: how.
        chance: uniforms (0, 1] [B], one per image.
    """
    leaves = tree.leaves.expand(len(chance), -1)
    if selector is Selector.random:
        count = leaves.sum(1)
        wanted = (chance * count).ceil().long().clamp(min=1).minimum(count)
        return ((leaves.cumsum(1) == wanted[:, None]) & leaves).long().argmax(1)
    parents = tree.parents.expand(len(chance), -1)
    nodes = torch.arange(parents.shape[1], device=parents.device).expand_as(parents)
    first_child = torch.full_like(parents, parents.shape[1]).scatter_reduce(1, parents[:, 1:], nodes[:, 1:], "amin")
    node = torch.zeros_like(parents[:, :1])
    for _ in range(tree.levels):
        below = first_child.gather(1, node)
        node = torch.where(below < parents.shape[1], below, node)
    return node[:, 0]


def path_length(tree: TokenTree, leaf: Tensor, truncation: Truncation) -> Tensor:
    """How many nodes of the path to each leaf are followed, the root included, int64 [B]; at least 2.

    VVS, dynamic truncation: min(length of the path, floor of the mean length of the tree's paths).
    """
    lengths = tree.depths.expand(len(leaf), -1) + 1
    own = lengths.gather(1, leaf[:, None])[:, 0]
    if truncation is Truncation.none:
        return own
    leaves = tree.leaves.expand(len(leaf), -1)
    mean = (lengths * leaves).sum(1) // leaves.sum(1)
    return own.minimum(mean)


def last_features(recent: Tensor, count: Tensor, width: int) -> Tensor:
    """The last count[b] of the cached features of each row, in order, padded to `width`.

    Args:
        recent: [B, G, K, D], the last K features that the target computed, oldest first.
        count: int64 [B], at most K.
        width: of the result.

    Returns:
        [B, G, width, D]; row b is valid up to count[b].
    """
    kept = recent.shape[2]
    index = (kept - count[:, None] + torch.arange(width, device=recent.device)).clamp(0, kept - 1)
    return recent.gather(2, index[:, None, :, None].expand(-1, recent.shape[1], -1, recent.shape[3]))
