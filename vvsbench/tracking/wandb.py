"""Weights & Biases, filled from the records after the fact: a run per cell and stage, and one for the study's report.

The records are the truth and this is a view of them, so logging the same study again fills the same runs (their ids are
made from the cells' keys). wandb is imported here and only when a study is logged, never in a process that measures.
Without a key or a network the runs are written offline, to be sent later by `vvsbench wandb sync`; nothing that goes
wrong here ever fails a run.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vvsbench.analysis.frame import StudyFrame, frames
from vvsbench.analysis.speed import Speeds, speeds
from vvsbench.commands import command
from vvsbench.runs import store
from vvsbench.runs.record import CellRecord
from vvsbench.runs.speed_record import SpeedRecord
from vvsbench.tracking import cells, reports

log = logging.getLogger(__name__)

SECONDS_TO_REACH = 10
"""After which an answer is not waited for."""


def log_study(study: str, root: Path, mode: str = "online") -> None:
    """Log a study from its records.

    Args:
        study: its name.
        root: the output root; offline runs are written to its folder wandb/ unless WANDB_DIR says otherwise.
        mode: "online" (offline if there is no key or no network), "offline" or "disabled".
    """
    mode = asked(mode)
    if mode == "disabled":
        return
    try:
        wandb = importlib.import_module("wandb")
        speed = speeds(study, Path(root))
        found, *others = frames(study, Path(root), timed_only=speed.anything)
        if mode == "online" and (reason := out_of_reach(wandb)):
            log.warning("Weights & Biases: %s; the study is logged offline", reason)
            mode = "offline"
        logged = _Log(wandb, found, others, speed, Path(root), mode)
        logged.write()
    except Exception as error:  # whatever happens to a view of the records must not fail what made them
        log.warning("The study was not logged to Weights & Biases: %s", error)
        log.debug("traceback", exc_info=True)
        return
    later = "" if mode == "online" else f"; to send them: {command('wandb sync', root=root)}"
    print(f"Weights & Biases: {logged.runs} runs of group {study}, {mode}{later}")


def asked(mode: str) -> str:
    """How Weights & Biases is reached: the quieter of the setting and of its own WANDB_MODE and WANDB_DISABLED.

    Args:
        mode: of the setting logger.mode, "online" unless it was given.
    """
    said = {"dryrun": "offline", "run": "online"}
    variable = os.environ.get("WANDB_MODE", "").lower()
    wanted = [mode, said.get(variable, variable)]
    if os.environ.get("WANDB_DISABLED", "").lower() in ("true", "1"):
        wanted.append("disabled")
    return next((quiet for quiet in ("disabled", "offline") if quiet in wanted), "online")


def folder(root: Path) -> Path:
    """Where wandb is told to put what it writes; the runs are in wandb/ below it."""
    return Path(os.environ.get("WANDB_DIR") or root)


def out_of_reach(wandb: Any) -> str:
    """Why nothing can be sent now; empty with a key that the service confirms.

    It is asked before the first run: one that starts online cannot change its mind.

    Args:
        wandb: the module.
    """
    try:
        if wandb.login(prompt=False, verify=True, timeout=SECONDS_TO_REACH):
            return ""
        return "there is no key (wandb login, or WANDB_API_KEY)"
    except wandb.errors.Error as error:
        return f"it does not answer ({error})"


@dataclass
class _Log:
    """A study on its way to Weights & Biases.

    Attributes:
        wandb: the module.
        study: under the protocol that the report shows first.
        others: the same under every other one.
        speed: its times.
        root: the output root.
        mode: online or offline.
        runs: how many there are by now.
    """

    wandb: Any
    study: StudyFrame
    others: Sequence[StudyFrame]
    speed: Speeds
    root: Path
    mode: str
    runs: int = 0
    _project: str = field(init=False)

    def __post_init__(self) -> None:
        self._project = _project(self.study.name, self.root)

    def write(self) -> None:
        """One run per cell that was drawn, one per cell that was timed, then the report's."""
        for key, row in self.study.usable.iterrows():
            cell = self.study.cells[str(key)]
            with self._run(cells.drawn(cell, row)) as run:
                cells.log_images(self.wandb, run, cell, row)
                for other in self.others:
                    (again,) = (its for same, its in other.rows.iterrows() if same == key)
                    run.summary.update(cells.quality(again, other.protocol))
        rows = {str(row["key"]): row for _, row in self.speed.rows.iterrows()}
        for place in store.Store(self.root).timed(self.study.name):
            try:
                record = store.read_speed(place)
            except store.RecordError:  # which the report's run tells
                continue
            if record is not None and record.key in rows:
                with self._run(cells.timed(record)) as run:
                    cells.log_speed(self.wandb, run, place, rows[record.key])
        with self._run(reports.identity(self.study)) as run:
            reports.log_report(self.wandb, run, [self.study, *self.others], self.speed, self.root)

    @contextmanager
    def _run(self, identity: Mapping[str, Any]) -> Iterator[Any]:
        """One run, finished whatever happens.

        `resume` stays unset: a run of that id that is there already is replaced instead of continued, whether it is
        sent now or later, so that logging twice leaves what logging once does.
        """
        settings = self.wandb.Settings(
            silent=True, console="off", disable_git=True, save_code=False, x_disable_stats=True
        )
        run = self.wandb.init(
            mode=self.mode,
            project=self._project,
            group=self.study.name,
            dir=str(folder(self.root)),
            settings=settings,
            **identity,
        )
        code = 1
        try:
            yield run
            code = 0
        finally:
            run.finish(exit_code=code)
        self.runs += 1


def _project(study: str, root: Path) -> str:
    """Where the study is filed: as its latest record was told."""
    kept = store.Store(root)
    records: list[CellRecord | SpeedRecord] = [cell.record for cell in kept.cells(study) if not cell.record.external]
    records += kept.speeds(study).sound
    latest = max(records, key=lambda record: record.started)
    return str((latest.config.get("logger") or {}).get("project") or "vvsbench")
