"""Verify schedules: which steps commit draft tokens without asking the target (VVS, arXiv 2511.13587)."""

from __future__ import annotations

from abc import ABC, abstractmethod


class Schedule(ABC):
    """Decides for one image whether a step is skipped, from that image's own history alone.

    The loop asks only where the image's last step was verified: two skips never follow each other.
    """

    @abstractmethod
    def skips(self, step: int, committed: int) -> bool:
        """Whether to skip.

        Args:
            step: steps this image has taken, verified and skipped.
            committed: image tokens committed before the step, the root not included.
        """

    @property
    def ever_skips(self) -> bool:
        """Whether the schedule can skip at all; what never skips keeps the acceptance rule's guarantee."""
        return True


class Always(Schedule):
    """Verify every step: speculative decoding."""

    def skips(self, step: int, committed: int) -> bool:
        """Never."""
        return False

    @property
    def ever_skips(self) -> bool:
        """Never."""
        return False


class Uniform(Schedule):
    """VVS-U: one step in every `interval` is skipped.

    Args:
        interval: at least 2.
        offset: the step, modulo the interval, that is skipped; the released code has 1.
        first_tokens: no skip while no more than this many tokens are committed; the released code has 5.
    """

    def __init__(self, interval: int, offset: int = 1, first_tokens: int = 5) -> None:
        self.interval, self.offset, self.first_tokens = interval, offset, first_tokens

    def skips(self, step: int, committed: int) -> bool:
        """See `Schedule.skips`."""
        return step % self.interval == self.offset % self.interval and committed > self.first_tokens
