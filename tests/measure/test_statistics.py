"""Intervals of medians and of ratios within rounds."""

from __future__ import annotations

import numpy as np
import pytest

from vvsbench.measure.statistics import LEAST, Interval, median, median_ratio


def test_the_median_lies_in_its_interval_and_the_same_values_give_the_same_interval():
    values = np.random.default_rng(0).lognormal(size=30)
    found = median(values)
    assert found.low <= found.value == np.median(values) <= found.high
    assert found == median(values)
    assert found.n == 30


def test_the_interval_holds_the_true_median_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    held = [found.low <= 1.0 <= found.high for found in (median(rng.lognormal(size=15)) for _ in range(150))]
    assert np.mean(held) > 0.88


def test_one_bad_moment_does_not_move_a_median():
    assert median([1.0] * 9 + [50.0]).value == 1.0


def test_a_slow_spell_cancels_within_rounds():
    speed = np.array([1.0, 1.0, 5.0, 5.0, 1.0, 1.0])  # the machine is five times slower for two rounds
    found = median_ratio(2.0 * speed, 1.0 * speed)
    assert (found.value, found.width) == (2.0, 0.0)


def test_few_values_are_never_enough():
    assert not median([1.0] * (LEAST - 1)).narrow(0.05)
    assert median([1.0] * LEAST).narrow(0.05)
    assert not Interval(1.0, 0.9, 1.1, 100).narrow(0.05)


def test_a_round_needs_both():
    with pytest.raises(ValueError, match="argument"):
        median_ratio([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="no repeats"):
        median([])


def test_two_values_have_an_interval_already():
    found = median([1.0, 3.0])
    assert (found.low, found.value, found.high) == (1.0, 2.0, 3.0)
