"""What a section of a bench may do to its process; no torch here, so that a process starts at once."""

from __future__ import annotations

import os
import time

from vvsbench.measure.bench.report import Verdict


def finds(task, count):
    for number in range(count):
        yield {"number": number}
    yield Verdict("kept", "here", 0.9, 0.8, 1.0)


def fails(task):
    yield {"number": 1}
    raise RuntimeError("nothing works")


def exhausts(task):
    yield {"number": 1}
    raise MemoryError


def dies(task):
    yield {"number": 1}
    os._exit(7)


def sleeps(task):
    yield {"number": 1}
    time.sleep(100)


def lingers(task):
    time.sleep(0.02)
    yield {"left": task.left}
