from __future__ import annotations

import pytest

from vvsbench.analysis.layout import Box, Scale, lines, padded, place, ticks


@pytest.mark.parametrize(("low", "high"), [(0.9, 4.1), (17, 30), (0.0481, 0.127), (-3, 3), (1000, 90000)])
def test_ticks_are_few_round_and_inside(low: float, high: float) -> None:
    found = ticks(low, high, 5)
    assert 2 <= len(found) <= 7
    assert all(low <= value <= high for value in found)
    steps = {round(b - a, 10) for a, b in zip(found, found[1:], strict=False)}
    assert len(steps) == 1


def test_a_scale_maps_its_ends() -> None:
    scale = Scale(1.0, 3.0, 100.0, 0.0)
    assert (scale(1.0), scale(2.0), scale(3.0)) == (100.0, 50.0, 0.0)


def test_a_range_is_never_empty() -> None:
    low, high = padded([5.0, 5.0])
    assert low < 5 < high
    low, high = padded([0.0])
    assert low < 0 < high


def test_labels_do_not_cover_each_other_nor_their_points() -> None:
    points = [(50.0 + 6 * number, 100.0 + 12 * number) for number in range(6)]
    sizes = [(40.0, 14.0)] * len(points)
    marks = [Box(x - 5, y - 5, 10, 10) for x, y in points]
    boxes = place(points, sizes, marks, Box(0, 0, 300, 300), 8)
    for number, box in enumerate(boxes):
        assert box is not None
        assert box.outside(Box(0, 0, 300, 300)) == 0
        assert all(other is not None and box.overlap(other) == 0 for other in boxes[number + 1 :])


def test_a_crowd_loses_labels_rather_than_legibility() -> None:
    points = [(100.0 + number, 100.0) for number in range(30)]
    boxes = [box for box in place(points, [(40.0, 14.0)] * 30, [], Box(0, 0, 300, 300), 8) if box]
    assert 3 <= len(boxes) < 20
    for number, box in enumerate(boxes):
        assert all(box.overlap(other) < 0.13 * 40 * 14 for other in boxes[number + 1 :])


def test_a_long_label_hides_no_mark_and_stays_inside() -> None:
    marks = [Box(x - 7, 93, 14, 14) for x in (100.0, 140.0, 180.0)]
    walls = [Box(0, 60, 300, 25), Box(0, 115, 300, 25)]  # nothing is free but the row of the marks
    (box,) = place([(100.0, 100.0)], [(120.0, 14.0)], [*marks, *walls], Box(0, 60, 300, 80), 8)
    assert box is None
    assert place([(100.0, 100.0)], [(120.0, 14.0)], marks[:1], Box(90, 0, 20, 300), 8) == [None]


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("vvs_coupled c=0.08", ["vvs_coupled c=0.08"]),
        ("vvs_released i=2 lantern delta=0.1", ["vvs_released i=2", "lantern delta=0.1"]),
        ("a_long_label_of_one_word", ["a_long_label_of_one_word"]),
    ],
)
def test_a_long_label_has_two_lines(label: str, shown: list[str]) -> None:
    assert lines(label) == shown
