from __future__ import annotations

import colorsys
import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vvsbench.quality import evaluate
from vvsbench.quality.hue import concentration


def filled(*colours):
    """Pictures of vertical stripes of equal width."""
    picture = np.repeat(np.array(colours, dtype=np.float64).T[:, None, :], 4, axis=1).repeat(4, axis=2)
    return (picture * 255).round().astype(np.uint8)[None]


def coloured(hue, saturation=1.0, value=1.0):
    return colorsys.hsv_to_rgb(hue % 1, saturation, value)


@given(st.floats(0, 1), st.floats(0.5, 1), st.floats(0.6, 1))
def test_one_hue_agrees_with_itself(hue, saturation, value):
    assert concentration(filled(coloured(hue, saturation, value), coloured(hue)))[0] == pytest.approx(1, abs=2e-3)


@given(st.floats(0, 1))
def test_opposite_hues_cancel_and_three_apart_too(hue):
    assert concentration(filled(*(coloured(hue + turn) for turn in (0, 0.5))))[0] < 0.15
    assert concentration(filled(*(coloured(hue + turn) for turn in (0, 1 / 3, 2 / 3))))[0] < 0.15


def test_primaries_a_third_apart():
    """Two unit vectors 120 degrees apart have a mean of length one half."""
    assert concentration(filled((1, 0, 0), (0, 1, 0)))[0] == pytest.approx(0.5)


def test_muted_pixels_do_not_count_and_nothing_strong_is_nothing_agreed():
    grey, muted = (0.5, 0.5, 0.5), (0.5, 0.4, 0.35)
    assert concentration(filled((1, 0, 0), grey, muted))[0] == pytest.approx(1)
    assert concentration(filled(grey, muted)).tolist() == [0.0]


def test_a_set_is_measured_image_by_image(protocol, tmp_path):
    one, mixed = filled((1, 0, 0), (1, 0, 0)), filled((1, 0, 0), (0, 1, 0))
    images = np.concatenate([one, mixed] * 10)
    config = dataclasses.replace(protocol, values=["hue"])
    found = evaluate(images, None, config, tmp_path, "d").values[0]
    assert (found.name, found.higher_is_better) == ("hue", True)
    assert found.value == pytest.approx(0.75)
    assert found.low < 0.75 < found.high
