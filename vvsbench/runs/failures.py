"""What goes wrong with a machine rather than with the code: full disks, missing permissions, too little memory.

Each becomes an error that says what to try; anything else stays what it is, because a bug needs its traceback.
"""

from __future__ import annotations

import errno
from pathlib import Path

from vvsbench.errors import OutOfSpaceError, UserError

NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
FORBIDDEN = {
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG),
    *(errno.EIO, errno.ESTALE, errno.EINVAL),
}
"""No right to write, no such place, a place that is taken by something else, a disk that does not answer."""


class NotWritableError(UserError):
    """The output folder may not be written to."""


class OutOfMemoryError(UserError):
    """The device has too little memory."""


def from_system(error: OSError, path: Path | None = None) -> Exception:
    """Translate an error of the operating system.

    Args:
        error: as it was raised.
        path: what was being written, where the error does not say.
    """
    where = path or Path(error.filename or ".")
    if error.errno in NO_SPACE:
        return OutOfSpaceError(
            f"no space left on the device while writing {where}. Free some, or set output_root to a larger disk; "
            "the same command then goes on where this one stopped."
        )
    if error.errno in FORBIDDEN and (path or error.filename):
        return NotWritableError(
            f"cannot read or write {where}{_dangling(where)}: {error.strerror}. Set output_root to a folder that you "
            "may write to."
        )
    return error


def _dangling(path: Path) -> str:
    """Which part of a path is a link to nothing, in brackets; empty when none is."""
    found = [str(one) for one in (path, *path.parents) if one.is_symlink() and not one.exists()]
    return f" ({found[0]} is a symbolic link to nothing)" if found else ""


def understood(error: Exception, setting: str, remedy: str) -> Exception:
    """Translate what a user can mend; anything else comes back as it is.

    Args:
        error: as it was raised.
        setting: the settings that decide how much memory is needed, with their values.
        remedy: the one to lower first.
    """
    if isinstance(error, OSError):
        return from_system(error)
    short = type(error).__name__ == "OutOfMemoryError" and not isinstance(error, UserError)
    if short or isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return OutOfMemoryError(f"out of memory at {setting}. Try a smaller {remedy}, and bf16 where dtype is larger.")
    return error
