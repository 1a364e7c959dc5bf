"""Whether the strong colours of a picture agree: the concentration of their hue, which needs no network.

A decoder that draws tokens without regard to each other, or takes a near code for another, mixes colours before it
breaks shapes. FID and class accuracy of features that were trained on whole objects need not notice.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

STRONG = 0.25
"""Least chroma of a pixel that counts, of 1 for a pure primary; the grounds of the synthetic scenes stay below."""


def concentration(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Length of the mean hue vector of every picture's strongly coloured pixels, weighted by their chroma.

    A pixel is a point of the plane of hues: red at 0, green at 120, blue at 240 degrees, chroma its distance from grey.

    Args:
        images: uint8 [N, 3, H, W].

    Returns:
        [N] in [0, 1]: 1 for a single hue, near 0 for all hues alike, and 0 where no pixel is strong.
    """
    red, green, blue = (images[:, channel].astype(np.float64) / 255 for channel in range(3))
    x, y = red - (green + blue) / 2, (green - blue) * (np.sqrt(3) / 2)
    chroma = np.hypot(x, y)
    strong = chroma > STRONG
    total = (chroma * strong).sum((1, 2))
    mean = np.hypot((x * strong).sum((1, 2)), (y * strong).sum((1, 2)))
    return np.where(total > 0, mean / np.maximum(total, 1e-12), 0.0)
