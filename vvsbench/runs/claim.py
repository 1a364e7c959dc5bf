"""Who works on a cell: one process alone, or several that share its images. A full disk still leaves room to say so.

Alone means to hold the cell's lock, together means to share it, and then every image file that is being drawn has a
lock of its own. The system frees the locks of a process that dies, so nothing has to be cleared up after it. Locks only
save work: a file holds the same bytes whoever draws it, and appears at once, so even where a file system knows no locks
nothing worse happens than that it is drawn twice.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import socket
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import IO

from vvsbench import locks
from vvsbench.runs import files
from vvsbench.runs.failures import from_system
from vvsbench.runs.shards import FOLDER, ShardRange

LOCK = ".lock"
RESERVED_BYTES = 128 * 1024
"""Room for a record: it is given back before the record of a failure is written."""
GLIMPSE, PATIENCE = 0.3, 2.0
"""Seconds that a lock may be held by one who only looks (see `held`), and by one who is about to leave."""


@contextlib.contextmanager
def claimed(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold a cell alone; a second process waits here, and then finds the work done.

    Args:
        folder: of the cell; made if it is not there.
        say: is told when there is something to wait for.

    Raises:
        UserError: the folder cannot be written to.
    """
    with _opened_to_lock(folder) as lock:
        if not locks.taken(lock, fcntl.LOCK_EX, 0):
            say(f"{folder.name}: another process works on it; waiting for it to finish ...")
            locks.taken(lock, fcntl.LOCK_EX, math.inf)
        files.remove_leftovers(folder)
        yield


@contextlib.contextmanager
def joined(folder: Path, say: Callable[[str], None], begin: Callable[[], None]) -> Iterator[None]:
    """Hold a cell together with all others that draw its images; one who holds it alone is waited for.

    Args:
        folder: of the cell; made if it is not there.
        say: is told when there is something to wait for.
        begin: is called by the first one, while there is nobody else.

    Raises:
        UserError: the folder cannot be written to.
    """
    with _opened_to_lock(folder) as lock:
        if locks.taken(lock, fcntl.LOCK_EX, GLIMPSE):
            begin()
        if not locks.taken(lock, fcntl.LOCK_SH, PATIENCE):
            say(f"{folder.name}: another process works on it alone; waiting for it to finish ...")
            locks.taken(lock, fcntl.LOCK_SH, math.inf)
        yield


def _opened_to_lock(folder: Path) -> IO[bytes]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return (folder / LOCK).open("ab+")
    except OSError as error:
        raise from_system(error, folder) from error


@contextlib.contextmanager
def concluding(folder: Path) -> Iterator[bool]:
    """Hold a cell alone whose image files are all there, unless somebody else is still busy with it.

    Of all that ask, the last one gets it: whoever is busy now asks later.

    Yields:
        Whether it is held.
    """
    with locks.alone(folder / LOCK, PATIENCE) as held:
        if held:
            files.remove_leftovers(folder)
        yield held


def unclaimed(folder: Path, wanted: Sequence[ShardRange]) -> Generator[ShardRange, None, None]:
    """Image files that are neither there nor being drawn by a live process, one by one, each held while it is out.

    It ends when a whole pass over them finds none: those of a process that died are found by a later pass.

    Args:
        folder: of the cell.
        wanted: all its image files.
    """
    (folder / FOLDER).mkdir(exist_ok=True)
    found = True
    while found:
        found = False
        for where in wanted:
            path = where.path(folder)
            if path.exists():
                continue
            with locks.alone(path.with_name(f".{path.name}.lock"), patience=0) as mine:
                if mine and not path.exists():
                    found = True
                    yield where


def held(folder: Path) -> bool:
    """Whether a live process holds a cell, alone or with others; asking writes nothing and needs no right to write."""
    try:
        with _opened(folder / LOCK) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno != errno.EBADF:
                    raise
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # NFS, and no right to write: sees those alone only
    except (BlockingIOError, PermissionError):
        return True
    except OSError:  # no lock was ever made, or this file system knows none
        return False
    return False


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb+")
    except PermissionError:
        return path.open("rb")
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        return path.open("rb")


@contextlib.contextmanager
def reserved(folder: Path) -> Iterator[None]:
    """Occupy some room while a cell is drawn, and give it back at the end, whatever the end is."""
    files.write(_reserve(folder), bytes(RESERVED_BYTES))
    try:
        yield
    finally:
        give_back(folder)


def give_back(folder: Path) -> None:
    """Free the room that this process occupies."""
    with contextlib.suppress(OSError):
        _reserve(folder).unlink(missing_ok=True)


def _reserve(folder: Path) -> Path:
    return folder / f".reserve.{socket.gethostname()}-{os.getpid()}.tmp"
