"""A process of its own for whatever is timed, and no two of them at once on a machine.

What ran before leaves an allocator full of blocks, caches, threads and compiled code; a fresh process has none of it,
and may run out of memory or die without taking the study with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from vvsbench import locks

LOCK = "vvsbench-speed.lock"
PATIENCE = 10.0
"""Seconds that a child has to end after it was asked to."""


@contextlib.contextmanager
def alone(say: Callable[[str], None]) -> Iterator[None]:
    """Hold this machine for timing; whoever comes second waits.

    Args:
        say: is told when there is something to wait for, or when others cannot be kept out.
    """
    shared = Path(tempfile.gettempdir()) / LOCK
    try:
        lock = _opened(shared)
    except PermissionError:
        say(f"{shared} belongs to another user, whose timings cannot be kept apart from this one.")
        lock = _opened(shared.with_stem(f"{shared.stem}-{os.getuid()}"))
    with lock:
        if not locks.taken(lock, fcntl.LOCK_EX, 0):
            say(f"another process measures speed on this machine; waiting for it to finish ({lock.name}) ...")
            locks.taken(lock, fcntl.LOCK_EX, math.inf)
        yield


def _opened(path: Path) -> IO[bytes]:
    """A file to lock that all users of the machine may open."""
    existed = path.exists()
    lock = path.open("ab+")
    if not existed:
        with contextlib.suppress(OSError):
            path.chmod(0o666)
    return lock


@dataclass(frozen=True)
class Ended:
    """How a child ended.

    Attributes:
        result: what it wrote; None when it died before.
        how: in words, how it died; empty when it did not.
    """

    result: dict[str, Any] | None
    how: str


def apart(module: str, job: Mapping[str, Any]) -> Ended:
    """Run `python -m MODULE JOB_FILE RESULT_FILE` and read what it wrote.

    The child does not hear ^C: it is ended by this process, and ends by itself when this process is gone.

    Args:
        module: to run; it writes JSON to the second file, and watches its input (see `end_with_parent`).
        job: what the first file holds, as JSON.

    Raises:
        KeyboardInterrupt: ^C; the child is gone.
    """
    with tempfile.TemporaryDirectory(prefix="vvsbench-speed-") as folder:
        task, answer = Path(folder, "job.json"), Path(folder, "result.json")
        task.write_text(json.dumps(job), encoding="utf-8")
        command = [sys.executable, "-m", module, str(task), str(answer)]
        order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        with subprocess.Popen(command, stdin=subprocess.PIPE, process_group=0, env={**order, **os.environ}) as child:
            try:
                code = child.wait()
            finally:
                _stop(child)
        if answer.is_file():
            found = json.loads(answer.read_text(encoding="utf-8"))
            assert isinstance(found, dict)
            return Ended(found, "")
    return Ended(None, died(code))


def _stop(child: subprocess.Popen[bytes]) -> None:
    """End a child that still runs, gently first."""
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()


def died(code: int) -> str:
    """What an exit code says of a child that left no result."""
    if code >= 0:
        return f"its process ended with exit code {code} and no result"
    name = signal.Signals(-code).name if -code in list(signal.Signals) else f"signal {-code}"
    why = "; the system may have run out of memory" if name == "SIGKILL" else ""
    return f"its process was ended by {name}{why}"


def end_with_parent() -> None:
    """In a child: leave as soon as the parent is gone, which closes this process's input."""

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
