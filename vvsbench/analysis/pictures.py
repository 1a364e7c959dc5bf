"""What a reader looks at: the same images under every decoder, and shares over the grid of tokens as colours."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from vvsbench.runs import shards
from vvsbench.runs.store import StoredCell

SHOWN = 12
"""Images per decoder in a gallery."""
SMALL, LARGEST = 96, 160
"""Images from the first size on become thumbnails of at most the second."""


@dataclass(frozen=True)
class Chosen:
    """Images to show.

    Attributes:
        indices: their numbers.
        prompts: what was asked for.
    """

    indices: list[int]
    prompts: list[str]


def choose(trace: pd.DataFrame, count: int = SHOWN) -> Chosen:
    """Evenly spaced images, each prompt at most once as long as there are enough prompts.

    Args:
        trace: of any cell of the comparison; they all have the same prompts.
        count: how many.
    """
    prompts = trace["prompt"] if "prompt" in trace else pd.Series([""] * len(trace))
    first = trace.loc[~prompts.duplicated()] if prompts.nunique() >= count else trace
    rows = np.linspace(0, len(first) - 1, min(count, len(first))).round().astype(int)
    taken = first.iloc[rows]
    return Chosen([int(image) for image in taken["image"]], [str(prompts.loc[row]) for row in taken.index])


def pick(cell: StoredCell, indices: Sequence[int]) -> list[NDArray[np.uint8]]:
    """Some of a cell's images, reading no more shards than hold them.

    Args:
        cell: with all its shards.
        indices: of the images, in rising order.

    Returns:
        uint8 [3, H, W] each.
    """
    found: list[NDArray[np.uint8]] = []
    for where in shards.ranges(cell.record.count, int(cell.record.config["shard_size"])):
        wanted = [index for index in indices if where.first <= index < where.end]
        shard = shards.read(cell.folder, where) if wanted else None
        found += [shard.images[index - where.first].copy() for index in wanted] if shard else []
    return found


def uri(image: NDArray[np.uint8]) -> str:
    """A picture for a page: a small one as it is, of which the page magnifies the pixels; a large one as a thumbnail.

    Args:
        image: uint8 [3, H, W] or [H, W, 3].
    """
    pixels = image.transpose(1, 2, 0) if image.shape[0] == 3 and image.shape[-1] != 3 else image
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    buffer = io.BytesIO()
    if max(picture.size) < SMALL:
        picture.save(buffer, "PNG", optimize=True)
        return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    picture.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    picture.save(buffer, "WEBP", quality=75, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def sheet(images: Sequence[NDArray[np.uint8]], scale: int, gap: int = 2) -> NDArray[np.uint8]:
    """A row of images, magnified without smoothing.

    Args:
        images: uint8 [3, H, W] each.
        scale: whole factor.
        gap: white pixels between them.

    Returns:
        uint8 [H * scale, ..., 3].
    """
    tall = [np.kron(image.transpose(1, 2, 0), np.ones((scale, scale, 1), dtype=np.uint8)) for image in images]
    white = np.full((tall[0].shape[0], gap, 3), 255, dtype=np.uint8)
    row = [piece for image in tall for piece in (image, white)][:-1]
    return np.concatenate(row, axis=1)


def ceiling(maps: Sequence[NDArray[np.float64]]) -> float:
    """The largest share of any of some maps, rounded up to tenths: one scale of colours for all of them."""
    largest = max((float(shares.max()) for shares in maps), default=1.0)
    return ceil(10 * largest) / 10


def coloured(shares: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Shares from 0 to 1 in colours that keep their order for every eye and in print.

    Returns:
        uint8 [H, W, 3].
    """
    from matplotlib import colormaps

    colours = colormaps["cividis"](np.clip(shares, 0, 1))[..., :3]
    return (colours * 255).round().astype(np.uint8)
