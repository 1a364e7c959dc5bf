"""Verify schedules, one small file each: which steps commit draft tokens without asking the target.

A schedule is a small dataclass: its fields are its settings, under decoder.schedule, and its method is the whole
method. The package imports no torch, because settings are read before torch is. Other packages add theirs as
vvsbench.schedules; docs/adding.md shows one from start to end.
"""

from vvsbench.decoding.schedule.accepting import Accepting
from vvsbench.decoding.schedule.always import Always
from vvsbench.decoding.schedule.base import Moment, Schedule
from vvsbench.decoding.schedule.budget import Budget
from vvsbench.decoding.schedule.confident import Confident
from vvsbench.decoding.schedule.dynamic import Dynamic
from vvsbench.decoding.schedule.rows import Rows
from vvsbench.decoding.schedule.signals import ExpectedTokens, PathChance, Signal, Similarity
from vvsbench.decoding.schedule.uniform import Uniform

SCHEDULES: tuple[type[Schedule], ...] = (Always, Uniform, Dynamic, Confident, Accepting, Rows, Budget)
"""What conf/schedule can name."""

__all__ = [
    "SCHEDULES",
    "Accepting",
    "Always",
    "Budget",
    "Confident",
    "Dynamic",
    "ExpectedTokens",
    "Moment",
    "PathChance",
    "Rows",
    "Schedule",
    "Signal",
    "Similarity",
    "Uniform",
]
