"""Whether cells lie outside the front of the decoder that a study names as the one to beat (`study.front`).

A method that accelerates must win where the plain decoder, set to fewer steps, does not get. A cell lies *outside* the
front when its FID is below that of every cell of the named decoder that may cost no more, and *inside* when the best of
those that surely cost no more is at least as good, each beyond the paired interval of the difference; else it cannot be
told. An outside cell has beaten all of its rivals, so their number needs no allowance. The rival of an inside cell is
the best of several, picked on the same images, which flatters it a little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from vvsbench.analysis.costs import Axis
from vvsbench.analysis.estimate import Estimate, estimate
from vvsbench.analysis.frame import StudyFrame, metric_change

FID = "fid"
OUTSIDE, INSIDE, UNKNOWN = "outside", "inside", "cannot be told"


@dataclass(frozen=True)
class Standing:
    """One cell against the front.

    Attributes:
        key: of the cell.
        decoder: its name.
        where: `OUTSIDE`, `INSIDE` or `UNKNOWN`.
        rival: label of the best cell of the front that costs no more; empty when none is as cheap.
        change: FID less the rival's; None without a rival.
    """

    key: str
    label: str
    family: str
    decoder: str
    where: str
    rival: str
    change: Estimate | None


@dataclass(frozen=True)
class Standings:
    """All cells of a comparison against the front.

    Attributes:
        front: decoder that makes it.
        axis: the cost.
        cells: those of the other decoders, in the order of the rows.
    """

    front: str
    axis: Axis
    cells: Sequence[Standing]


def standings(study: StudyFrame, rows: pd.DataFrame) -> Standings | None:
    """Where the cells of a comparison stand.

    Args:
        study: that the rows are of.
        rows: one comparison of it.

    Returns:
        None when the study names no such decoder, or one side has no cell with cost and FID.
    """
    column = study.axis.column
    if not study.front or FID not in rows or column not in rows:
        return None
    rows = rows[rows[FID].notna() & rows[column].notna()]
    mine = rows["decoder"] == study.front
    if mine.all() or not mine.any():
        return None
    front = rows[mine]
    cells = [_standing(study, str(key), row, front) for key, row in rows[~mine].iterrows()]
    return Standings(study.front, study.axis, cells)


def _standing(study: StudyFrame, key: str, row: pd.Series[Any], front: pd.DataFrame) -> Standing:
    least, most = _cost(row, study.axis)
    ends = {str(rival): _cost(found, study.axis) for rival, found in front.iterrows()}
    changes = {rival: metric_change(study, key, rival, FID)[0] for rival, (low, _) in ends.items() if low <= most}
    fids = front[FID].astype(float).to_dict()
    sure = [rival for rival in changes if ends[rival][1] <= least]
    best = min(sure or changes, key=fids.__getitem__, default="")
    change = changes.get(best)
    where = UNKNOWN
    if all(one is not None and one.high is not None and one.high < 0 for one in changes.values()):
        where = OUTSIDE
    elif best in sure and change is not None and change.low is not None and change.low >= 0:
        where = INSIDE
    named = str(front.loc[best, "label"]) if best else ""
    return Standing(key, str(row["label"]), str(row["family"]), str(row["decoder"]), where, named, change)


def _cost(row: pd.Series[Any], axis: Axis) -> tuple[float, float]:
    """Ends of the interval of a cell's cost; less is cheaper, whatever the axis."""
    found = estimate(row, axis.column)
    assert found is not None
    down, up = found.spread()
    low, high = found.value - down, found.value + up
    return (-high, -low) if axis.more_is_better else (low, high)
