"""Families of cells compared by their fronts: the area that each wins in cost and FID at once, and by how much.

The area is that between a family's front (the baseline is in every family, as the anchor of its front) and a reference
point that is the same for all: one token per forward, and an FID a tenth above the worst of the comparison. Its
interval is a jackknife over groups of images, left out of FID and forwards of every cell together. The reference point
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
from vvsbench.analysis.estimate import Estimate
from vvsbench.analysis.frame import StudyFrame
from vvsbench.quality.intervals import Replicates
from vvsbench.runs.record import unpacked

COST, FID = "step_compression", "fid"
LEAST_COST = 1.0
"""Tokens per forward of the reference point."""
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
        reference: tokens per forward and FID of the reference point.
        families: from the largest area to the smallest.
        differences: area of one less area of another.
        dominated: label of each beaten cell, and the cells of the front that are at least as good on both axes.
        paired: whether the records allow intervals.
    """

    reference: tuple[float, float]
    families: Sequence[Family]
    differences: Mapping[tuple[str, str], Estimate]
    dominated: Mapping[str, Sequence[str]]
    paired: bool


@dataclass(frozen=True)
class _Points:
    """Cells on both axes with their replicates.

    Attributes:
        values: tokens per forward and FID, float64 [cells, 2].
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
        None when no family has a cell with both numbers beside the baseline.
    """
    if FID not in rows or COST not in rows:
        return None
    rows = rows[rows[FID].notna() & rows[COST].notna()]
    anchors = rows["is_baseline"].to_numpy(dtype=bool)
    names = [str(name) for name in dict.fromkeys(rows.loc[~anchors, "family"])]
    if not names:
        return None
    points = _points(study, rows)
    reference = reference_point(points.values[:, 1])
    members = {name: (rows["family"] == name).to_numpy() | anchors for name in names}
    areas = {name: area(points.values[chosen], reference) for name, chosen in members.items()}
    spread = {name: _replicates(points, chosen) for name, chosen in members.items()}
    found = [
        Family(
            name,
            int((members[name] & ~anchors).sum()),
            _front(rows[members[name]]),
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
    return Contest(reference, ordered, differences, dominated(rows), points.replicates is not None)


def reference_point(fids: NDArray[np.float64]) -> tuple[float, float]:
    """The point that areas are measured against.

    Args:
        fids: of all cells of the comparison.
    """
    return LEAST_COST, (1 + MARGIN) * float(fids.max())


def area(points: NDArray[np.float64], reference: tuple[float, float]) -> float:
    """Hypervolume of cells on tokens per forward (more is better) and FID (less is better).

    Args:
        points: float64 [cells, 2].
        reference: see `reference_point`.
    """
    return float(moocore.hypervolume(points, ref=list(reference), maximise=[True, False]))


def dominated(rows: pd.DataFrame) -> dict[str, list[str]]:
    """Which cells are beaten and by which cells of the front.

    Args:
        rows: with tokens per forward and FID.
    """
    values = rows[[COST, FID]].to_numpy(dtype=np.float64)
    on_front = np.asarray(moocore.is_nondominated(values, maximise=[True, False], keep_weakly=True), dtype=bool)
    labels = [str(label) for label in rows["label"]]
    found = {}
    for label, (cost, fid) in ((labels[i], values[i]) for i in np.flatnonzero(~on_front)):
        beats = on_front & (values[:, 0] >= cost) & (values[:, 1] <= fid)
        found[label] = [labels[i] for i in np.flatnonzero(beats)]
    return found


def _front(rows: pd.DataFrame) -> list[str]:
    values = rows[[COST, FID]].to_numpy(dtype=np.float64)
    kept = np.asarray(moocore.is_nondominated(values, maximise=[True, False], keep_weakly=True), dtype=bool)
    return [str(label) for label in rows[kept].sort_values(COST)["label"]]


def _points(study: StudyFrame, rows: pd.DataFrame) -> _Points:
    values = rows[[COST, FID]].to_numpy(dtype=np.float64)
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
        costs = without_groups(study.cells[str(key)].trace[COST].to_numpy(dtype=np.float64), dealt)
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


def _replicates(points: _Points, chosen: NDArray[np.bool_]) -> NDArray[np.float64] | None:
    """Area of some of the cells without each group of images."""
    if points.replicates is None:
        return None
    return np.array(
        [[area(found[chosen], reference_point(found[:, 1])) for found in partition] for partition in points.replicates]
    )


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
