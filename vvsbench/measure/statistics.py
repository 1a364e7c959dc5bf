"""How sure a measured time is: medians of repeats with their intervals, and when there have been enough repeats.

A machine's bad moments make times long and never short, so the middle is the median. A speed-up is the median of the
ratios within rounds, in each of which baseline and candidate ran one right after the other: a machine that slows down
for a while slows both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
CONFIDENCE = 0.95
LEAST = 5
"""Fewest values with an interval worth the name: the range of five holds the median 15 times in 16."""


@dataclass(frozen=True)
class Interval:
    """A median with its 95 % bootstrap interval.

    Attributes:
        value: the median.
        low, high: ends of the interval; both the value where there is only one.
        n: values behind it.
    """

    value: float
    low: float
    high: float
    n: int

    @property
    def width(self) -> float:
        """Between the ends, as a share of the value."""
        return (self.high - self.low) / self.value if self.value else 0.0

    def narrow(self, width: float) -> bool:
        """Whether it comes from enough values and is no wider than so much of the value."""
        return self.n >= LEAST and self.width <= width


def median(values: Sequence[float]) -> Interval:
    """The median of repeats.

    Raises:
        ValueError: there are none.
    """
    sample = np.asarray(values, dtype=np.float64)
    if not len(sample):
        raise ValueError("no repeats to take the median of")
    low, high = _bootstrap(sample)
    return Interval(float(np.median(sample)), low, high, len(sample))


def median_ratio(baseline: Sequence[float], candidate: Sequence[float]) -> Interval:
    """How many times faster than the baseline: the median of the ratios within rounds.

    Args:
        baseline, candidate: seconds, round by round.

    Raises:
        ValueError: their numbers differ, or there are none.
    """
    return median([base / own for base, own in zip(baseline, candidate, strict=True)])


def _bootstrap(sample: NDArray[np.float64]) -> tuple[float, float]:
    """Percentile interval of the median; the same values give the same interval."""
    if len(sample) < 2 or np.ptp(sample) == 0:
        return float(np.median(sample)), float(np.median(sample))
    from scipy import stats

    result = stats.bootstrap(
        (sample,), np.median, n_resamples=RESAMPLES, confidence_level=CONFIDENCE, method="percentile", rng=0
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)
