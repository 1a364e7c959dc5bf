"""Arrays that take long to compute, kept on disk under a digest of everything they depend on.

The file's name says what the arrays were computed from, so other data never returns old numbers. The content is
digested too, so a damaged file is found, named and computed again. Everything lies in `cache` below the outputs.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

log = logging.getLogger(__name__)

Array = NDArray[Any]


def read(file: Path, names: Sequence[str]) -> dict[str, Array] | None:
    """The arrays of a kept file, or None when there is none or it is not what was written."""
    if not file.exists():
        return None
    try:
        with safe_open(str(file), framework="np") as opened:
            arrays = {name: opened.get_tensor(name) for name in names}
            stated = (opened.metadata() or {}).get("content")
        if stated == _content(arrays):
            return arrays
        reason = "its content does not match its digest"
    except (SafetensorError, OSError, ValueError) as error:
        reason = str(error)
    log.warning("%s is damaged (%s); computing it again", file, reason)
    return None


def write(file: Path, arrays: Mapping[str, Array]) -> None:
    """Keep the arrays for the next call; a cache that cannot be written costs time, not truth."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(dict(arrays), str(temporary), {"content": _content(arrays)})
        temporary.replace(file)
    except (SafetensorError, OSError) as error:
        log.warning("%s cannot be kept (%s); it will be computed again next time", file, error)
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _content(arrays: Mapping[str, Array]) -> str:
    total = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(f"{name}:{array.dtype}:{array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()
