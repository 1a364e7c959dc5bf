"""How sure a quality number is.

FID, KID and recall depend on the number of images (FID is biased upward at small counts), so an interval here is about
the metric *at this count*, with the reference held fixed: it answers "had other images of the same decoder been drawn,
where would this number lie". A plain bootstrap cannot answer it for FID: a resample holds only 63 % distinct images,
which looks like a smaller set, so the whole bootstrap distribution sits above the value. The delete-a-group jackknife
never repeats an image; leaving out one image in twenty shifts all replicates alike, and the shift cancels in their
spread. Means over images use `scipy.stats.bootstrap`, shares of images the Wilson interval; both take the
prompts for random too, which errs on the wide side.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Protocol, TypeVar

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


@dataclass(frozen=True)
class Error:
    """A standard error and its degrees of freedom."""

    value: float
    freedom: int


@dataclass(frozen=True)
class Replicates:
    """A statistic of an image set without one group of images, group by group.

    Attributes:
        values: float64 [partitions, groups].
        share: of the set's images that a partition holds.
    """

    values: NDArray[np.float64]
    share: float

    def error(self) -> Error:
        """Standard error of the statistic on the whole set; zero without spread."""
        partitions, size = self.values.shape
        centred = self.values - self.values.mean(axis=1, keepdims=True)
        variances = (size - 1) / size * (centred**2).sum(axis=1) * self.share
        return Error(math.sqrt(float(variances.mean())), partitions * (size - 1))


def partitions(strata: NDArray[np.int64], groups: int) -> list[NDArray[np.int64]]:
    """Deal images to groups, so that each group holds the same number from every stratum.

    The prompts of a run are fixed, classes in a cycle: another set of the same decoder holds as many images of each.
    Groups therefore take the same number from every stratum (prompt); where prompts repeat fewer times than `groups`,
    there are as many groups as repetitions and several random partitions. With 4 images of each of 64 classes the error
    of FID is then right where groups without strata gave twice the true one. Groups are equal in size, since several of
    the statistics depend on the count; images left over are in no group. Sets with equal strata are dealt alike, which
    is what makes their replicates pairs.

    Args:
        strata: int64 [N], number of the prompt of every image; all equal when prompts are as random as the images.
        groups: replicates wanted at least.

    Returns:
        Image indices int64 [groups, K] of each partition.
    """
    repeated = int(np.bincount(strata)[np.unique(strata)].min())
    if repeated < 2:
        strata, repeated = np.zeros_like(strata), len(strata)
    size = min(groups, repeated)
    random = np.random.default_rng(SEED)
    wanted = math.ceil(groups / size) if size < groups and size < len(strata) else 1
    return [_partition(strata, size, random) for _ in range(wanted)]


def jackknife(statistic: Callable[[NDArray[np.int64]], float], strata: NDArray[np.int64], groups: int) -> Replicates:
    """Replicates of a statistic of an image set by the stratified delete-a-group jackknife.

    Args:
        statistic: takes the indices of the images that stay, int64 [K], and returns the value on them.
        strata: int64 [N], see `partitions`.
        groups: replicates wanted at least; each leaves one group out.

    Source:
        B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 11; J. Shao and C. F. J. Wu, A
        general theory for jackknife variance estimation, Annals of Statistics 17, 1989.
    """
    found = []
    dealt = partitions(strata, groups)
    for parts in dealt:
        kept = (np.sort(np.delete(parts, left_out, axis=0).ravel()) for left_out in range(len(parts)))
        found.append([statistic(chosen) for chosen in kept])
    return Replicates(np.array(found, dtype=np.float64), dealt[0].size / len(strata))


S = TypeVar("S", bound="Addable")


class Addable(Protocol):
    """What can be summed over images, and taken off again."""

    def __add__(self: S, other: S) -> S: ...

    def __sub__(self: S, other: S) -> S: ...


def jackknife_of_sums(
    summed: Callable[[NDArray[np.int64]], S],
    statistic: Callable[[S], float],
    strata: NDArray[np.int64],
    groups: int,
) -> Replicates:
    """`jackknife` of a statistic that follows from sums over images: every image is summed twice, however many groups.

    Args:
        summed: sums over the images of these indices.
        statistic: of such sums.
        strata, groups: as of `jackknife`.
    """
    found = []
    dealt = partitions(strata, groups)
    for parts in dealt:
        everything = functools.reduce(operator.add, (summed(members) for members in parts))
        found.append([statistic(everything - summed(members)) for members in parts])
    return Replicates(np.array(found, dtype=np.float64), dealt[0].size / len(strata))


def membership(dealt: list[NDArray[np.int64]], count: int) -> NDArray[np.int16]:
    """Number of the group of every image in every partition, int16 [partitions, count]; -1 for an image in none."""
    found = np.full((len(dealt), count), -1, dtype=np.int16)
    for row, parts in zip(found, dealt, strict=True):
        row[parts] = np.arange(len(parts), dtype=np.int16)[:, None]
    return found


def _partition(strata: NDArray[np.int64], size: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Deal the images of every stratum to `size` groups, int64 [size, K]; those left over in a stratum go unused."""
    dealt = []
    for stratum in np.unique(strata):
        members = random.permutation(np.flatnonzero(strata == stratum))
        dealt.append(members[: len(members) // size * size].reshape(size, -1))
    return np.concatenate(dealt, axis=1)


def part(count: int, most: int) -> NDArray[np.int64]:
    """All indices below `count`, or a random `most` of them: for errors that need every pair of images."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(SEED).permutation(count)[:most])


def student(value: float, error: Error, confidence: float, how: str) -> Interval:
    """Symmetric interval from a standard error with Student's quantile.

    Args:
        value: the point estimate.
        error: its standard error.
        confidence: for example 0.95.
        how: what the error is from; the confidence is put in front.
    """
    half = _quantile(0.5 + confidence / 2, error.freedom) * error.value
    return Interval(value - half, value + half, f"{confidence:.0%} {how}")


@cache
def _quantile(share: float, freedom: int) -> float:
    """Of Student's law; kept, since every pair of cells asks for the same one."""
    from scipy import stats

    return float(stats.t.ppf(share, freedom))


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
