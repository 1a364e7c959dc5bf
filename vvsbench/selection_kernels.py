"""`selection` on a GPU: a block of threads holds a row, and finds a value bit by bit, each bit by counting once.

Floats are compared as whole numbers of the same order, so that the search is exact and ends after 32 counts.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

LOWEST = tl.constexpr(-(2**31))
"""Below the number of every float: places that a row does not have, or no longer has."""


@triton.jit
def _ordered(x):  # noqa: ANN001, ANN202 - a kernel's annotations are read by its compiler
    """Whole numbers in the order of the floats x; both zeros are one."""
    bits = tl.where(x == 0.0, 0.0, x).to(tl.int32, bitcast=True)
    return tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


@triton.jit
def _keep_largest(logits, out, width, count, BLOCK: tl.constexpr):  # noqa: ANN001, ANN202
    place = tl.arange(0, BLOCK)
    row = tl.program_id(0).to(tl.int64) * width
    x = tl.load(logits + row + place, mask=place < width, other=0.0)
    key = tl.where(place < width, _ordered(x), LOWEST)
    enough = tl.sum((key >= 0).to(tl.int32), 0) >= count
    threshold = tl.where(enough, 0, LOWEST)
    for bit in range(31):
        trial = threshold + (1 << (30 - bit))
        enough = tl.sum((key >= trial).to(tl.int32), 0) >= count
        threshold = tl.where(enough, trial, threshold)
    tl.store(out + row + place, tl.where(key >= threshold, x, float("-inf")), mask=place < width)


@triton.jit
def _largest(scores, values, places, width, COUNT: tl.constexpr, BLOCK: tl.constexpr):  # noqa: ANN001, ANN202
    place = tl.arange(0, BLOCK)
    number = tl.program_id(0).to(tl.int64)
    x = tl.load(scores + number * width + place, mask=place < width, other=0.0)
    key = tl.where(place < width, _ordered(x), LOWEST)
    for rank in range(COUNT):
        best = tl.max(key, 0)
        first = tl.min(tl.where(key == best, place, BLOCK), 0)
        value = tl.where(best < 0, best ^ 0x7FFFFFFF, best).to(tl.float32, bitcast=True)
        tl.store(values + number * COUNT + rank, value)
        tl.store(places + number * COUNT + rank, first.to(tl.int64))
        key = tl.where(place == first, LOWEST, key)


def keep_largest(logits: Tensor, count: int) -> Tensor:
    """See `selection.keep_largest`."""
    rows = logits.contiguous()
    out = torch.empty_like(rows)
    width = rows.shape[-1]
    _keep_largest[(rows.numel() // width,)](rows, out, width, count, **_launch(width))
    return out


def largest(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """See `selection.largest`; of equal scores the first comes first."""
    rows = scores.contiguous()
    width = rows.shape[-1]
    values = rows.new_empty(*rows.shape[:-1], count)
    places = torch.empty_like(values, dtype=torch.int64)
    _largest[(rows.numel() // width,)](rows, values, places, width, COUNT=count, **_launch(width))
    return values, places


def _launch(width: int) -> dict[str, int]:
    """A block as wide as the row, with at most 32 values a thread as long as a block has so many threads."""
    block = max(128, triton.next_power_of_2(width))
    return {"BLOCK": block, "num_warps": min(32, max(4, block // 1024))}
