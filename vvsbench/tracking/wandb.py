"""Weights & Biases, filled from the records after the fact: a run per cell and one for the study's report.

The records are the truth and this is a view of them, so logging the same study again fills the same runs (their ids are
the cells' keys). wandb is imported here and only when a study is logged. Without a key or a network the runs are
written offline, to be sent later by `wandb sync`; nothing that goes wrong here ever fails a run.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from vvsbench.analysis import diagnostics, pictures, sentences
from vvsbench.analysis.estimate import estimate
from vvsbench.analysis.frame import COSTS, DRAFTING, METRICS, StudyFrame, frame
from vvsbench.analysis.pareto import QUALITY, Front, fronts
from vvsbench.analysis.tables import RATIOS
from vvsbench.runs.store import StoredCell

log = logging.getLogger(__name__)

RELATIVE = (
    *RATIOS,
    "changed_tokens",
    "token_distance",
    "pixel_change",
    *(f"{name}_change" for name in METRICS),
)
"""Quantities against the baseline."""

SECONDS_TO_REACH = 10
"""After which an answer is not waited for."""


def log_study(study: str, root: Path, mode: str = "online") -> None:
    """Log a study from its records.

    Args:
        study: its name.
        root: the output root; offline runs are written to its folder wandb/ unless WANDB_DIR says otherwise.
        mode: "online" (offline if there is no key or no network), "offline" or "disabled".
    """
    if mode == "disabled":
        return
    try:
        wandb = importlib.import_module("wandb")
        folder = Path(os.environ.get("WANDB_DIR") or root)
        found = frame(study, Path(root))
        _Log(wandb, found, folder, _reachable(wandb, folder) if mode == "online" else mode).write()
    except Exception as error:  # whatever happens to a view of the records must not fail what made them
        log.warning("The study was not logged to Weights & Biases: %s", error)
        log.debug("traceback", exc_info=True)


def _reachable(wandb: Any, folder: Path) -> str:
    """Online with a key that the service confirms, else offline: a run that starts online cannot change its mind."""
    try:
        if wandb.login(prompt=False, verify=True, timeout=SECONDS_TO_REACH):
            return "online"
        reason = "there is no key (wandb login)"
    except wandb.errors.Error as error:
        reason = f"it does not answer ({error})"
    log.warning(
        "Weights & Biases: %s; the study is logged offline, send it later: wandb sync %s/wandb/offline-run-*",
        *(reason, folder),
    )
    return "offline"


@dataclass
class _Log:
    """A study on its way to Weights & Biases.

    Attributes:
        wandb: the module.
        folder: that offline runs go to, below wandb/.
        mode: online or offline.
    """

    wandb: Any
    study: StudyFrame
    folder: Path
    mode: str

    def write(self) -> None:
        """One run per cell, then the report's."""
        chosen: pictures.Chosen | None = None
        for key, row in self.study.usable.iterrows():
            cell = self.study.cells[str(key)]
            chosen = chosen or pictures.choose(cell.trace)
            with self._run(_identity(cell, row)) as run:
                _log_cell(self.wandb, run, cell, row, chosen)
        with self._run(_report_identity(self.study)) as run:
            _log_report(self.wandb, run, self.study)

    @contextmanager
    def _run(self, identity: Mapping[str, Any]) -> Iterator[Any]:
        """One run, finished whatever happens."""
        settings = self.wandb.Settings(
            silent=True, console="off", disable_git=True, save_code=False, x_disable_stats=True
        )
        run = self.wandb.init(
            mode=self.mode,
            project=_project(self.study),
            group=self.study.name,
            dir=str(self.folder),
            resume="allow" if self.mode == "online" else None,
            settings=settings,
            **identity,
        )
        code = 1
        try:
            yield run
            code = 0
        finally:
            run.finish(exit_code=code)


def _project(study: StudyFrame) -> str:
    """Where the study is filed: as its latest cell was told."""
    latest = max(study.cells.values(), key=lambda cell: cell.record.started)
    return str((latest.record.config.get("logger") or {}).get("project") or "vvsbench")


