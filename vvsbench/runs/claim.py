"""Only one process works on a cell at a time, and a full disk still leaves room to say so."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from vvsbench.runs import files
from vvsbench.runs.failures import from_system

LOCK = ".lock"
RESERVE = ".reserve"
RESERVED_BYTES = 128 * 1024
"""Room for a record: it is given back before the record of a failure is written."""


@contextlib.contextmanager
def claimed(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold a cell; a second process waits here, and then finds the work done.

    Args:
        folder: of the cell; made if it is not there.
        say: is told when there is something to wait for.

    Raises:
        UserError: the folder cannot be written to.
    """
    lock = FileLock(str(folder / LOCK))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"{folder.name}: another process works on it; waiting for it to finish ...")
            lock.acquire()
    except OSError as error:
        raise from_system(error, folder) from error
    try:
        files.remove_leftovers(folder)
        yield
    finally:
        lock.release()


def held(folder: Path) -> bool:
    """Whether a live process holds a cell; asking writes nothing and needs no right to write."""
    try:
        with (folder / LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return True
    except OSError:  # no lock was ever made, or this file system knows none
        return False
    return False


@contextlib.contextmanager
def reserved(folder: Path) -> Iterator[None]:
    """Occupy some room while a cell is drawn, and give it back at the end, whatever the end is."""
    files.write(folder / RESERVE, bytes(RESERVED_BYTES))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            (folder / RESERVE).unlink(missing_ok=True)
