"""How sure a quality number is.

FID, KID and recall depend on the number of images (FID is biased upward at small counts), so an interval here is about
the metric *at this count*, with the reference held fixed: it answers "had other images of the same decoder been drawn,
where would this number lie". A plain bootstrap cannot answer it for FID: a resample holds only 63 % distinct images,
which looks like a smaller set, so the whole bootstrap distribution sits above the value. The delete-a-group jackknife
never repeats an image; leaving out one image in twenty shifts all replicates alike, and the shift cancels in their
spread. Means over images use `scipy.stats.bootstrap`, shares of images the Wilson interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SEED = 20260
"""Seeds the grouping and the resampling, so that the same images always get the same interval."""


@dataclass(frozen=True)
class Interval:
    """A two-sided interval and the sentence that says how it was made."""

    low: float
    high: float
    how: str


def jackknife_error(statistic: Callable[[NDArray[np.int64]], float], count: int, groups: int) -> float:
    """Standard error of a statistic of an image set by the delete-a-group jackknife.

    Groups are equal in size, since several of the statistics depend on the count; the few images that are left over
    are not used, and the error is scaled to the whole count. Against the spread over new image sets, the error of FID
    was right within 15 %, that of IS within 25 %, those of KID and of recall (not smooth) 20 to 45 % too large.

    Args:
        statistic: takes the indices of the images to use, int64 [K], and returns the value on them.
        count: images in the set.
        groups: number of groups; each replicate leaves one out. Reduced to `count` for tiny sets.

    Returns:
        Standard error in the units of the statistic.

    Source:
        B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 11; J. Shao and C. F. J. Wu, A
        general theory for jackknife variance estimation, Annals of Statistics 17, 1989.
    """
    groups = min(groups, count)
    order = np.random.default_rng(SEED).permutation(count)[: count // groups * groups]
    parts = order.reshape(groups, -1)
    kept = (np.sort(np.delete(parts, left_out, axis=0).ravel()) for left_out in range(groups))
    replicates = np.array([statistic(chosen) for chosen in kept])
    variance = (groups - 1) / groups * float(((replicates - replicates.mean()) ** 2).sum())
    return math.sqrt(variance * len(order) / count)


def part(count: int, most: int) -> NDArray[np.int64]:
    """All indices below `count`, or a random `most` of them: for errors that need every pair of images."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(SEED).permutation(count)[:most])


def student(value: float, error: float, freedom: int, confidence: float, how: str) -> Interval:
    """Symmetric interval from a standard error with Student's quantile.

    Args:
        value: the point estimate.
        error: its standard error.
        freedom: degrees of freedom of the error.
        confidence: for example 0.95.
        how: what the error is from; the confidence is put in front.
    """
    from scipy import stats

    half = float(stats.t.ppf(0.5 + confidence / 2, freedom)) * error
    return Interval(value - half, value + half, f"{confidence:.0%} {how}")


def wilson(successes: int, count: int, confidence: float, how: str) -> Interval:
    """Wilson's score interval of a share; right at 0 and 1 too, where the normal one has no width."""
    from scipy import stats

    bounds = stats.binomtest(successes, count).proportion_ci(confidence, method="wilson")
    return Interval(float(bounds.low), float(bounds.high), f"{confidence:.0%} Wilson interval {how}")


def mean_bootstrap(values: NDArray[np.float64], resamples: int, confidence: float, how: str) -> Interval:
    """Percentile bootstrap of the mean of one number per image.

    Args:
        values: float64 [N], one per image.
        resamples: bootstrap resamples.
        confidence: for example 0.95.
        how: what the values are.
    """
    from scipy import stats

    result = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=resamples,
        batch=max(1, 10_000_000 // max(1, len(values))),
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(SEED),
    )
    bounds = result.confidence_interval
    sentence = f"{confidence:.0%} bootstrap of the mean over {how}, {resamples} resamples"
    return Interval(float(bounds.low), float(bounds.high), sentence)
