"""Writing a file so that it is either there, whole, or not there at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
from pathlib import Path

from vvsbench.runs.failures import from_system


def write(path: Path, content: bytes) -> None:
    """Write under a temporary name beside the file, flush it to the disk and rename it.

    Raises:
        OutOfSpaceError: the disk is full; the temporary file is gone again.
        NotWritableError: no permission.
    """
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise from_system(error, path) from error


def remove_leftovers(folder: Path) -> None:
    """Delete temporary files and locks of writers that were killed. Only who holds the folder alone may call this."""
    for path in [*folder.rglob(".*.tmp"), *folder.rglob(".shard-*.lock")]:
        path.unlink(missing_ok=True)


def digest(content: bytes) -> str:
    """Sha256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()
