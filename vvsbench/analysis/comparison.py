"""A cell against its baseline, image by image wherever the records allow it.

Counts and times are compared in pairs: image i of one decoder with image i of the other, batch with batch, since both
saw the same prompt and the same noise. Quality numbers belong to whole sets; the interval of their difference joins the
two intervals as if the sets were independent, which is too wide, never too narrow, for sets that share their noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vvsbench.analysis.estimate import Estimate

RESAMPLES = 2000
BLOCK = 100
"""Resamples drawn at a time, so that large sets fit in memory."""


@dataclass(frozen=True)
class Equality:
    """How much of two sets is the same.

    Attributes:
        images: those with all tokens equal.
        tokens: share of equal tokens at equal places.
    """

    images: int
    tokens: float


def equality(one: NDArray[np.int32], other: NDArray[np.int32]) -> Equality:
    """Compare two token arrays [images, tokens] over the images that both have."""
    count = min(len(one), len(other))
    if count == 0 or one.shape[1:] != other.shape[1:]:
        return Equality(0, 0.0)
    same = one[:count] == other[:count]
    return Equality(int(same.all(axis=1).sum()), float(same.mean()))


def forwards_ratio(trace: pd.DataFrame, base: pd.DataFrame) -> Estimate:
    """How many times fewer target forwards (prefill included) a cell needs than the baseline, over the same images."""
    names = ["target_forwards", "prefill_forwards"]
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
        found[first : first + BLOCK] = numerator[chosen].sum(axis=1) / denominator[chosen].sum(axis=1)
    low, high = np.quantile(found, [0.025, 0.975])
    return Estimate(value, float(low), float(high))


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
