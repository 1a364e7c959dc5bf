"""VVS-U (arXiv 2511.13587): a step is skipped at regular intervals, whatever the tree looks like."""

from __future__ import annotations

from dataclasses import dataclass

from vvsbench.decoding.schedule.base import Moment, Schedule, not_negative


@dataclass
class Uniform(Schedule):
    """One step in every `interval` is skipped.

    Attributes:
        interval: at least 2.
        offset: the step, modulo the interval, that is skipped; the released code has 1.
        first_tokens: no skip while no more than this many tokens are committed; the released code has 5.
    """

    name: str = "uniform"
    interval: int = 2
    offset: int = 1
    first_tokens: int = 5

    def skips(self, moment: Moment) -> bool:
        """See `Schedule.skips`."""
        due = moment.step % self.interval == self.offset % self.interval
        return due and moment.committed > self.first_tokens

    @property
    def period(self) -> int:
        """See `Schedule.period`."""
        return self.interval

    @property
    def label(self) -> list[str]:
        """The interval."""
        return [f"i={self.interval}"]

    def problems(self) -> list[str]:
        """See `Schedule.problems`."""
        found = not_negative("first_tokens", self.first_tokens)
        if self.interval < 2:
            found.append(f"interval={self.interval} must be at least 2; decoder=sd is the one that never skips")
        elif not 0 <= self.offset < self.interval:
            found.append(f"offset={self.offset} must lie in 0 to {self.interval - 1}: it is a step modulo the interval")
        return found
