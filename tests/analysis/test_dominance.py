"""Who dominates whom, as far as intervals tell."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import synthetic
from vvsbench.analysis import comparison
from vvsbench.analysis.costs import FORWARDS, SECONDS
from vvsbench.analysis.dominance import Place, Placing, Relation, placing, relation
from vvsbench.analysis.estimate import Estimate
from vvsbench.analysis.frame import StudyFrame, placings
from vvsbench.runs import store

WORSE, BETTER, UNSURE, EQUAL = Estimate(2, 1, 3), Estimate(-2, -3, -1), Estimate(1, -1, 3), Estimate(0, 0, 0)


@pytest.mark.parametrize(
    ("cost", "quality", "expected"),
    [
        (WORSE, WORSE, Relation.dominates),
        (WORSE, EQUAL, Relation.dominates),
        (EQUAL, WORSE, Relation.dominates),
        (EQUAL, EQUAL, Relation.ties),
        (EQUAL, UNSURE, Relation.may),
        (WORSE, UNSURE, Relation.may),
        (UNSURE, WORSE, Relation.may),
        (UNSURE, UNSURE, Relation.may),
        (WORSE, None, Relation.may),
        (None, None, Relation.may),
        (Estimate(2), WORSE, Relation.may),  # without an interval nothing is sure
        (BETTER, None, Relation.cannot),
        (BETTER, WORSE, Relation.cannot),
        (UNSURE, BETTER, Relation.cannot),
        (Estimate(0.1, 0, 0.2), EQUAL, Relation.may),  # perhaps a tie, perhaps worse
        (Estimate(0.1, 0, 0.2), WORSE, Relation.dominates),
    ],
)
def test_one_pair(cost: Estimate | None, quality: Estimate | None, expected: Relation) -> None:
    assert relation([cost, quality]) is expected
    assert relation([quality, cost]) is expected


def test_no_difference_is_taken_that_changes_nothing() -> None:
    def differences():
        yield BETTER
        raise AssertionError

    assert relation(differences()) is Relation.cannot


def test_places() -> None:
    assert placing({}) == Placing(Place.front)
    assert placing({"a": Relation.cannot, "b": Relation.ties}) == Placing(Place.front)
    assert placing({"a": Relation.cannot, "b": Relation.may}) == Placing(Place.unknown)
    assert placing({"a": Relation.may, "b": Relation.dominates}) == Placing(Place.dominated, ("b",))


number = st.integers(0, 4)


@given(st.lists(st.tuples(number, number), min_size=1, max_size=8))
def test_without_errors_places_are_the_pareto_front(points: list[tuple[int, int]]) -> None:
    for mine in points:
        others = {
            place: relation([Estimate(a - b, a - b, a - b) for a, b in zip(mine, other, strict=True)])
            for place, other in enumerate(points)
        }
        beaten = any(a <= x and b <= y and (a, b) != (x, y) for (a, b), (x, y) in product(points, [mine]))
        assert placing(others).place is (Place.dominated if beaten else Place.front)


@given(st.lists(st.tuples(number, number), min_size=1, max_size=8), st.integers(1, 3))
def test_wider_intervals_never_make_a_claim(points: list[tuple[int, int]], half: int) -> None:
    """A place that is told with error bars is the one that the numbers alone give."""
    for mine in points:
        told = [
            placing(
                {
                    place: relation(
                        [Estimate(a - b, a - b - wide, a - b + wide) for a, b in zip(mine, other, strict=True)]
                    )
                    for place, other in enumerate(points)
                    if other is not mine
                }
            ).place
            for wide in (half, 0)
        ]
        assert told[0] in (Place.unknown, told[1])


def test_places_of_a_study(study: StudyFrame) -> None:
    rows = study.usable.set_index("label")
    assert rows[FORWARDS.place].to_dict() == {
        "ar": "dominated",  # by sd: its very images with fewer forwards
        "sd": "cannot be told",  # i=5 needs less, and its FID may be no worse
        "eagle2": "dominated",
        "vvs i=2": "on the front",
        "vvs i=3": "on the front",
        "vvs i=4": "cannot be told",
        "vvs i=5": "cannot be told",
    }
    assert rows.loc["ar", FORWARDS.dominated_by] == ["sd", "eagle2"]
    assert rows.loc["sd", FORWARDS.dominated_by] == []


def test_what_both_share_cancels_image_by_image() -> None:
    """One in a hundred more, the same in each image, is sure; the intervals of the two means overlap widely."""
    one = np.random.default_rng(0).normal(100, 20, size=64)
    apart = comparison.paired_mean(1.01 * one - one)
    assert (apart.value, apart.low > 0) == (pytest.approx(0.01 * one.mean()), True)
    assert not comparison.change(comparison.mean(1.01 * one), comparison.mean(one)).sure
    assert comparison.paired_mean(np.full(3, 0.5)).exact
    assert comparison.paired_mean(one[:1]).low is None


def test_seconds_are_told_by_both_intervals(study: StudyFrame) -> None:
    found = placings(study, study.usable, SECONDS)
    assert found.keys() == set(study.usable.index)


def test_cells_without_intervals_are_never_placed(tmp_path: Path) -> None:
    cells = [replace(cell, keeps=False) for cell in synthetic.recipes()[:4:3]]
    for folder in synthetic.write(tmp_path, 4, cells=cells):
        quality = store.read_quality(folder)["tiny"]
        values = [value.model_copy(update={"low": None, "high": None}) for value in quality.values]
        (folder / "quality" / "tiny.json").write_text(quality.model_copy(update={"values": values}).model_dump_json())
    study = synthetic.frame("demo", tmp_path)
    places = {study.rows.loc[key, "label"]: one.place for key, one in placings(study, study.usable, FORWARDS).items()}
    assert places == {"ar": Place.unknown, "vvs i=2": Place.front}  # that it needs less is sure all the same
