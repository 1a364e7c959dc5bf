"""Writing a file so that it is either there, whole, or not there at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from pathlib import Path

from vvsbench.errors import OutOfSpaceError, UserError

NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


class NotWritableError(UserError):
    """The output folder may not be written to."""


def write(path: Path, content: bytes) -> None:
    """Write under a temporary name beside the file, flush it to the disk and rename it.

    Raises:
        OutOfSpaceError: the disk is full; the temporary file is gone again.
        NotWritableError: no permission.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
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
        raise understood(error, path) from error


def understood(error: OSError, path: Path | None = None) -> Exception:
    """Translate what a user can mend; anything else comes back as it is."""
    where = path or Path(error.filename or ".")
    if error.errno in NO_SPACE:
        return OutOfSpaceError(
            f"no space left on the device while writing {where}. Free some, or set output_root to a larger disk; "
            "the same command then goes on where this one stopped."
        )
    if error.errno in FORBIDDEN:
        return NotWritableError(
            f"cannot write {where} ({error.strerror}). Set output_root to a folder that you may write to."
        )
    return error


def remove_leftovers(folder: Path) -> None:
    """Delete temporary files of writers that were killed. Only the holder of the folder's lock may call this."""
    for path in folder.rglob(".*.tmp"):
        path.unlink(missing_ok=True)


def digest(content: bytes) -> str:
    """Sha256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()
