"""The least time in which a machine could do what a cell did: bytes over bandwidth, operations over rate.

A forward reads all weights once, however many images share it, and the cache of every image. What is counted is a lower
bound: images that leave a batch early, attention scores, activations and noise count as nothing, so the distance
between a time and its floor shows all of that too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Rates:
    """What a machine reaches.

    Attributes:
        bytes_per_second: read and written by a copy.
        flops_per_second: multiply-adds x 2 of a matrix product in the cell's number format.
    """

    bytes_per_second: float
    flops_per_second: float

    def best(self, other: Rates) -> Rates:
        """The better of two looks at the same machine: a ceiling is never too high for having been reached."""
        return Rates(
            max(self.bytes_per_second, other.bytes_per_second), max(self.flops_per_second, other.flops_per_second)
        )


@dataclass(frozen=True)
class Networks:
    """What the networks of a decoder read and compute.

    Attributes:
        target_bytes: weights that one target forward reads, those of a diffusion head's whole chain included.
        draft_bytes: the same of one forward of the drafter; 0 without one.
        cache_bytes: keys and values of one position of one image in the target's cache; 0 without one.
        prefix: positions before the first token.
        tokens: of an image.
        target_flops: of one position of one image in the target; 0 where `unit_flops` says it all.
        draft_flops: the same of the drafter.
        unit_flops: what a trace's `cost` counts in; 0 for a trace without it.
    """

    target_bytes: float
    draft_bytes: float = 0.0
    cache_bytes: float = 0.0
    prefix: int = 0
    tokens: int = 0
    target_flops: float = 0.0
    draft_flops: float = 0.0
    unit_flops: float = 0.0

    def working_bytes(self, rows: int) -> float:
        """What is read again and again while so many images are in flight, their caches half full."""
        return self.target_bytes + self.draft_bytes + rows * self.cache_bytes * (self.prefix + self.tokens / 2)


@dataclass(frozen=True)
class Work:
    """What an image takes.

    Attributes:
        bytes: read.
        flops: multiply-adds x 2.
    """

    bytes: float
    flops: float

    def floor(self, rates: Rates) -> float:
        """Seconds that it takes at least."""
        return max(self.bytes / rates.bytes_per_second, self.flops / rates.flops_per_second)


def work(networks: Networks, counts: Mapping[str, float], rows: int) -> Work:
    """What an image took.

    Args:
        networks: of its decoder.
        counts: means over the images of the columns of a trace.
        rows: images that share a forward.
    """
    forwards = counts["target_forwards"] + counts["prefill_forwards"]
    weights = (forwards * networks.target_bytes + counts["draft_forwards"] * networks.draft_bytes) / rows
    seen = networks.prefix + networks.tokens / 2  # committed positions, averaged over the image
    cache = counts["target_forwards"] * seen * networks.cache_bytes
    positions = counts["target_positions"] * networks.target_flops + counts["draft_positions"] * networks.draft_flops
    return Work(weights + cache, positions + counts.get("cost", 0.0) * networks.unit_flops)
