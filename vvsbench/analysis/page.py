"""The page of a report: what it shows in which order, from frame to HTML. Words and layout are in templates/."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from vvsbench import __version__
from vvsbench.analysis import charts, drafts, findings, linecharts, plots, sentences, smallcharts, tables
from vvsbench.analysis.attainment import attainments
from vvsbench.analysis.certificates import Proofs
from vvsbench.analysis.curves import Curves, curves
from vvsbench.analysis.dominance import Place
from vvsbench.analysis.facts import commands, decoders, described, glance, origin
from vvsbench.analysis.frame import StudyFrame
from vvsbench.analysis.gallery import gallery
from vvsbench.analysis.hypervolume import Contest, contest
from vvsbench.analysis.pareto import Front, fronts
from vvsbench.analysis.selection import prominent
from vvsbench.analysis.speed import Speeds
from vvsbench.analysis.standings import Standings, standings
from vvsbench.analysis.tables import Table
from vvsbench.analysis.troubles import Trouble, scored_alike

TEMPLATES = Path(__file__).parent / "templates"
WIDE, NARROW, PANEL = (548, 404), (354, 360), (354, 270)
LONG, FOLDED = 16, 24
"""Lines from which a table of certificates, and any other list, is folded; longer tables scroll by themselves."""


def html(studies: Sequence[StudyFrame], proofs: Proofs, speed: Speeds) -> str:
    """The whole page, with everything it needs inside it.

    Args:
        studies: the study under every protocol, see `vvsbench.analysis.frame.frames`.
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
    study, *others = studies
    slots = families(study)
    seeds = [attained for one in studies for attained in _over_seeds(one, slots)]
    return environment.get_template("page.html").render(
        title=study.title,
        study=study.name,
        date=_date(study),
        glance=glance(studies),
        troubles=troubles(studies, speed),
        slots=slots,
        parts=_parts(study, slots),
        apart=[part for one in others for part in _quality_parts(one, slots)],
        external=[found for one in studies if (found := tables.external(one.external))],
        across=[_curves(found, slots) | {"protocol": one.protocol} for one in studies for found in across(one)],
        seeds=seeds,
        x=study.x,
        proofs=proofs,
        long=LONG,
        folded=FOLDED,
        speed=speed,
        commands=[*speed.commands, *commands(studies)],
        provenance=[
            origin(study.cells[str(key)], f"{row['label']} {row['setting']}".strip())
            for key, row in study.usable.iterrows()
        ],
        version=__version__,
        css=Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),
        js=Markup((TEMPLATES / "page.js").read_text(encoding="utf-8")),
    )


def troubles(studies: Sequence[StudyFrame], speed: Speeds) -> list[Trouble]:
    """What has to be told first, of all protocols and of speed, each once."""
    return list(dict.fromkeys([*(trouble for study in studies for trouble in study.troubles), *speed.troubles]))


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


def _parts(study: StudyFrame, slots: Mapping[str, int]) -> list[dict[str, Any]]:
    """A part for every comparison; `again` for one that differs from an earlier one in nothing but its seed."""
    seen: set[str] = set()
    made = []
    for number, (setting, rows) in enumerate(study.comparisons(), 1):
        kind = str(rows["setting_but_seed"].iloc[0])
        made.append(_part(study, setting, rows, slots) | {"id": number, "again": kind in seen})
        seen.add(kind)
    return made


def _part(study: StudyFrame, setting: str, rows: pd.DataFrame, slots: Mapping[str, int]) -> dict[str, Any]:
    made = {table.name: table for table in findings.every(study, rows)}
    placed, shown = standings(study, rows), prominent(study, rows)
    verdicts = sentences.verdicts(rows, study.axis)
    return _quality(study, setting, rows, slots, made) | {
        "count": int(rows["count"].iloc[0]),
        "placed": sentences.about_standings(placed) if placed else [],
        "headline": sentences.headline(rows, study.axis),
        "verdicts": [
            [verdict for verdict in verdicts if verdict.key in shown],
            [verdict for verdict in verdicts if verdict.key not in shown],
        ],
        "curves": [_curves(one, slots) for one in within(study, rows)],
        "tables": [made[name] for name in ("cost", "quality", "paired") if name in made],
        "gallery": gallery(study, rows),
        "drafts": drafts.drawn(rows, findings.diagnoses(study, rows), slots, shown),
        "draft_tables": [made[name] for name in ("drafting", "depths") if name in made],
        "decoders": decoders(study, rows),
        "facts": described(study, rows),
    }


def _quality_parts(study: StudyFrame, slots: Mapping[str, int]) -> list[dict[str, Any]]:
    """What another protocol says of each comparison: nothing else of a page depends on it."""
    return [
        _quality(study, setting, rows, slots, made)
        | {
            "id": f"{study.protocol}-{number}",
            "tables": [made[name] for name in ("quality", "paired") if name in made],
            "facts": [fact for fact in described(study, rows) if fact[0] == "Quality"],
        }
        for number, (setting, rows) in enumerate(study.comparisons(), 1)
        if (rows["protocol"] != "").any()
        for made in [{table.name: table for table in findings.every(study, rows)}]
    ]


def _quality(
    study: StudyFrame, setting: str, rows: pd.DataFrame, slots: Mapping[str, int], made: Mapping[str, Table]
) -> dict[str, Any]:
    """What of a comparison depends on the protocol."""
    base, found, placed = study.baseline_of(rows), contest(study, rows), standings(study, rows)
    found_fronts = fronts(study, rows)
    drawn = [_front(front, slots) for front in found_fronts]
    return {
        "setting": setting,
        "protocol": next((name for name in rows["protocol"] if name), ""),
        "baseline": "" if base is None else str(base["label"]),
        "standings": _standings(placed, made) if placed else None,
        "fronts": drawn,
        "looks": charts.legend([Place(place) for front in found_fronts for place in front.points["place"]]),
        "places": sentences.about_places(found_fronts[0]) if found_fronts else "",
        "contest": _contest(found, made) if found else None,
        "claims": findings.claimed(study, rows),
    }


def _over_seeds(study: StudyFrame, slots: Mapping[str, int]) -> list[dict[str, Any]]:
    return [
        {
            "protocol": study.protocol,
            "about": sentences.about_attainment(found, study.name),
            "table": findings.attained(found),
            "setting": found.setting,
            "panels": [
                {"family": family.name, "drawing": smallcharts.attained(found, family, slots[family.name], PANEL)}
                for family in found.families
            ],
        }
        for found in attainments(study)
    ]


def within(study: StudyFrame, rows: pd.DataFrame) -> list[Curves]:
    """Charts against a setting of the decoder, which varies within each comparison."""
    return curves(rows, study.x, study.axis) if study.x.startswith("decoder.") else []


def across(study: StudyFrame) -> list[Curves]:
    """Charts against any other setting, which is another in every comparison."""
    if not study.x or study.x.startswith("decoder."):
        return []
    rows = study.usable
    return curves(rows if scored_alike(rows) else rows.drop(columns="fid"), study.x, study.axis)


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
