"""What has become of every cell of a study: told by its record, its lock, and whether code and weights are the same.

A changed code or weights file is another key and so another folder. The older record stays and is stale, until a newer
one with the same settings takes its place; then it is an older record, and the cell is what the newer one says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from vvsbench import identity
from vvsbench.composition import plain
from vvsbench.config import Rerun, RunConfig, Stage
from vvsbench.runs.claim import held
from vvsbench.runs.record import CellRecord
from vvsbench.runs.store import RecordError, Store, StoredCell, read_record


class State(StrEnum):
    """What has become of a cell.

    done: all its images are drawn, by this code and these weights. running: a live process holds it. interrupted: its
    process was stopped or killed; the same command goes on. failed: it ended with an error. stale: it was drawn by
    another code or other weights. missing: the study declares it, and there is no record.
    """

    done = "done"
    running = "running"
    interrupted = "interrupted"
    failed = "failed"
    stale = "stale"
    missing = "missing"


@dataclass(frozen=True)
class CellState:
    """What has become of one cell.

    Attributes:
        folder: that holds it.
        record: None where it cannot be read.
        why: what a user wants to know about the state.
        older: records of the same settings that this one has taken the place of.
    """

    state: State
    folder: Path
    record: CellRecord | None
    why: str = ""
    older: Sequence[CellState] = field(default_factory=tuple)


def place(run: RunConfig) -> Path:
    """The folder of a cell, as conf/run.yaml has it."""
    return Path(run.output_root) / "cells" / run.study.name / f"{run.decoder.name}-{identity.cell_key(plain(run))}"


def of_study(store: Store, study: str) -> list[CellState]:
    """The cells of a study that have a record, in the order in which they were started.

    Args:
        store: that holds it.
        study: its name.

    Returns:
        One for every set of settings; those that cannot be read last.
    """
    return of_folders(store.folders(study))


def of_folders(folders: Sequence[Path]) -> list[CellState]:
    """The same for the cells in some folders, each of which has a record."""
    found = [_read(folder) for folder in folders]
    readable = sorted((one for one in found if one.record), key=lambda one: one.record.started if one.record else "")
    kept: list[CellState] = []
    for one in readable:
        twins = [other for other in kept if _alike(one, other)]
        kept = [other for other in kept if other not in twins]
        kept.append(_latest([*twins, one]))
    return [*kept, *(one for one in found if one.record is None)]


def _read(folder: Path) -> CellState:
    try:
        record = read_record(folder)
    except RecordError as error:
        return CellState(State.failed, folder, None, str(error))
    if record is None:
        return CellState(State.missing, folder, None, "its record has gone")
    return CellState(*_state(folder, record))


def _state(folder: Path, record: CellRecord) -> tuple[State, Path, CellRecord, str]:
    progress = f"{record.done} of {record.count} images"
    if held(folder):
        failed = f"; one of its workers failed: {record.error}" if record.error else ""
        return State.running, folder, record, progress + failed
    if record.status == "interrupted":
        return State.interrupted, folder, record, f"{record.error or 'stopped'}; {progress}"
    if record.status == "started":
        return State.interrupted, folder, record, f"its process is gone; {progress}"
    if record.status != "ok":
        return State.failed, folder, record, record.error or record.status.replace("_", " ")
    cell = StoredCell(folder, record)
    if cell.stale:
        return State.stale, folder, record, cell.stale_because
    return State.done, folder, record, "" if cell.has_files else "its images are not here, only the record"


def _alike(one: CellState, other: CellState) -> bool:
    if one.record is None or other.record is None or one.record.external or other.record.external:
        return False
    return same_settings(one.record.config, other.record.config)


def _latest(twins: Sequence[CellState]) -> CellState:
    """Of records with the same settings the one that stands for the cell: one that holds today, else the latest."""
    standing = next((one for one in reversed(twins) if one.state in (State.running, State.done)), twins[-1])
    older = [*(early for one in twins for early in one.older), *(one for one in twins if one is not standing)]
    return CellState(standing.state, standing.folder, standing.record, standing.why, tuple(older))


def same_settings(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two records are of one cell, whatever code and weights they were drawn with.

    Settings that only one of them has say nothing: a later version of the program has more of them.

    Args:
        one: resolved settings.
        other: resolved settings.
    """
    for key in (one.keys() & other.keys()) - set(identity.WITHOUT_EFFECT):
        mine, theirs = one[key], other[key]
        if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
            if not same_settings(mine, theirs):
                return False
        elif mine != theirs:
            return False
    return True


def wanted(runs: Sequence[RunConfig]) -> list[bool]:
    """Which cells are among those that their `rerun` asks for.

    Args:
        runs: their settings.
    """
    free = [run.rerun is Rerun.all or run.stage is Stage.speed for run in runs]
    studies = {(run.output_root, run.study.name) for run, every in zip(runs, free, strict=True) if not every}
    known = {(root, study): of_study(Store(root), study) for root, study in studies}
    return [
        every or _wanted(run, known[run.output_root, run.study.name]) for run, every in zip(runs, free, strict=True)
    ]


ASKED = {
    Rerun.missing: {State.missing, State.interrupted},
    Rerun.failed: {State.failed},
    Rerun.stale: {State.stale},
    Rerun.done: {State.done, State.interrupted},
}
"""What every choice of `rerun` asks for; one that was interrupted while it was drawn again goes on."""


def _wanted(run: RunConfig, cells: Sequence[CellState]) -> bool:
    settings = plain(run)
    mine = [cell.state for cell in cells if cell.record and same_settings(cell.record.config, settings)]
    return (mine[-1] if mine else State.missing) in ASKED[run.rerun]
