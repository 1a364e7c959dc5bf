import numpy as np
import pytest
import torch

from vvsbench.quality import fidelity, intervals


def one(count):
    return np.zeros(count, dtype=np.int64)


def test_jackknife_by_prompt_leaves_out_what_prompts_fix(random):
    """Classes differ by far more than images of a class do; a set always holds 4 images of each of its 16 classes."""
    strata = np.arange(64) % 16
    values, errors, blind = [], [], []
    for _ in range(200):
        images = strata * 10 + random.normal(0, 1, 64)
        values.append(images.mean())
        errors.append(intervals.jackknife(lambda chosen, x=images: x[chosen].mean(), strata, 20).error())
        blind.append(intervals.jackknife(lambda chosen, x=images: x[chosen].mean(), one(64), 20).error().value)
    spread = np.std(values, ddof=1)
    assert np.sqrt(np.mean([error.value**2 for error in errors])) == pytest.approx(spread, rel=0.2)
    assert errors[0].freedom == 15  # five partitions into four groups
    assert np.mean(blind) > 20 * spread


def test_prompts_that_do_not_repeat_make_one_stratum(random):
    values = random.normal(0, 1, 100)
    blind, apart = (
        intervals.jackknife(lambda chosen: values[chosen].mean(), strata, 20).error()
        for strata in (one(100), np.arange(100))
    )
    assert blind == apart


def test_jackknife_of_a_mean_is_its_standard_error(random):
    values = random.normal(0, 3, 400)
    error = intervals.jackknife(lambda chosen: values[chosen].mean(), one(400), groups=400).error()
    assert error.freedom == 399
    assert error.value == pytest.approx(values.std(ddof=1) / 20, rel=1e-9)


def test_images_left_over_are_allowed_for(random):
    values = random.normal(0, 3, 399)
    error = intervals.jackknife(lambda chosen: values[chosen].mean(), one(399), groups=40).error()
    assert error.value == pytest.approx(values.std() / np.sqrt(399), rel=0.4)


def test_a_part_is_random_and_all_of_a_small_set():
    np.testing.assert_array_equal(intervals.part(5, 9), np.arange(5))
    chosen = intervals.part(1000, 100)
    assert len(set(chosen)) == 100
    assert chosen.max() > 900


def test_error_of_kid_matches_its_spread_over_new_sets(random):
    reference = torch.from_numpy(random.normal(0, 1, (600, 12)))
    values, errors = [], []
    for _ in range(60):
        features = torch.from_numpy(random.normal(0.4, 1, (100, 12)))
        table = fidelity.kernel_table(features, reference)
        values.append(table.distance(np.arange(100)))
        errors.append(intervals.jackknife(table.distance, one(100), 20).error().value)
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(values, ddof=1), rel=0.3)


def test_every_replicate_has_the_same_count():
    counts = []
    intervals.jackknife(lambda chosen: counts.append(len(chosen)) or 0.0, one(107), groups=20)
    assert counts == [95] * 20


def test_jackknife_finds_the_spread_of_fid_where_the_bootstrap_is_biased(random):
    """At few images FID is biased; its jackknife error still matches the spread over new sets, a bootstrap does not."""
    dimensions, count = 24, 48
    reference = fidelity.Gaussian(np.zeros(dimensions), np.eye(dimensions))
    values, errors, resampled = [], [], []
    for _ in range(60):
        features = torch.from_numpy(random.normal(0.3, 1.2, (count, dimensions)))

        def statistic(chosen, features=features):
            return fidelity.fid(fidelity.gaussian(features[chosen]), reference)

        values.append(statistic(np.arange(count)))
        errors.append(intervals.jackknife(statistic, one(count), 12).error().value)
        resampled.append(np.mean([statistic(random.integers(0, count, count)) for _ in range(4)]))
    spread = np.std(values, ddof=1)
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(spread, rel=0.35)
    assert np.mean(resampled) > np.mean(values) + 3 * spread
    covered = np.abs(np.array(values) - np.mean(values)) < 2.2 * np.array(errors)
    assert covered.mean() > 0.85


def test_wilson_has_width_at_the_ends():
    whole = intervals.wilson(50, 50, 0.95, "over images")
    assert whole.high == pytest.approx(1)
    assert 0.90 < whole.low < 0.95


def test_bootstrap_of_a_mean_matches_the_normal_interval_and_repeats(random):
    values = random.normal(5, 2, 300)
    first = intervals.mean_bootstrap(values, 2000, 0.95, "images")
    assert first == intervals.mean_bootstrap(values, 2000, 0.95, "images")
    half = 1.96 * 2 / np.sqrt(300)
    assert first.high - first.low == pytest.approx(2 * half, rel=0.15)
    assert first.low < values.mean() < first.high


def test_the_recorded_groups_are_those_that_the_jackknife_left_out():
    strata = np.arange(90) % 8  # eleven of each prompt, two prompts with twelve
    dealt = intervals.partitions(strata, 20)
    groups = intervals.membership(dealt, 90)
    kept = []
    found = intervals.jackknife(lambda chosen: kept.append(chosen) or 0.0, strata, 20)
    assert found.values.shape == (2, 11)
    assert found.share == 88 / 90
    for number, chosen in enumerate(kept):
        row, group = groups[number // 11], number % 11
        np.testing.assert_array_equal(chosen, np.flatnonzero((row >= 0) & (row != group)))


def test_replicates_of_a_difference_are_narrower_than_those_of_its_terms(random):
    """Two statistics over the same images: the error of the difference is that of the images' differences."""
    common, own = random.normal(0, 5, 200), random.normal(0, 0.1, 200)
    one_set, other = (
        intervals.jackknife(lambda chosen, x=x: x[chosen].mean(), one(200), 200) for x in (common, common + own)
    )
    error = intervals.Replicates(other.values - one_set.values, other.share).error()
    assert error.value == pytest.approx(own.std(ddof=1) / np.sqrt(200), rel=1e-9)
