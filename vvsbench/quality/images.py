"""Image sets that are read a few at a time: fifty thousand images of 256 pixels are ten gigabytes.

Whoever measures asks for `parts` and keeps what it made of them, never the images. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vvsbench.quality.config import QualityError

Part = NDArray[np.uint8]
"""Some images, uint8 [n, 3, H, W]."""


class Images(Protocol):
    """An image set, wherever it lies."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """[N, H, W, 3]."""
        ...

    def parts(self, size: int) -> Iterator[Part]:
        """All images in their order, `size` at a time and in the end as many as are left."""
        ...


class ImageSet:
    """Images that are in memory anyway.

    Args:
        images: uint8 [N, 3, H, W], N at least 2.

    Raises:
        QualityError: another type, layout or count; floats are refused because their range cannot be known.
    """

    def __init__(self, images: Part) -> None:
        if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
            found = getattr(images, "dtype", type(images).__name__)
            raise QualityError(f"images must be a numpy array of uint8 (0 to 255), not {found}.")
        if images.ndim != 4 or images.shape[1] != 3:
            hint = " It looks channels-last: transpose it." if images.ndim == 4 and images.shape[3] == 3 else ""
            raise QualityError(f"images must have shape [N, 3, H, W], not {list(images.shape)}.{hint}")
        if len(images) < 2:
            raise QualityError("quality needs at least 2 images; set count higher.")
        self.images = images

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """See `Images.shape`."""
        count, _, height, width = self.images.shape
        return count, height, width, 3

    def parts(self, size: int) -> Iterator[Part]:
        """See `Images.parts`."""
        for first in range(0, len(self.images), size):
            yield np.ascontiguousarray(self.images[first : first + size])


def regrouped(parts: Iterable[Part], size: int) -> Iterator[Part]:
    """Parts of any size as parts of one size, the last one smaller; never more than two of them are held."""
    held: list[Part] = []
    for part in parts:
        taken = 0
        while taken < len(part):
            missing = size - sum(map(len, held))
            held.append(part[taken : taken + missing])
            taken += missing
            if sum(map(len, held)) == size:
                yield np.concatenate(held)
                held = []
    if held:
        yield np.concatenate(held)
