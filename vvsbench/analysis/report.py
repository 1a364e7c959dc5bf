"""A study's report: page, Markdown, LaTeX, figures and a plain table, all from one frame and so never at odds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.text import Text

from vvsbench.analysis import certificates, findings, page, pictures, plots, sentences, tables
from vvsbench.analysis.attainment import Attainment, attainments
from vvsbench.analysis.certificates import Proofs
from vvsbench.analysis.diagnostics import Depth
from vvsbench.analysis.estimate import Estimate
from vvsbench.analysis.facts import commands, decoders, described, glance
from vvsbench.analysis.frame import StudyFrame, frames
from vvsbench.analysis.hypervolume import Contest, contest
from vvsbench.analysis.pareto import fronts
from vvsbench.analysis.selection import prominent
from vvsbench.analysis.speed import Speeds, speeds
from vvsbench.analysis.speed import console as speed_console
from vvsbench.analysis.standings import Standing, standings
from vvsbench.analysis.tables import plain
from vvsbench.runs import files

FIGURES = ("fronts", "curves", "lengths", "depths", "positions", "samples")
"""Names of the figures of a comparison, without number, protocol and suffix."""
ACROSS, SEEDS = "across", "attainment"
"""Names of the figures over comparisons: those of any setting, and those that differ in their seed."""


@dataclass(frozen=True)
class ReportPaths:
    """Where a report lies.

    Attributes:
        html: the page.
        markdown: for a repository or an issue.
        latex: tables for a paper; needs booktabs.
        figures: PDF and SVG files.
        table: the frame, one line per cell, every number unrounded.
        more: further tables, unrounded: places against a front, fronts by family and their differences, depths of the
            draft, imported image sets, certificates.
    """

    html: Path
    markdown: Path
    latex: Path
    figures: tuple[Path, ...]
    table: Path
    more: tuple[Path, ...]


def folder(study: str, root: Path) -> Path:
    """Where a study's report goes."""
    return Path(root) / "reports" / study


def write(study: str, root: Path) -> ReportPaths:
    """Write a study's report from its records; the same records give the same bytes.

    Args:
        study: its name.
        root: the output root.

    Raises:
        UserError: there is nothing to report, a record is damaged or the disk is full.
    """
    speed = speeds(study, Path(root))
    found = frames(study, Path(root), timed_only=speed.anything)
    target = folder(study, root)
    target.mkdir(parents=True, exist_ok=True)
    proofs = certificates.proofs(certificates.path())
    paths = ReportPaths(
        html=target / "index.html",
        markdown=target / "report.md",
        latex=target / "tables.tex",
        figures=tuple(_figures(found, target)),
        table=target / "cells.csv",
        more=tuple([*_more(found, target), *_kept({"speed": speed.rows}, target)]),
    )
    files.write(paths.html, page.html(found, proofs, speed).encode())
    files.write(paths.markdown, markdown(found, paths.figures, proofs, speed).encode())
    files.write(paths.latex, latex(found, proofs, speed).encode())
    files.write(paths.table, _csv(found[0].rows.reset_index()))
    return paths


def _more(studies: Sequence[StudyFrame], target: Path) -> list[Path]:
    """Write the tables beside the frame, and the frames of all protocols but the first."""
    names = ("standings", "families", "differences", "attainment", "depths", "external")
    made: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for study in studies:
        measured = {"protocol": study.protocol} if len(studies) > 1 else {}
        made["external"] += [measured | row for row in _external(study)]
        made["attainment"] += [measured | line for found in attainments(study) for line in _attained(found)]
        for setting, rows in study.comparisons():
            named = measured | {"setting": setting}
            if placed := standings(study, rows):
                made["standings"] += [named | _standing(cell) for cell in placed.cells]
            if found := contest(study, rows):
                made["families"] += _families(named, found)
                made["differences"] += _differences(named, found)
    for setting, rows in studies[0].comparisons():
        for key, diagnosis in findings.diagnoses(studies[0], rows).items():
            labelled = {"setting": setting, "key": key, "label": rows.loc[key, "label"]}
            made["depths"] += [labelled | asdict(depth) | {"share": _share(depth)} for depth in diagnosis.depths]
    if proven := certificates.known(certificates.path()):
        made |= {f"certificates-{name}": lines for name, lines in certificates.plain(proven).items()}
    none = {f"certificates-{name}": list[dict[str, Any]]() for name in certificates.KINDS}
    found_more = {name: pd.DataFrame(lines) for name, lines in (none | made).items()}
    others = {f"cells-{study.protocol}": study.rows.reset_index() for study in studies[1:]}
    return _kept(found_more | others, target)


