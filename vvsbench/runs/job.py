"""What Hydra runs for a cell, in the process that was typed or in one that a launcher started, here or elsewhere.

A job never raises what a user can mend: it returns an `Outcome`, so that one failing cell does not stop the others and
the exit code still tells.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from vvsbench import identity, workers
from vvsbench.composition import plain, typed
from vvsbench.config import LoggerKind, Rerun, Stage
from vvsbench.errors import ConfigError, UserError

log = logging.getLogger(__name__)

CARRIED = ("VVSBENCH_", "HYDRA_FULL_ERROR", "TQDM_DISABLE", "OMP_WAIT_POLICY")
"""Beginnings of the variables that a worker needs, whether or not its scheduler passes the environment on."""
ENDINGS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""How a scheduler takes the machine back, or warns that it will: SLURM's --signal=USR1 by custom, submitit by USR2."""


@dataclass(frozen=True)
class Outcome:
    """How a cell ended, or a worker's part in it.

    Attributes:
        name: of its folder.
        error: what went wrong, None when nothing did.
        study: the study it belongs to.
        root: the output root.
        logger_mode: how Weights & Biases is reached, None without it.
        done: whether all of the cell is; else other processes work on the rest of it.
        said: what a worker said of it, a line each.
        remark: what went wrong and was made good by other workers.
    """

    name: str
    error: str | None
    study: str
    root: str
    logger_mode: str | None = None
    done: bool = True
    said: tuple[str, ...] = ()
    remark: str = ""


@dataclass(frozen=True)
class Died:
    """What is known of a worker that left no outcome.

    Attributes:
        why: it did not.
        worker: its number on the cluster.
        log: what it wrote last.
    """

    why: str
    worker: str = ""
    log: str = ""


class Task:
    """The function that Hydra is given. Where it arrives, it makes that process like the one that it came from.

    Args:
        worker: whether this process was started by a launcher.

    Attributes:
        alone: the outcome of a cell that no sweeper asks for.
    """

    def __init__(self, worker: bool = False) -> None:
        self.worker = worker
        self.alone: list[Outcome] = []
        self._told = False

    def __reduce__(self) -> tuple[object, ...]:
        carried = {name: value for name, value in os.environ.items() if name.startswith(CARRIED)}
        return _arrived, (carried, os.getcwd(), os.environ.get(workers.VISIBLE))  # noqa: PTH109 (a plain string travels)

    def __call__(self, cfg: DictConfig) -> Outcome:
        self.set_up()  # again: a launcher may have put its own handlers in place
        if cfg.shards > 1 and not self.worker and not self._told:
            self._told = True
            print(
                f"warning: shards={cfg.shards}, and no hydra/launcher: this process draws, together with whoever runs "
                "the same command; hydra/launcher=joblib or submitit_slurm starts the workers.",
                file=sys.stderr,
            )
        outcome = job(cfg, self.worker)
        if HydraConfig.get().mode == RunMode.RUN:
            self.alone.append(outcome)
        return outcome

    def set_up(self) -> None:
        """Prepare this process: how it logs, what libraries say, and what a scheduler's signals mean."""
        os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach `explained` instead of being printed
        os.environ.setdefault("TQDM_DISABLE", "1")  # libraries show no bars beside ours
        logging.captureWarnings(True)
        warnings.filterwarnings("ignore", message=r"\n'hydra/launcher/")  # our files say what the plug-ins' classes do
        logging.raiseExceptions = False  # a log that cannot be written must not drown the reason
        for number in ENDINGS:
            signal.signal(number, _interrupted)


def _arrived(environment: Mapping[str, str], folder: str, visible: str | None) -> Task:
    """A task in the process of a worker: paths and settings mean what they mean where the command was typed."""
    os.environ.update(environment)
    os.chdir(folder)
    if os.environ.get("SUBMITIT_EXECUTOR") == "local":  # which hides the GPUs; a worker takes its own
        os.environ.pop(workers.VISIBLE, None)
        os.environ.update({workers.VISIBLE: visible} if visible is not None else {})
    task = Task(worker=True)
    task.set_up()
    return task


def _interrupted(number: int, frame: FrameType | None) -> None:
    """A scheduler that takes the machine back is treated like ^C: the record says so, and the cell can go on."""
    raise KeyboardInterrupt


def job(cfg: DictConfig, worker: bool = False) -> Outcome:
    """One cell, from settings to records; whatever goes wrong becomes the outcome's error, so that the others run.

    Args:
        cfg: its settings.
        worker: whether this process was started by a launcher; then it takes a GPU of its own, shows no progress, and
            an interruption is an outcome too.
    """
    from vvsbench.runs import states
    from vvsbench.runs.cell import Cell, cleared
    from vvsbench.runs.console import Console
    from vvsbench.runs.sharing import SharedCell
    from vvsbench.runs.speed import SpeedCell

    run = typed(cfg)
    folder = Path(HydraConfig.get().runtime.output_dir)
    mode = run.logger.mode.value if run.logger.name is not LoggerKind.none else None
    console, error, done = Console(bars=not worker), None, True
    on_gpu = worker and identity.device(run.device) == "cuda"
    try:
        if folder.resolve() != states.place(run).resolve():
            raise ConfigError([f"hydra: {folder} is not where verbs look for this cell; set output_root alone."])
        with workers.own_gpu(console.say) if on_gpu else contextlib.nullcontext():
            if run.rerun is Rerun.done and run.stage is Stage.images and HydraConfig.get().mode == RunMode.RUN:
                cleared(folder, console)  # of a sweep's cells that was done before the first of them ran
            if not states.wanted([run])[0]:
                console.say(f"{folder.name}: rerun={run.rerun.value} leaves it out")
            elif run.stage is Stage.speed:
                SpeedCell(run, list(HydraConfig.get().overrides.task), folder, console).run()
            else:
                kind = SharedCell if run.shards > 1 else Cell
                done = kind(run, plain(run), folder, console).run()
    except UserError as reason:
        error = str(reason)
    except KeyboardInterrupt:
        if not worker:
            raise
        error = "its worker was stopped by a signal; the same command goes on"
    except Exception as bug:
        log.exception("unexpected error")
        where = folder / workers.log_name(run.shards)
        error = f"unexpected {type(bug).__name__}: {bug} (a bug; the traceback is in {where})"
    return Outcome(folder.name, error, run.study.name, run.output_root, mode, done, tuple(console.said))
