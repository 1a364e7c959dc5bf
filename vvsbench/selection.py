"""The k largest of a row: all that top-k sampling and candidates ask of a vocabulary, and asked at every node.

torch's selection on a GPU reads a row of 16384 logits some twenty times, 80 us at a time: as long as fourteen matrix
products of LlamaGen-XL. There a row is read once and searched in registers; anywhere else `torch.topk` does it.
"""

from __future__ import annotations

import torch
from torch import Tensor

LONGEST = 1 << 16
"""The longest row that fits into the registers of a block of threads."""
FEW = 32
"""So many largest are found one after the other; more by `torch.topk`."""
EXCLUDED = float("-inf")


def keep_largest(logits: Tensor, count: int) -> Tensor:
    """Logits [..., V] with -inf for all below the `count`-th largest of their row; ties with it stay."""
    if _searched(logits):
        from vvsbench import selection_kernels

        return selection_kernels.keep_largest(logits, count)
    threshold = logits.topk(count, -1, sorted=False).values.amin(-1, keepdim=True)
    return logits.masked_fill(logits < threshold, EXCLUDED)


def largest(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest of each row [..., V], largest first, and their int64 places, both [..., count]."""
    if _searched(scores) and count <= FEW:
        from vvsbench import selection_kernels

        return selection_kernels.largest(scores, count)
    values, places = scores.topk(count, -1)
    return values, places


def _searched(rows: Tensor) -> bool:
    return rows.is_cuda and rows.dtype == torch.float32 and rows.shape[-1] <= LONGEST
