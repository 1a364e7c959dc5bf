"""A stopwatch that waits for the device: without that it times launches, not work."""

from __future__ import annotations

import time
from types import TracebackType

import torch


class Stopwatch:
    """Seconds of the block inside `with`, with the device idle at both ends.

    Attributes:
        seconds: of the last block, by the wall clock.
        device_seconds: of the last block, between two events on the device's own clock; None on a CPU. Gaps between
            launches count, only what the host does before the first and after the last of them does not.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = 0.0
        self.device_seconds: float | None = None
        timed = device.type == "cuda"
        self._events = [torch.cuda.Event(enable_timing=True) for _ in range(2)] if timed else []

    def _wait(self) -> None:
        if self._events:
            torch.cuda.synchronize(self.device)

    def _record(self, end: int) -> None:
        if self._events:
            self._events[end].record(torch.cuda.current_stream(self.device))

    def __enter__(self) -> Stopwatch:
        self._wait()
        self._record(0)
        self._started = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._record(1)
        self._wait()
        self.seconds = time.perf_counter() - self._started
        if self._events and error is None:
            self.device_seconds = self._events[0].elapsed_time(self._events[1]) / 1000
