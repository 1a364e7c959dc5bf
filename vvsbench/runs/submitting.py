"""Jobs of submitit's, on this machine or on a SLURM cluster: handed in, waited for, and let go after ^C.

Hydra's plug-in hands jobs in as well, but then takes them one after the other and raises at the first that died. It
brings the launchers' settings and what runs in a job; this module only waits differently.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton

from vvsbench.errors import ConfigError
from vvsbench.runs.job import Died, Outcome

GENERAL = {"timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "name"}
"""Parameters of submitit's that have the same name on every kind of cluster."""
POLL = 0.5
QUEUE_EVERY = 10.0
"""Seconds between two looks at the queue of a cluster."""
SETTLING = {"local": 2.0, "slurm": 20.0}
"""Seconds that a result may take to be seen here after its job is gone: file systems of clusters are slow to tell."""
ENDING = 10.0
"""Seconds that workers of this machine have after ^C, to put down that they were interrupted."""


def submitted(launcher: Any, jobs: Sequence[Sequence[str]], first: int) -> list[Outcome | Died]:
    """Hand jobs in and wait for them.

    Args:
        launcher: of the plug-in.
        jobs: the overrides of each.
        first: number of the first one in the sweep.

    Raises:
        ConfigError: they were refused.
        KeyboardInterrupt: ^C.
    """
    import submitit

    kind: str = launcher._EXECUTOR
    parameters = dict(launcher.params)
    if parameters.pop("max_num_timeout", 0):
        problem = (
            "hydra.launcher.max_num_timeout: a job whose time is over is not queued again; its record says "
            "interrupted, and the same command goes on. Leave it out, or give more time: hydra.launcher.timeout_min."
        )
        raise ConfigError([problem])
    try:
        executor = submitit.AutoExecutor(folder=parameters.pop("submitit_folder"), cluster=kind)
        executor.update_parameters(**{n if n in GENERAL else f"{kind}_{n}": value for n, value in parameters.items()})
        state = Singleton.get_state()
        numbered = enumerate(jobs, first)
        handed = [(list(job), "hydra.sweep.dir", number, str(number), state) for number, job in numbered]
        submitted = executor.map_array(launcher, *zip(*handed, strict=True))
    except Exception as error:  # sbatch's refusals and submitit's own have no common class
        raise ConfigError(
            [f"hydra/launcher=submitit_{kind}: the jobs could not be submitted: {_last_line(str(error))}"]
        ) from error
    return _awaited(submitted, kind)


def _awaited(jobs: Sequence[Any], kind: str) -> list[Outcome | Died]:
    """Wait for jobs of submitit's, and tell of each as soon as it has ended.

    Raises:
        KeyboardInterrupt: ^C; workers on this machine are ended, those of a cluster stay.
    """
    alive = _Queue() if kind == "slurm" else lambda job: job.state == "RUNNING"
    answers: dict[int, Outcome | Died] = {}
    missed: dict[int, float] = {}
    try:
        while len(answers) < len(jobs):
            time.sleep(POLL)
            for number, job in enumerate(jobs):
                if number in answers:
                    continue
                if job.paths.result_pickle.exists():
                    answers[number] = _answer(job)
                elif alive(job):
                    missed.pop(number, None)
                elif time.monotonic() - missed.setdefault(number, time.monotonic()) > SETTLING[kind]:
                    answers[number] = _died(job)
    except KeyboardInterrupt:
        left = [job for number, job in enumerate(jobs) if number not in answers]
        _let_go(left, kind)
        raise
    return [answers[number] for number in range(len(jobs))]


class _Queue:
    """Whether jobs are in the queue of SLURM. submitit asks the accounting, which many a cluster does not have."""

    def __init__(self) -> None:
        self._asked, self._known = -QUEUE_EVERY, set[str]()
        self._answered = False

    def __call__(self, job: Any) -> bool:
        if time.monotonic() - self._asked > QUEUE_EVERY:
            command = ["squeue", "--me", "--noheader", "--array", "--format=%i"]
            ended = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
            self._asked, self._answered = time.monotonic(), ended.returncode == 0
            self._known = set(ended.stdout.split())
        return not self._answered or job.job_id in self._known


def _answer(job: Any) -> Outcome | Died:
    """What a job that has ended left."""
    if (failure := job.exception()) is not None:
        return Died(f"failed: {_last_line(str(failure))}", job.job_id, _shown(job.paths.stderr))
    outcome = job.result().return_value
    assert isinstance(outcome, Outcome)
    for line in outcome.said:
        print(line, flush=True)
    return outcome


def _died(job: Any) -> Died:
    """What is known of a job that left nothing."""
    log = job.paths.stderr
    lines = log.read_text(errors="replace", encoding="utf-8").splitlines() if log.is_file() else []
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    why = said if "error" in said.lower() else "perhaps for want of memory or time"
    return Died(f"was killed or cancelled, {why}", job.job_id, _shown(log) if log.is_file() else "")


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _let_go(jobs: Sequence[Any], kind: str) -> None:
    """After ^C: end the workers of this machine, and say how those of a cluster are ended."""
    if kind == "slurm":
        names = " ".join(dict.fromkeys(str(job.job_id).split("_")[0] for job in jobs))
        print(f"{len(jobs)} jobs stay in the queue and go on; to end them: scancel {names}", file=sys.stderr)
        return
    for job in jobs:
        if job.state == "RUNNING":  # its number is that of a process, which hands the signal on to the worker
            os.kill(int(job.job_id), signal.SIGTERM)
    until = time.monotonic() + ENDING
    while any(job.state == "RUNNING" for job in jobs) and time.monotonic() < until:
        time.sleep(0.05)


def _last_line(text: str) -> str:
    """Of an error that holds a traceback the line that names it."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith((" ", "-", "You can", "Job ("))]
    return lines[-1].strip() if lines else text.strip()
