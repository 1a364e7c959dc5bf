"""What every worker process of a machine has for itself: a GPU and a log file; and how many workers it is good for.

Launchers that start several workers on one machine give all of them the same GPUs. Here each takes one that no other
holds, by a lock that is named after the GPU itself, so that it holds between the sweeps of a user as well.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from io import TextIOWrapper
from pathlib import Path

from vvsbench import identity, locks

VISIBLE = "CUDA_VISIBLE_DEVICES"
POLL = 0.5


def fitting(device: str, threads: int) -> int:
    """How many workers this machine is good for: one for each GPU, or without one as many as its cores carry.

    Args:
        device: as in the settings.
        threads: CPU threads of each, 0 for one.
    """
    if identity.device(device) == "cuda":
        return max(1, len(visible_gpus()))
    return max(1, len(os.sched_getaffinity(0)) // max(1, threads))


def log_name(shards: int) -> str:
    """The file in a cell's folder that holds what was said; processes that share a cell write to one each."""
    return "log.txt" if shards == 1 else f"log-{socket.gethostname()}-{os.getpid()}.txt"


class CellLog(logging.FileHandler):
    """What was said of a cell; where it may not be written the cell can still be told to be done."""

    def _open(self) -> TextIOWrapper:
        try:
            return super()._open()
        except OSError:
            return Path(os.devnull).open("a", encoding="utf-8")


@contextlib.contextmanager
def own_gpu(say: Callable[[str], None]) -> Iterator[None]:
    """Hold a GPU and see no other. A process keeps to its first one, since CUDA does not let it change.

    Args:
        say: is told when all are taken and there is something to wait for.
    """
    names, told = visible_gpus(), False
    while names:
        for name in names:
            path = Path(tempfile.gettempdir()) / f"vvsbench-{os.getuid()}-{name.replace('/', '-')}.lock"
            with locks.alone(path, patience=0) as mine:
                if mine:
                    os.environ[VISIBLE] = name
                    yield
                    return
        if not told:
            say(f"more workers than GPUs: all {len(names)} are taken by other workers of this machine; waiting for one")
            told = True
        time.sleep(POLL)
    yield


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them for good: not by a number."""
    present = _present()
    asked = os.environ.get(VISIBLE)
    if asked is None:
        return present
    names = [name.strip() for name in asked.split(",") if name.strip()]
    return [present[int(name)] if name.isdigit() and int(name) < len(present) else name for name in names]


def _present() -> list[str]:
    """Every GPU of the machine, by its UUID."""
    import pynvml

    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
        return [str(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles]
    except pynvml.NVMLError:
        return []
