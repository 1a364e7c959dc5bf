"""The `.npz` files that ADM's evaluator reads and publishes: images as `arr_0`, and statistics of a reference set.

Fifty thousand images of 256 pixels are ten gigabytes, so images are read and written a few at a time; numpy itself
would hold them all. A file is a zip archive with one `.npy` file per array; pickles inside are refused.

Source:
    P. Dhariwal and A. Nichol, Diffusion models beat GANs on image synthesis, 2021 (arXiv 2105.05233); the format is
    that of its evaluation code: arr_0 uint8 [N, H, W, 3]; mu and sigma of the pooled features, mu_s and sigma_s of the
    spatial ones.
"""

from __future__ import annotations

import contextlib
import lzma
import math
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from vvsbench.quality.config import QualityError
from vvsbench.runs.recorded import MOST_IMAGES

IMAGES = "arr_0"
POOLED, SPATIAL = ("mu", "sigma"), ("mu_s", "sigma_s")
SHOWN = 6
"""Arrays that a message names."""
BROKEN = (
    *(OSError, ValueError, LookupError, TypeError, EOFError, MemoryError, RuntimeError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
)
"""What a file that is not what it should be raises while it is read."""
MOST_PIXELS = 2**24
"""Of a picture."""
LARGE, GROWTH = 2**30, 200
"""Bytes from which an array that is so many times larger than in its archive is a trap: no pictures and no statistics
are packed so well."""


@dataclass(frozen=True)
class Images:
    """The images of a file.

    Attributes:
        path: of the file.
        shape: [N, H, W, 3].
    """

    path: Path
    shape: tuple[int, int, int, int]

    def parts(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """Images uint8 [n, 3, H, W], at most `size` at a time, in their order.

        Raises:
            QualityError: the file is damaged.
        """
        count, *picture = self.shape
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(f"{IMAGES}.npy") as array:
                _header(array)
                for first in range(0, count, size):
                    number = min(size, count - first)
                    content = array.read(number * int(np.prod(picture)))
                    part = np.frombuffer(content, dtype=np.uint8).reshape(number, *picture)
                    yield np.ascontiguousarray(part.transpose(0, 3, 1, 2))
        except BROKEN as error:
            raise QualityError(f"{self.path} is damaged ({error}); fetch or write it again.") from error


def images(path: Path) -> Images:
    """Open the images of an .npz file; only its header is read.

    Raises:
        QualityError: it is none, or holds no uint8 images [N, H, W, 3] as arr_0.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if f"{IMAGES}.npy" not in archive.namelist():
                names = [name.removesuffix(".npy") for name in archive.namelist()]
                held = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
                raise QualityError(f"{path} has no array {IMAGES} with images; it holds {held or 'nothing'}.")
            _check_growth(archive, path, IMAGES)
            with archive.open(f"{IMAGES}.npy") as array:
                shape, fortran, dtype = _header(array)
                size = archive.getinfo(f"{IMAGES}.npy").file_size - array.tell()
    except BROKEN as error:
        raise QualityError(f"{path} is not a readable .npz file ({error}).") from error
    if dtype != np.uint8 or len(shape) != 4 or shape[-1] != 3 or fortran or min(shape) < 1:
        raise QualityError(
            f"{path}: {IMAGES} must be uint8 [N, H, W, 3] with values from 0 to 255, not {dtype} {list(shape)}."
        )
    if shape[0] > MOST_IMAGES or shape[1] * shape[2] > MOST_PIXELS or math.prod(shape) != size:
        raise QualityError(f"{path}: {IMAGES} says {list(shape)} and holds {size} bytes; fetch or write it again.")
    return Images(path, (shape[0], shape[1], shape[2], shape[3]))


def _check_growth(archive: zipfile.ZipFile, path: Path, name: str) -> None:
    """See that an array does not grow out of all proportion.

    Raises:
        QualityError: it does.
    """
    about = archive.getinfo(f"{name}.npy")
    if about.file_size > LARGE and about.file_size > GROWTH * about.compress_size:
        raise QualityError(
            f"{path}: {name} grows from {about.compress_size} bytes to {about.file_size}, as no pictures or statistics "
            "do; fetch it from somebody you trust."
        )


def statistics(path: Path, names: tuple[str, str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean [D] and covariance [D, D] of reference features.

    Args:
        path: of the file.
        names: `POOLED` or `SPATIAL`.

    Raises:
        QualityError: the file does not hold them, or they do not fit each other.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for name in names:
                _check_growth(archive, path, name)
        with np.load(path, allow_pickle=False) as stored:
            mu, sigma = (np.asarray(stored[name], dtype=np.float64) for name in names)
    except BROKEN as error:
        raise QualityError(f"{path} is not an .npz file with arrays {' and '.join(names)} ({error}).") from error
    if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)):
        raise QualityError(f"{path} has {names[0]} {mu.shape} and {names[1]} {sigma.shape}, which are no statistics.")
    if not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
        raise QualityError(f"{path} has NaN or infinity in {names[0]} or {names[1]}; fetch or write it again.")
    return mu, sigma


def write(path: Path, shape: tuple[int, int, int, int], parts: Iterable[NDArray[np.uint8]]) -> None:
    """Write images as arr_0, part after part; the file is either there, whole, or not there at all.

    Args:
        path: of the file; its folder must be there.
        shape: [N, H, W, 3] of all of them.
        parts: uint8 [n, 3, H, W] each, N in all.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with (
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive,
            archive.open(f"{IMAGES}.npy", "w", force_zip64=True) as array,
        ):
            npy.write_array_header_1_0(array, {"descr": "|u1", "fortran_order": False, "shape": shape})
            for part in parts:
                array.write(np.ascontiguousarray(part.transpose(0, 2, 3, 1)).tobytes())
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _header(array: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether columns come first, and type of the array that an opened .npy file holds."""
    version = npy.read_magic(array)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(array)
    return tuple(shape), bool(fortran), dtype
