"""The page of a report: what it shows in which order, from frame to HTML. Words and layout are in templates/."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from vvsbench import __version__
from vvsbench.analysis import charts, pictures, plots, sentences, tables
from vvsbench.analysis.facts import commands, decoders, described, origin
from vvsbench.analysis.frame import StudyFrame
from vvsbench.analysis.pareto import COMPRESSION, Front, fronts
from vvsbench.runs.store import StoredCell

TEMPLATES = Path(__file__).parent / "templates"
WIDE, NARROW = (548, 404), (354, 360)
BARS = (330, 118)


def html(study: StudyFrame) -> str:
    """The whole page, with everything it needs inside it."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"small": small, "unbroken": unbroken}
    slots = families(study)
    return environment.get_template("page.html").render(
        title=study.title,
        study=study.name,
        date=_date(study),
        troubles=study.troubles,
        slots=slots,
        parts=[_part(study, setting, rows, slots) for setting, rows in study.comparisons()],
        commands=commands(study),
        provenance=[origin(study.cells[str(key)], str(row["label"])) for key, row in study.usable.iterrows()],
        version=__version__,
        css=Markup((TEMPLATES / "page.css").read_text()),
        js=Markup((TEMPLATES / "page.js").read_text()),
    )


def families(study: StudyFrame) -> dict[str, int]:
    """Colour and mark of each family: 0, the quiet one, for the baseline; the same in every figure of a report."""
    quiet = set(study.rows.loc[study.rows["is_baseline"], "family"])
    others = [name for name in dict.fromkeys(study.rows["family"]) if name not in quiet]
    slots = {str(name): 0 for name in quiet}
    return slots | {str(name): 1 + number % (len(plots.COLOURS) - 1) for number, name in enumerate(others)}


def small(text: str) -> Markup:
    """Intervals in small print."""
    return Markup(re.sub(r"(\[[^\]]*\])", r'<span class="ci">\1</span>', str(escape(text))))


def unbroken(title: str) -> str:
    """A heading whose arrow and powers stay with their word."""
    return re.sub(r" (?=[↓↑×])", "\N{NO-BREAK SPACE}", title)


def _date(study: StudyFrame) -> str:
    finished = [study.cells[str(key)].record.finished for key in study.usable.index]
    latest = max((text for text in finished if text), default="")
    if not latest:
        return ""
    day = datetime.fromisoformat(latest)
    return f"{day.day} {day:%B %Y}"


def _part(study: StudyFrame, setting: str, rows: pd.DataFrame, slots: Mapping[str, int]) -> dict[str, Any]:
    base = study.baseline_of(rows)
    cells = {str(key): study.cells[str(key)] for key in rows.index}
    first = next(iter(cells.values()))
    side = next(first.shards()).images.shape[-1]
    top = pictures.ceiling(list(cells.values()))
    return {
        "setting": setting,
        "baseline": "" if base is None else str(base["label"]),
        "count": int(rows["count"].iloc[0]),
        "headline": sentences.headline(rows),
        "verdicts": sentences.verdicts(rows),
        "fronts": [_front(found, slots) for found in fronts(study, rows)],
        "tables": [tables.costs(rows), tables.quality(rows)],
        "gallery": _gallery(rows, cells),
        "magnified": side < 96,
        "drafts": [_draft(row, cells[str(key)], slots, top) for key, row in rows.iterrows() if drafts(cells[str(key)])],
        "top": round(100 * top),
        "decoders": decoders(study, rows),
        "facts": described(study, rows),
    }


def _front(found: Front, slots: Mapping[str, int]) -> dict[str, Any]:
    title = "In target forwards: the same on any machine" if found.axis is COMPRESSION else "In time: on this machine"
    return {
        "title": title,
        "wide": charts.front(found, slots, WIDE),
        "narrow": charts.front(found, slots, NARROW),
        "caption": sentences.about_front(found),
    }


def _gallery(rows: pd.DataFrame, cells: Mapping[str, StoredCell]) -> dict[str, Any]:
    chosen = pictures.choose(next(iter(cells.values())).trace)
    shown = []
    for key, row in rows.iterrows():
        images = pictures.pick(cells[str(key)], chosen.indices)
        named = zip(chosen.indices, chosen.prompts, images, strict=True)
        shown.append(
            {
                "label": row["label"],
                "family": row["family"],
                "note": _likeness(row),
                "images": [
                    {"uri": pictures.uri(image), "about": f"{row['label']}, image {index}: {prompt}"}
                    for index, prompt, image in named
                ],
            }
        )
    return {"prompts": chosen.prompts, "rows": shown}


def _likeness(row: pd.Series[Any]) -> str:
    """How much of the baseline's set a cell drew."""
    if "baseline" not in row or pd.isna(row["baseline"]):
        return ""
    if row["is_baseline"]:
        return "the baseline"
    if row["equal_images"] == row["count"]:
        return f"all images equal {row['baseline']}’s"
    if row["equal_images"] == 0:
        return f"{100 * row['equal_tokens']:.0f} % of tokens equal"
    return f"{int(row['equal_images'])} of {row['count']} images equal"


def drafts(cell: StoredCell) -> bool:
    """Whether a cell's decoder drafts at all."""
    return bool(cell.trace["draft_forwards"].sum())


def _draft(row: pd.Series[Any], cell: StoredCell, slots: Mapping[str, int], top: float) -> dict[str, Any]:
    verified, skipped = (list(pictures.lengths(cell, column)) for column in ("accepted", "skipped"))
    about = f"{_mean(verified):.2f} drafts kept per verified step"
    if skipped:
        about += f", {_mean(skipped):.2f} per skipped step"
    kinds = ((pictures.ACCEPTED, "drafted and accepted"), (pictures.SKIPPED, "drafted, never verified"))
    maps = []
    for kind, name in kinds:
        shares = pictures.origins(cell, kind)
        if shares is not None:
            span = f"{100 * shares.min():.0f} to {100 * shares.max():.0f}\N{NO-BREAK SPACE}%"
            maps.append({"uri": pictures.uri(pictures.coloured(shares / top)), "about": f"{name}: {span}"})
    return {
        "label": row["label"],
        "family": row["family"],
        "about": about,
        "histogram": charts.histogram(verified, skipped, slots[str(row["family"])], BARS),
        "maps": maps,
    }


def _mean(shares: list[float]) -> float:
    return float(np.dot(np.arange(len(shares)), shares))
