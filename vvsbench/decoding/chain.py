"""What a skip leaves behind: tokens that the target has not seen, and sees in front of the next tree.

Chains of the rows of a batch differ in length. They are padded to one width; what is kept of them moves together.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vvsbench.decoding.batch import Batch, of_rows
from vvsbench.drafting.tree import TokenTree
from vvsbench.fusing import fusible
from vvsbench.models.protocols import Block


@dataclass
class Chain:
    """Skipped tokens as the target sees them one step later.

    Attributes:
        features: [R, G, W, D].
        count: int64 [R], tokens that stay in the target's cache.
        agreed, rolled: as in `Gain`.
        corrected: int64 [R], the target's own token where the chain is taken back.
    """

    features: Tensor
    count: Tensor
    agreed: Tensor
    rolled: Tensor
    corrected: Tensor | None = None


@fusible
def behind(front: Tensor, back: Tensor, count: Tensor, room: int) -> Tensor:
    """The first count[r] columns of front [R, W, ...], then all of back [R, M, ...]: [R, room + M, ...]."""
    width, column = front.shape[1], torch.arange(room + back.shape[1], device=front.device)
    after = (column - count[:, None]).clamp(0, back.shape[1] - 1)
    index = torch.where(column < count[:, None], column, width + after)
    both = torch.cat([front, back.to(front.dtype)], 1)
    return both.gather(1, index.view(*index.shape, *[1] * (both.ndim - 2)).expand(-1, -1, *both.shape[2:]))


def chain_and_tree(batch: Batch, rows: Tensor | None, width: int, tree: TokenTree) -> Block:
    """The pending chains, right-padded to `width`, in front of the trees, as one block behind each row's cache.

    Args:
        batch: of the images.
        rows: int64 [R], those that take part; None for all.
        width: the longest chain.
        tree: of the same rows.
    """
    if width == 0:
        return Block(tree.tokens, tree.depths, tree.visible, rows)
    tokens, known, pending = (of_rows(own, rows) for own in (batch.tokens, batch.known_count, batch.pending_count))
    return Block(*_joined(tokens, known, pending, width, tree.tokens, tree.depths, tree.visible), rows)


@fusible
def _joined(
    tokens: Tensor, known: Tensor, pending: Tensor, width: int, nodes: Tensor, depths: Tensor, visible: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, offsets and visibility of the block of `chain_and_tree`."""
    batch, count = nodes.shape
    slot = torch.arange(width, device=tokens.device)
    chain = tokens.gather(1, (known - 1 - pending)[:, None] + slot)
    real = (slot < pending[:, None])[:, None].expand(-1, count, -1)
    causal = (slot <= slot[:, None]).expand(batch, -1, -1)
    above = torch.nn.functional.pad(causal, (0, count))
    below = torch.cat([real, visible.expand(batch, -1, -1)], 2)
    offsets = torch.cat([slot.expand(batch, -1), pending[:, None] + depths], 1)
    return torch.cat([chain, nodes], 1), offsets, torch.cat([above, below], 1)
