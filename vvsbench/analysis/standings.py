"""Whether cells lie outside the front of the decoder that a study names as the one to beat (`study.front`).

A method that accelerates must win where the plain decoder, set to fewer steps, does not get. The rule is that of
`vvsbench.analysis.dominance`, for a cell among the cells of the named decoder alone: it lies *outside* their front when
none of them may dominate it, *inside* when one does or is its exact equal, and else it cannot be told. An outside cell
has beaten all of its rivals, so their number needs no allowance. An inside cell is beaten by the best of several, found
on the same images, which flatters that one a little.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from vvsbench.analysis.costs import Axis
from vvsbench.analysis.dominance import Place, Relation, relation
from vvsbench.analysis.estimate import Estimate
from vvsbench.analysis.frame import StudyFrame, cost_difference, fid_difference

FID = "fid"
OUTSIDE, INSIDE, UNKNOWN = "outside", "inside", Place.unknown.value


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
    cost = cost_difference(study, rows, study.axis)
    cells = [_standing(study, str(key), rows, front, cost) for key in rows.index[~mine]]
    return Standings(study.front, study.axis, cells)


def _standing(
    study: StudyFrame, key: str, rows: pd.DataFrame, front: pd.DataFrame, cost: Callable[[str, str], Estimate | None]
) -> Standing:
    row = rows.loc[key]
    costs = {str(rival): cost(key, str(rival)) for rival in front.index}
    may = [rival for rival, apart in costs.items() if apart is None or apart.high is None or apart.high >= 0]
    changes = {rival: fid_difference(study, rows, key, rival) for rival in may}
    relations = {rival: relation([costs[rival], changes[rival]]) for rival in may}
    fids = front[FID].astype(float).to_dict()
    sure = [rival for rival in may if (apart := costs[rival]) is not None and apart.low is not None and apart.low >= 0]
    better = [rival for rival, found in relations.items() if found in (Relation.dominates, Relation.ties)]
    best = min(better or sure or may, key=fids.__getitem__, default="")
    where = INSIDE if better else UNKNOWN if Relation.may in relations.values() else OUTSIDE
    named = str(front.loc[best, "label"]) if best else ""
    return Standing(key, str(row["label"]), str(row["family"]), str(row["decoder"]), where, named, changes.get(best))
