"""Fronts: which cells nothing beats on both cost and quality, and how much they win together.

The hypervolume is measured against the reference point of `vvsbench.analysis.hypervolume`, which compares families by
it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vvsbench.analysis.costs import SECONDS, Axis
from vvsbench.analysis.frame import StudyFrame, timed
from vvsbench.analysis.hypervolume import area, on_front, reference_point

QUALITY = "fid"


@dataclass(frozen=True)
class Front:
    """The cells of one comparison on two axes.

    Attributes:
        axis: the cost.
        points: rows of the frame that have both numbers, with a column on_front.
        hypervolume: area won against the reference point, see the module; None without one.
        reference: that point (cost, FID); None where it takes a baseline and there is none.
    """

    axis: Axis
    points: pd.DataFrame
    hypervolume: float | None
    reference: tuple[float, float] | None

    @property
    def members(self) -> pd.DataFrame:
        """The points that nothing dominates, from cheap to dear."""
        chosen = self.points[self.points["on_front"]]
        return chosen.sort_values(self.axis.column, ascending=not self.axis.more_is_better)

    @property
    def dominated(self) -> list[str]:
        """Labels of the others."""
        return [str(label) for label in self.points["label"][~self.points["on_front"]]]


def front(rows: pd.DataFrame, axis: Axis) -> Front | None:
    """Build a front.

    Args:
        rows: one comparison of a study.
        axis: the cost axis. Seconds are only taken from one machine.

    Returns:
        None when fewer than two cells have both numbers.
    """
    if axis is SECONDS:
        rows = timed(rows)
    if QUALITY not in rows or axis.column not in rows:
        return None
    points = rows[rows[QUALITY].notna() & rows[axis.column].notna()]
    if len(points) < 2:
        return None
    points = points.assign(on_front=on_front(points, axis))
    values = points[[axis.column, QUALITY]].to_numpy(dtype=np.float64)
    reference = reference_point(values, points["is_baseline"].to_numpy(dtype=bool), axis)
    return Front(axis, points, None if reference is None else area(values, reference, axis), reference)


def fronts(study: StudyFrame, rows: pd.DataFrame) -> list[Front]:
    """The fronts of a comparison on the study's own cost and on seconds, as far as there are numbers for them."""
    return [found for axis in (study.axis, SECONDS) if (found := front(rows, axis)) is not None]


def outline(found: Front, costs: tuple[float, float], worst: float) -> list[tuple[float, float]]:
    """Corners of the stair between what some cell dominates and what none reaches, see `stair`."""
    members = found.members[[found.axis.column, QUALITY]].to_numpy(dtype=np.float64)
    return stair(members, found.axis, costs, worst)


def stair(
    points: NDArray[np.float64], axis: Axis, costs: tuple[float, float], worst: float
) -> list[tuple[float, float]]:
    """Corners of the line between what points dominate and what none of them reaches.

    Args:
        points: cost and FID of points of which none dominates another, from cheap to dear, float64 [points, 2].
        axis: the cost.
        costs: range of the cost axis that is shown.
        worst: largest FID that is shown.

    Returns:
        (cost, FID) from the dear end of the axis at the best FID to the cheapest point at the worst one.
    """
    places = [(float(x), float(y)) for x, y in points[::-1]]
    corners = [(costs[0] if axis.more_is_better else costs[1], places[0][1])]
    for (x, y), (_, following) in zip(places, [*places[1:], (0.0, worst)], strict=True):
        corners += [(x, y), (x, following)]
    return corners
