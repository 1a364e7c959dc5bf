"""What a reader must know before the numbers: cells unfinished, failed, stale or missing, and axes that mix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from vvsbench import commands
from vvsbench.analysis.costs import Axis
from vvsbench.analysis.settings import unmet
from vvsbench.runs.record import QualityRecord
from vvsbench.runs.states import same_settings
from vvsbench.runs.store import StoredCell

NAMED = 6
"""Cells that are named one by one where there are many."""


@dataclass(frozen=True)
class Trouble:
    """Something that a reader must know before the numbers.

    Attributes:
        subject: the cell or axis it is about.
        what: what is wrong, and what to do.
    """

    subject: str
    what: str


def of_cell(cell: StoredCell, quality: QualityRecord | None = None, protocol: str = "") -> str:
    """What is wrong with a cell; empty when nothing is.

    Args:
        cell: of a study.
        quality: its record under a protocol.
        protocol: that one; empty to ask nothing of quality.
    """
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
    rows: pd.DataFrame, timed: pd.DataFrame, cells: Mapping[str, StoredCell], study: str, baseline: str, axis: Axis
) -> list[Trouble]:
    """Everything that is wrong with a study.

    Args:
        rows: of its frame.
        timed: those of them whose seconds are compared.
        cells: its cells by key.
        study: its name.
        baseline: decoder that it declares as such.
        axis: the cost of its fronts.
    """
    found = [*_of_cells(rows, cells), *_missing(study, cells)]
    usable = rows[rows["usable"]]
    bare = [str(row["label"]) for key, row in usable.iterrows() if not cells[str(key)].has_files]
    found += [
        Trouble(str(row["label"]), f"shows no pictures and no differences of tokens: {damage}")
        for key, row in usable.iterrows()
        if (damage := cells[str(key)].damage)
    ]
    if bare:
        what = "are not here, only the records; pictures and differences of tokens and pixels are left out"
        found.append(Trouble("Images", f"of {several(bare)} {what}"))
    left_out = [str(label) for label in usable.loc[~usable.index.isin(timed.index), "label"]]
    if left_out:
        machine = timed["hardware"].iloc[0]
        what = f"the cells ran on different machines; seconds are compared on {machine} only, without"
        found.append(Trouble("Times", f"{what} {several(left_out)}"))
    found += [*_without_baseline(usable, cells, study, baseline), *_searched(cells)]
    uncounted = [str(label) for label in usable.loc[usable[axis.column].isna(), "label"]]
    if uncounted:
        what = f"count the {axis.short}, which these cells do not: {several(uncounted)}"
        found.append(Trouble("Fronts", what))
    if not scored_alike(usable):
        what = "was measured in another way, or against another reference, from one setting to the next"
        found.append(Trouble("Quality", f"{what}; what is set side by side over settings leaves it out"))
    return found


def scored_alike(rows: pd.DataFrame) -> bool:
    """Whether all that is known of the quality of some cells comes from one version of a protocol and one reference."""
    return len(rows.loc[rows["protocol"] != "", ["protocol", "reference"]].drop_duplicates()) < 2


def together(troubles: Sequence[Trouble]) -> list[Trouble]:
    """Cells that have the same trouble in one line, in the order in which they came."""
    subjects: dict[str, list[str]] = {}
    for trouble in troubles:
        subjects.setdefault(trouble.what, []).append(trouble.subject)
    return [
        Trouble(several(names), what if len(names) == 1 else f"({len(names)} cells) each {what}")
        for what, names in subjects.items()
    ]


def several(names: Sequence[str]) -> str:
    """Names in a row, of many only the first ones and how many there are besides."""
    return ", ".join(names) if len(names) <= 2 * NAMED else f"{', '.join(names[:NAMED])} and {len(names) - NAMED} more"


def _of_cells(rows: pd.DataFrame, cells: Mapping[str, StoredCell]) -> list[Trouble]:
    """What is wrong with single cells; of older records of cells that have been run again only that they are there."""
    names = (rows["label"].astype(str) + " " + rows["setting"].astype(str)).str.strip()
    again = [cells[str(key)].record.config for key in rows.index[rows["usable"]]]
    stale = rows.index[(rows["stale"] != "") & (rows["status"] == "ok")]
    replaced = [key for key in stale if any(same_settings(cells[str(key)].record.config, one) for one in again)]
    told = rows.index[(rows["trouble"] != "") & ~rows.index.isin(replaced)]
    found = together([Trouble(str(names[key]), str(rows.loc[key, "trouble"])) for key in told])
    if replaced:
        older = several(list(dict.fromkeys(str(names[key]) for key in replaced)))
        what = f"are stale and left out, since these cells have been run again: {older}"
        found.append(Trouble("Older records", what))
    return found


def _without_baseline(
    usable: pd.DataFrame, cells: Mapping[str, StoredCell], study: str, baseline: str
) -> list[Trouble]:
    """Comparisons without the cell that everything is measured against, and what draws it."""
    bare = [rows for _, rows in usable.groupby("setting", sort=False) if not rows["is_baseline"].any()]
    if not bare:
        return []
    labels = several([str(label) for rows in bare for label in rows["label"]])
    drawing = commands.drawing_baseline(cells[str(bare[0].index[0])].record, study, baseline)
    what = f"{baseline} has not been drawn, so nothing is compared with it: {labels}. To draw it: {drawing}"
    return [Trouble("Baseline", what)]


def _searched(cells: Mapping[str, StoredCell]) -> list[Trouble]:
    """Whether a search chose among the cells."""
    trials = max(
        (int((cell.record.config.get("search") or {}).get("trials") or 0) for cell in cells.values()), default=0
    )
    if not trials:
        return []
    what = f"chose cells by their numbers on these images ({trials} trials), so the best look better than they are"
    return [Trouble("A search", f"{what}; confirm them under another seed (docs/search.md)")]


def _missing(study: str, cells: Mapping[str, StoredCell]) -> list[Trouble]:
    """What the study declared when it was last run, and no record answers to."""
    configs: list[Mapping[str, Any]] = [cell.record.config for cell in cells.values()]
    configs.sort(key=lambda config: str(config.get("seed")))
    latest = max(cells.values(), key=lambda cell: cell.record.started).record.config
    absent = unmet((latest.get("study") or {}).get("cells") or [], configs)
    if not absent:
        return []
    named = "; ".join(" ".join(overrides) for overrides in absent[:NAMED])
    more = (
        f"; and {len(absent) - NAMED} more, see {commands.command('status', f'study={study}')}"
        if len(absent) > NAMED
        else ""
    )
    return [Trouble("Not run yet", named + more)]
