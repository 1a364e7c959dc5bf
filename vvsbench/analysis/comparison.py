"""A cell against its baseline, image by image wherever the records allow it.

Everything is compared in pairs: image i of one decoder with image i of the other, batch with batch, since both saw the
same prompt and the same noise. Numbers that belong to a whole set (FID, IS, KID, recall) were measured again without
one group of images after the other, and both sets were dealt to the same groups: the interval of a difference comes
from the differences group by group. Only a number without such replicates joins two intervals as if the sets were
independent, and is named where that is done.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vvsbench.analysis.estimate import Estimate
from vvsbench.quality.intervals import Error, Replicates, student
from vvsbench.runs.record import Jackknife, MetricValue, QualityRecord, unpacked
from vvsbench.runs.store import StoredCell

RESAMPLES = 2000
BLOCK = 100
"""Resamples drawn at a time, so that large sets fit in memory."""
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Pairs:
    """Two image sets of the same prompts and noise, image by image.

    Attributes:
        tokens: share of the tokens that differ, float64 [images].
        distances: mean Euclidean distance of tokens at the same place, float64 [images]; None where a token is a number
            of a codebook, which has no distance.
        pixels: mean absolute difference of the pixels, 0 to 255, float64 [images].
    """

    tokens: NDArray[np.float64]
    distances: NDArray[np.float64] | None
    pixels: NDArray[np.float64]

    @property
    def identical(self) -> NDArray[np.bool_]:
        """Which images have all tokens equal."""
        same: NDArray[np.bool_] = self.tokens == 0
        return same


def pairs(cell: StoredCell, base: StoredCell) -> Pairs | None:
    """Compare the images of two cells file by file, so that sets of any size fit in memory.

    Returns:
        None if the images of one of them are not here, or are not of the same shape.
    """
    if not (cell.has_images and base.has_images):
        return None
    tokens, distances, pixels = [], [], []
    for one, other in zip(cell.shards(), base.shards(), strict=False):
        if one.tokens.shape != other.tokens.shape or one.images.shape != other.images.shape:
            return None
        apart = one.tokens.astype(np.float64) - other.tokens
        vectors = apart.reshape(*apart.shape[:2], -1)
        tokens.append((vectors != 0).any(axis=2).mean(axis=1))
        distances += [np.linalg.norm(vectors, axis=2).mean(axis=1)] if apart.ndim > 2 else []
        changes = [np.abs(x.astype(np.int16) - y).mean() for x, y in zip(one.images, other.images, strict=True)]
        pixels.append(np.array(changes, dtype=np.float64))
    return Pairs(np.concatenate(tokens), np.concatenate(distances) if distances else None, np.concatenate(pixels))


def saving(trace: pd.DataFrame, base: pd.DataFrame, names: list[str]) -> Estimate | None:
    """How many times less of something a cell needs than the baseline, over the same images.

    Args:
        trace: of the cell.
        base: of the baseline.
        names: the columns that count it; their sum is compared.

    Returns:
        None where one of them does not count it.
    """
    if not set(names) <= set(trace.columns) & set(base.columns):
        return None
    both = trace[["image", *names]].merge(base[["image", *names]], on="image", suffixes=("", "_base"))
    mine = both[names].sum(axis=1).to_numpy(dtype=np.float64)
    theirs = both[[f"{name}_base" for name in names]].sum(axis=1).to_numpy(dtype=np.float64)
    return ratio(theirs, mine)


def speed_up(repeats: pd.DataFrame, base: pd.DataFrame) -> Estimate | None:
    """How many times faster a cell draws than the baseline, over the batches that both timed warm; None without any."""
    columns = ["first", "seconds", "images"]
    both = repeats.loc[repeats["warm"], columns].merge(
        base.loc[base["warm"], columns], on=["first", "images"], suffixes=("", "_base")
    )
    if both.empty:
        return None
    return ratio(both["seconds_base"].to_numpy(dtype=np.float64), both["seconds"].to_numpy(dtype=np.float64))


def ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> Estimate:
    """Ratio of two means over the same items, with its 95 % paired bootstrap interval."""
    value = float(numerator.mean() / denominator.mean())
    count = len(numerator)
    if count < 2:
        return Estimate(value)
    draws = np.random.default_rng(0)
    found = np.empty(RESAMPLES)
    for first in range(0, RESAMPLES, BLOCK):
        chosen = draws.integers(0, count, size=(min(BLOCK, RESAMPLES - first), count))
        below = denominator[chosen].sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):  # a resample may miss the few items that count
            found[first : first + BLOCK] = numerator[chosen].sum(axis=1) / below
    low, high = np.quantile(found[np.isfinite(found)], [0.025, 0.975])
    return Estimate(value, float(low), float(high))


def mean(values: NDArray[np.float64]) -> Estimate:
    """Mean over items with its 95 % bootstrap interval; values without spread are certain."""
    if len(values) > 1 and np.ptp(values) == 0:
        value = float(values[0])
        return Estimate(value, value, value)
    return ratio(values, np.ones(len(values)))


def paired_mean(values: NDArray[np.float64]) -> Estimate:
    """Mean over items with Student's interval: as `mean`, for when there are too many pairs of cells to resample.

    Args:
        values: differences of pairs, float64 [items].
    """
    count, value = len(values), float(values.mean())
    if count < 2:
        return Estimate(value)
    error = Error(float(values.std(ddof=1)) / math.sqrt(count), count - 1)
    found = student(value, error, CONFIDENCE, "")
    return Estimate(value, found.low, found.high)


def quality_change(mine: QualityRecord | None, base: QualityRecord | None, name: str) -> tuple[Estimate | None, bool]:
    """How a metric of one image set differs from that of another of the same prompts.

    Args:
        mine: what the set was scored as.
        base: what the other was.
        name: of the metric.

    Returns:
        The difference, None where one has not got the metric or they were scored differently; and whether its interval
        is a paired one.
    """
    if mine is None or base is None or not scored_alike(mine, base):
        return None, False
    one, other = (next((value for value in found.values if value.name == name), None) for found in (mine, base))
    if one is None or other is None:
        return None, False
    return metric_change(one, other, bool(mine.groups) and mine.groups == base.groups)


def scored_alike(one: QualityRecord, other: QualityRecord) -> bool:
    """Whether two image sets were scored under the same version of a protocol against the same reference."""
    names = ("protocol", "version", "reference_digest")
    return all(getattr(one, name) == getattr(other, name) for name in names)


def metric_change(mine: MetricValue, base: MetricValue, dealt_alike: bool) -> tuple[Estimate, bool]:
    """How a metric of a set differs from the baseline's.

    Args:
        mine: of the set.
        base: of the baseline's set, of the same prompts.
        dealt_alike: whether both sets were dealt to the same groups.

    Returns:
        The difference, and whether its interval is a paired one.
    """
    value = mine.value - base.value
    one, other = unpacked(mine.each, "float32"), unpacked(base.each, "float32")
    if len(one) and len(one) == len(other):
        return mean(one.astype(np.float64) - other), True
    if dealt_alike and mine.jackknife and base.jackknife:
        return _by_groups(value, difference(mine.jackknife, base.jackknife), _spread_of_draws(mine, base)), True
    return change(Estimate(mine.value, mine.low, mine.high), Estimate(base.value, base.low, base.high)), False


def difference(mine: Jackknife, base: Jackknife) -> Replicates:
    """Replicates of the difference of two metrics over sets that were dealt alike."""
    return Replicates(np.array(mine.replicates) - np.array(base.replicates), mine.share)


def by_groups(value: float, replicates: Replicates) -> Estimate:
    """A number with the Student interval of its jackknife."""
    return _by_groups(value, replicates, 0.0)


def _by_groups(value: float, replicates: Replicates, more: float) -> Estimate:
    """As `by_groups`, with a standard error that comes on top."""
    error = replicates.error()
    found = student(value, type(error)(math.hypot(error.value, more), error.freedom), CONFIDENCE, "")
    return Estimate(value, found.low, found.high)


def _spread_of_draws(mine: MetricValue, base: MetricValue) -> float:
    """Standard error of the mean difference over random subsets that both sets share; zero without any."""
    if not mine.draws or len(mine.draws) != len(base.draws):
        return 0.0
    apart = np.array(mine.draws) - np.array(base.draws)
    return float(apart.std() / math.sqrt(len(apart)))


def change(mine: Estimate, base: Estimate) -> Estimate:
    """Difference of two independent estimates; its interval from the two intervals, which may be lopsided.

    Source:
        G. Y. Zou and A. Donner, Construction of confidence limits about effect measures, Statistics in Medicine 27,
        2008 (the method of variance estimates recovery).
    """
    value = mine.value - base.value
    if mine.low is None or base.low is None:
        return Estimate(value)
    (mine_down, mine_up), (base_down, base_up) = mine.spread(), base.spread()
    return Estimate(value, value - math.hypot(mine_down, base_up), value + math.hypot(mine_up, base_down))
