from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from vvsbench.analysis.comparison import change, equality, ratio, speed_up
from vvsbench.analysis.estimate import Estimate, interval, number


def test_a_paired_ratio_without_spread_is_certain() -> None:
    base = np.array([10.0, 20.0, 40.0])
    found = ratio(base, base / 2)
    assert found.value == 2
    assert found.low == pytest.approx(2)
    assert found.high == pytest.approx(2)


def test_pairing_narrows_the_interval() -> None:
    rng = np.random.default_rng(0)
    base = rng.uniform(10, 100, 200)
    paired, unpaired = ratio(base, base * 0.5 + rng.normal(0, 0.1, 200)), ratio(base, rng.permutation(base) * 0.5)
    assert paired.high - paired.low < (unpaired.high - unpaired.low) / 10


def test_a_ratio_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        one, other = rng.gamma(20, 1, 60), rng.gamma(20, 0.5, 60)
        found = ratio(one, other)
        hits += found.low <= 2 <= found.high
    assert 178 <= hits <= 200


def test_cold_batches_do_not_count() -> None:
    base = pd.DataFrame({"first": [0, 16], "images": 16, "seconds": [9.0, 2.0], "warm": [False, True]})
    mine = base.assign(seconds=[1.0, 1.0])
    found = speed_up(mine, base)
    assert found is not None
    assert found.value == 2
    assert speed_up(mine.assign(warm=False), base) is None


def test_equality_counts_images_and_tokens() -> None:
    one = np.array([[1, 2], [3, 4]])
    assert equality(one, np.array([[1, 2], [3, 5]])) == equality(np.array([[1, 2], [3, 5]]), one)
    found = equality(one, np.array([[1, 2], [3, 5]]))
    assert (found.images, found.tokens) == (1, 0.75)
    assert equality(one, np.zeros((2, 3))).images == 0


def test_a_change_joins_both_intervals() -> None:
    found = change(Estimate(15.0, 12.0, 18.0), Estimate(10.0, 6.0, 14.0))
    assert (found.value, found.low, found.high) == (5.0, 0.0, 10.0)
    assert not found.sure
    assert change(Estimate(15.0), Estimate(10.0)).low is None


def test_numbers_are_written_with_true_minus_and_without_negative_zero() -> None:
    assert number(-1.25, 1) == "\N{MINUS SIGN}1.2"
    assert number(-0.001, 2) == "0.00"
    assert number(12345.6, 0) == "12\N{THIN SPACE}346"
    assert interval(Estimate(1.0, 0.5, 1.5), 1, sign=True) == "[+0.5, +1.5]"
    assert interval(Estimate(1.0, 1.0, 1.0), 1) == ""
