"""Where the time of a decoder goes, phase by phase: a pass of its own, since waiting at every mark makes it slower."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from vvsbench.decoding.phases import Phase, listening

HOST = "host"
"""Whatever happens outside every mark."""


class PhaseClock:
    """Adds up the seconds of every phase; the time of a phase within another counts for the inner one only.

    Args:
        wait: returns when the device is idle.
        now: a clock in seconds.

    Attributes:
        seconds: by phase, and of `HOST`.
    """

    def __init__(self, wait: Callable[[], None], now: Callable[[], float] = time.perf_counter) -> None:
        self._wait, self._now = wait, now
        self._inside: list[str] = [HOST]
        self.seconds: dict[str, float] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Listen to the marks inside `with`."""
        self._wait()
        self._since = self._now()
        with listening(self._marked):
            yield
        self._lap()

    def _lap(self) -> None:
        """Give the time since the last lap to the innermost phase."""
        self._wait()
        now = self._now()
        name = self._inside[-1]
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now

    def _marked(self, name: Phase) -> AbstractContextManager[None]:
        return self._phase(name.value)

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        self._lap()
        self._inside.append(name)
        try:
            yield
        finally:
            self._lap()
            self._inside.pop()
