"""A stopwatch that waits for the device: without that it times launches, not work."""

from __future__ import annotations

import time
from types import TracebackType

import torch


class Stopwatch:
    """Wall-clock seconds of the block inside `with`, with the device idle at both ends.

    Attributes:
        seconds: of the last block.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = 0.0

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def __enter__(self) -> Stopwatch:
        self._wait()
        self._started = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._wait()
        self.seconds = time.perf_counter() - self._started
