"""Which cells get a picture of their own where there are too many for all of them; tables always have every one."""

from __future__ import annotations

import pandas as pd

from vvsbench.analysis.frame import StudyFrame
from vvsbench.analysis.pareto import QUALITY, fronts

MOST = 24
"""Cells of a comparison up to which nothing is chosen."""


def prominent(study: StudyFrame, rows: pd.DataFrame) -> list[str]:
    """Keys of the cells to show first: the baseline, the lines of fronts, of each family the best and the cheapest.

    Args:
        study: that the rows are of.
        rows: one comparison of it.

    Returns:
        All of them where there are few, else at most `MOST`; in the order of the rows.
    """
    keys = [str(key) for key in rows.index]
    if len(keys) <= MOST:
        return keys
    chosen = [str(key) for key in rows.index[rows["is_baseline"]]]
    for found in fronts(study, rows):
        chosen += [str(key) for key in found.line.index]
    for column, largest in ((QUALITY, False), (study.axis.column, study.axis.more_is_better)):
        if column in rows and rows[column].notna().any():
            ordered = rows[rows[column].notna()].sort_values(column, ascending=not largest, kind="stable")
            chosen += [str(key) for key in ordered.groupby("family", sort=False).head(1).index]
    first = set(list(dict.fromkeys([*chosen, *keys]))[:MOST])
    return [key for key in keys if key in first]
