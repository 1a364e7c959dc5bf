"""Seconds by phase, under a clock that a test can turn."""

from __future__ import annotations

import pytest

from vvsbench.decoding.phases import Phase, phase
from vvsbench.measure.phases import HOST, PhaseClock


class Clock:
    time = 0.0
    waits = 0

    def now(self):
        return self.time

    def wait(self):
        self.waits += 1


def test_an_inner_phase_takes_its_time_from_the_outer_one():
    clock = Clock()
    phases = PhaseClock(clock.wait, clock.now)
    with phases.running():
        clock.time += 1
        with phase(Phase.verify):
            clock.time += 2
            with phase(Phase.commit):
                clock.time += 4
            clock.time += 8
        clock.time += 16
    assert phases.seconds == {HOST: 17, "verify": 10, "commit": 4}
    assert clock.waits == 6


def test_an_error_inside_a_phase_gets_out_and_nobody_listens_afterwards():
    clock = Clock()
    phases = PhaseClock(clock.wait, clock.now)
    with pytest.raises(RuntimeError, match="boom"), phases.running(), phase(Phase.draft):
        raise RuntimeError("boom")
    waits = clock.waits
    with phase(Phase.draft):
        clock.time += 1
    assert clock.waits == waits