def _kept(made: Mapping[str, pd.DataFrame], target: Path) -> list[Path]:
    """Write tables by name; one without a line is not made, nor left from another time."""
    for name in made:
        (target / f"{name}.csv").unlink(missing_ok=True)
    paths = {target / f"{name}.csv": lines for name, lines in made.items() if len(lines)}
    for path, lines in paths.items():
        files.write(path, _csv(lines))
    return list(paths)


def _csv(lines: pd.DataFrame) -> bytes:
    """A table as a file; a list of labels in one field of it."""
    flat = lines.map(lambda value: "; ".join(value) if isinstance(value, list) else value)
    return tables.formula_free(flat).to_csv(index=False).encode()


def _external(study: StudyFrame) -> list[dict[Any, Any]]:
    return study.external.reset_index().drop(columns=["family", "is_baseline"], errors="ignore").to_dict("records")


def _standing(cell: Standing) -> dict[str, Any]:
    low, high = (cell.change.low, cell.change.high) if cell.change else (None, None)
    change = cell.change.value if cell.change else None
    return asdict(cell) | {"change": change, "low": low, "high": high}


def _share(depth: Depth) -> float | None:
    return depth.share if depth.steps else None


def _families(named: Mapping[str, Any], found: Contest) -> list[dict[str, Any]]:
    cost, fid = found.reference
    named = {**named, f"reference_{found.axis.column}": cost, "reference_fid": fid}
    return [
        named | {"family": one.name, "cells": one.cells, "front": "; ".join(one.front)} | _hypervolume(one.volume)
        for one in found.families
    ]


def _differences(named: Mapping[str, Any], found: Contest) -> list[dict[str, Any]]:
    return [
        {**named, "family": one, "less": other} | _hypervolume(apart)
        for (one, other), apart in found.differences.items()
    ]


def _attained(found: Attainment) -> list[dict[str, Any]]:
    """A line per corner of every surface."""
    return [
        {
            "setting": found.setting,
            "family": family.name,
            "surface": name,
            "seeds": surface.seeds,
            "of": len(found.seeds),
        }
        | {"area": surface.volume, found.axis.column: float(cost), "fid": float(fid)}
        for family in found.families
        for name, surface in family.surfaces.items()
        for cost, fid in surface.points
    ]


def _hypervolume(found: Estimate) -> dict[str, Any]:
    return {"hypervolume": found.value, "low": found.low, "high": found.high}


def _suffix(number: int, study: StudyFrame, studies: Sequence[StudyFrame]) -> str:
    """Behind the name of a figure or table: the number of its comparison, and its protocol unless that is the first."""
    protocol = f"-{study.protocol}" if study is not studies[0] else ""
    return f"{f'-{number}' if number > 1 else ''}{protocol}"


def _figures(studies: Sequence[StudyFrame], target: Path) -> list[Path]:
    slots = page.families(studies[0])
    made: list[Path] = []
    for study in studies:
        if across := page.across(study):
            made += plots.curves(across, slots, target, f"{ACROSS}{_suffix(1, study, studies)}")
        for number, found in enumerate(attainments(study), 1):
            name = f"{SEEDS}{_suffix(number, study, studies)}"
            made += plots.attainment(found, slots, target, name) if found.families else []
        for number, (_, rows) in enumerate(study.comparisons(), 1):
            suffix = _suffix(number, study, studies)
            if best := fronts(study, rows):
                made += plots.fronts(best, slots, target, f"fronts{suffix}")
            made += _figures_of(study, rows, slots, target, suffix) if study is studies[0] else []
    return made


