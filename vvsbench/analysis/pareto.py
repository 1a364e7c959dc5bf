"""Fronts: which cells nothing dominates on cost and quality, as far as error bars tell, and how much they win together.

A front has two things in it. The *line* goes through the cells that no other one is as good as by the numbers alone;
it is what is drawn, and what areas are of. The *places* say of each cell whether it lies on the front, is dominated, or
whether that cannot be told (`vvsbench.analysis.dominance`); they are what may be claimed.

The hypervolume is measured against the reference point of `vvsbench.analysis.hypervolume`, which compares families by
it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vvsbench.analysis.costs import SECONDS, Axis
from vvsbench.analysis.dominance import Place
from vvsbench.analysis.frame import StudyFrame, on_both
from vvsbench.analysis.hypervolume import area, nondominated, reference_point

QUALITY = "fid"


@dataclass(frozen=True)
class Front:
    """The cells of one comparison on two axes.

    Attributes:
        axis: the cost.
        points: rows of the frame that have both numbers, with the columns on_line, whether the line goes through a
            cell, and place, see `vvsbench.analysis.dominance.Place`.
        hypervolume: area won against the reference point, see the module; None without one.
        reference: that point (cost, FID); None where it takes a baseline and there is none.
    """

    axis: Axis
    points: pd.DataFrame
    hypervolume: float | None
    reference: tuple[float, float] | None

    @property
    def line(self) -> pd.DataFrame:
        """The points that the line goes through, from cheap to dear."""
        chosen = self.points[self.points["on_line"]]
        return chosen.sort_values(self.axis.column, ascending=not self.axis.more_is_better)

    def labels(self, place: Place) -> list[str]:
        """Labels of the cells of a place, from cheap to dear."""
        chosen = self.points[self.points["place"] == place]
        ordered = chosen.sort_values(self.axis.column, ascending=not self.axis.more_is_better, kind="stable")
        return [str(label) for label in ordered["label"]]

    @property
    def prominent(self) -> pd.Series[bool]:
        """Which points have a name where there are too many for all: those on the line, and the baseline."""
        return self.points["on_line"] | self.points["is_baseline"]


def front(rows: pd.DataFrame, axis: Axis) -> Front | None:
    """Build a front.

    Args:
        rows: one comparison of a study.
        axis: the cost axis. Seconds are only taken from one machine.

    Returns:
        None when fewer than two cells have both numbers.
    """
    points = on_both(rows, axis)
    if len(points) < 2:
        return None
    points = points.assign(on_line=nondominated(points, axis), place=points[axis.place])
    values = points[[axis.column, QUALITY]].to_numpy(dtype=np.float64)
    reference = reference_point(values, points["is_baseline"].to_numpy(dtype=bool), axis)
    return Front(axis, points, None if reference is None else area(values, reference, axis), reference)


def fronts(study: StudyFrame, rows: pd.DataFrame) -> list[Front]:
    """The fronts of a comparison on the study's own cost and on seconds, as far as there are numbers for them."""
    return [found for axis in (study.axis, SECONDS) if (found := front(rows, axis)) is not None]


def outline(found: Front, costs: tuple[float, float], worst: float) -> list[tuple[float, float]]:
    """Corners of the stair between what some cell dominates and what none reaches, see `stair`."""
    corners = found.line[[found.axis.column, QUALITY]].to_numpy(dtype=np.float64)
    return stair(corners, found.axis, costs, worst)


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
