"""Verify schedules: which steps commit draft tokens without asking the target (VVS, arXiv 2511.13587).

A schedule is a small dataclass: its fields are its settings, under decoder.schedule, and its method is the whole
method. The module imports no torch, because settings are read before torch is.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from omegaconf import MISSING


@dataclass
class Schedule:
    """Decides for one image whether a step is skipped, from that image's own history alone.

    The loop asks only where the image's last step was verified: two skips never follow each other.

    Attributes:
        name: as in conf/schedule.
    """

    name: str = MISSING

    @abstractmethod
    def skips(self, step: int, committed: int) -> bool:
        """Whether to skip.

        Args:
            step: steps this image has taken, verified and skipped.
            committed: image tokens committed before the step, the root of the tree not included.
        """

    @property
    def ever_skips(self) -> bool:
        """Whether the schedule can skip at all; what never skips keeps the acceptance rule's guarantee."""
        return True

    @property
    def label(self) -> list[str]:
        """What tells this setting apart in tables and plots, as in ["i=3"]."""
        return []

    def problems(self) -> list[str]:
        """What is wrong with the settings, one line each: the field, the fault and the remedy."""
        return []


@dataclass
class Always(Schedule):
    """Every step is verified: speculative decoding."""

    name: str = "always"

    def skips(self, step: int, committed: int) -> bool:
        """Never."""
        return False

    @property
    def ever_skips(self) -> bool:
        """Never."""
        return False


@dataclass
class Uniform(Schedule):
    """VVS-U: one step in every `interval` is skipped.

    Attributes:
        interval: at least 2.
        offset: the step, modulo the interval, that is skipped; the released code has 1.
        first_tokens: no skip while no more than this many tokens are committed; the released code has 5.
    """

    name: str = "uniform"
    interval: int = 2
    offset: int = 1
    first_tokens: int = 5

    def skips(self, step: int, committed: int) -> bool:
        """See `Schedule.skips`."""
        return step % self.interval == self.offset % self.interval and committed > self.first_tokens

    @property
    def label(self) -> list[str]:
        """The interval."""
        return [f"i={self.interval}"]

    def problems(self) -> list[str]:
        """See `Schedule.problems`."""
        found = []
        if self.interval < 2:
            found.append(f"interval={self.interval} must be at least 2; decoder=sd is the one that never skips")
        if self.first_tokens < 0:
            found.append(f"first_tokens={self.first_tokens} must be 0 or more")
        return found


SCHEDULES: tuple[type[Schedule], ...] = (Always, Uniform)
"""What conf/schedule can name."""
