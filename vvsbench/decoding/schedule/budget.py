"""Spend a given number of target forwards: skip as much as a step compression takes, and where it is best."""

from __future__ import annotations

from dataclasses import dataclass

from vvsbench.decoding.schedule.base import Moment, Schedule, not_negative
from vvsbench.decoding.schedule.signals import PathChance, Signal


@dataclass
class Budget(Schedule):
    """Meets a step compression image by image.

    The image has N / compression forwards. What is left of them must bring what is left of the tokens; as far as
    verified steps alone have not been bringing enough, a share of the steps has to be skipped as well. Those are taken
    where the path is likeliest to be the target's own: a step is skipped if its chance is, within that share, among the
    best that the image has seen.

    Attributes:
        compression: image tokens per target forward, prefill included, that every image shall reach.
        first_tokens: no skip while no more than this many tokens are committed.
    """

    name: str = "budget"
    compression: float = 4.0
    first_tokens: int = 5

    @property
    def signals(self) -> tuple[Signal, ...]:
        """The chance of the path."""
        return (PathChance(),)

    def skips(self, moment: Moment) -> bool:
        """See `Schedule.skips`."""
        (chance,) = moment.signals
        better = sum(one > chance for (one,) in moment.before)
        return moment.committed > self.first_tokens and better < self._share(moment) * (len(moment.before) + 1)

    def _share(self, moment: Moment) -> float:
        """Skips wanted per verified step from here on, from 0 to 1."""
        left = moment.tokens / self.compression - moment.forwards
        if left <= 0:
            return 1.0
        needed = (moment.tokens - 1 - moment.committed) / left
        verified = 1 + sum(moment.accepted) / len(moment.accepted) if moment.accepted else 1.0
        skipped = sum(moment.skipped) / len(moment.skipped) if moment.skipped else 1.0
        return min(1.0, max(0.0, (needed - verified) / skipped))

    @property
    def label(self) -> list[str]:
        """What is asked for."""
        return [f"x={self.compression:g}"]

    def problems(self) -> list[str]:
        """See `Schedule.problems`."""
        found = not_negative("first_tokens", self.first_tokens)
        if self.compression < 1:
            found.append(f"compression={self.compression} must be at least 1, one token per forward")
        return found
