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
from numpy.typing import NDArray

from vvsbench import __version__
from vvsbench.analysis import charts, findings, linecharts, pictures, plots, sentences, smallcharts, tables
from vvsbench.analysis.certificates import Proofs
from vvsbench.analysis.curves import Curves, curves
from vvsbench.analysis.diagnostics import Diagnosis
from vvsbench.analysis.facts import commands, decoders, described, origin
from vvsbench.analysis.frame import StudyFrame
from vvsbench.analysis.hypervolume import Contest, contest
from vvsbench.analysis.pareto import Front, fronts
from vvsbench.analysis.speed import Speeds
from vvsbench.analysis.standings import Standings, standings
from vvsbench.analysis.tables import Table
from vvsbench.runs.store import StoredCell

TEMPLATES = Path(__file__).parent / "templates"
WIDE, NARROW = (548, 404), (354, 360)
BARS, LEVELS = (330, 118), (214, 132)
MOST_LINES = 16
"""Longer tables of certificates are folded."""


def html(study: StudyFrame, proofs: Proofs, speed: Speeds) -> str:
    """The whole page, with everything it needs inside it.

    Args:
        study: the study.
        proofs: what is said about certificates.
        speed: of its cells.
    """
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
        external=tables.external(study.external),
        across=[_curves(one, slots) for one in across(study)],
        x=study.x,
        proofs=proofs,
        most_lines=MOST_LINES,
        speed=speed,
        commands=[*speed.commands, *commands(study)],
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
    seen = {key: cell for key, cell in cells.items() if cell.has_images}
    made = {table.name: table for table in findings.every(study, rows)}
    found, placed = contest(study, rows), standings(study, rows)
    return {
        "setting": setting,
        "baseline": "" if base is None else str(base["label"]),
        "count": int(rows["count"].iloc[0]),
        "placed": sentences.about_standings(placed) if placed else [],
        "standings": _standings(placed, made) if placed else None,
        "headline": sentences.headline(rows, study.axis),
        "verdicts": sentences.verdicts(rows, study.axis),
        "fronts": [_front(front, slots) for front in fronts(study, rows)],
        "contest": _contest(found, made) if found else None,
        "curves": [_curves(one, slots) for one in within(study, rows)],
        "tables": [made[name] for name in ("cost", "quality", "paired") if name in made],
        "gallery": _gallery(rows[[key in seen for key in rows.index]], seen) if seen else None,
        "magnified": bool(seen) and next(next(iter(seen.values())).shards()).images.shape[-1] < 96,
        "drafts": _drafts(rows, findings.diagnoses(study, rows), slots),
        "draft_tables": [made[name] for name in ("drafting", "depths") if name in made],
        "claims": findings.claimed(study, rows),
        "decoders": decoders(study, rows),
        "facts": described(study, rows),
    }


def within(study: StudyFrame, rows: pd.DataFrame) -> list[Curves]:
    """Charts against a setting of the decoder, which varies within each comparison."""
    return curves(rows, study.x, study.axis) if study.x.startswith("decoder.") else []


def across(study: StudyFrame) -> list[Curves]:
    """Charts against any other setting, which is another in every comparison."""
    return [] if study.x.startswith("decoder.") else curves(study.usable, study.x, study.axis)


def _standings(found: Standings, made: Mapping[str, Table]) -> dict[str, Any]:
    return {"table": made["standings"], "about": sentences.rule(found)}


def _contest(found: Contest, made: Mapping[str, Table]) -> dict[str, Any]:
    return {
        "table": made["fronts"],
        "about": sentences.about_contest(found),
        "claims": sentences.contests(found),
        "dominations": sentences.dominations(found),
    }


def _curves(found: Curves, slots: Mapping[str, int]) -> dict[str, Any]:
    return {
        "title": f"{found.title} against {found.x_title}",
        "wide": linecharts.curves(found, slots, WIDE),
        "narrow": linecharts.curves(found, slots, NARROW),
        "families": list(found.families),
    }


def _front(found: Front, slots: Mapping[str, int]) -> dict[str, Any]:
    return {
        "title": found.axis.heading,
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
    if "baseline" not in row or pd.isna(row["baseline"]) or pd.isna(row["equal_images"]):
        return ""
    if row["is_baseline"]:
        return "the baseline"
    if row["equal_images"] == row["count"]:
        return f"all images equal {row['baseline']}’s"
    if row["equal_images"] == 0:
        return f"{100 * row['equal_tokens']:.0f} % of tokens equal"
    return f"{int(row['equal_images'])} of {row['count']} images equal"


def _drafts(rows: pd.DataFrame, found: Mapping[str, Diagnosis], slots: Mapping[str, int]) -> dict[str, Any] | None:
    """The small drawings of every decoder that drafts; None when none does."""
    if not found:
        return None
    maps = [share for one in found.values() for share in (one.places, one.never_verified) if share is not None]
    top = pictures.ceiling(maps)
    chosen = [(row, found[str(key)]) for key, row in rows.iterrows() if str(key) in found]
    return {"top": round(100 * top), "each": [_draft(row, one, slots, top) for row, one in chosen]}


def _draft(row: pd.Series[Any], found: Diagnosis, slots: Mapping[str, int], top: float) -> dict[str, Any]:
    slot = slots[str(row["family"])]
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
