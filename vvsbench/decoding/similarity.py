"""How alike the root paths of a tree are, in the codes that their tokens decode from (VVS-D, arXiv 2511.13587).

Two paths are compared depth by depth, by the cosine of the codebook rows of their tokens; a depth that either of them
does not reach counts as 0, and deeper ones weigh less. Tensor code for a batch of trees of different shapes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vvsbench.drafting.tree import TokenTree


def sorted_paths(tree: TokenTree) -> tuple[Tensor, Tensor]:
    """The nodes of every root path, the root left out, in lexicographic order of the node numbers.

    Returns:
        Nodes int64 [B or 1, T, levels], rows of leaves first, 0 where a path has ended; and bool [B or 1, T], which
        rows are leaves.
    """
    batch, count = tree.parents.shape
    here = torch.arange(count, device=tree.parents.device).expand(batch, -1)
    upwards = [here]
    for _ in range(tree.levels):
        upwards.append(tree.parents.gather(1, upwards[-1]))
    way = torch.stack(upwards, -1)
    depth = torch.arange(1, tree.levels + 1, device=here.device)
    place = tree.depths[..., None] - depth
    nodes = torch.where(place >= 0, way.gather(2, place.clamp_min(0)), 0)
    order = here
    for column in range(tree.levels - 1, -1, -1):
        key = nodes[..., column].gather(1, order)
        order = order.gather(1, key.argsort(dim=1, stable=True))
    order = order.gather(1, (~tree.leaves.gather(1, order)).long().argsort(dim=1, stable=True))
    return nodes.gather(1, order[..., None].expand_as(nodes)), tree.leaves.gather(1, order)


def path_similarity(tree: TokenTree, codebook: Tensor, decay: float, stride: int) -> tuple[Tensor, Tensor]:
    """Weighted cosines between the root paths.

    Args:
        tree: of the batch.
        codebook: float [V, C].
        decay: weight of a depth relative to the one above it.
        stride: one path in so many is taken.

    Returns:
        Float [B, P, P], and bool [B, P], which rows are paths; both in the order of `sorted_paths`.
    """
    batch = len(tree.tokens)
    nodes, real = (part.expand(batch, *part.shape[1:]) for part in sorted_paths(tree))
    depth = torch.arange(tree.levels, device=nodes.device)
    deepest = ((nodes > 0) & real[..., None]).any(1).sum(1, keepdim=True)
    weights = torch.where(depth < deepest, decay**depth, 0.0)
    weights = weights / weights.sum(1, keepdim=True)
    nodes, real = nodes[:, ::stride], real[:, ::stride]
    tokens = tree.tokens.gather(1, nodes.flatten(1)).view_as(nodes)
    codes = F.normalize(codebook[tokens], dim=-1) * (nodes > 0)[..., None]
    return torch.einsum("bpdc,bqdc,bd->bpq", codes, codes, weights.to(codes.dtype)), real


def mean_similarity(tree: TokenTree, codebook: Tensor, decay: float, stride: int) -> Tensor:
    """Mean over all pairs of paths, float [B]; 0 where there are fewer than two."""
    alike, real = path_similarity(tree, codebook, decay, stride)
    pairs = (real[:, :, None] & real[:, None, :]).triu(1)
    return (alike * pairs).sum((1, 2)) / pairs.sum((1, 2)).clamp_min(1)


def central_leaf(tree: TokenTree, codebook: Tensor, decay: float) -> Tensor:
    """The leaf int64 [B] whose path is most like all the others."""
    alike, real = path_similarity(tree, codebook, decay, 1)
    others = real[:, None] & ~torch.eye(real.shape[1], dtype=torch.bool, device=real.device)
    central = (alike * others).sum(-1).masked_fill(~real, float("-inf")).argmax(1)
    nodes = sorted_paths(tree)[0].expand(len(central), -1, -1)
    return nodes[torch.arange(len(central), device=central.device), central].amax(1)
