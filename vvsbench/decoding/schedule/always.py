"""Speculative decoding: no step is skipped."""

from __future__ import annotations

from dataclasses import dataclass

from vvsbench.decoding.schedule.base import Moment, Schedule


@dataclass
class Always(Schedule):
    """Every step is verified."""

    name: str = "always"

    def skips(self, moment: Moment) -> bool:
        """Never."""
        return False

    @property
    def ever_skips(self) -> bool:
        """Never."""
        return False
