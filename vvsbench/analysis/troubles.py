"""What a reader must know before the numbers: cells unfinished, failed, stale or missing, and axes that mix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from vvsbench.analysis.costs import Axis
from vvsbench.analysis.settings import missing
from vvsbench.runs.record import QualityRecord
from vvsbench.runs.store import StoredCell

NAMED = 6
"""Cells that are named one by one where many have not been run."""


@dataclass(frozen=True)
class Trouble:
    """Something that a reader must know before the numbers.

    Attributes:
        subject: the cell or axis it is about.
        what: what is wrong, and what to do.
    """

    subject: str
    what: str


def of_cell(cell: StoredCell, quality: QualityRecord | None, protocol: str) -> str:
    """What is wrong with a cell; empty when nothing is."""
    record = cell.record
    if record.status == "started":
        return f"is being drawn or was killed ({record.done} of {record.count} images); its numbers are left out"
    if record.status != "ok":
        return f"{record.status.replace('_', ' ')}: {record.error or 'no reason given'}"
    if cell.stale:
        return f"is stale ({cell.stale_because}); its numbers are left out until it is run again"
    if protocol and quality is None:
        return f"has no quality record under protocol {protocol}"
    if quality and quality.image_digest != record.image_digest:
        return "was scored on other images than it has now; its quality is left out"
    return ""


def of_study(
    rows: pd.DataFrame,
    timed: pd.DataFrame,
    cells: Sequence[StoredCell],
    declared: Sequence[Sequence[str]],
    axis: Axis,
) -> list[Trouble]:
    """Everything that is wrong with a study.

    Args:
        rows: of its frame.
        timed: those of them whose seconds are compared.
        cells: its cells.
        declared: the overrides of the cells that it should have.
        axis: the cost of its fronts.
    """
    by_key = {cell.record.key: cell for cell in cells}
    again = {str(label) for label in rows.loc[rows["usable"], "label"]}
    replaced = (rows["stale"] != "") & (rows["status"] == "ok") & rows["label"].isin(again)
    told = rows[(rows["trouble"] != "") & ~replaced]
    found = [Trouble(str(row["label"]), str(row["trouble"])) for _, row in told.iterrows()]
    if replaced.any():
        names = ", ".join(dict.fromkeys(str(label) for label in rows.loc[replaced, "label"]))
        found.append(
            Trouble("Older records", f"are stale and left out, since these cells have been run again: {names}")
        )
    configs: list[Mapping[str, Any]] = [cell.record.config for cell in cells]
    if absent := missing(declared, configs):
        named = "; ".join(" ".join(overrides) for overrides in absent[:NAMED])
        more = f"; and {len(absent) - NAMED} more" if len(absent) > NAMED else ""
        found.append(Trouble("Not run yet", named + more))
    usable = rows[rows["usable"]]
    bare = [str(row["label"]) for key, row in usable.iterrows() if not by_key[str(key)].has_images]
    if bare:
        what = "are not here, only the records; pictures and differences of tokens and pixels are left out"
        found.append(Trouble("Images", f"of {', '.join(bare)} {what}"))
    left_out = [str(label) for label in usable.loc[~usable.index.isin(timed.index), "label"]]
    if left_out:
        machine = timed["hardware"].iloc[0]
        what = f"the cells ran on different machines; seconds are compared on {machine} only, without"
        found.append(Trouble("Times", f"{what} {', '.join(left_out)}"))
    if searched := max((int((config.get("search") or {}).get("trials") or 0) for config in configs), default=0):
        what = (
            f"chose cells by their numbers on these images ({searched} trials), so the best look better than they are"
        )
        found.append(Trouble("A search", f"{what}; confirm them under another seed (docs/search.md)"))
    uncounted = [str(label) for label in usable.loc[usable[axis.column].isna(), "label"]]
    if uncounted:
        found.append(Trouble("Fronts", f"count the {axis.short}, which these cells do not: {', '.join(uncounted)}"))
    scored = usable.loc[usable["protocol"] != "", ["protocol", "reference"]]
    if len(scored.drop_duplicates()) > 1:
        what = "the cells were scored under different protocols or references; run the study again to score them alike"
        found.append(Trouble("Quality", what))
    return found
