"""The most memory that was held at a time: by torch's allocator on a GPU, and by the process."""

from __future__ import annotations

import re
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Peak:
    """Bytes, at their highest.

    Attributes:
        allocated: in tensors on the GPU; None on a CPU.
        reserved: taken from the GPU by torch's allocator, which keeps what is freed; None on a CPU.
        process: of this process in the machine's memory.
    """

    allocated: int | None
    reserved: int | None
    process: int


def peak(device: torch.device) -> Peak:
    """The peaks since the process began."""
    if device.type != "cuda":
        return Peak(None, None, process_peak())
    return Peak(torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device), process_peak())


def process_peak() -> int:
    """Resident bytes of this process at their highest.

    On Linux the kernel's own note of this program is read: what getrusage says begins with the parent's size.
    """
    try:
        found = re.search(r"^VmHWM:\s*(\d+) kB", STATUS.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    if found:
        return int(found.group(1)) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
