"""`vvsbench run`: a Hydra app around one cell, or around every cell of a study.

Everything is checked before the first directory is made. A job never raises what a user can mend: it returns an
`Outcome`, so that one failing cell does not stop the others and the exit code still tells.
"""

from __future__ import annotations

import logging
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from vvsbench import config
from vvsbench.composition import plain, prepare, typed
from vvsbench.config import LoggerKind, RunConfig, Stage
from vvsbench.errors import ConfigError, UserError
from vvsbench.explaining import EXPECTED, explained
from vvsbench.needs import check_files
from vvsbench.runs import provenance
from vvsbench.sizes import sized
from vvsbench.validation import validate

log = logging.getLogger(__name__)

SWITCHES = {"-m", "--multirun", "--resolve", "-h", "--help"}
"""Flags without a value. They go first: Hydra refuses overrides on both sides of a flag."""


@dataclass(frozen=True)
class Outcome:
    """How a cell ended.

    Attributes:
        name: of its folder.
        error: what went wrong, None when nothing did.
        study: the study it belongs to.
        root: the output root.
        logger_mode: how Weights & Biases is reached, None without it.
    """

    name: str
    error: str | None
    study: str
    root: str
    logger_mode: str | None = None


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
    if nameless := [word for word in argv if word.startswith("=")]:
        raise ConfigError([f"{word}: has no key; write KEY=VALUE." for word in nameless])
    prepare()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach `explained` instead of being printed
    os.environ.setdefault("TQDM_DISABLE", "1")  # libraries show no bars beside ours
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a log that cannot be written must not drown the reason
    alone: list[Outcome] = []

    def task(cfg: DictConfig) -> Outcome:
        outcome = job(cfg)
        if HydraConfig.get().mode == RunMode.RUN:
            alone.append(outcome)
        return outcome

    signal.signal(signal.SIGTERM, _interrupted)
    os.environ[provenance.COMMAND] = shlex.join(["vvsbench", "run", *argv])
    try:
        sys.argv = [sys.argv[0], *sorted(sized(argv), key=lambda word: word not in SWITCHES)]
        hydra.main(version_base="1.3", config_path=str(config.folder("conf")), config_name="run")(task)()
    except EXPECTED as error:
        raise explained(error) from error
    if alone:
        finish(alone)
    return 0


def _interrupted(number: int, frame: FrameType | None) -> None:
    """A scheduler that takes the machine back is treated like ^C: the record says so, and the cell can go on."""
    raise KeyboardInterrupt


def finish(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """After the last cell: say where the records are, log the study if asked to, and say what failed.

    Raises:
        CellsFailed: at least one cell was not finished.
    """
    outcomes = list(outcomes)
    failed = [outcome for outcome in outcomes if outcome.error]
    for study, root in dict.fromkeys((o.study, o.root) for o in outcomes if not o.error):
        elsewhere = "" if root == RunConfig.output_root else f" output_root={root}"
        print(f"records: {Path(root) / 'cells' / study}; to compare them: vvsbench report study={study}{elsewhere}")
    for study, root, mode in {(o.study, o.root, o.logger_mode) for o in outcomes if o.logger_mode and not o.error}:
        from vvsbench.tracking.wandb import log_study

        log_study(study, Path(root), mode)
    if len(outcomes) == 1 and failed:
        raise CellsFailed(str(failed[0].error))
    if failed:
        lines = [f"{len(failed)} of {len(outcomes)} cells failed:", *(f"{o.name}: {o.error}" for o in failed)]
        raise CellsFailed("\n  - ".join(lines))
    return outcomes


def check(jobs: Sequence[tuple[Sequence[str], Callable[[], DictConfig]]]) -> list[RunConfig]:
    """Compose and validate every cell of a sweep before the first one runs.

    Args:
        jobs: the overrides of each cell and what composes it.

    Returns:
        The settings of each cell.

    Raises:
        ConfigError: with the problems of all cells.
        FilesMissing: weights or data of a study of real models are not here.
    """
    problems: dict[str, list[str]] = {}
    runs: list[RunConfig] = []
    for overrides, load in jobs:
        run, found = examined(load)
        runs += [run] if run else []
        for problem in found:
            problems.setdefault(problem, []).append(" ".join(overrides))
    check_files(runs)
    if problems:
        raise ConfigError([_placed(text, cells, len(jobs)) for text, cells in problems.items()])
    return runs


def examined(load: Callable[[], DictConfig]) -> tuple[RunConfig | None, list[str]]:
    """Compose and validate one cell.

    Args:
        load: composes it.

    Returns:
        Its settings, None where they cannot be composed, and what is wrong with them.
    """
    try:
        run = typed(load())
        return run, validate(run)
    except EXPECTED as error:
        reason = explained(error)
        return None, reason.problems if isinstance(reason, ConfigError) else [str(reason)]
    except ConfigError as error:
        return None, error.problems


def chosen(runs: Sequence[RunConfig]) -> list[bool]:
    """Which cells of a sweep are wanted (see `vvsbench.config.Rerun`), and say so where some are not."""
    from vvsbench.runs import states

    wanted = states.wanted(runs)
    if not all(wanted):
        asked = ",".join(dict.fromkeys(run.rerun.value for run in runs))
        print(f"rerun={asked}: {sum(wanted)} of {len(runs)} cells of study {runs[0].study.name}")
    return wanted


def _placed(problem: str, cells: Sequence[str], of: int) -> str:
    """A problem with the cells that have it, unless all do."""
    if len(cells) == of:
        return problem
    return f"{problem} [{len(cells)} of {of} cells, the first: {cells[0]}]"


def job(cfg: DictConfig) -> Outcome:
    """One cell, from settings to records; whatever goes wrong becomes the outcome's error, so that the others run."""
    from vvsbench.runs import states
    from vvsbench.runs.cell import Cell
    from vvsbench.runs.console import Console
    from vvsbench.runs.speed import SpeedCell

    run = typed(cfg)
    folder = Path(HydraConfig.get().runtime.output_dir)
    mode = run.logger.mode.value if run.logger.name is not LoggerKind.none else None
    error = None
    try:
        if not states.wanted([run])[0]:
            Console().say(f"{folder.name}: rerun={run.rerun.value} leaves it out")
        elif run.stage is Stage.speed:
            SpeedCell(run, list(HydraConfig.get().overrides.task), folder, Console()).run()
        else:
            Cell(run, plain(run), folder, Console()).run()
    except UserError as reason:
        error = str(reason)
    except Exception as bug:
        log.exception("unexpected error")
        error = f"unexpected {type(bug).__name__}: {bug} (a bug; the traceback is in {folder / 'log.txt'})"
    return Outcome(folder.name, error, run.study.name, run.output_root, mode)
