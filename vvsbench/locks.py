"""Locks of the file system: freed by the system when their holder dies, so that nothing has to be cleared up after it.

They save work and never truth. Where a file system knows no locks everybody is let in; a file that stands for a lock
instead would outlive its holder, and block for ever.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

POLL = 0.02


@contextlib.contextmanager
def alone(path: Path, patience: float = math.inf, mode: int = 0o644) -> Iterator[bool]:
    """Hold a lock that nobody else holds.

    Args:
        path: of its file, which is made if it is not there and stays.
        patience: seconds to wait for it.
        mode: of the file.

    Yields:
        Whether it is held.

    Raises:
        OSError: the file cannot be written to.
    """
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode), "rb+") as lock:
        yield taken(lock, fcntl.LOCK_EX, patience)


def taken(lock: IO[Any], kind: int, patience: float) -> bool:
    """Try to take a lock for so many seconds; closing its file gives it back.

    Args:
        lock: its file, open for writing.
        kind: `fcntl.LOCK_EX` for one who holds it alone, or `fcntl.LOCK_SH`.
        patience: seconds; it is tried at least once.

    Returns:
        Whether it is held, or there are no locks here.
    """
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            if time.monotonic() >= until:
                return False
            time.sleep(POLL)
        except OSError:
            return True
        else:
            return True
