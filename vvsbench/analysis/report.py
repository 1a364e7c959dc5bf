"""A study's report: page, Markdown, LaTeX, figures and a plain table, all from one frame and so never at odds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.text import Text

from vvsbench.analysis import page, pictures, plots, sentences, tables
from vvsbench.analysis.facts import commands, decoders, described
from vvsbench.analysis.frame import StudyFrame, frame
from vvsbench.analysis.pareto import COMPRESSION, front, fronts
from vvsbench.runs import files

FIGURES = ("fronts", "lengths", "samples")
"""Names of the figures, without number and suffix."""


@dataclass(frozen=True)
class ReportPaths:
    """Where a report lies.

    Attributes:
        html: the page.
        markdown: for a repository or an issue.
        latex: tables for a paper; needs booktabs.
        figures: PDF and SVG files.
        table: the frame, one line per cell, every number unrounded.
    """

    html: Path
    markdown: Path
    latex: Path
    figures: tuple[Path, ...]
    table: Path


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
    found = frame(study, Path(root))
    target = folder(study, root)
    target.mkdir(parents=True, exist_ok=True)
    paths = ReportPaths(
        html=target / "index.html",
        markdown=target / "report.md",
        latex=target / "tables.tex",
        figures=tuple(_figures(found, target)),
        table=target / "cells.csv",
    )
    files.write(paths.html, page.html(found).encode())
    files.write(paths.markdown, markdown(found, paths.figures).encode())
    files.write(paths.latex, latex(found).encode())
    files.write(paths.table, found.rows.to_csv().encode())
    return paths


def _figures(study: StudyFrame, target: Path) -> list[Path]:
    slots = page.families(study)
    made: list[Path] = []
    for number, (_, rows) in enumerate(study.comparisons()):
        suffix = f"-{number + 1}" if number else ""
        cells = [(study.cells[str(key)], str(row["label"]), slots[str(row["family"])]) for key, row in rows.iterrows()]
        if found := fronts(study, rows):
            made += plots.fronts(found, slots, target, f"fronts{suffix}")
        if drafting := [entry for entry in cells if page.drafts(entry[0])]:
            made += plots.lengths(drafting, target, f"lengths{suffix}")
        chosen = pictures.choose(cells[0][0].trace)
        made += plots.samples([(cell, label) for cell, label, _ in cells], chosen, target, f"samples{suffix}")
    return made


def markdown(study: StudyFrame, figures: tuple[Path, ...]) -> str:
    """The report for readers of plain text; figures by their file names beside it."""
    blocks = [f"# {study.title}"]
    if study.troubles:
        blocks.append("\n".join(["**Before the numbers**", "", *(f"- {t.subject}: {t.what}" for t in study.troubles)]))
    drawings = [path for path in figures if path.suffix == ".svg"]
    for number, (setting, rows) in enumerate(study.comparisons()):
        if setting:
            blocks.append(f"## {setting}")
        blocks.append(" ".join(str(claim) for claim in sentences.headline(rows)))
        blocks.append("\n".join(f"- **{v.label}** {v.predicate()}" for v in sentences.verdicts(rows)))
        blocks.append(" ".join(str(claim) for claim in decoders(study, rows)))
        for table in (tables.costs(rows), tables.quality(rows)):
            blocks += [f"### {table.caption}", tables.markdown(table)]
        blocks.append("Brackets: 95 % intervals. ▼ worse, ▲ better than the baseline beyond its interval.")
        suffix = f"-{number + 1}" if number else ""
        mine = {f"{name}{suffix}" for name in FIGURES}
        blocks += [f"![{path.stem}]({path.name})" for path in drawings if path.stem in mine]
        blocks += [f"{found.axis.title}: {sentences.about_front(found)}" for found in fronts(study, rows)]
        blocks += ["### What was compared", "\n".join(f"- {name}: {text}" for name, text in described(study, rows))]
    blocks += ["## How to get these numbers again", "\n".join(["```", *commands(study), "```"])]
    return "\n\n".join(block for block in blocks if block) + "\n"


def latex(study: StudyFrame) -> str:
    """Both tables of every comparison, for a document that loads booktabs."""
    made = [f"% Study {study.name}, written by vvsbench. Needs \\usepackage{{booktabs}}."]
    for number, (_, rows) in enumerate(study.comparisons()):
        suffix = f"-{number + 1}" if number else ""
        made.append(tables.latex(tables.costs(rows), f"{study.name}-cost{suffix}"))
        made.append(tables.latex(tables.quality(rows), f"{study.name}-quality{suffix}"))
    return "\n".join(made)


def print_front(study: str, root: Path, console: Console) -> None:
    """Show the front in the terminal.

    Args:
        study: its name.
        root: the output root.
        console: to print to.
    """
    found = frame(study, Path(root))
    for trouble in found.troubles:
        console.print(Text(f"{trouble.subject}: {trouble.what}", style="yellow"))
    for setting, rows in found.comparisons():
        console.print()
        console.print(
            tables.console(rows, _keys_on_front(found, rows), f"{found.title}{f' ({setting})' if setting else ''}")
        )
        for claim in sentences.headline(rows):
            console.print(Text(str(claim)))
    console.print()


def _keys_on_front(study: StudyFrame, rows: pd.DataFrame) -> list[str]:
    best = front(study, rows, COMPRESSION)
    return [] if best is None else [str(key) for key in best.members.index]
