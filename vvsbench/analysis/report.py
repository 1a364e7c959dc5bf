"""A study's report: page, Markdown, LaTeX, figures and a plain table, all from one frame and so never at odds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.text import Text

from vvsbench.analysis import certificates, findings, page, pictures, plots, sentences, tables
from vvsbench.analysis.certificates import Proofs
from vvsbench.analysis.diagnostics import Depth
from vvsbench.analysis.estimate import Estimate
from vvsbench.analysis.facts import commands, decoders, described
from vvsbench.analysis.frame import StudyFrame, frame
from vvsbench.analysis.hypervolume import Contest, contest
from vvsbench.analysis.pareto import front, fronts
from vvsbench.analysis.speed import Speeds, speeds
from vvsbench.analysis.speed import console as speed_console
from vvsbench.analysis.standings import Standing, standings
from vvsbench.runs import files

FIGURES = ("fronts", "curves", "lengths", "depths", "positions", "samples")
"""Names of the figures of a comparison, without number and suffix."""
ACROSS = "across"
"""Name of the figure over all comparisons."""


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
    found = frame(study, Path(root), timed_only=speed.anything)
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
    files.write(paths.table, found.rows.to_csv().encode())
    return paths


def _more(study: StudyFrame, target: Path) -> list[Path]:
    """Write the tables beside the frame."""
    names = ("standings", "families", "differences", "depths", "external")
    made: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    made["external"] = [{str(name): value for name, value in row.items()} for row in _external(study)]
    for setting, rows in study.comparisons():
        if placed := standings(study, rows):
            made["standings"] += [{"setting": setting} | _standing(cell) for cell in placed.cells]
        if found := contest(study, rows):
            made["families"] += _families(setting, found)
            made["differences"] += _differences(setting, found)
        for key, diagnosis in findings.diagnoses(study, rows).items():
            named = {"setting": setting, "key": key, "label": rows.loc[key, "label"]}
            made["depths"] += [named | asdict(depth) | {"share": _share(depth)} for depth in diagnosis.depths]
    if proven := certificates.known(certificates.path()):
        made |= {f"certificates-{name}": lines for name, lines in certificates.plain(proven).items()}
    none = {f"certificates-{name}": list[dict[str, Any]]() for name in certificates.KINDS}
    return _kept({name: pd.DataFrame(lines) for name, lines in (none | made).items()}, target)


def _kept(made: Mapping[str, pd.DataFrame], target: Path) -> list[Path]:
    """Write tables by name; one without a line is not made, nor left from another time."""
    for name in made:
        (target / f"{name}.csv").unlink(missing_ok=True)
    paths = {target / f"{name}.csv": lines for name, lines in made.items() if len(lines)}
    for path, lines in paths.items():
        files.write(path, lines.to_csv(index=False).encode())
    return list(paths)


def _external(study: StudyFrame) -> list[dict[Any, Any]]:
    return study.external.reset_index().drop(columns=["family", "is_baseline"], errors="ignore").to_dict("records")


def _standing(cell: Standing) -> dict[str, Any]:
    low, high = (cell.change.low, cell.change.high) if cell.change else (None, None)
    change = cell.change.value if cell.change else None
    return asdict(cell) | {"change": change, "low": low, "high": high}


def _share(depth: Depth) -> float | None:
    return depth.share if depth.steps else None


def _families(setting: str, found: Contest) -> list[dict[str, Any]]:
    cost, fid = found.reference
    named = {"setting": setting, f"reference_{found.axis.column}": cost, "reference_fid": fid}
    return [
        named | {"family": one.name, "cells": one.cells, "front": "; ".join(one.front)} | _hypervolume(one.volume)
        for one in found.families
    ]


def _differences(setting: str, found: Contest) -> list[dict[str, Any]]:
    return [
        {"setting": setting, "family": one, "less": other} | _hypervolume(apart)
        for (one, other), apart in found.differences.items()
    ]


def _hypervolume(found: Estimate) -> dict[str, Any]:
    return {"hypervolume": found.value, "low": found.low, "high": found.high}


def _figures(study: StudyFrame, target: Path) -> list[Path]:
    slots = page.families(study)
    made: list[Path] = []
    if across := page.across(study):
        made += plots.curves(across, slots, target, ACROSS)
    for number, (_, rows) in enumerate(study.comparisons()):
        made += _figures_of(study, rows, slots, target, f"-{number + 1}" if number else "")
    return made


def _figures_of(
    study: StudyFrame, rows: pd.DataFrame, slots: Mapping[str, int], target: Path, suffix: str
) -> list[Path]:
    """The figures of one comparison."""
    made: list[Path] = []
    if found := fronts(study, rows):
        made += plots.fronts(found, slots, target, f"fronts{suffix}")
    if within := page.within(study, rows):
        made += plots.curves(within, slots, target, f"curves{suffix}")
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


def markdown(study: StudyFrame, figures: tuple[Path, ...], proofs: Proofs, speed: Speeds) -> str:
    """The report for readers of plain text; figures by their file names beside it."""
    blocks = [f"# {study.title}"]
    if study.troubles:
        blocks.append("\n".join(["**Before the numbers**", "", *(f"- {t.subject}: {t.what}" for t in study.troubles)]))
    drawings = [path for path in figures if path.suffix == ".svg"]
    blocks += [f"![{path.stem}]({path.name})" for path in drawings if path.stem == ACROSS]
    for number, (setting, rows) in enumerate(study.comparisons()):
        mine = {f"{name}-{number + 1}" if number else name for name in FIGURES}
        blocks += _comparison(study, setting, rows, [path for path in drawings if path.stem in mine])
    if others := tables.external(study.external):
        blocks += [f"## {others.caption}", tables.markdown(others)]
    blocks += ["## Speed"] if speed.anything else []
    blocks += ["\n".join(f"- {text}" for text in speed.said)]
    for table in speed.tables:
        blocks += [f"### {table.caption}", tables.markdown(table)]
    blocks += ["## Certificates", " ".join(proofs.said)]
    for table in proofs.tables:
        blocks += [f"### {table.caption}", tables.markdown(table)]
    blocks += ["## How to get these numbers again", "\n".join(["```", *speed.commands, *commands(study), "```"])]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _comparison(study: StudyFrame, setting: str, rows: pd.DataFrame, drawings: Sequence[Path]) -> list[str]:
    """One comparison in Markdown."""
    blocks = [f"## {setting}"] if setting else []
    placed = standings(study, rows)
    blocks.append(" ".join(sentences.about_standings(placed)) if placed else "")
    blocks.append(" ".join(str(claim) for claim in sentences.headline(rows, study.axis)))
    blocks.append("\n".join(f"- **{v.label}** {v.predicate()}" for v in sentences.verdicts(rows, study.axis)))
    blocks.append(" ".join(str(claim) for claim in decoders(study, rows)))
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
            blocks += [sentences.about_contest(found), "\n".join(f"- {claim}" for claim in said)]
    blocks.append("Brackets: 95 % intervals. ▼ worse, ▲ better than the baseline beyond its interval.")
    blocks += [f"![{path.stem}]({path.name})" for path in drawings]
    blocks += [f"{found.axis.title}: {sentences.about_front(found)}" for found in fronts(study, rows)]
    return [*blocks, "### What was compared", "\n".join(f"- {name}: {text}" for name, text in described(study, rows))]


def latex(study: StudyFrame, proofs: Proofs, speed: Speeds) -> str:
    """All tables, for a document that loads booktabs."""
    made = [f"% Study {study.name}, written by vvsbench. Needs \\usepackage{{booktabs}}."]
    for number, (_, rows) in enumerate(study.comparisons()):
        suffix = f"-{number + 1}" if number else ""
        made += [tables.latex(table, f"{study.name}-{table.name}{suffix}") for table in findings.every(study, rows)]
    if others := tables.external(study.external):
        made.append(tables.latex(others, f"{study.name}-{others.name}"))
    made += [tables.latex(table, f"{study.name}-{table.name}-{n}") for n, table in enumerate(speed.tables)]
    made += [tables.latex(table, f"certificates-{table.name}") for table in proofs.tables]
    return "\n".join(made)


def print_front(study: str, root: Path, console: Console) -> None:
    """Show the front in the terminal.

    Args:
        study: its name.
        root: the output root.
        console: to print to.
    """
    speed = speeds(study, Path(root))
    found = frame(study, Path(root), timed_only=speed.anything)
    for trouble in found.troubles:
        console.print(Text(f"{trouble.subject}: {trouble.what}", style="yellow"))
    for setting, rows in found.comparisons():
        console.print()
        title = f"{found.title}{f' ({setting})' if setting else ''}"
        console.print(tables.console(rows, _keys_on_front(found, rows), title, found.axis))
        placed = standings(found, rows)
        for text in sentences.about_standings(placed) if placed else []:
            console.print(Text(text))
        for claim in sentences.headline(rows, found.axis):
            console.print(Text(str(claim)))
    for text in speed.said:
        console.print(Text(text, style="yellow"))
    for table in speed.tables:
        console.print()
        console.print(speed_console(table))
    console.print()


def _keys_on_front(study: StudyFrame, rows: pd.DataFrame) -> list[str]:
    best = front(rows, study.axis)
    return [] if best is None else [str(key) for key in best.members.index]
