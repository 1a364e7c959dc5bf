"""What the page draws of every decoder that drafts: how many drafts a step keeps, how deep they hold, and where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vvsbench.analysis import pictures, smallcharts
from vvsbench.analysis.diagnostics import Diagnosis

BARS, LEVELS = (330, 118), (214, 132)


def drawn(
    rows: pd.DataFrame, found: Mapping[str, Diagnosis], slots: Mapping[str, int], shown: Sequence[str]
) -> dict[str, Any] | None:
    """The small drawings of every decoder that drafts; None when none does.

    Args:
        rows: one comparison of a frame.
        found: what the steps of its cells did, by key.
        slots: colour of each family.
        shown: keys of the cells that are drawn, see `vvsbench.analysis.selection`.
    """
    chosen = [(row, found[str(key)]) for key, row in rows.iterrows() if str(key) in found and str(key) in shown]
    if not chosen:
        return None
    maps = [share for _, one in chosen for share in (one.places, one.never_verified) if share is not None]
    top = pictures.ceiling(maps)
    return {
        "top": round(100 * top),
        "each": [_draft(row, one, slots[str(row["family"])], top) for row, one in chosen],
        "left_out": len(found) - len(chosen),
    }


def _draft(row: pd.Series[Any], found: Diagnosis, slot: int, top: float) -> dict[str, Any]:
    about = f"{_mean(found.accepted):.2f} drafts kept per verified step"
    if len(found.kept):
        about += f", {_mean(found.kept):.2f} per skipped step"
    maps = []
    kinds = (
        (found.places, "kept", "drafted, accepted or skipped"),
        (found.never_verified, "skipped", "drafted, never verified"),
    )
    for shares, name, about_it in kinds:
        if shares is not None:
            span = f"{100 * shares.min():.0f}–{100 * shares.max():.0f}\N{NO-BREAK SPACE}%"
            picture = pictures.uri(pictures.coloured(shares / top))
            maps.append({"uri": picture, "name": name, "span": span, "about": f"{about_it}: {span}"})
    return {
        "label": row["label"],
        "family": row["family"],
        "about": about,
        "histogram": smallcharts.histogram(list(found.accepted), list(found.kept), slot, BARS),
        "depths": smallcharts.depths(found.depths, slot, LEVELS) if found.depths else None,
        "maps": maps,
    }


def _mean(shares: NDArray[np.float64]) -> float:
    return float(np.dot(np.arange(len(shares)), shares))
