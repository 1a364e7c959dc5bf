"""`vvsbench run`: a Hydra app around one cell, or around every cell of a study.

Everything is checked before the first directory is made. One failing cell does not stop the others, and the exit code
still tells (see `vvsbench.runs.job`).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import hydra
from omegaconf import DictConfig

from vvsbench import commands, config
from vvsbench.composition import prepare, typed
from vvsbench.config import Rerun, RunConfig, Stage
from vvsbench.errors import ConfigError, UserError
from vvsbench.explaining import EXPECTED, explained
from vvsbench.needs import check_files
from vvsbench.overrides import problems, quoted
from vvsbench.runs import provenance
from vvsbench.runs.job import Outcome, Task
from vvsbench.runs.store import Store
from vvsbench.sizes import check_files as check_studies
from vvsbench.sizes import sized
from vvsbench.validation import validate

SWITCHES = {"-m", "--multirun", "--resolve", "-h", "--help"}
"""Flags without a value. They go first: Hydra refuses overrides on both sides of a flag."""
LAUNCHER = "hydra/launcher="
"""Says who runs the cells, see `vvsbench.runs.launching`."""


class CellsFailed(UserError):
    """Some cells could not be finished; the others are done and recorded."""

    exit_code = 1


def main(argv: Sequence[str]) -> int:
    """Run the app.

    Args:
        argv: Hydra's arguments: overrides and flags.

    Returns:
        0: every cell is done.

    Raises:
        UserError: the settings are wrong and nothing was written, or a cell failed.
    """
    if wrong := list(problems(argv)):
        raise ConfigError(wrong)
    prepare()
    task = Task()
    task.set_up()
    os.environ[provenance.COMMAND] = shlex.join(["vvsbench", "run", *argv])
    try:
        check_studies(argv)
        words = [quoted(word) for word in sized(argv)]
        if any(word.startswith(LAUNCHER) for word in words):
            words.append("hydra.mode=MULTIRUN")  # a lone cell is not handed to a launcher
        sys.argv = [sys.argv[0], *sorted(words, key=lambda word: word not in SWITCHES)]
        hydra.main(version_base="1.3", config_path=str(config.folder("conf")), config_name="run")(task)()
    except EXPECTED as error:
        raise explained(error) from error
    if task.alone:
        finish(task.alone)
    return 0


def finish(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """After the last cell: say where the records are, log the study if asked to, and say what failed.

    Raises:
        CellsFailed: at least one cell was not finished.
    """
    outcomes = list(outcomes)
    for outcome in outcomes:
        if outcome.remark:
            print(f"warning: {outcome.name}: {outcome.remark}", file=sys.stderr)
    failed = [outcome for outcome in outcomes if outcome.error]
    for study, root in dict.fromkeys((o.study, o.root) for o in outcomes if not o.error):
        report = commands.command("report", f"study={study}", root=root)
        print(f"records: {Path(root) / 'cells' / study}; to compare them: {report}")
        if drawing := _without_baseline(study, root):
            print(drawing)
    for study, root, mode in {(o.study, o.root, o.logger_mode) for o in outcomes if o.logger_mode and not o.error}:
        from vvsbench.tracking.wandb import log_study

        log_study(study, Path(root), mode)
    if len(outcomes) == 1 and failed:
        raise CellsFailed(str(failed[0].error))
    if failed:
        lines = [f"{len(failed)} of {len(outcomes)} cells failed:", *(f"{o.name}: {o.error}" for o in failed)]
        raise CellsFailed("\n  - ".join(lines))
    return outcomes


def _without_baseline(study: str, root: str) -> str:
    """That a study's baseline is not among its cells, and what draws it; empty where it is."""
    with contextlib.suppress(UserError):  # a record that cannot be read is the report's to tell
        records = [cell.record for cell in Store(root).cells(study) if cell.record.external is None]
        baseline = str((records[-1].config.get("study") or {}).get("baseline") or "ar") if records else ""
        if not any(baseline in (record.label, record.config["decoder"]["name"]) for record in records):
            drawing = commands.drawing_baseline(records[-1], study, baseline) if records else ""
            return f"{baseline}, the baseline, is not among them; to draw it: {drawing}" if records else ""
    return ""


def check(jobs: Sequence[tuple[Sequence[str], Callable[[], DictConfig]]], here: bool = True) -> list[RunConfig]:
    """Compose and validate every cell of a sweep before the first one runs.

    Args:
        jobs: the overrides of each cell and what composes it.
        here: whether they will run on this machine, or on one that may have other devices.

    Returns:
        The settings of each cell.

    Raises:
        ConfigError: with the problems of all cells.
        FilesMissing: weights or data of a study of real models are not here.
    """
    wrong: dict[str, list[str]] = {}
    runs: list[RunConfig] = []
    for overrides, load in jobs:
        run, found = examined(load, here)
        runs += [run] if run else []
        for problem in found:
            wrong.setdefault(problem, []).append(" ".join(overrides))
    check_files(runs)
    if wrong:
        raise ConfigError([_placed(text, cells, len(jobs)) for text, cells in wrong.items()])
    return runs


def examined(load: Callable[[], DictConfig], here: bool = True) -> tuple[RunConfig | None, list[str]]:
    """Compose and validate one cell.

    Args:
        load: composes it.
        here: see `check`.

    Returns:
        Its settings, None where they cannot be composed, and what is wrong with them.
    """
    try:
        run = typed(load())
        return run, validate(run, here)
    except EXPECTED as error:
        reason = explained(error)
        return None, reason.problems if isinstance(reason, ConfigError) else [str(reason)]
    except ConfigError as error:
        return None, error.problems


def chosen(runs: Sequence[RunConfig]) -> list[bool]:
    """Which cells of a sweep are wanted (see `vvsbench.config.Rerun`), and say so where some are not.

    Those to be drawn a second time lose their images here, before any worker sees them.
    """
    from vvsbench.runs import states
    from vvsbench.runs.cell import cleared
    from vvsbench.runs.console import Console

    wanted = states.wanted(runs)
    for run in itertools.compress(runs, wanted):
        if run.rerun is Rerun.done and run.stage is Stage.images:
            cleared(states.place(run), Console())
    if not all(wanted):
        asked = ",".join(dict.fromkeys(run.rerun.value for run in runs))
        print(f"rerun={asked}: {sum(wanted)} of {len(runs)} cells of study {runs[0].study.name}")
    return wanted


def _placed(problem: str, cells: Sequence[str], of: int) -> str:
    """A problem with the cells that have it, unless all do."""
    if len(cells) == of:
        return problem
    return f"{problem} [{len(cells)} of {of} cells, the first: {cells[0]}]"
