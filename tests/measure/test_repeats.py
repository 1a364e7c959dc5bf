"""The interleaved loop, under a clock that a test can turn."""

from __future__ import annotations

from vvsbench.measure.repeats import Ending, Limits, interleaved
from vvsbench.measure.statistics import Interval, median


class Clock:
    def __init__(self):
        self.time, self.calls = 0.0, []

    def run(self, name, seconds):
        def once(number):
            self.calls.append((number, name))
            self.time += seconds
            return seconds

        return once

    def now(self):
        return self.time


def rounds(clock, limits, wanted=lambda taken: median(taken["b"])):
    runs = {"a": clock.run("a", 2.0), "b": clock.run("b", 1.0)}
    return interleaved(runs, wanted, limits, clock.now)


def test_the_order_alternates_and_everything_runs_once_a_round():
    clock = Clock()
    found = rounds(clock, Limits(0.05, 3, 1e9), lambda taken: Interval(1.0, 0.0, 2.0, 9))
    assert clock.calls == [(0, "a"), (0, "b"), (1, "b"), (1, "a"), (2, "a"), (2, "b")]
    assert found.taken == {"a": [2.0] * 3, "b": [1.0] * 3}
    assert found.ending is Ending.rounds


def test_it_ends_when_the_interval_is_narrow_and_not_before_there_are_enough():
    found = rounds(Clock(), Limits(0.05, 40, 1e9))
    assert (found.ending, len(found.taken["b"])) == (Ending.narrow, 5)


def test_it_ends_after_its_seconds_with_one_round_at_least():
    assert rounds(Clock(), Limits(0.0, 40, 0.5)).ending is Ending.seconds
    assert len(rounds(Clock(), Limits(1e-9, 40, 7.0), lambda taken: Interval(1.0, 0.0, 2.0, 9)).taken["a"]) == 3