def _identity(cell: StoredCell, row: pd.Series[Any]) -> dict[str, Any]:
    record = cell.record
    config = record.config
    git = record.provenance.git
    state = "no checkout" if git is None else "dirty" if git.dirty else "clean"
    gpu = record.provenance.hardware.get("gpu") or "cpu"
    return {
        "id": f"{record.key}-sample",
        "name": f"{config['model']['name']}/{row['label']}/b{config['batch_size']}",
        "job_type": "sample",
        "config": {**config, "key": record.key, "provenance": record.provenance.model_dump(), "label": row["label"]},
        "tags": [str(tag) for tag in (gpu, config["dtype"], row.get("protocol"), record.guarantee, state) if tag],
    }


def _report_identity(study: StudyFrame) -> dict[str, Any]:
    return {
        "id": f"{study.name}-report",
        "name": f"{study.name} report",
        "job_type": "report",
        "config": {"study": study.name, "baseline": study.baseline},
    }


def _log_cell(wandb: Any, run: Any, cell: StoredCell, row: pd.Series[Any], chosen: pictures.Chosen) -> None:
    run.define_metric("repeat")
    run.define_metric("timing/*", step_metric="repeat")
    for entry in cell.repeats.to_dict("records"):
        run.log({"repeat": entry["first"], "timing/seconds_per_image": entry["seconds"] / entry["images"]})
    images = pictures.pick(cell, chosen.indices)
    captions = zip(chosen.indices, chosen.prompts, images, strict=False)  # none where only the records are
    lengths = diagnostics.shares(cell.trace["accepted"])
    run.log(
        {
            "samples": [
                wandb.Image(image.transpose(1, 2, 0), caption=f"{index}: {prompt}") for index, prompt, image in captions
            ],
            "timing/repeats": wandb.Table(dataframe=cell.repeats),
            "trace/accepted": wandb.Table(
                columns=["drafts accepted", "share of verified steps"],
                data=[[number, float(share)] for number, share in enumerate(lengths)],
            ),
        }
    )
    run.summary.update(numbers(row))


def numbers(row: pd.Series[Any]) -> dict[str, float]:
    """A cell's numbers and intervals under the names they have in Weights & Biases.

    Args:
        row: of a study's frame.
    """
    found: dict[str, float] = {}
    spaces: Mapping[str, tuple[str, ...]] = {
        "trace": (*COSTS, *DRAFTING),
        "quality": METRICS,
        "against_baseline": RELATIVE,
    }
    for space, names in spaces.items():
        for name in names:
            value = estimate(row, name)
            if value is None:
                continue
            place = "timing" if name == "seconds_per_image" else space
            found[f"{place}/{name}"] = value.value
            if value.low is not None and value.high is not None:
                found |= {f"{place}/{name}_low": value.low, f"{place}/{name}_high": value.high}
    if "equal_images" in row and pd.notna(row["equal_images"]):
        found["against_baseline/equal_images"] = int(row["equal_images"])
    return found


def _log_report(wandb: Any, run: Any, study: StudyFrame) -> None:
    rows = study.usable.drop(columns=["trouble", "stale", "status", "usable", "x"]).reset_index()
    content: dict[str, Any] = {"study/cells": wandb.Table(dataframe=_plain(rows))}
    summary: dict[str, Any] = {}
    said: list[str] = []
    for number, (setting, group) in enumerate(study.comparisons()):
        suffix = f"_{number + 1}" if number else ""
        said += [
            setting,
            *(str(claim) for claim in sentences.headline(group, study.axis)),
            *(f"{v.label} {v.predicate()}" for v in sentences.verdicts(group, study.axis)),
        ]
        for front in fronts(study, group):
            name = f"pareto/{front.axis.column}{suffix}"
            table = _front_table(wandb, front)
            content[name] = table
            content[f"{name}_chart"] = wandb.plot.scatter(table, front.axis.column, QUALITY, title=front.axis.title)
            if front.hypervolume is not None:
                summary[f"{name}_hypervolume"] = front.hypervolume
    run.log(content)
    run.summary.update(summary | {"in words": "\n".join(line for line in said if line)})


def _front_table(wandb: Any, front: Front) -> Any:
    names = [f"{name}{end}" for name in (front.axis.column, QUALITY) for end in ("", "_low", "_high")]
    rows = front.points.reset_index()[["key", "label", *names, "on_front"]]
    return wandb.Table(dataframe=_plain(rows))


def _plain(rows: pd.DataFrame) -> pd.DataFrame:
    """Columns of numbers and texts only, which is what a table over there holds."""
    return rows.convert_dtypes().astype({name: float for name in rows.columns if rows[name].dtype.kind == "f"})
