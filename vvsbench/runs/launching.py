"""Handing cells to a launcher of Hydra's, and hearing of every one of them what became of it.

A cell becomes as many jobs as processes are to share it (`shards`), all alike: see `vvsbench.runs.sharing`. A worker
may die without a word. Launchers then raise and forget what the others did; here it is one answer among the others, and
what counts is whether the cell is done.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from importlib.util import find_spec

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.plugins.launcher import Launcher

from vvsbench.commands import command
from vvsbench.config import LoggerKind, RunConfig
from vvsbench.errors import ConfigError
from vvsbench.runs import shards, states, store
from vvsbench.runs.job import Died, Outcome

EXTRAS = {"hydra_joblib_launcher": "joblib", "hydra_submitit_launcher": "slurm"}
"""Plug-ins that bring launchers, and which extra of this package has each."""


def check_installed(name: str, target: str) -> None:
    """Whether a launcher's package is there.

    Args:
        name: as it was chosen.
        target: class of the launcher.

    Raises:
        ConfigError: it is not; the message names the extra.
    """
    plugin = target.split(".")[1] if target.startswith("hydra_plugins.") else ""
    if plugin in EXTRAS and find_spec(f"hydra_plugins.{plugin}") is None:
        needed = f"{plugin.replace('_', '-')}, which is not installed: pip install 'vvsbench[{EXTRAS[plugin]}]'"
        raise ConfigError([f"hydra/launcher={name}: needs {needed}."])


def elsewhere(target: str) -> bool:
    """Whether a launcher's workers run on other machines than this."""
    return target.endswith(".SlurmLauncher")


def launched(launcher: Launcher, jobs: Sequence[Sequence[str]], runs: Sequence[RunConfig], first: int) -> list[Outcome]:
    """Run cells and wait for them.

    Args:
        launcher: who runs them.
        jobs: the overrides of each cell.
        runs: the settings of each cell.
        first: number of the first job in the sweep.

    Returns:
        How each cell ended.

    Raises:
        ConfigError: the launcher's settings are wrong.
    """
    if isinstance(launcher, BasicLauncher):
        counts = [1] * len(jobs)  # in this process, one after the other
    else:
        counts = [workers_of(run) for run in runs]
        _say_if_few(runs)
    answers = _answers(launcher, [job for job, count in zip(jobs, counts, strict=True) for _ in range(count)], first)
    found = []
    for run, count in zip(runs, counts, strict=True):
        found.append(together(run, answers[:count]))
        answers = answers[count:]
    return found


def workers_of(run: RunConfig) -> int:
    """How many jobs a cell is handed out as: no more than image files are missing."""
    if run.shards == 1:
        return 1
    folder = states.place(run)
    missing = [where for where in shards.ranges(run.count, run.shard_size) if not where.path(folder).exists()]
    return max(1, min(run.shards, len(missing)))


def _say_if_few(runs: Sequence[RunConfig]) -> None:
    """Say once that more workers were asked for than can have work."""
    for run in runs:
        files = len(shards.ranges(run.count, run.shard_size))
        if run.shards > files:
            print(
                f"warning: shards={run.shards}: {run.count} images are {files} files of shard_size={run.shard_size}, "
                f"so that no more than {files} workers draw them; a smaller shard_size makes more.",
                file=sys.stderr,
            )
            return


def together(run: RunConfig, answers: Sequence[Outcome | Died]) -> Outcome:
    """How a cell ended, from what became of its workers.

    Args:
        run: its settings.
        answers: the outcome of each, or how it died.
    """
    told = [answer for answer in answers if isinstance(answer, Outcome)]
    died = [answer for answer in answers if isinstance(answer, Died)]
    errors = [one.error for one in told if one.error]
    reasons = "; ".join([*dict.fromkeys(errors), *_grouped(died)])
    mode = run.logger.mode.value if run.logger.name is not LoggerKind.none else None
    name = told[0].name if told else states.place(run).name
    outcome = Outcome(name, None, run.study.name, run.output_root, mode)
    if any(one.done and not one.error for one in told) or (died and _finished(run)):
        failed = len(errors) + len(died)
        made_good = f"{failed} of {len(answers)} workers failed, and the others did their work: {reasons}"
        return replace(outcome, remark=made_good if failed else "")
    if not reasons:
        seen = command("status", f"study={run.study.name}", root=run.output_root)
        reasons = f"other processes still draw it (see {seen}); then run this again"
    return replace(outcome, error=reasons + ("; the same command goes on" if died else ""), done=False)


def _grouped(died: Sequence[Died]) -> Iterator[str]:
    """How workers died, those with the same fate in one."""
    for why in dict.fromkeys(one.why for one in died):
        alike = [one for one in died if one.why == why]
        names = ", ".join(one.worker for one in alike if one.worker)
        yield f"{f'worker {names} ' if names else ''}{why}{f' (see {alike[0].log})' if alike[0].log else ''}"


def _finished(run: RunConfig) -> bool:
    try:
        record = store.read_record(states.place(run))
    except store.RecordError:
        return False
    return record is not None and record.status == "ok"


def _answers(launcher: Launcher, jobs: Sequence[Sequence[str]], first: int) -> list[Outcome | Died]:
    """What became of every job: its outcome, or how it died."""
    if hasattr(launcher, "_EXECUTOR"):
        from vvsbench.runs.submitting import submitted

        return submitted(launcher, jobs, first)
    try:
        return [result.return_value for result in launcher.launch(jobs, initial_job_idx=first)]
    except BrokenProcessPool:
        died = Died("a worker process was killed, perhaps for want of memory, and the others were ended")
        return [died] * len(jobs)
