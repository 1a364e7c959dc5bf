"""Fronts: which cells nothing beats on both cost and quality, and how much they win together.

The hypervolume is measured against the reference point of `vvsbench.analysis.hypervolume`, which compares families by
it; on the axis of seconds, where there is no such thing as one token per forward, against the baseline's own seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import moocore
import numpy as np
import pandas as pd

from vvsbench.analysis.frame import StudyFrame, timed
from vvsbench.analysis.hypervolume import reference_point

QUALITY = "fid"


@dataclass(frozen=True)
class Axis:
    """A cost axis.

    Attributes:
        column: of the frame.
        title: with the unit.
        unit: short, behind a number.
        more_is_better: whether a larger number is cheaper.
    """

    column: str
    title: str
    unit: str
    more_is_better: bool


COMPRESSION = Axis("step_compression", "step compression (image tokens per target forward)", "tokens per forward", True)
SECONDS = Axis("seconds_per_image", "seconds per image", "s per image", False)
AXES = (COMPRESSION, SECONDS)


@dataclass(frozen=True)
class Front:
    """The cells of one comparison on two axes.

    Attributes:
        axis: the cost.
        points: rows of the frame that have both numbers, with a column on_front.
        hypervolume: area won against the reference point, see the module; None without one.
        reference: that point (cost, FID); None for seconds without a baseline.
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


def front(study: StudyFrame, rows: pd.DataFrame, axis: Axis) -> Front | None:
    """Build a front.

    Args:
        study: that the rows are of.
        rows: one comparison of it.
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
    values = points[[axis.column, QUALITY]].to_numpy(dtype=np.float64)
    kept = moocore.is_nondominated(values, maximise=[axis.more_is_better, False], keep_weakly=True)
    points = points.assign(on_front=np.asarray(kept, dtype=bool))
    reference = _reference(study, points, axis)
    if reference is None:
        return Front(axis, points, None, None)
    volume = moocore.hypervolume(values, ref=list(reference), maximise=[axis.more_is_better, False])
    return Front(axis, points, float(volume), reference)


def _reference(study: StudyFrame, points: pd.DataFrame, axis: Axis) -> tuple[float, float] | None:
    cost, fid = reference_point(points[QUALITY].to_numpy(dtype=np.float64))
    if axis is COMPRESSION:
        return cost, fid
    base = study.baseline_of(points)
    return None if base is None else (float(base[axis.column]), fid)


def fronts(study: StudyFrame, rows: pd.DataFrame) -> list[Front]:
    """Both fronts of a comparison, as far as there are numbers for them."""
    return [found for axis in AXES if (found := front(study, rows, axis)) is not None]


def outline(found: Front, costs: tuple[float, float], worst: float) -> list[tuple[float, float]]:
    """Corners of the stair between what some cell dominates and what none reaches.

    Args:
        found: the front.
        costs: range of the cost axis that is shown.
        worst: largest FID that is shown.

    Returns:
        (cost, FID) from the dear end of the axis at the best FID to the cheapest cell at the worst one.
    """
    members = found.members.iloc[::-1]
    xs = [float(value) for value in members[found.axis.column]]
    ys = [float(value) for value in members[QUALITY]]
    corners = [(costs[0] if found.axis.more_is_better else costs[1], ys[0])]
    for number, (x, y) in enumerate(zip(xs, ys, strict=True)):
        corners += [(x, y), (x, ys[number + 1] if number + 1 < len(ys) else worst)]
    return corners
