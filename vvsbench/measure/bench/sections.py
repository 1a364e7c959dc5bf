"""Runs the parts of a bench within a budget of time, so that none of them can take another's share or its results.

Sections run in another process, which those of one group share as long as nothing goes wrong: what is loaded and
compiled for one serves the next, and a crash or an exhausted memory spoils nothing that follows. What a section finds
is handed over as it is found; of one that is stopped or fails, that much is kept.
"""

from __future__ import annotations

import multiprocessing
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from vvsbench.measure.bench.report import Row, Section, Verdict
from vvsbench.measure.isolation import died


class OutOfTime(Exception):
    """A section has no time for what is missing; what it has found stands."""


Found = Iterator[Row | Verdict]
GRACE = 1.2
"""A process is stopped at so many times its share: until then it may finish what it is measuring."""


@dataclass(frozen=True)
class Task:
    """What a section is given.

    Attributes:
        deadline: seconds of the wall clock since the epoch, which all processes share.
        settings: of the bench.
    """

    deadline: float
    settings: Any

    @property
    def left(self) -> float:
        """Seconds until the section should be done."""
        return self.deadline - time.time()


@dataclass(frozen=True)
class Plan:
    """A section to come.

    Attributes:
        name, title: short, and for the reader.
        work: yields what it finds; a function of a module, so that another process can be given it.
        share: of the budget, relative to the other sections'.
        note: what the reader must know.
        own: arguments of its own, after the task.
        group: sections that may share a process.
    """

    name: str
    title: str
    work: Callable[..., Found]
    share: float
    note: str = ""
    own: tuple[Any, ...] = ()
    group: str = ""


def run(
    plans: Sequence[Plan], settings: Any, seconds: float, done: Callable[[Section], None], *, isolated: bool
) -> list[Section]:
    """Run sections one after the other; what one leaves of its time goes to those after it.

    Args:
        plans: in order.
        settings: handed to each.
        seconds: for all of them.
        done: is called with each finished section.
        isolated: whether each has a process of its own.
    """
    end, sections = time.time() + seconds, []
    workers = _Workers() if isolated else None
    for number, plan in enumerate(plans):
        started = time.time()
        section = Section(plan.name, plan.title, note=plan.note)
        allotted = (end - started) * plan.share / sum(one.share for one in plans[number:])
        task = Task(started + allotted, settings)
        if allotted < seconds / 200:
            section.status, section.note = "left_out", "no time was left for it"
        elif workers is None:
            _here(plan, task, section)
        else:
            workers.work(plan, task, section, min(end, started + GRACE * allotted))
        section.seconds = round(time.time() - started, 1)
        sections.append(section)
        done(section)
    if workers is not None:
        workers.dismiss()
    return sections


def _here(plan: Plan, task: Task, section: Section) -> None:
    """Run a section in this process; it ends itself."""
    try:
        for found in plan.work(task, *plan.own):
            section.take(found)
    except Exception as error:  # a bench that dies of one section would lose the others
        section.status, section.note = _trouble(error)


class _Workers:
    """The process that sections run in, and the one after it."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._process: Any = None
        self._group = ""

    def work(self, plan: Plan, task: Task, section: Section, stop: float) -> None:
        """Run a section and take in what it finds until it ends or its time is up."""
        if self._process is None or self._group != plan.group:
            self.dismiss()
            self._pipe, theirs = self._context.Pipe()
            self._process, self._group = self._context.Process(target=_serve, args=(theirs,), daemon=True), plan.group
            self._process.start()
            theirs.close()
        try:
            self._pipe.send((plan, task))
            self._listen(section, stop)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self._process.join()
            section.status, section.note = "failed", died(self._process.exitcode)
        if section.status != "ok":
            self.dismiss()

    def _listen(self, section: Section, stop: float) -> None:
        while self._pipe.poll(max(0.0, stop - time.time())):
            found = self._pipe.recv()
            if found is None:
                return
            if isinstance(found, tuple):
                section.status, section.note = found
                return
            section.take(found)
        section.status, section.note = "out_of_time", "stopped at the end of its share; what it had found is kept"

    def dismiss(self) -> None:
        """End the process; nobody waits for what it is doing."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
            self._process = None


def _serve(pipe: Connection) -> None:
    """In the other process: run what is sent; answer with what is found, then with None, or status and note."""
    while True:
        plan, task = pipe.recv()
        try:
            for found in plan.work(task, *plan.own):
                pipe.send(found)
            pipe.send(None)
        except Exception as error:  # told to the parent
            pipe.send(_trouble(error))


def _trouble(error: Exception) -> tuple[str, str]:
    """Status and note of a section that raised."""
    if isinstance(error, OutOfTime):
        return "out_of_time", str(error)
    exhausted = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"  # the latter is torch's
    status = "out_of_memory" if exhausted else "failed"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    words = str(error).strip().splitlines()
    reason = f": {words[0]}" if words else ""
    return status, f"{type(error).__name__}{reason} (in {frame.name}, line {frame.lineno})"