def _figures_of(
    study: StudyFrame, rows: pd.DataFrame, slots: Mapping[str, int], target: Path, suffix: str
) -> list[Path]:
    """The figures of one comparison that do not depend on a protocol; of many cells those that are shown first."""
    made: list[Path] = []
    if within := page.within(study, rows):
        made += plots.curves(within, slots, target, f"curves{suffix}")
    rows = rows.loc[prominent(study, rows)]
    labels = {str(key): (str(row["label"]), slots[str(row["family"])]) for key, row in rows.iterrows()}
    panels = [plots.Panel(*labels[key], found) for key, found in findings.diagnoses(study, rows).items()]
    if panels:
        made += plots.lengths(panels, target, f"lengths{suffix}")
        made += plots.depths(panels, target, f"depths{suffix}")
        made += plots.positions(panels, target, f"positions{suffix}")
    seen = [(study.cells[key], label) for key, (label, _) in labels.items() if study.cells[key].has_images]
    if seen:
        made += plots.samples(seen, pictures.choose(seen[0][0].trace), target, f"samples{suffix}")
    return made


def markdown(studies: Sequence[StudyFrame], figures: tuple[Path, ...], proofs: Proofs, speed: Speeds) -> str:
    """The report for readers of plain text; figures by their file names beside it."""
    study, *others = studies
    blocks = [f"# {plain(study.title)}"]
    if told := page.troubles(studies, speed):
        blocks.append(
            "\n".join(["**Before the numbers**", "", *(f"- {plain(t.subject)}: {plain(t.what)}" for t in told)])
        )
    blocks.append(_listed(glance(studies)))
    drawings = {path.stem: f"![{path.stem}]({path.name})" for path in figures if path.suffix == ".svg"}
    for one in studies:
        blocks += _over_seeds(one, studies, drawings)
    for number, (setting, rows) in enumerate(study.comparisons(), 1):
        suffix = _suffix(number, study, studies)
        blocks += _comparison(study, setting, rows, [drawings.get(f"{name}{suffix}", "") for name in FIGURES])
    for one in others:
        for number, (setting, rows) in enumerate(one.comparisons(), 1):
            drawn = drawings.get(f"fronts{_suffix(number, one, studies)}", "")
            blocks += _under(one, setting, rows, drawn)
    for one in studies:
        if imported := tables.external(one.external):
            blocks += [f"## {imported.caption}", tables.markdown(imported)]
    blocks += ["## Speed"] if speed.anything else []
    blocks += ["\n".join(f"- {plain(text)}" for text in speed.said)]
    for table in speed.tables:
        blocks += [f"### {table.caption}", tables.markdown(table)]
    blocks += ["## Certificates", " ".join(proofs.said)]
    for table in proofs.tables:
        blocks += [f"### {table.caption}", tables.markdown(table)]
    blocks += ["## How to get these numbers again", _fenced([*speed.commands, *commands(studies)])]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _listed(facts: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"- {name}: {plain(text)}" for name, text in facts)


def _fenced(lines: Sequence[str]) -> str:
    """Commands as code, in a fence that none of them closes."""
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([fence, *(line.replace("\n", " ") for line in lines), fence])


def _over_seeds(study: StudyFrame, studies: Sequence[StudyFrame], drawings: Mapping[str, str]) -> list[str]:
    """What stands over comparisons, in Markdown."""
    blocks = [drawings.get(f"{ACROSS}{_suffix(1, study, studies)}", "")]
    for number, found in enumerate(attainments(study), 1):
        table = findings.attained(found)
        under = f" under protocol {study.protocol}" if len(studies) > 1 else ""
        blocks += [f"## {table.caption}{under}", tables.markdown(table)] if table else []
        blocks.append(plain(sentences.about_attainment(found, study.name)))
        blocks.append(drawings.get(f"{SEEDS}{_suffix(number, study, studies)}", ""))
    return blocks


def _under(study: StudyFrame, setting: str, rows: pd.DataFrame, drawn: str) -> list[str]:
    """What another protocol says of a comparison, in Markdown."""
    scored = [name for name in rows["protocol"] if name]
    if not scored:
        return []
    made = {table.name: table for table in findings.every(study, rows)}
    blocks = [f"## Under protocol {scored[0]}{f', {plain(setting)}' if setting else ''}"]
    for name in ("standings", "fronts", "quality", "paired", "claims"):
        blocks += [f"### {made[name].caption}", tables.markdown(made[name])] if name in made else []
    about = [plain(f"{found.axis.title}: {sentences.about_front(found)}") for found in fronts(study, rows)]
    return [*blocks, drawn, *about]


