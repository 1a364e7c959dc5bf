"""What a schedule is asked, and what it may know."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt

from omegaconf import MISSING

from vvsbench.decoding.schedule.signals import Signal


@dataclass(frozen=True)
class Moment:
    """One image before one step: its own history alone, so that an image does not depend on its batch.

    Attributes:
        step: steps it has taken, verified and skipped.
        committed: image tokens committed before the step, the root of the tree not included.
        tokens: image tokens in all, N.
        accepted: drafts accepted at each verified step so far.
        skipped: tokens committed by each skipped step so far.
        signals: values of the signals that the schedule asks for, in its order.
        before: the same at each earlier step at which the image could have skipped.
    """

    step: int
    committed: int
    tokens: int
    accepted: Sequence[int] = ()
    skipped: Sequence[int] = ()
    signals: Sequence[float] = ()
    before: Sequence[Sequence[float]] = ()

    @property
    def row(self) -> int:
        """Row of the token grid that the step begins in."""
        return self.committed // isqrt(self.tokens)

    @property
    def forwards(self) -> int:
        """Target forwards so far, the prefill included."""
        return 1 + len(self.accepted)


@dataclass
class Schedule:
    """Decides for one image whether a step is skipped.

    The loop asks only where the image may skip at all: see decoder.skip.in_a_row.

    Attributes:
        name: as in conf/schedule.
    """

    name: str = MISSING

    @abstractmethod
    def skips(self, moment: Moment) -> bool:
        """Whether to skip the step."""

    @property
    def signals(self) -> tuple[Signal, ...]:
        """What the schedule wants to know about the tree of each step; reading it costs a host synchronisation."""
        return ()

    @property
    def ever_skips(self) -> bool:
        """Whether the schedule can skip at all; what never skips keeps the acceptance rule's guarantee."""
        return True

    @property
    def period(self) -> int:
        """Steps after which the schedule repeats itself; 1 where it does not, or nobody knows."""
        return 1

    @property
    def label(self) -> list[str]:
        """What tells this setting apart in tables and plots, as in ["i=3"]."""
        return []

    def problems(self) -> list[str]:
        """What is wrong with the settings, one line each: the field, the fault and the remedy."""
        return []


def below_one(name: str, value: float) -> list[str]:
    """The problem of a chance that is none."""
    return [] if 0 <= value <= 1 else [f"{name}={value} must lie in [0, 1]"]


def not_negative(name: str, value: int) -> list[str]:
    """The problem of a count that is none."""
    return [] if value >= 0 else [f"{name}={value} must be 0 or more"]
