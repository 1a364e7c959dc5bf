"""Skip while drafts are being accepted: what was easy a moment ago is probably easy now."""

from __future__ import annotations

from dataclasses import dataclass

from vvsbench.decoding.schedule.base import Moment, Schedule, not_negative


@dataclass
class Accepting(Schedule):
    """Skips while the last verified steps have accepted enough drafts; it needs no signal of the tree.

    Attributes:
        least: drafts accepted per verified step, on average over the window.
        window: verified steps that are looked back at; no skip before there are so many.
        first_tokens: no skip while no more than this many tokens are committed.
    """

    name: str = "accepting"
    least: float = 3.0
    window: int = 2
    first_tokens: int = 5

    def skips(self, moment: Moment) -> bool:
        """See `Schedule.skips`."""
        recent = moment.accepted[-self.window :]
        ready = len(recent) == self.window and moment.committed > self.first_tokens
        return ready and sum(recent) >= self.least * self.window

    @property
    def label(self) -> list[str]:
        """The drafts and the window."""
        return [f"a={self.least:g} w={self.window}"]

    def problems(self) -> list[str]:
        """See `Schedule.problems`."""
        found = not_negative("first_tokens", self.first_tokens)
        if self.window < 1:
            found.append(f"window={self.window} must be at least 1")
        return found
