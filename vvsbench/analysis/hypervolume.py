"""Families of cells compared by their fronts: the area that each wins in cost and FID at once, and by how much.

The area is that between a family's front (the baseline is in every family, as the anchor of its front) and a reference
point that is the same for all: one token per forward or, of a cost that has no such end, the baseline's own, and an FID
a tenth above the worst of the comparison. Its interval is a jackknife over groups of images, left out of FID and
cost of every cell together. The reference point
is found anew in every replicate, since it comes from the same images: what all cells share, as the luck of the prompts,
then cancels. A replicate has fewer images and so a larger FID; replicates are therefore moved by their mean back to the
value before the area is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import moocore
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vvsbench.analysis.comparison import by_groups
from vvsbench.analysis.costs import Axis
from vvsbench.analysis.estimate import Estimate
from vvsbench.analysis.frame import StudyFrame
from vvsbench.quality.intervals import Replicates
from vvsbench.runs.record import unpacked

FID = "fid"
MARGIN = 0.1
"""How far the FID of the reference point lies above the worst, as a share of it."""


@dataclass(frozen=True)
class Family:
    """The front of one family.

    Attributes:
        cells: its cells, without the anchor.
        front: labels of its own front, from dear to cheap.
        volume: area against the reference point.
    """

    name: str
    cells: int
    front: Sequence[str]
    volume: Estimate


@dataclass(frozen=True)
class Contest:
    """The families of one comparison.

    Attributes:
        axis: the cost.
        reference: cost and FID of the reference point.
        families: from the largest area to the smallest.
        differences: area of one less area of another.
        dominated: label of each dominated cell, and of those that dominate it (`vvsbench.analysis.dominance`).
        paired: whether the records allow intervals.
    """

    axis: Axis
    reference: tuple[float, float]
    families: Sequence[Family]
    differences: Mapping[tuple[str, str], Estimate]
    dominated: Mapping[str, Sequence[str]]
    paired: bool


@dataclass(frozen=True)
class _Points:
    """Cells on both axes with their replicates.

    Attributes:
        values: cost and FID, float64 [cells, 2].
        replicates: the same without each group of images, float64 [partitions, groups, cells, 2]; None without any.
        share: of the images that a partition holds.
    """

    values: NDArray[np.float64]
    replicates: NDArray[np.float64] | None
    share: float


def contest(study: StudyFrame, rows: pd.DataFrame) -> Contest | None:
    """Compare the fronts of the families of a comparison.

    Args:
        study: that the rows are of.
        rows: one comparison of it.

    Returns:
        None when no family has a cell with both numbers beside the baseline, or there is no reference point.
    """
    axis = study.axis
    if FID not in rows or axis.column not in rows:
        return None
    rows = rows[rows[FID].notna() & rows[axis.column].notna()]
    anchors = rows["is_baseline"].to_numpy(dtype=bool)
    names = [str(name) for name in dict.fromkeys(rows.loc[~anchors, "family"])]
    if not names:
        return None
    points = _points(study, rows)
    reference = reference_point(points.values, anchors, axis)
    if reference is None:
        return None
    members = {name: (rows["family"] == name).to_numpy() | anchors for name in names}
    areas = {name: area(points.values[chosen], reference, axis) for name, chosen in members.items()}
    spread = {name: _replicates(points, chosen, anchors, axis) for name, chosen in members.items()}
    found = [
        Family(
            name,
            int((members[name] & ~anchors).sum()),
            _front(rows[members[name]], axis),
            _estimate(areas[name], spread[name], points.share),
        )
        for name in names
    ]
    differences = {
        (one, other): _estimate(
            areas[one] - areas[other], _minus(spread[one], spread[other]), points.share, signed=True
        )
        for one in names
        for other in names
        if one != other
    }
    ordered = sorted(found, key=lambda family: -family.volume.value)
    beaten = {str(row["label"]): list(row[axis.dominated_by]) for _, row in rows.iterrows() if row[axis.dominated_by]}
    return Contest(axis, reference, ordered, differences, beaten, points.replicates is not None)


def reference_point(points: NDArray[np.float64], anchors: NDArray[np.bool_], axis: Axis) -> tuple[float, float] | None:
    """The point that areas are measured against.

    Args:
        points: cost and FID of all cells of the comparison, float64 [cells, 2].
        anchors: which of them are the baseline.
        axis: the cost.

    Returns:
        None when it takes the baseline's cost and there is no baseline.
    """
    if axis.least is None and not anchors.any():
        return None
    cost = float(points[anchors, 0][0]) if axis.least is None else axis.least
    return cost, (1 + MARGIN) * float(points[:, 1].max())


def area(points: NDArray[np.float64], reference: tuple[float, float], axis: Axis) -> float:
    """Hypervolume of cells on cost and FID.

    Args:
        points: float64 [cells, 2].
        reference: see `reference_point`.
        axis: the cost.
    """
    return float(moocore.hypervolume(points, ref=list(reference), maximise=[axis.more_is_better, False]))


def nondominated(rows: pd.DataFrame, axis: Axis) -> NDArray[np.bool_]:
    """Which cells no other one is as good as, by the numbers alone: the line of a front.

    Args:
        rows: with cost and FID.
        axis: the cost.
    """
    values = rows[[axis.column, FID]].to_numpy(dtype=np.float64)
    kept = moocore.is_nondominated(values, maximise=[axis.more_is_better, False], keep_weakly=True)
    return np.asarray(kept, dtype=bool)


def _front(rows: pd.DataFrame, axis: Axis) -> list[str]:
    kept = rows[nondominated(rows, axis)].sort_values(axis.column, ascending=axis.more_is_better)
    return [str(label) for label in kept["label"]]


def _points(study: StudyFrame, rows: pd.DataFrame) -> _Points:
    values = rows[[study.axis.column, FID]].to_numpy(dtype=np.float64)
    records = [study.quality(str(key)) for key in rows.index]
    groups = {record.groups for record in records if record}
    if None in records or len(groups) != 1 or groups == {""}:
        return _Points(values, None, 1.0)
    dealt = unpacked(groups.pop(), "int16").reshape(-1, int(rows["count"].iloc[0]))
    replicates, share = [], 1.0
    for key in rows.index:
        metric = study.metric(str(key), FID)
        if metric is None or metric.jackknife is None:
            return _Points(values, None, 1.0)
        share = metric.jackknife.share
        costs = without_groups(study.cells[str(key)].trace[study.axis.column].to_numpy(dtype=np.float64), dealt)
        replicates.append(np.stack([costs, np.array(metric.jackknife.replicates)], axis=-1))
    stacked = np.stack(replicates, axis=2)
    return _Points(values, stacked - stacked.mean(axis=1, keepdims=True) + values, share)


def without_groups(values: NDArray[np.float64], dealt: NDArray[np.int16]) -> NDArray[np.float64]:
    """Mean over images without each group in turn.

    Args:
        values: float64 [images].
        dealt: number of the group of every image in every partition, [partitions, images]; -1 for one in none.

    Returns:
        float64 [partitions, groups].
    """
    size = int(dealt.max()) + 1
    return np.array([[values[(row >= 0) & (row != group)].mean() for group in range(size)] for row in dealt])


def _replicates(
    points: _Points, chosen: NDArray[np.bool_], anchors: NDArray[np.bool_], axis: Axis
) -> NDArray[np.float64] | None:
    """Area of some of the cells without each group of images."""
    if points.replicates is None:
        return None

    def of(found: NDArray[np.float64]) -> float:
        reference = reference_point(found, anchors, axis)
        assert reference is not None
        return area(found[chosen], reference, axis)

    return np.array([[of(found) for found in partition] for partition in points.replicates])


def _minus(one: NDArray[np.float64] | None, other: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    return None if one is None or other is None else one - other


def _estimate(value: float, replicates: NDArray[np.float64] | None, share: float, signed: bool = False) -> Estimate:
    """An area, or with `signed` a difference of areas, with its interval."""
    if replicates is None:
        return Estimate(value)
    found = by_groups(value, Replicates(replicates, share))
    if signed or found.low is None:
        return found
    return Estimate(value, max(0.0, found.low), found.high)
