from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vvsbench.analysis.costs import EQUIVALENTS, FORWARDS, SECONDS
from vvsbench.analysis.frame import StudyFrame
from vvsbench.analysis.pareto import front, outline


def made(points: list[tuple[float, float]], column: str = "step_compression") -> pd.DataFrame:
    rows = pd.DataFrame(points, columns=[column, "fid"])
    rows["label"] = [f"cell {number}" for number in range(len(points))]
    rows["is_baseline"] = [True] + [False] * (len(points) - 1)
    rows["hardware"] = "one"
    rows["place_step_compression"] = rows["place_seconds_per_image"] = rows["place_cost"] = "cannot be told"
    return rows


def dominated(point: tuple[float, float], points: list[tuple[float, float]]) -> bool:
    x, y = point
    return any(a >= x and b <= y and (a, b) != (x, y) for a, b in points)


number = st.floats(0.5, 50).map(lambda value: round(value, 1))


@given(st.lists(st.tuples(number, number), min_size=2, max_size=12))
def test_the_line_goes_through_what_nothing_dominates_by_the_numbers(points: list[tuple[float, float]]) -> None:
    found = front(made(points), FORWARDS)
    assert found is not None
    assert list(found.points["on_line"]) == [not dominated(point, points) for point in points]


@given(st.lists(st.tuples(number, number), min_size=2, max_size=8))
def test_hypervolume_is_the_area_of_the_stair(points: list[tuple[float, float]]) -> None:
    found = front(made(points), FORWARDS)
    assert found is not None
    worst = 1.1 * max(y for _, y in points)
    area, reached = 0.0, 1.0  # one token per forward
    inside = {(x, y) for x, y in points if x > 1}
    for x, y in sorted(inside, key=lambda point: (point[1], -point[0])):
        if x > reached:
            area += (x - reached) * (worst - y)
            reached = x
    assert found.hypervolume == pytest.approx(area)


def test_seconds_are_better_small() -> None:
    found = front(made([(1.0, 10.0), (0.5, 12.0), (2.0, 11.0)], "seconds_per_image"), SECONDS)
    assert found is not None
    assert list(found.line["label"]) == ["cell 1", "cell 0"]
    assert found.reference == (1.0, pytest.approx(1.1 * 12))
    assert found.hypervolume == pytest.approx(0.5 * 1.2)


def test_computation_is_better_small_and_measured_against_the_baselines() -> None:
    found = front(made([(64.0, 10.0), (16.0, 12.0), (80.0, 11.0)], "cost"), EQUIVALENTS)
    assert found is not None
    assert list(found.line["label"]) == ["cell 1", "cell 0"]
    assert found.reference == (64.0, pytest.approx(1.1 * 12))
    assert found.hypervolume == pytest.approx(48 * 1.2)  # a cell that costs more than the baseline wins nothing


def test_nothing_won_is_no_hypervolume() -> None:
    found = front(made([(1.0, 10.0), (1.0, 12.0)]), FORWARDS)
    assert found is not None
    assert found.hypervolume == 0


def test_seconds_have_no_reference_without_a_baseline(study: StudyFrame) -> None:
    rows = study.usable[~study.usable["is_baseline"]]
    found = front(rows, SECONDS)
    assert found is not None
    assert found.hypervolume is None
    forwards = front(rows, FORWARDS)
    assert forwards is not None
    assert forwards.reference == (1.0, pytest.approx(1.1 * rows["fid"].max()))


def test_one_point_is_no_front(study: StudyFrame) -> None:
    assert front(study.usable.iloc[:1], FORWARDS) is None
    assert front(study.usable.drop(columns="fid"), FORWARDS) is None


def test_outline_bounds_every_point(study: StudyFrame) -> None:
    found = front(study.usable, FORWARDS)
    assert found is not None
    corners = np.array(outline(found, (0.0, 5.0), 40.0))
    assert corners[0][0] == 0.0
    assert corners[-1][1] == 40.0
    for _, row in found.points.iterrows():
        beyond = corners[corners[:, 0] >= row["step_compression"] - 1e-12]
        assert beyond[:, 1].min() <= row["fid"] + 1e-12
