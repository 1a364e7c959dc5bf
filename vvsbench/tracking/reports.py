"""What the run of a whole study holds in Weights & Biases: its tables, its fronts, its claims in words and its page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vvsbench.analysis import report, sentences
from vvsbench.analysis.costs import EQUIVALENTS, FORWARDS, SECONDS
from vvsbench.analysis.frame import StudyFrame
from vvsbench.analysis.pareto import QUALITY, Front, fronts
from vvsbench.analysis.speed import Speeds
from vvsbench.runs.store import QUALITY as SCORES
from vvsbench.runs.store import RECORD, SPEED
from vvsbench.tracking.cells import table

AXES = (FORWARDS, EQUIVALENTS, SECONDS)
HIDDEN = ["trouble", "stale", "status", "usable", "x", *(axis.dominated_by for axis in AXES)]
"""Columns of a frame that say nothing of a cell that has numbers."""


def identity(study: StudyFrame) -> dict[str, Any]:
    """What identifies the run."""
    return {
        "id": f"{study.name}-report",
        "name": f"{study.name} report",
        "job_type": "report",
        "config": {"study": study.name, "title": study.title, "baseline": study.baseline},
    }


def log_report(wandb: Any, run: Any, frames: Sequence[StudyFrame], speed: Speeds, root: Path) -> None:
    """Fill the run.

    Args:
        wandb: the module.
        run: that is open.
        frames: the study under each protocol, the first being that of the cells' runs.
        speed: its times.
        root: the output root. The page is added if there is one that knows all records.
    """
    study, *others = frames
    tables = {
        "study/cells": study.usable.drop(columns=HIDDEN, errors="ignore").reset_index(),
        "study/speed": speed.rows,
        "study/imported": study.external.reset_index(),
    }
    for other in others:
        tables[f"study/cells/{other.protocol}"] = other.usable.drop(columns=HIDDEN, errors="ignore").reset_index()
    content = {name: table(wandb, rows) for name, rows in tables.items() if len(rows)}
    summary: dict[str, Any] = {}
    said = [f"{trouble.subject}: {trouble.what}" for trouble in study.troubles] + list(speed.said)
    for setting, group in study.comparisons():
        said += [
            setting,
            *(str(claim) for claim in sentences.headline(group, study.axis)),
            *(f"{v.label} {v.predicate()}" for v in sentences.verdicts(group, study.axis)),
        ]
    for one in frames:
        place = "pareto" if one is study else f"pareto/{one.protocol}"
        for number, (_, group) in enumerate(one.comparisons()):
            for front in fronts(one, group):
                name = f"{place}/{front.axis.column}" + (f"_{number + 1}" if number else "")
                content[name] = points = _points(wandb, front)
                title = front.axis.title if one is study else f"{front.axis.title}, {one.protocol}"
                content[f"{name}_chart"] = wandb.plot.scatter(points, front.axis.column, QUALITY, title=title)
                if front.hypervolume is not None:
                    summary[f"{name}_hypervolume"] = front.hypervolume
    if content:
        run.log(content)
    run.summary.update(summary | {"in words": "\n".join(line for line in said if line)})
    if (page := _page(study.name, root)) is not None:
        artifact = wandb.Artifact(f"report-{study.name}", type="report", description=study.title)
        for path in sorted(path for path in page.rglob("*") if path.is_file()):
            artifact.add_file(str(path), name=path.relative_to(page).as_posix())
        run.log_artifact(artifact)


def _points(wandb: Any, front: Front) -> Any:
    names = [f"{name}{end}" for name in (front.axis.column, QUALITY) for end in ("", "_low", "_high")]
    return table(wandb, front.points.reset_index()[["key", "label", "family", *names, "place"]])


def _page(study: str, root: Path) -> Path | None:
    """The folder of the study's report; None if there is none, or if a record is newer than it."""
    folder = report.folder(study, root)
    page = folder / "index.html"
    cells = root / "cells" / study
    records = [path for name in (RECORD, SPEED, f"{SCORES}/*.json") for path in cells.glob(f"*/{name}")]
    if not page.is_file() or any(path.stat().st_mtime > page.stat().st_mtime for path in records):
        return None
    return folder
