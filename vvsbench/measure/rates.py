"""How fast this machine copies and multiplies, measured in the process that is about to be timed.

A data sheet's numbers hold for another clock, another number of threads and another library. The copy is as large as
what the cell reads again and again, so that a model that fits into a cache is held against the cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from vvsbench.measure.clock import Stopwatch
from vvsbench.measure.roofline import Rates

MIB = 2**20
MOST = 256 * MIB
"""More than any cache holds."""
SECONDS = 0.3
"""That each of the two is tried for."""


def rates(device: torch.device, dtype: torch.dtype, working_bytes: float) -> Rates:
    """Measure both.

    Args:
        device: that is timed.
        dtype: of the matrices.
        working_bytes: weights and cache of the cell.
    """
    return Rates(_copied(device, working_bytes), _multiplied(device, dtype))


def _copied(device: torch.device, working_bytes: float) -> float:
    """Bytes read and written per second by a copy whose source and destination are so large together."""
    size = int(min(max(working_bytes, 2 * MIB), MOST)) // 2
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    destination = torch.empty_like(source)
    return 2 * size / _best(lambda: destination.copy_(source), device)


def _multiplied(device: torch.device, dtype: torch.dtype) -> float:
    """Multiply-adds x 2 per second of a square matrix product."""
    side = 4096 if device.type == "cuda" else 768
    left = torch.ones(side, side, dtype=dtype, device=device)
    result = torch.empty_like(left)
    return 2.0 * side**3 / _best(lambda: torch.mm(left, left, out=result), device)


def _best(work: Callable[[], object], device: torch.device) -> float:
    """Shortest time of one call: a ceiling is what a machine can do when nothing disturbs it.

    Calls are timed several at a time, so that what one launch costs does not count.
    """
    watch, best, many = Stopwatch(device), float("inf"), 1
    with watch:
        work()
    until = time.perf_counter() + SECONDS
    while best == float("inf") or time.perf_counter() < until:
        with watch:
            for _ in range(many):
                work()
        best = min(best, watch.seconds / many)
        many = min(64, max(many, round(0.01 / best)))
    return best
