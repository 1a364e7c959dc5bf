"""VVS-D (arXiv 2511.13587): a step is skipped when the paths of its tree are so alike that it hardly matters which."""

from __future__ import annotations

from dataclasses import dataclass

from vvsbench.decoding.schedule.base import Moment, Schedule, not_negative
from vvsbench.decoding.schedule.signals import Signal, Similarity


@dataclass
class Dynamic(Schedule):
    """Skips where the mean similarity of the tree's paths reaches a threshold.

    Attributes:
        threshold: the paper quotes 0.65 for its fastest setting; the released default is 0.70.
        decay: weight of a depth relative to the one above it; the released code has 0.9.
        stride: one path in so many is compared; the released code has 2.
        first_tokens: no skip while no more than this many tokens are committed; the released code has 5.
    """

    name: str = "dynamic"
    threshold: float = 0.7
    decay: float = 0.9
    stride: int = 2
    first_tokens: int = 5

    @property
    def signals(self) -> tuple[Signal, ...]:
        """The similarity."""
        return (Similarity(self.decay, self.stride),)

    def skips(self, moment: Moment) -> bool:
        """See `Schedule.skips`."""
        (similarity,) = moment.signals
        return moment.committed > self.first_tokens and similarity >= self.threshold

    @property
    def label(self) -> list[str]:
        """The threshold."""
        return [f"s={self.threshold:g}"]

    def problems(self) -> list[str]:
        """See `Schedule.problems`."""
        found = not_negative("first_tokens", self.first_tokens)
        if not -1 <= self.threshold <= 1:
            found.append(f"threshold={self.threshold} must lie in [-1, 1], like a cosine")
        if self.stride < 1:
            found.append(f"stride={self.stride} must be at least 1, which compares every path")
        if self.decay <= 0:
            found.append(f"decay={self.decay} must be above 0; 1 weighs all depths alike")
        return found
