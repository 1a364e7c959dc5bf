"""Skip where the drafter is sure: what would be committed is probably what the target would draw."""

from __future__ import annotations

from dataclasses import dataclass

from vvsbench.decoding.schedule.base import Moment, Schedule, below_one, not_negative
from vvsbench.decoding.schedule.signals import PathChance, Signal


@dataclass
class Confident(Schedule):
    """Skips where the chance that the target would draw the whole committed path reaches a threshold.

    Under shared noise that chance knows the noise: it is fitted to how often a perturbed candidate is the target's own
    draw (decoder.drafter.sharpness), so it tells moments apart at which the drafter's probability looks the same.

    Attributes:
        chance: the threshold.
        first_tokens: no skip while no more than this many tokens are committed.
    """

    name: str = "confident"
    chance: float = 0.1
    first_tokens: int = 5

    @property
    def signals(self) -> tuple[Signal, ...]:
        """The chance of the path."""
        return (PathChance(),)

    def skips(self, moment: Moment) -> bool:
        """See `Schedule.skips`."""
        (chance,) = moment.signals
        return moment.committed > self.first_tokens and chance >= self.chance

    @property
    def label(self) -> list[str]:
        """The threshold."""
        return [f"c={self.chance:g}"]

    def problems(self) -> list[str]:
        """See `Schedule.problems`."""
        return [*below_one("chance", self.chance), *not_negative("first_tokens", self.first_tokens)]
