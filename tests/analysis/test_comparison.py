from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from vvsbench.analysis.comparison import change, mean, metric_change, pairs, ratio, saving, speed_up
from vvsbench.analysis.estimate import Estimate, interval, number
from vvsbench.runs import files, shards
from vvsbench.runs.record import CellRecord, Jackknife, MetricValue, packed
from vvsbench.runs.store import StoredCell


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


def cell(folder: Path, tokens: list[Any], grey: list[int], kind: str = "int32") -> StoredCell:
    """Images of one colour each, four pixels wide, in files of two images."""
    images = np.stack([np.full((3, 4, 4), level, dtype=np.uint8) for level in grey])
    digests = []
    for where in shards.ranges(len(tokens), 2):
        chosen = slice(where.first, where.end)
        part = np.array(tokens[chosen], dtype=kind)
        rows = [{"image": image} for image in range(where.first, where.end)]
        digests.append(shards.write(folder, where, shards.Shard(where.first, images[chosen], part, rows), []))
    digest = files.digest("\n".join(digests).encode())
    record = CellRecord.model_construct(count=len(tokens), config={"shard_size": 2}, image_digest=digest)
    return StoredCell(folder, record)


def test_images_are_compared_in_pairs_file_by_file(tmp_path: Path) -> None:
    one = cell(tmp_path / "a", [[1, 2], [3, 4], [5, 6]], [10, 20, 250])
    other = cell(tmp_path / "b", [[1, 2], [3, 5], [6, 5]], [10, 26, 0])
    found = pairs(one, other)
    assert found is not None
    assert list(found.tokens) == [0.0, 0.5, 1.0]
    assert list(found.identical) == [True, False, False]
    assert list(found.pixels) == [0.0, 6.0, 250.0]  # 250 apart, not 6 as eight bits would have it
    swapped = pairs(other, one)
    assert swapped is not None
    assert list(swapped.pixels) == list(found.pixels)


def test_tokens_of_a_codebook_have_no_distance(tmp_path: Path) -> None:
    found = pairs(cell(tmp_path / "a", [[1, 2]], [0]), cell(tmp_path / "b", [[1, 3]], [0]))
    assert found is not None
    assert found.distances is None


def test_latents_are_compared_whole_and_by_their_distance(tmp_path: Path) -> None:
    """Two tokens of two numbers: a token that differs in one of them differs."""
    one = cell(
        tmp_path / "a", [[[0.0, 0.0], [1.0, 2.0]], [[1.0, 1.0], [1.0, 1.0]], [[0.0, 5.0]] * 2], [0] * 3, "float32"
    )
    other = cell(
        tmp_path / "b", [[[3.0, 4.0], [1.0, 2.0]], [[1.0, 1.0], [1.0, 1.0]], [[0.0, 4.0]] * 2], [0] * 3, "float32"
    )
    found = pairs(one, other)
    assert found is not None
    assert found.distances is not None
    assert list(found.tokens) == [0.5, 0.0, 1.0]
    assert list(found.distances) == [2.5, 0.0, 1.0]
    assert list(found.identical) == [False, True, False]


def test_what_one_of_two_does_not_count_is_not_compared() -> None:
    one = pd.DataFrame({"image": [0, 1], "cost": [1.0, 3.0]})
    found = saving(one, pd.DataFrame({"image": [0, 1], "cost": [8.0, 8.0]}), ["cost"])
    assert found is not None
    assert found.value == 4.0
    assert saving(one, one[["image"]], ["cost"]) is None


def test_pairs_need_the_images_of_both(tmp_path: Path) -> None:
    one, other = cell(tmp_path / "a", [[1], [2], [3]], [0, 0, 0]), cell(tmp_path / "b", [[1], [2], [3]], [0, 0, 0])
    shards.ranges(3, 2)[1].path(tmp_path / "b").unlink()
    assert pairs(one, other) is None
    assert pairs(one, cell(tmp_path / "c", [[1, 1], [2, 2], [3, 3]], [0, 0, 0])) is None


def metric(value: float, low: float = 0.0, high: float = 0.0, **kept: object) -> MetricValue:
    return MetricValue(name="fid", value=value, low=low, high=high, n=4, higher_is_better=False, **kept)


def test_a_change_by_groups_has_the_jackknife_error_of_the_differences() -> None:
    mine = metric(12.0, jackknife=Jackknife(replicates=[[13.0, 16.0]], share=1.0))
    base = metric(10.0, jackknife=Jackknife(replicates=[[12.0, 13.0]], share=1.0))
    found, paired = metric_change(mine, base, dealt_alike=True)
    assert paired
    # differences 1 and 3: (2 - 1) / 2 * (1 + 1) = 1; Student's quantile with one degree of freedom is 12.706
    assert (found.value, found.low, found.high) == (
        2.0,
        pytest.approx(2 - 12.706, abs=1e-3),
        pytest.approx(14.706, abs=1e-3),
    )


def test_sets_that_are_the_same_differ_by_nothing_for_certain() -> None:
    whole = metric(12.0, 10, 14, jackknife=Jackknife(replicates=[[13.0, 16.0], [9.0, 11.0]], share=0.9), draws=[1, 2])
    terms = metric(0.5, 0.2, 0.8, each=packed([0.0, 1.0, 1.0, 0.0], "float32"))
    for same in (whole, terms):
        found, paired = metric_change(same, same, dealt_alike=True)
        assert paired
        assert (found.value, found.low, found.high) == (0, 0, 0)


def test_random_subsets_add_their_own_error_to_a_change() -> None:
    kept = Jackknife(replicates=[[1.0, 2.0, 3.0]], share=1.0)
    mine, base = metric(5.0, jackknife=kept, draws=[4.0, 6.0]), metric(2.0, jackknife=kept, draws=[2.0, 2.0])
    found, _ = metric_change(mine, base, dealt_alike=True)
    assert found.high - found.value == pytest.approx(4.303 / np.sqrt(2), abs=1e-3)  # deviation 1 of 2; two degrees


def test_terms_of_images_are_compared_image_by_image() -> None:
    rng = np.random.default_rng(0)
    terms = rng.normal(30, 5, 200)
    mine, base = (
        metric(float(x.mean()), each=packed(x, "float32")) for x in (terms + 1 + rng.normal(0, 0.1, 200), terms)
    )
    found, paired = metric_change(mine, base, dealt_alike=False)
    assert paired
    assert found.low < 1 < found.high
    assert found.high - found.low < 0.05


def test_without_replicates_both_intervals_are_joined_and_it_is_said() -> None:
    kept = {"jackknife": Jackknife(replicates=[[1.0, 2.0]], share=1.0)}
    joined = change(Estimate(15.0, 12.0, 18.0), Estimate(10.0, 6.0, 14.0))
    for mine, alike in ((kept, False), ({}, True)):
        found, paired = metric_change(metric(15, 12, 18, **mine), metric(10, 6, 14, **kept), dealt_alike=alike)
        assert not paired
        assert found == joined


def test_a_ratio_whose_items_mostly_count_nothing_has_an_interval() -> None:
    found = ratio(np.array([0.0, 0.0, 0.0, 6.0]), np.array([0.0, 0.0, 0.0, 2.0]))
    assert (found.value, found.low, found.high) == (3, 3, 3)


def test_a_mean_without_spread_is_certain() -> None:
    assert mean(np.full(7, 0.1)) == Estimate(0.1, 0.1, 0.1)
    assert mean(np.array([0.25])) == Estimate(0.25)


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
