"""Cost and quality against a setting that a study varies (`study.x`), a curve per family.

A cell without the setting, as the baseline often is, lies at no place of the axis: it is a level across all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from vvsbench.analysis.costs import Axis
from vvsbench.analysis.estimate import Estimate, estimate

TOO_CLOSE = 0.05
"""Share of the axis below which two levels share a label."""


@dataclass(frozen=True)
class Point:
    """A cell on a curve.

    Attributes:
        key: of the cell.
        x: place on the axis.
        y: the quantity.
    """

    key: str
    label: str
    x: float
    y: Estimate


@dataclass(frozen=True)
class Curves:
    """One quantity against the setting.

    Attributes:
        title: of the quantity.
        x_title: name of the setting.
        marks: places of the axis and what stands at each.
        families: the curves, from the smallest place to the largest.
        levels: cells without the setting, with their families.
    """

    title: str
    x_title: str
    marks: Sequence[tuple[float, str]]
    families: dict[str, list[Point]]
    levels: Sequence[tuple[str, Point]]

    def named_levels(self) -> list[tuple[str, Point, str]]:
        """Family, cell and label of every level; of those too close together to be told apart only one is named."""
        values = [point.y.value for points in self.families.values() for point in points]
        values += [level.y.value for _, level in self.levels]
        apart = TOO_CLOSE * (max(values) - min(values))
        found: list[tuple[str, Point, str]] = []
        for family, level in sorted(self.levels, key=lambda one: one[1].y.value):
            if found and level.y.value - found[-1][1].y.value <= apart:
                found[-1] = (*found[-1][:2], f"{found[-1][2]}, {level.label}")
            else:
                found.append((family, level, level.label))
        return found


def curves(rows: pd.DataFrame, x: str, axis: Axis) -> list[Curves]:
    """What is to be drawn for some cells.

    Args:
        rows: of a frame.
        x: the setting, empty for none.
        axis: the cost, which is drawn beside FID.

    Returns:
        One for each quantity that at least two places of the axis have a number for.
    """
    if not x or rows["x"].notna().sum() < 2:
        return []
    marks = _marks([value for value in rows["x"] if value is not None and not pd.isna(value)])
    drawn = ((axis.column, axis.short), ("fid", "FID"))
    found = (_curves(rows, x, marks, column, title) for column, title in drawn if column in rows)
    return [one for one in found if len({point.x for points in one.families.values() for point in points}) > 1]


def _curves(rows: pd.DataFrame, x: str, marks: dict[str, float], column: str, title: str) -> Curves:
    families: dict[str, list[Point]] = {}
    levels = []
    for key, row in rows.iterrows():
        y, place = estimate(row, column), marks.get(str(row["x"]))
        if y is None:
            continue
        point = Point(str(key), str(row["label"]), 0.0 if place is None else place, y)
        if place is None:
            levels.append((str(row["family"]), point))
        else:
            families.setdefault(str(row["family"]), []).append(point)
    for points in families.values():
        points.sort(key=lambda point: point.x)
    ordered = sorted((place, text) for text, place in marks.items())
    return Curves(title, x, ordered, families, levels)


def _marks(values: Sequence[object]) -> dict[str, float]:
    """The place of every value: its size if all are numbers, else its turn."""
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    texts = list(dict.fromkeys(str(value) for value in values))
    return {text: float(text) if numbers else float(turn) for turn, text in enumerate(texts)}
