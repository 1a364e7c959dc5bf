"""What this machine can do at best: nothing below it can be expected of any loop.

A step of vanilla decoding reads every weight once, and the keys and values of all positions before it. So its floor is
those bytes over the memory's bandwidth, whatever the program. Bandwidth is what a large copy reaches or a large sum,
whichever is faster: a processor that fetches what it is about to overwrite copies more slowly than it reads.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch

from vvsbench.measure.clock import Stopwatch
from vvsbench.measure.rates import rates
from vvsbench.models.protocols import ModelSpec

REPEATS = 10
MOST = {"cpu": 2**28, "cuda": 2**31}
"""Bytes that are copied and read: more than any cache holds."""


@dataclass(frozen=True)
class Ceiling:
    """Rates of a device.

    Attributes:
        copy, read: bytes per second; of a copy those read and those written are both counted.
        matrix: multiply-adds x 2 per second of a matrix product.
    """

    copy: float
    read: float
    matrix: float

    @property
    def bandwidth(self) -> float:
        """Bytes per second that memory gives at best."""
        return max(self.copy, self.read)

    def floor(self, spec: ModelSpec, context: float, batch: int = 1, positions: int = 1) -> float:
        """Seconds below which a forward of the target cannot come.

        Args:
            spec: of the target.
            context: positions in the cache of each image.
            batch: images.
            positions: new ones of each image.
        """
        step = spec.weight_bytes + batch * context * spec.cache_bytes_per_token
        return max(step / self.bandwidth, batch * positions * spec.flops_per_token / self.matrix)


@functools.cache
def ceiling(device: torch.device, dtype: torch.dtype) -> Ceiling:
    """Measure it, once per process."""
    found = rates(device, dtype, MOST[device.type])
    source, seconds, watch = torch.zeros(MOST[device.type] // 4, device=device), [], Stopwatch(device)
    for _ in range(REPEATS):
        with watch:
            source.sum()
        seconds.append(watch.seconds)
    return Ceiling(found.bytes_per_second, source.nbytes / min(seconds), found.flops_per_second)