def _comparison(study: StudyFrame, setting: str, rows: pd.DataFrame, drawings: Sequence[str]) -> list[str]:
    """One comparison in Markdown."""
    blocks = [f"## {plain(setting)}"] if setting else []
    placed = standings(study, rows)
    blocks.append(plain(" ".join(sentences.about_standings(placed))) if placed else "")
    blocks.append(plain(" ".join(str(claim) for claim in sentences.headline(rows, study.axis))))
    blocks.append(
        "\n".join(f"- **{plain(v.label)}** {plain(v.predicate())}" for v in sentences.verdicts(rows, study.axis))
    )
    blocks.append(plain(" ".join(str(claim) for claim in decoders(study, rows))))
    found, published = contest(study, rows), findings.claimed(study, rows)
    for table in findings.every(study, rows):
        blocks += [f"### {table.caption}", tables.markdown(table)]
        if table.name == "claims" and published:
            blocks.insert(-1, published.about)
            blocks.append("\n".join(f"- [{n}] {text}" for n, text in enumerate(published.sources, 1)))
        if table.name == "standings" and placed:
            blocks.append(sentences.rule(placed))
        if table.name == "fronts" and found:
            said = [*sentences.contests(found), *sentences.dominations(found)]
            blocks += [plain(sentences.about_contest(found)), "\n".join(f"- {plain(str(claim))}" for claim in said)]
    blocks.append("Brackets: 95 % intervals. ▼ worse, ▲ better than the baseline beyond its interval.")
    blocks += drawings
    blocks += [plain(f"{found.axis.title}: {sentences.about_front(found)}") for found in fronts(study, rows)]
    return [*blocks, "### What was compared", _listed(described(study, rows))]


def latex(studies: Sequence[StudyFrame], proofs: Proofs, speed: Speeds) -> str:
    """All tables, for a document that loads booktabs."""
    name, measured = studies[0].name, ("fronts", "quality", "paired")
    made = [f"% Study {name}, written by vvsbench. Needs \\usepackage{{booktabs}}."]
    for study in studies:
        first = study is studies[0]
        for number, found in enumerate(attainments(study), 1):
            over = findings.attained(found)
            made += [tables.latex(over, f"{name}-{over.name}{_suffix(number, study, studies)}")] if over else []
        for number, (_, rows) in enumerate(study.comparisons(), 1):
            suffix = _suffix(number, study, studies)
            chosen = [_under_its_protocol(one, study, studies) for one in findings.every(study, rows)]
            made += [tables.latex(one, f"{name}-{one.name}{suffix}") for one in chosen if first or one.name in measured]
        if others := tables.external(study.external):
            made.append(tables.latex(others, f"{name}-{others.name}{_suffix(1, study, studies)}"))
    made += [tables.latex(table, f"{name}-{table.name}-{n}") for n, table in enumerate(speed.tables)]
    made += [tables.latex(table, f"certificates-{table.name}") for table in proofs.tables]
    return "\n".join(made)


def _under_its_protocol(table: tables.Table, study: StudyFrame, studies: Sequence[StudyFrame]) -> tables.Table:
    """A table that says in its caption which protocol it is of, where there are several."""
    return replace(table, caption=f"{table.caption} (protocol {study.protocol})") if len(studies) > 1 else table


def print_front(study: str, root: Path, console: Console) -> None:
    """Show the front in the terminal.

    Args:
        study: its name.
        root: the output root.
        console: to print to.
    """
    speed = speeds(study, Path(root))
    found, *others = frames(study, Path(root), timed_only=speed.anything)
    for trouble in page.troubles([found, *others], speed):
        console.print(Text(f"{trouble.subject}: {trouble.what}", style="yellow"))
    for setting, rows in found.comparisons():
        console.print()
        title = f"{found.title}{f' ({setting})' if setting else ''}"
        console.print(tables.console(rows, title, found.axis))
        placed = standings(found, rows)
        for text in sentences.about_standings(placed) if placed else []:
            console.print(Text(text))
        for claim in sentences.headline(rows, found.axis):
            console.print(Text(str(claim)))
    if others:
        console.print(Text(f"Also scored under {sentences.listed([one.protocol for one in others])}: see the report."))
    for text in speed.said:
        console.print(Text(text, style="yellow"))
    for table in speed.tables:
        console.print()
        console.print(speed_console(table))
    console.print()
