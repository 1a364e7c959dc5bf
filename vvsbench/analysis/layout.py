"""Where things go in a figure: ticks at round numbers, and labels beside their points without covering each other.

Shared by the page's own drawings and by matplotlib's, so that both say the same at the same place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Scale:
    """A linear map from data to drawing units.

    Attributes:
        low: smallest datum shown.
        high: largest datum shown.
        start: where low lies.
        end: where high lies.
    """

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Place of a datum."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers from `low` to `high`, some `about` of them."""
    rough = (high - low) / max(1, about)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def padded(values: Sequence[float], share: float = 0.07) -> tuple[float, float]:
    """A range around values with some air; never of zero width."""
    low, high = min(values), max(values)
    air = (high - low) * share or abs(high) * 0.1 or 1.0
    return low - air, high + air


@dataclass(frozen=True)
class Box:
    """A rectangle: top left corner and size."""

    x: float
    y: float
    width: float
    height: float

    def overlap(self, other: Box) -> float:
        """Area that two rectangles share."""
        width = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        height = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        return max(0.0, width) * max(0.0, height)

    def outside(self, other: Box) -> float:
        """Area of this rectangle that lies outside another."""
        return self.width * self.height - self.overlap(other)


COVERED = 0.12
"""Share of a label that may lie on another one or outside; three times as much may lie on marks and lines."""
HIDDEN = 0.35
"""Share of a mark that a label may hide: a long label hides one with little of itself."""
ONE_LINE = 18
"""Letters up to which a label has one line."""


def lines(label: str) -> list[str]:
    """A label on one line, or a long one on two of about the same length."""
    words = label.split(" ")
    if len(label) <= ONE_LINE or len(words) == 1:
        return [label]
    halves = [(" ".join(words[:turn]), " ".join(words[turn:])) for turn in range(1, len(words))]
    return list(min(halves, key=lambda half: max(map(len, half))))


def place(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    obstacles: Sequence[Box],
    inside: Box,
    gap: float,
) -> list[Box | None]:
    """Put a label beside every point that has room for one.

    Each label takes, of the places around its point, the one that covers least of the labels before it, of the
    obstacles and of the outside; the right side wins a tie. A label that would still hide something is left out.

    Args:
        points: what the labels belong to, in drawing units, y downwards.
        sizes: width and height of each label.
        obstacles: rectangles to keep clear, those of the points included.
        inside: that labels should not leave.
        gap: between a point and its label.

    Returns:
        A rectangle per point, or None.
    """
    placed: list[Box | None] = []
    for (x, y), (width, height) in zip(points, sizes, strict=True):
        best: tuple[float, Box] | None = None
        for number, (dx, dy) in enumerate(_AROUND):
            left = x + (gap if dx > 0 else -gap - width if dx < 0 else -width / 2)
            top = y + (gap if dy > 0 else -gap - height if dy < 0 else -height / 2)
            box = Box(left, top, width, height)
            cost = 4 * box.outside(inside) + sum(3 * box.overlap(other) for other in placed if other)
            cost += sum(box.overlap(other) for other in obstacles) + 0.1 * number
            cost += width * height * _hides(box, obstacles)
            if best is None or cost < best[0]:
                best = (cost, box)
        assert best is not None
        area = width * height
        crowded = sum(best[1].overlap(other) for other in placed if other) > COVERED * area
        crowded |= sum(best[1].overlap(other) for other in obstacles) > 3 * COVERED * area
        crowded |= best[1].outside(inside) > COVERED * area or _hides(best[1], obstacles)
        placed.append(None if crowded else best[1])
    return placed


def _hides(box: Box, obstacles: Sequence[Box]) -> bool:
    return any(box.overlap(other) > HIDDEN * other.width * other.height for other in obstacles)


def segments(corners: Sequence[tuple[float, float]], thickness: float) -> list[Box]:
    """The level and upright pieces of a line as thin rectangles, for labels to keep clear of."""
    boxes = []
    for (x1, y1), (x2, y2) in pairwise(corners):
        left, top, half = min(x1, x2), min(y1, y2), thickness / 2
        boxes.append(Box(left - half, top - half, abs(x2 - x1) + thickness, abs(y2 - y1) + thickness))
    return boxes


_AROUND = ((1, 0), (1, -1), (1, 1), (0, -1), (0, 1), (-1, -1), (-1, 1), (-1, 0))
