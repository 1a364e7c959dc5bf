"""The same images under every decoder, for the page: a row of thumbnails each, to be laid over one another by a slider.

All of them lie in the page itself, so there is a limit on their number: the more decoders, the fewer images of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from vvsbench.analysis import pictures
from vvsbench.analysis.frame import StudyFrame
from vvsbench.analysis.selection import prominent
from vvsbench.runs.store import StoredCell

MOST = 900
"""Thumbnails of a comparison; one has 2 to 9 kB."""
FEWEST = 4
"""Images that every decoder shows."""


@dataclass(frozen=True)
class Picture:
    """A thumbnail.

    Attributes:
        uri: with all that it holds.
        about: for those who do not see it.
    """

    uri: str
    about: str


@dataclass(frozen=True)
class Row:
    """A decoder.

    Attributes:
        family: for its colour.
        note: how much of the baseline's set it drew.
    """

    key: str
    label: str
    family: str
    note: str
    images: Sequence[Picture]


@dataclass(frozen=True)
class Gallery:
    """What is shown.

    Attributes:
        prompts: of the columns.
        indices: numbers of the images.
        first: the decoders to show first.
        others: all others.
        magnified: whether pixels are shown as such.
    """

    prompts: Sequence[str]
    indices: Sequence[int]
    first: Sequence[Row]
    others: Sequence[Row]
    magnified: bool


def gallery(study: StudyFrame, rows: pd.DataFrame) -> Gallery | None:
    """Choose and read the images of a comparison; None where no cell has them here.

    Args:
        study: that the rows are of.
        rows: one comparison of it.
    """
    cells: Mapping[str, StoredCell] = {str(key): study.cells[str(key)] for key in rows.index}
    seen = rows[[cells[str(key)].has_images for key in rows.index]]
    if seen.empty:
        return None
    count = min(pictures.SHOWN, max(FEWEST, MOST // len(seen)))
    chosen = pictures.choose(cells[str(seen.index[0])].trace, count)
    first = prominent(study, rows)
    made = [_row(cells[str(key)], row, chosen) for key, row in seen.iterrows()]
    side = pictures.pick(cells[str(seen.index[0])], chosen.indices[:1])[0].shape[-1]
    return Gallery(
        chosen.prompts,
        chosen.indices,
        [row for row in made if row.key in first],
        [row for row in made if row.key not in first],
        side < pictures.SMALL,
    )


def _row(cell: StoredCell, row: pd.Series[Any], chosen: pictures.Chosen) -> Row:
    label = str(row["label"])
    images = zip(chosen.indices, chosen.prompts, pictures.pick(cell, chosen.indices), strict=True)
    shown = [Picture(pictures.uri(image), f"{label}, image {index}: {prompt}") for index, prompt, image in images]
    return Row(cell.record.key, label, str(row["family"]), _likeness(row), shown)


def _likeness(row: pd.Series[Any]) -> str:
    """How much of the baseline's set a cell drew."""
    if "baseline" not in row or pd.isna(row["baseline"]) or pd.isna(row["equal_images"]):
        return ""
    if row["is_baseline"]:
        return "the baseline"
    if row["equal_images"] == row["count"]:
        return f"all images equal {row['baseline']}’s"
    if row["equal_images"] == 0:
        return f"{100 * row['equal_tokens']:.0f} % of tokens equal"
    return f"{int(row['equal_images'])} of {row['count']} images equal"
