"""The timed repeats: baseline and candidate in turn, until what is wanted of them is known well enough.

Within a round each runs once, right after the other, and the order alternates (A B, B A, ...), so that a machine that
warms up or slows down favours neither.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from vvsbench.measure.statistics import Interval

R = TypeVar("R")


class Ending(StrEnum):
    """Why there were no more repeats.

    narrow: the interval is as narrow as asked for. rounds, seconds: the cap on them was reached before.
    """

    narrow = "narrow"
    rounds = "rounds"
    seconds = "seconds"


@dataclass(frozen=True)
class Limits:
    """When there are enough repeats.

    Attributes:
        width: of the 95 % interval, as a share of its value.
        rounds: at most.
        seconds: after which no round is begun.
    """

    width: float
    rounds: int
    seconds: float


@dataclass(frozen=True)
class Rounds(Generic[R]):
    """What was measured.

    Attributes:
        taken: by name, a repeat per round.
        ending: why there are no more.
    """

    taken: dict[str, list[R]]
    ending: Ending


def interleaved(
    runs: Mapping[str, Callable[[int], R]],
    wanted: Callable[[Mapping[str, list[R]]], Interval],
    limits: Limits,
    now: Callable[[], float] = time.perf_counter,
) -> Rounds[R]:
    """Run everything once a round.

    Args:
        runs: by name; each is given the number of the round, from 0.
        wanted: the interval that is to become narrow, of what was measured so far.
        limits: when to stop.
        now: a clock in seconds.
    """
    taken: dict[str, list[R]] = {name: [] for name in runs}
    started = now()
    for number in range(limits.rounds):
        for name in list(runs) if number % 2 == 0 else list(reversed(list(runs))):
            taken[name].append(runs[name](number))
        if wanted(taken).narrow(limits.width):
            return Rounds(taken, Ending.narrow)
        if now() - started >= limits.seconds:
            return Rounds(taken, Ending.seconds)
    return Rounds(taken, Ending.rounds)
