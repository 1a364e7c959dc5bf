"""Summaries: means with intervals that hold."""

from __future__ import annotations

import numpy as np
import pandas as pd

from vvsbench.runs import tables


def test_the_interval_holds_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(100):
        low, high = tables.bootstrap(rng.normal(3.0, 1.0, 40))
        held += low <= 3.0 <= high
    assert 86 <= held <= 100


def test_a_constant_has_no_interval():
    summary = tables.summary(np.full(5, 2.0))
    assert (summary.low, summary.mean, summary.high, summary.std) == (2.0, 2.0, 2.0, 0.0)


def test_the_same_sample_has_the_same_interval():
    sample = np.random.default_rng(1).random(30)
    assert tables.bootstrap(sample) == tables.bootstrap(sample)


def test_short_batches_do_not_count_for_the_pace():
    repeats = tables.repeats_frame(
        [
            {"first": 2, "images": 1, "seconds": 9.0, "decode_seconds": 0.0, "warm": False},
            {"first": 0, "images": 2, "seconds": 4.0, "decode_seconds": 0.0, "warm": True},
        ]
    )
    trace = pd.DataFrame({"verified_steps": [0], "accepted": [[]], "step_compression": [1.0]})
    assert tables.summaries(trace, repeats)["seconds_per_image"].mean == 2.0
    assert repeats["first"].tolist() == [0, 2]


def test_numbers_of_continuous_decoders_are_summarised_where_there_are_any():
    trace = pd.DataFrame(
        {
            "verified_steps": [1, 0, 2],
            "accepted": [[1], [], [0, 1]],
            "drafted": [4, 0, 8],
            "kept": [0.25, np.nan, 0.75],
            "distance": [None, None, None],
            "cost": [9.0, 9.0, 9.0],
        }
    )
    found = tables.summaries(trace, tables.repeats_frame([]))
    assert (found["kept"].mean, found["kept"].n) == (0.5, 2)  # an image without drafts has no share
    assert found["drafted"].mean == 4
    assert (found["cost"].mean, found["cost"].low, found["cost"].high) == (9.0, 9.0, 9.0)
    assert not {"distance", "fallback", "accepted_length"} & set(found)


def test_images_without_a_verified_step_have_no_accepted_length():
    trace = pd.DataFrame({"verified_steps": [0, 2], "accepted": [[], [1, 2]], "step_compression": [1.0, 1.0]})
    summary = tables.summaries(trace, tables.repeats_frame([]))["accepted_length"]
    assert (summary.mean, summary.n) == (2.5, 1)
