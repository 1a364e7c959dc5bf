"""What a search is for, and what a cell is worth by it: read from the cell's records, never from memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vvsbench.analysis import comparison
from vvsbench.analysis.estimate import Estimate, inverted
from vvsbench.axes import Tokens
from vvsbench.config import Cost, RunConfig
from vvsbench.runs.store import StoredCell, read_quality, read_record
from vvsbench.search.settings import OBJECTIVES, QUALITY


class NotMeasured(Exception):
    """A cell's records do not have every objective; the message says which and why."""


def objectives(cfg: RunConfig) -> list[str]:
    """The names of what a search is for: as it says, else the cost of the study's fronts, and FID.

    Args:
        cfg: settings of any of its trials.
    """
    if cfg.search.objectives is not None:
        return list(cfg.search.objectives)
    computation = cfg.study.cost is Cost.equivalents or cfg.model.tokens is Tokens.continuous
    return ["cost" if computation else "step_compression", "fid"]


def directions(names: Sequence[str]) -> list[str]:
    """Which way each objective is better, as optuna calls it."""
    return ["maximize" if OBJECTIVES[name] else "minimize" for name in names]


def difference(mine: StoredCell, other: StoredCell, protocol: str, name: str) -> Estimate | None:
    """One objective of a cell less that of another trial of the search, less being better.

    Paired wherever the records allow it: all trials draw from the same prompts and noise.

    Args:
        mine: the cell.
        other: of the same search.
        protocol: of their metrics.
        name: of the objective.

    Returns:
        None where one of them has not got it.
    """
    if name in QUALITY:
        found, _ = comparison.quality_change(mine.quality.get(protocol), other.quality.get(protocol), name)
    elif name in mine.trace and name in other.trace:
        counts = [cell.trace.sort_values("image")[name].to_numpy(dtype=np.float64) for cell in (mine, other)]
        found = comparison.paired_mean(counts[0] - counts[1])
    else:
        one, two = (cell.record.summaries.get(name) for cell in (mine, other))
        if one is None or two is None:
            return None
        found = comparison.change(Estimate(one.mean, one.low, one.high), Estimate(two.mean, two.low, two.high))
    return inverted(found) if found is not None and OBJECTIVES[name] else found


def measured(folder: Path, protocol: str, names: Sequence[str]) -> Mapping[str, Estimate]:
    """What a cell is worth.

    Args:
        folder: that holds it.
        protocol: of its metrics.
        names: the objectives.

    Raises:
        NotMeasured: it has not been drawn to its end, or an objective is not among its numbers.
        RecordError: a record is damaged.
    """
    record = read_record(folder)
    if record is None or record.status != "ok":
        raise NotMeasured("it was not drawn to its end")
    found = {name: Estimate(one.mean, one.low, one.high) for name, one in record.summaries.items()}
    quality = read_quality(folder).get(protocol)
    if quality and quality.image_digest == record.image_digest:
        found |= {one.name: Estimate(one.value, one.low, one.high) for one in quality.values}
    for name in names:
        if name not in found or not math.isfinite(found[name].value):
            raise NotMeasured(f"its records have no {name}")
    return {name: found[name] for name in names}
