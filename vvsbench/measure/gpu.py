"""What NVML tells of a GPU while it is timed: clocks, what holds them down, energy, and who else computes there.

Nothing is ever set. What a GPU, a driver or a container does not tell is None, never zero.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import pynvml
import torch

T = TypeVar("T")

REASONS = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
"""NVML's bits for clocks that are lower than they could be, without those of a GPU that idles or is told so."""


@dataclass(frozen=True)
class GpuState:
    """A GPU at one moment; what it does not tell is None.

    Attributes:
        sm_mhz, memory_mhz: clocks.
        celsius: temperature.
        power_limit_watts: that is enforced.
        slowed_by: what holds the clocks down (see `REASONS`).
    """

    sm_mhz: int | None
    memory_mhz: int | None
    celsius: int | None
    power_limit_watts: float | None
    slowed_by: list[str] | None


class Gpu:
    """A GPU as NVML sees it.

    Args:
        handle: of NVML.
    """

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    @classmethod
    def of(cls, device: torch.device) -> Gpu | None:
        """The GPU behind a torch device; None on a CPU, or where NVML does not know it."""
        if device.type != "cuda":
            return None
        uuid = str(torch.cuda.get_device_properties(device).uuid).removeprefix("GPU-")
        try:
            pynvml.nvmlInit()
            return cls(pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}"))
        except pynvml.NVMLError:
            return None

    def state(self) -> GpuState:
        """What it is doing now."""
        limit = self._asked(pynvml.nvmlDeviceGetEnforcedPowerLimit)
        bits = self._asked(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons)
        return GpuState(
            sm_mhz=self._asked(lambda handle: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM)),
            memory_mhz=self._asked(lambda handle: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM)),
            celsius=self._asked(lambda handle: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)),
            power_limit_watts=None if limit is None else limit / 1000,
            slowed_by=None if bits is None else [name for bit, name in REASONS.items() if bits & bit],
        )

    def joules(self) -> float | None:
        """Energy since the driver was loaded; None where there is no counter."""
        spent = self._asked(pynvml.nvmlDeviceGetTotalEnergyConsumption)
        return None if spent is None else spent / 1000

    def strangers(self) -> list[int] | None:
        """Process ids of others that compute on it; None where this process does not see itself, as in a container."""
        running = self._asked(pynvml.nvmlDeviceGetComputeRunningProcesses)
        if running is None:
            return None
        pids = [int(process.pid) for process in running]
        return [pid for pid in pids if pid != os.getpid()] if os.getpid() in pids else None

    def _asked(self, question: Callable[[Any], T]) -> T | None:
        try:
            return question(self._handle)
        except pynvml.NVMLError:
            return None
